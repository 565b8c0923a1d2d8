"""Models that transformers reads otherwise in a batch, or beyond some length: right rewards, or a refusal."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import BATCH_DEPENDENT, CHAT

from rmbench.cli.main import run
from rmbench.errors import ConfigError, ScoringError
from rmbench.models.hf import sharing
from rmbench.models.hf.trust import probe
from rmbench.models.resolve import Runtime, load_model
from rmbench.types import Turn

Make = Callable[..., Path]
PROMPTS = ["What is the capital of France? " * 5, "Tell me all. "]
REPLIES = [
    "Paris.",
    "No, the quick brown fox jumps.",
    "I do not know. " * 7,
    "x",
    "Tell me all, and then 0 1 2.",
]
TEXTS = [(prompt, reply) for prompt in PROMPTS for reply in REPLIES]
BATCH = [
    [Turn(role="user", content=prompt), Turn(role="assistant", content=reply)] for prompt, reply in TEXTS
]
WINDOW = {
    "phimoe": {"sliding_window": 48},
    "qwen2_moe": {"sliding_window": 48, "use_sliding_window": True, "max_window_layers": 2},
}
"""Models that hold a sliding window in their mask alone: attention is never told of it."""
LONGROPE: dict[str, Any] = {
    "original_max_position_embeddings": 64,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "short_factor": [1.0] * 4,
        "long_factor": [6.0, 4.0, 2.0, 1.5],
    },
}
CPU = Runtime(device="cpu")
SPECS = {"SequenceClassification": "{}", "CausalLM": "dpo:policy={}", "TokenClassification": "process:{}"}
OPTIONS = {
    "SequenceClassification": {},
    "CausalLM": {"reference": "none"},
    "TokenClassification": {"reduce": "mean", "value": "logit"},
}


def loaded(folder: Path, task: str = "SequenceClassification", **options: str) -> Any:
    return load_model(SPECS[task].format(folder), {**OPTIONS[task], **options}, CPU).model


def rewards(model: Any, batch: Any = BATCH) -> list[float]:
    return [scored.reward for scored in model.score(batch)]


def one_text_at_a_time(folder: Path, task: str = "SequenceClassification", pair: bool = False) -> list[float]:
    """Return each reward from transformers' own forward pass: one text, freshly loaded, nothing padded."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    auto = getattr(transformers, f"AutoModelFor{task}")
    found = []
    for prompt, reply in TEXTS:
        model = auto.from_pretrained(folder, dtype=torch.float32).eval()  # nothing is left of texts before
        before = f"<s><|user|>{prompt}</s><|assistant|>"
        texts = ([prompt], [reply]) if pair else ([f"{before}{reply}</s>"],)
        inputs = dict(tokenizer(*texts, add_special_tokens=pair, return_tensors="pt"))
        with torch.no_grad():
            logits = model(**inputs).logits[0]
        if task == "SequenceClassification":
            found.append(float(logits[0]))
            continue
        ids = inputs["input_ids"][0]
        start = len(tokenizer(before, add_special_tokens=False)["input_ids"])
        if task == "TokenClassification":
            found.append(float(logits[start:, 0].mean()))
        else:
            logps = logits[start - 1 : -1].log_softmax(dim=-1)
            found.append(float(logps.gather(1, ids[start:, None]).sum()))
    return found


def check_reads_right(model: Any, expected: list[float], *, some_equal: bool = False) -> None:
    scale = max(1.0, *(abs(x) for x in expected))
    assert some_equal or len({round(x, 4) for x in expected}) == len(expected)
    for found in (
        rewards(model),
        rewards(model, BATCH[::-1])[::-1],
        [rewards(model, [c])[0] for c in BATCH],
    ):
        assert found == pytest.approx(expected, abs=1e-5 * scale)


@pytest.mark.parametrize(
    ("arch", "task"),
    [
        ("phimoe", "SequenceClassification"),
        ("phimoe", "CausalLM"),
        ("qwen2_moe", "SequenceClassification"),
        ("qwen2_moe", "CausalLM"),
        ("qwen2_moe", "TokenClassification"),
    ],
)
def test_a_window_in_the_mask_alone(make_checkpoint: Make, arch: str, task: str) -> None:
    folder = make_checkpoint(arch, task=task, **WINDOW[arch])
    model = loaded(folder, task)
    lengths = model.lengths(BATCH)
    assert min(lengths) < 40 < 48 < max(lengths)
    check_reads_right(model, one_text_at_a_time(folder, task))
    assert model.sharing_problem is None  # texts within the window still share their prompt
    assert model.joint_length([c for c, n in zip(BATCH, lengths, strict=True) if n <= 48]) is not None
    parts = model.parts() if task == "CausalLM" else []
    told = [dict(part.fingerprint()) for part in parts] or [model.fingerprint()]
    assert all(each["window"] == "48" for each in told)  # stored rewards of before are not taken
    shorter = load_model(SPECS[task].format(folder), {**OPTIONS[task], "max_length": "48"}, CPU).model
    assert "window" not in dict(shorter.fingerprint())


