"""Models that say something of each token of a reply read a prompt once for all its candidates."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rmbench.models.resolve import Runtime, load_model
from rmbench.types import Turn

Make = Callable[..., Path]

PROMPTS = ["What is the capital of France? " * 3, "Tell me all. The quick brown fox " * 2, "No."]
REPLIES = ["Paris is the capital of France.", "Paris is the capital", "Paris is the capital of", "I do not know.",
           "", "over the lazy dog, and then it sleeps. " * 3, "First this.\n\nThen that."]  # fmt: skip
BATCH = [
    [Turn(role="user", content=prompt), Turn(role="assistant", content=reply)]
    for prompt in PROMPTS
    for reply in REPLIES
]


def spec_of(make: Make, scheme: str, arch: str, **config: Any) -> tuple[str, dict[str, str]]:
    if scheme == "process":
        folder = make(arch, task="TokenClassification", n_labels=2, **config)
        return f"process:{folder}", {"label": "1", "reduce": "mean", "value": "logit"}
    policy, ref = (make(arch, task="CausalLM", folder=f"m{k}", seed=k, **config) for k in range(2))
    return f"dpo:policy={policy},ref={ref}", {"beta": "1"}


def load(spec: str, options: dict[str, str], runtime: Runtime | None = None) -> Any:
    return load_model(spec, options, runtime or Runtime(device="cpu")).model


def models_of(model: Any) -> list[Any]:
    return [reader.model for reader in model.readers]


@contextmanager
def tokens_read(model: Any) -> Iterator[list[int]]:
    """Count what the backbones are given, padding included."""
    seen: list[int] = []
    hooks = [
        each.base_model.register_forward_pre_hook(
            lambda _module, _args, given: seen.append(given["input_ids"].numel()), with_kwargs=True
        )
        for each in models_of(model)
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def rewards(model: Any, batch: Any = BATCH) -> list[float]:
    return [scored.reward for scored in model.score(batch)]


@pytest.mark.parametrize("scheme", ["dpo", "process"])
@pytest.mark.parametrize("arch", ["llama", "qwen2", "gpt2"])
def test_shared_prompts_change_no_reward(make_checkpoint: Make, scheme: str, arch: str) -> None:
    spec, options = spec_of(make_checkpoint, scheme, arch)
    model, apart = load(spec, options), load(spec, options | {"share_prompts": "no"})
    assert not any("read again" in note for note in model.notes())
    assert any("it was asked not to" in note for note in apart.notes())
    expected = rewards(apart)
    assert len({round(x, 4) for x in expected}) == len(BATCH)
    with tokens_read(model) as seen:
        found = rewards(model)
    assert found == pytest.approx(expected, abs=1e-4)
    assert seen == [model.joint_length(BATCH)] * len(models_of(model))
    assert seen[0] < 0.6 * sum(model.lengths(BATCH))
    assert apart.joint_length(BATCH) is None
    assert rewards(model, BATCH[::-1])[::-1] == pytest.approx(expected, abs=1e-4)
    assert [rewards(model, [c])[0] for c in BATCH] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("scheme", ["dpo", "process"])
def test_what_was_cut_is_read_as_it_was_cut(make_checkpoint: Make, scheme: str) -> None:
    spec, options = spec_of(make_checkpoint, scheme, "llama")
    short = Runtime(device="cpu", max_length=30)
    model, apart = load(spec, options, short), load(spec, options | {"share_prompts": "no"}, short)
    assert 0 < sum(scored.truncated for scored in model.score(BATCH)) < len(BATCH)
    assert rewards(model) == pytest.approx(rewards(apart), abs=1e-4)


@pytest.mark.parametrize("scheme", ["dpo", "process"])
@pytest.mark.parametrize(
    ("arch", "config", "reason"),
    [("gemma2", {}, "softcap"), ("mistral", {"sliding_window": 16}, "sees 16 tokens at a time")],
)
def test_who_cannot_share_reads_padded_rows_and_says_why(
    make_checkpoint: Make, scheme: str, arch: str, config: dict[str, Any], reason: str
) -> None:
    model = load(*spec_of(make_checkpoint, scheme, arch, **config))
    assert any("prompt is read again" in note and reason in note for note in model.notes())
    assert model.joint_length(BATCH) is None
    with tokens_read(model) as seen:
        found = rewards(model)
    assert sum(seen) >= len(models_of(model)) * sum(model.lengths(BATCH))
    assert found == pytest.approx([rewards(model, [c])[0] for c in BATCH], abs=1e-4)


def test_one_that_cannot_share_keeps_the_other_from_nothing(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(*spec_of(make_checkpoint, "dpo", "llama"))
    expected = rewards(model)
    policy, reference = (part.model for part in model.parts())
    monkeypatch.setattr(reference.readers[0].states, "sharing_problem", "it was made up")
    assert model.joint_length(BATCH) is None
    assert policy.joint_length(BATCH) < sum(model.lengths(BATCH))
    assert rewards(model) == pytest.approx(expected, abs=1e-4)
    assert [note for note in model.notes() if "it was made up" in note]
