"""`forward=own`: a class's own forward pass, against the same class called here on one text at a time."""

import json
from pathlib import Path
from typing import Any

import pytest
import replicas
from replicas import Make

from rmbench.errors import ConfigError
from rmbench.models.resolve import load_model
from rmbench.types import Turn

CONVERSATIONS = [
    [Turn(role="user", content=prompt), Turn(role="assistant", content=reply)]
    for prompt, reply in [
        ("Tell me all.", "I do not know."),
        ("Tell me all.", "No. " * 20),
        ("What?", "a b c"),
    ]
]
CODE = """
from torch import nn
from transformers import LlamaModel, LlamaPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutputWithPast, ModelOutput


class Own(LlamaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None):
        hidden = self.model(input_ids, attention_mask=attention_mask).last_hidden_state
        tokens = self.score(hidden)
        mean = tokens.mean(dim=1)  # pools: padding would change it
        return {returns}
"""
RETURNS = {
    "logits": ("SequenceClassifierOutputWithPast(logits=mean)", "logits"),
    "scores": ("{'scores': mean[:, 0]}", "scores"),
    "score": ("ModelOutput(rewards=tokens, score=mean[:, 0], logits=tokens)", "score"),
    "rewards": ("{'hidden': hidden, 'rewards': mean}", "rewards"),
    "tensor": ("mean", ""),
    "number": ("mean[0, 0]", ""),
    "tuple": ("(mean,)", ""),
}
WRONG = {
    "a number per token": ("tokens[:, :, 0]", "expected one number per text"),
    "three axes": ("tokens", r"has the shape \(1, \d+, 1\) for one text"),
    "nothing known": ("{'loss': mean, 'pooled': mean}", "returns dict with loss, pooled; expected a tensor"),
    "two values": ("(mean, hidden)", r"returns 2 values \(Tensor, Tensor\)"),
    "none": ("None", "returns NoneType"),
    "an error": ("1 / 0", "Own fails on a text of .* tokens: ZeroDivisionError: division by zero"),
}


@pytest.fixture(autouse=True)
def _modules_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers copies code that it runs into a folder of the user's."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def with_code(
    make: Make, returns: str, auto: str = "AutoModelForSequenceClassification", **made: Any
) -> Path:
    folder = make("llama", **made)
    (folder / "own.py").write_text(CODE.format(returns=returns).replace("{{", "{").replace("}}", "}"))
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {auto: "own.Own"}}))
    return folder


def load(folder: Path, **options: str) -> Any:
    return load_model(str(folder), {"trust_remote_code": "yes", "forward": "own"} | options).model