def test_a_window_that_attention_is_told_of_keeps_its_identity(make_checkpoint: Make) -> None:
    for arch, more in (("mistral", {"sliding_window": 48}), ("llama", {})):
        told = loaded(make_checkpoint(arch, folder=arch, **more)).fingerprint()
        assert not {"window", "together"} & told.keys()


@pytest.mark.parametrize("task", ["SequenceClassification", "CausalLM", "TokenClassification"])
def test_a_long_neighbour_does_not_switch_the_positions_of_a_short_text(
    make_checkpoint: Make, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoint("phi3", task=task, **LONGROPE)
    model = loaded(folder, task)
    lengths = model.lengths(BATCH)
    assert {n > 64 for n in lengths} == {True, False}
    expected = one_text_at_a_time(folder, task)
    check_reads_right(model, expected)
    assert model.sharing_problem is None
    check_reads_right(loaded(folder, task, share_prompts="no"), expected)
    assert any("texts above 64 tokens" in note for note in model.notes()) or task == "CausalLM"
    # The test can fail: read in one pass as before, the short texts get other rewards.
    if task == "SequenceClassification":
        monkeypatch.setattr("rmbench.models.hf.forward.side_of", lambda *_: 0)
        found = rewards(model)
        wrong = [abs(a - b) > 1e-3 for a, b in zip(found, expected, strict=True)]
        assert wrong == [n <= 64 for n in lengths]


@pytest.mark.parametrize("arch", BATCH_DEPENDENT)
def test_an_encoder_that_depends_on_its_batch_reads_equal_lengths(make_checkpoint: Make, arch: str) -> None:
    folder = make_checkpoint(arch, tokenizer="pair", template=None)
    model = loaded(folder)
    check_reads_right(model, one_text_at_a_time(folder, pair=True))
    assert model.fingerprint()["together"] == "equal length"
    assert any("depend on the other texts of a batch" in note for note in model.notes())


def test_an_encoder_that_changes_its_layers_while_it_reads_is_refused(make_checkpoint: Make) -> None:
    """BigBird turns to full attention at the first short text, and stays there."""
    made = {"tokenizer": "pair", "template": None, "block_size": 4, "num_random_blocks": 1}
    with pytest.raises(ConfigError, match=r"changes its layers while it reads.*'original_full'"):
        loaded(make_checkpoint("big_bird", **made))
    folder = make_checkpoint("big_bird", attention_type="original_full", folder="full", **made)
    model = loaded(folder)
    check_reads_right(model, one_text_at_a_time(folder, pair=True))
    assert "together" not in model.fingerprint()


MEAN_POOLING = """
from torch import nn
from transformers import LlamaConfig, LlamaForSequenceClassification, LlamaModel, LlamaPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class MeanConfig(LlamaConfig):
    model_type = "mean-llama"


class MeanReward(LlamaForSequenceClassification):
    config_class = MeanConfig

    def __init__(self, config):
        LlamaPreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.model = LlamaModel(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, use_cache=None, **more):
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return SequenceClassifierOutput(logits=self.score(hidden.mean(dim=1)))
"""


def test_a_class_with_a_score_head_that_reads_otherwise_is_refused(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = make_checkpoint("llama")
    (folder / "mean.py").write_text(MEAN_POOLING)
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "mean.MeanConfig", "AutoModelForSequenceClassification": "mean.MeanReward"}
    config |= {"model_type": "mean-llama", "auto_map": auto, "architectures": ["MeanReward"]}
    (folder / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert run(["eval", "--model", str(folder), "--task", "preference", "--limit", "2", "--device", "cpu", "-q",
                "--results", f"{tmp_path}/r", "--store", f"{tmp_path}/s", "--trust-remote-code"]) == 2  # fmt: skip
    error = capsys.readouterr().err
    assert "own forward pass of MeanReward" in error
    assert "-M forward=own" in error
    assert not list((tmp_path / "r").rglob("*.json"))


def test_a_length_that_no_config_names_is_found_when_it_comes(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the window had an unknown name: the first long text beside others is compared with what it is alone."""
    for module in (sharing, probe):
        monkeypatch.setattr(module, "named_window", lambda _: None)
    folder = make_checkpoint("phimoe", sliding_window=64, max_position_embeddings=1_024)
    model = loaded(folder)
    rewards(model, BATCH[:2])
    long = [[Turn(role="user", content="Tell me all. " * 80), turns[-1]] for turns in BATCH[:4]]
    assert max(model.lengths(long)) > 4 * max(model.lengths(probe.PROBES))
    with pytest.raises(ScoringError, match=r"gets .* in its batch and .* alone.*share_prompts=no"):
        model.score(long)
    apart = loaded(folder, share_prompts="no")
    assert rewards(apart, long) == pytest.approx([rewards(apart, [c])[0] for c in long], abs=1e-5)


def test_the_probe_is_short_and_leaves_no_trace(make_checkpoint: Make) -> None:
    """A plain model reads its three texts twice; its rewards and its remarks are as without."""
    folder = make_checkpoint("llama", template=CHAT)
    model = loaded(folder)
    assert sum(model.lengths(probe.PROBES)) < 120
    assert model.notes() == []
    assert rewards(model) == rewards(model) == rewards(loaded(folder))
