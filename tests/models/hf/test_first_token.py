"""The last layer of an encoder computes the first token alone: the same rewards, and who cannot be read so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rmbench.models.hf import device as hf_device
from rmbench.models.hf.classifier import HFRewardModel, load_hf
from rmbench.models.hf.encoder import EncoderLogits
from rmbench.models.hf.text import Encoded
from rmbench.models.runtime import Runtime
from rmbench.types import Turn

TALK = [
    (Turn(role="user", content=prompt), Turn(role="assistant", content=reply))
    for prompt, reply in (
        ("Say one thing about rain.", "Rain is wet."),
        (
            "And of snow?",
            "It falls from clouds, mostly in winter, and rivers carry it away in spring, slowly.",
        ),
        ("Hi", "No."),
    )
]


def loaded(folder: Path, **runtime: Any) -> HFRewardModel:
    model = load_hf(str(folder), runtime=Runtime(device="cpu", offline=True, **runtime))
    assert isinstance(model, HFRewardModel)
    return model


def encoder_of(model: HFRewardModel) -> EncoderLogits:
    assert model.encoder is not None
    return model.encoder


def rewards(model: HFRewardModel, *, narrow: bool) -> list[float]:
    encoder = encoder_of(model)
    problem = encoder.narrowing_problem
    encoder.narrowing_problem = problem if narrow else "not now"
    found = [scored.reward for scored in model.score(TALK)]
    encoder.narrowing_problem = problem
    return found


def tokens_of_last_layer(model: HFRewardModel) -> list[int]:
    """Return a list that grows by the tokens of each text that the last feed-forward network computes."""
    layer: Any = encoder_of(model).first_token.layer
    seen: list[int] = []
    last = [m for m in layer.modules() if isinstance(m, torch.nn.Linear)][-1]
    last.register_forward_hook(lambda _m, given, _o: seen.append(given[0].shape[1]))
    return seen


@pytest.mark.parametrize(
    ("arch", "dtype"),
    [("bert", "float32"), ("bert", "bfloat16"), ("roberta", "float32"), ("distilbert", "float32")],
)
def test_the_first_token_alone_gives_the_same_rewards(
    make_checkpoint: Callable[..., Path], arch: str, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_device, "cpu_multiplies_bfloat16", lambda: True)
    model = loaded(make_checkpoint(arch, tokenizer="pair"), dtype=dtype)
    assert encoder_of(model).narrowing_problem is None
    before = model.fingerprint()
    tolerance = 1e-5 if dtype == "float32" else 0.03
    full = rewards(model, narrow=False)
    seen = tokens_of_last_layer(model)
    assert rewards(model, narrow=True) == pytest.approx(full, abs=tolerance)
    assert set(seen) == {1}
    assert len(set(full)) == 3
    assert model.fingerprint() == before
    seen.clear()
    assert rewards(model, narrow=False) == full  # nothing is left behind
    assert min(seen) > 1


@pytest.mark.parametrize("arch", ["bert", "roberta", "distilbert"])
def test_shapes_that_the_probe_has_not(make_checkpoint: Callable[..., Path], arch: str) -> None:
    model = loaded(make_checkpoint(arch, tokenizer="pair"))
    assert encoder_of(model).narrowing_problem is None
    n_types = int(getattr(model.model.config, "type_vocab_size", 0))
    lengths = (1, 2, 50)

    def row(n: int) -> Encoded:
        types = tuple(k % n_types for k in range(n)) if n_types else None
        return Encoded(tuple(3 + k % 7 for k in range(n)), type_ids=types)

    batches = [[row(n)] for n in lengths] + [[row(n) for n in lengths], [row(50), row(50)]]
    narrow = [model.numbers(batch) for batch in batches]
    encoder_of(model).narrowing_problem = "not now"
    for batch, found in zip(batches, narrow, strict=True):
        assert found == pytest.approx(model.numbers(batch), abs=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_head_that_reads_every_token_is_found_out(
    make_checkpoint: Callable[..., Path], dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_device, "cpu_multiplies_bfloat16", lambda: True)
    model = loaded(make_checkpoint("bert"), dtype=dtype)
    with torch.no_grad():  # logits so near 0 that rounding hides what they are of
        model.model.classifier.weight.mul_(1e-3)
        model.model.classifier.bias.zero_()
    pooler = model.model.base_model.pooler

    def of_all(hidden: torch.Tensor) -> torch.Tensor:
        return torch.tanh(pooler.dense(hidden.mean(dim=1)))

    pooler.forward = of_all
    assert encoder_of(model).narrowing_problem == "its head reads more than the first token"
    seen = tokens_of_last_layer(model)
    model.score(TALK)
    assert min(seen) > 1


def test_keys_that_are_more_than_a_projection_are_found_out(make_checkpoint: Callable[..., Path]) -> None:
    model = loaded(make_checkpoint("bert"))
    last = model.model.base_model.encoder.layer[-1].attention.self
    project = last.key.forward
    last.key.forward = lambda x: project(x)  # the same ...
    assert encoder_of(model).narrowing_problem is None
    other = loaded(make_checkpoint("bert"))
    last = other.model.base_model.encoder.layer[-1].attention.self
    last.key = torch.nn.Sequential(last.key, torch.nn.Tanh())  # ... and more
    assert "more than a projection" in str(encoder_of(other).narrowing_problem)
    assert len(other.score(TALK)) == 3


def test_an_architecture_that_cannot_is_scored_as_before(make_checkpoint: Callable[..., Path]) -> None:
    model = loaded(make_checkpoint("modernbert", tokenizer="pair"))  # keys turn with their place
    assert encoder_of(model).narrowing_problem is not None
    assert len({scored.reward for scored in model.score(TALK)}) == 3


def test_other_attention_is_left_alone(make_checkpoint: Callable[..., Path]) -> None:
    model = load_hf(str(make_checkpoint("bert")), runtime=Runtime(device="cpu", offline=True), attn="eager")
    assert isinstance(model, HFRewardModel)
    assert encoder_of(model).narrowing_problem == "its attention is 'eager'"
