"""Rewards per token against a plain computation: one text at a time, float64."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmbench.cli.main import run
from rmbench.errors import ConfigError
from rmbench.models.hf.process import ProcessReward
from rmbench.models.resolve import Runtime, load_model
from rmbench.types import Turn

Make = Callable[..., Path]
REPLIES = ("First this.\n\nThen that.\n\nSo no.", "One step", "", "a\n\n\n\nb " * 9, "It ends.\n\nSo. \n\n")
BATCH = [[Turn(role="user", content="Why?"), Turn(role="assistant", content=text)] for text in REPLIES]


def tokens(make: Make, n_labels: int = 2, **more: Any) -> Path:
    return make(more.pop("arch", "llama"), task="TokenClassification", n_labels=n_labels, **more)


def load(folder: Path, **options: str) -> ProcessReward:
    model = load_model(f"process:{folder}", options, Runtime(device="cpu")).model
    assert isinstance(model, ProcessReward)
    return model


def rewards(model: ProcessReward, batch: Any = BATCH) -> list[float]:
    return [scored.reward for scored in model.score(batch)]


def plain(folder: Path, label: int, by_step: bool) -> list[Any]:
    """Return the logits and the probabilities of one label at the places of each reply."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float64).eval()
    found = []
    for reply in REPLIES:
        before = "<s><|user|>Why?</s><|assistant|>"
        ids = tokenizer(f"{before}{reply}</s>", add_special_tokens=False)["input_ids"]
        n = len(tokenizer(before, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].numpy()
        odds = np.exp(logits)
        sigmoid = 1 / (1 + np.exp(-logits[:, 0]))
        p = odds[:, label] / odds.sum(axis=1) if logits.shape[1] > 1 else sigmoid
        places = list(range(n, len(ids)))
        if by_step:  # a step is complete at the token whose text up to there has one more separator
            texts = [tokenizer.decode(ids[n : i + 1]).replace("</s>", "") for i in places]
            counts = [0] + [text.count("\n\n") for text in texts]
            ends = [i for k, i in enumerate(places) if counts[k + 1] > counts[k]]
            places = ends if reply.endswith("\n\n") else [*ends, places[-1]]  # the last step ends, too
        found.append((logits[places, label], p[places]))
    return found


@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize(("n_labels", "label"), [(2, 1), (1, 0)])
def test_rewards_equal_a_plain_computation(
    make_checkpoint: Make, n_labels: int, label: int, by_step: bool
) -> None:
    folder = tokens(make_checkpoint, n_labels)
    expected = plain(folder, label, by_step)
    options = {"label": str(label)} | ({"step_token": r"\n\n"} if by_step else {})
    for reduce, of in {
        "last": lambda p: p[-1], "min": np.min, "mean": np.mean, "prod": lambda p: np.log(p).sum(),
    }.items():  # fmt: skip
        model = load(folder, reduce=reduce, **options)
        wanted = [float(of(p)) for _, p in expected]
        assert rewards(model) == pytest.approx(wanted, abs=1e-5, rel=1e-6)
        assert [rewards(model, [c])[0] for c in BATCH] == pytest.approx(wanted, abs=1e-5, rel=1e-6)
    wanted = [float(logits.min()) for logits, _ in expected]
    assert rewards(load(folder, reduce="min", value="logit", **options)) == pytest.approx(wanted, abs=1e-5)
    assert len(set(wanted)) == 5


def test_other_heads_and_the_models_own_forward_pass(make_checkpoint: Make) -> None:
    model = load(tokens(make_checkpoint, arch="gpt2"), label="1", reduce="mean")
    assert model.diagnose(BATCH[0])["own_forward_gap"] < 1e-5
    assert model.lengths(BATCH) == [s.n_tokens for s in model.score(BATCH)]
    assert model.score([]) == []


def test_every_option_is_part_of_the_identity(make_checkpoint: Make) -> None:
    folder = tokens(make_checkpoint)
    options = ({}, {"reduce": "min"}, {"value": "logit"}, {"step_token": "."}, {"step_token": r"\n"})
    prints = [dict(load(folder, label="1", **more).fingerprint()) for more in options]  # type: ignore[arg-type]
    prints.append(dict(load(folder, label="0").fingerprint()))
    assert len({tuple(sorted(p.items())) for p in prints}) == 6


def test_check_passes(make_checkpoint: Make, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tokens(make_checkpoint, 1)
    assert run(["check", "--model", f"process:{folder}", "--device", "cpu", "-M", "reduce=mean"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        ({"n_labels": 2}, {}, "(0=LABEL_0, 1=LABEL_1); a reward is one number: pass -M label=K"),
        ({"n_labels": 2}, {"label": "2"}, "option 'label' is 2"),
        ({}, {"reduce": "prod", "value": "logit"}, "logits have no product"),
        ({}, {"step_token": ""}, "option 'step_token' is empty"),
        ({}, {"reduce": "sum"}, "unknown value 'sum'"),
        ({"task": "SequenceClassification"}, {}, "its config names LlamaForSequenceClassification"),
        ({"task": "CausalLM"}, {}, "its config names LlamaForCausalLM"),
        ({"arch": "bert"}, {}, "bert is an encoder"),
    ],
)
def test_what_does_not_fit_is_one_line(
    make_checkpoint: Make, make: dict[str, Any], options: dict[str, str], message: str
) -> None:
    folder = make_checkpoint(**{"arch": "llama", "task": "TokenClassification"} | make)
    with pytest.raises(ConfigError) as caught:
        load(folder, **options)
    assert message in str(caught.value)
    assert "weights=" not in str(caught.value)
    assert "\n" not in str(caught.value)