def expected(folder: Path, label: int = 0) -> list[float]:
    """Return the mean over tokens of each text's numbers, written out."""
    import torch
    from transformers import AutoTokenizer, LlamaForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for turns in CONVERSATIONS:
        ids = tokenizer(replicas.chat(*(t["content"] for t in turns)), add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            hidden = model.model(torch.tensor([ids])).last_hidden_state[0]
            found.append(float(model.score(hidden).mean(dim=0)[label]))
    return found


def rewards(model: Any) -> list[float]:
    return [scored.reward for scored in model.score(CONVERSATIONS)]


@pytest.mark.parametrize("auto", ["AutoModelForSequenceClassification", "AutoModel"])
@pytest.mark.parametrize("name", RETURNS)
def test_what_a_class_returns_is_the_reward(make_checkpoint: Make, name: str, auto: str) -> None:
    returns, output = RETURNS[name]
    folder = with_code(make_checkpoint, returns, auto)
    model = load(folder)
    assert rewards(model) == pytest.approx(expected(folder), abs=1e-5)
    assert [model.score([turns])[0].reward for turns in CONVERSATIONS] == rewards(model)
    assert model.fingerprint()["forward"] == f"own:{output}"
    assert any(note.startswith("forward=own: ") and "Own's own forward" in note for note in model.notes())


@pytest.mark.parametrize("name", WRONG)
def test_anything_else_is_refused_with_what_it_is(make_checkpoint: Make, name: str) -> None:
    returns, told = WRONG[name]
    with pytest.raises(ConfigError, match=told) as error:
        load(with_code(make_checkpoint, returns))
    assert "forward=own" in str(error.value)
    assert "\n" not in str(error.value)


def test_several_labels(make_checkpoint: Make) -> None:
    folder = with_code(make_checkpoint, "mean", n_labels=3)
    with pytest.raises(ConfigError, match="3 labels"):
        load(folder)
    assert rewards(load(folder, label="2")) == pytest.approx(expected(folder, 2), abs=1e-5)
    weighed = rewards(load(folder, weights="1,0,-2"))
    parts = [expected(folder, k) for k in (0, 2)]
    assert weighed == pytest.approx([a - 2 * b for a, b in zip(*parts, strict=True)], abs=1e-5)


@pytest.mark.parametrize("auto", ["AutoModelForSequenceClassification", "AutoModel"])
def test_without_trust_no_code_runs(make_checkpoint: Make, auto: str) -> None:
    folder = with_code(make_checkpoint, "mean", auto)
    (folder / "own.py").write_text("raise SystemExit(3)")
    with pytest.raises(ConfigError, match="--trust-remote-code"):
        load(folder, trust_remote_code="no")


@pytest.mark.parametrize("arch", ["llama", "bert", "modernbert"])
def test_a_class_of_transformers(make_checkpoint: Make, arch: str) -> None:
    """Where padding is EOS it reads a token early, as published rewards may."""
    import torch
    from transformers import AutoModelForSequenceClassification

    kind = {} if arch == "llama" else {"tokenizer": "pair"}
    folder = make_checkpoint(arch, pad="</s>" if arch == "llama" else "<pad>", **kind)
    own = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    model: Any = load_model(str(folder), {"forward": "own"}).model
    rows = model.encode(CONVERSATIONS)
    with torch.no_grad():
        wanted = [float(own(input_ids=torch.tensor([row.ids])).logits) for row in rows]
    assert rewards(model) == pytest.approx(wanted, abs=1e-5)
    if arch == "llama":
        assert rewards(model) != pytest.approx(rewards(load_model(str(folder), {}).model), abs=1e-3)


def test_the_text_is_that_of_the_recipe(make_checkpoint: Make) -> None:
    """A class that asks for a token at the end, as InternLM2's and Athene's do, gets it."""
    folder = with_code(make_checkpoint, "mean")
    text = load(folder, read_at="appended:<s>").encode(CONVERSATIONS[:1])[0].ids
    assert text[-2:] == (2, 1)


def test_a_cost_is_negated(make_checkpoint: Make) -> None:
    folder = with_code(make_checkpoint, "mean")
    cost, reward = (load(folder, recipe=f"beaver-{kind}") for kind in ("cost", "reward"))
    found = [scored.reward for scored in reward.score(CONVERSATIONS)]
    assert [scored.reward for scored in cost.score(CONVERSATIONS)] == [-x for x in found]
    assert any("it is a cost, and negated" in note for note in cost.notes())
    assert cost.fingerprint()["forward"] == f"own:-{reward.fingerprint()['forward'].removeprefix('own:')}"


def test_weights_that_the_class_lacks_or_leaves(make_checkpoint: Make) -> None:
    body = replicas.Body(make_checkpoint, heads={"v_head.weight": replicas.drawn(1, 32)})
    with pytest.raises(ConfigError, match=r"v_head\.weight"):
        load_model(str(body.folder), {"forward": "own", "recipe": "none"})
    folder = with_code(make_checkpoint, "mean", folder="bare", task="CausalLM")
    with pytest.raises(ConfigError, match=r"lacks score\.weight"):
        load(folder)


@pytest.mark.parametrize("options", [
    {"fresh_head": "1"}, {"torch_compile": "yes"}, {"head": "token:1"}, {"read_at": "before_eos"},
])  # fmt: skip
def test_options_that_would_change_the_class(make_checkpoint: Make, options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="forward=own reads the class as it is"):
        load_model(str(make_checkpoint("llama")), {"forward": "own"} | options)


def test_the_command_line(make_checkpoint: Make, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from rmbench.cli.main import cli

    folder = with_code(make_checkpoint, "{'scores': mean[:, 0]}")
    where = ["--results", f"{tmp_path}/results", "--store", f"{tmp_path}/store"]
    asked = ["eval", "--model", str(folder), "-M", "forward=own", "--trust-remote-code", "--device", "cpu"]
    done = CliRunner().invoke(cli, [*asked, "--task", "preference", "--limit", "2", *where])
    assert done.exit_code == 0, done.output
    assert "forward=own: the reward is scores of Own's own forward pass" in done.output
