"""Norms by torch's kernel: the same numbers, and only where they are the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rmbench.models.hf import HFRewardModel, load_hf
from rmbench.models.hf_norms import fuse_norms
from rmbench.models.runtime import Runtime
from rmbench.types import Turn

TALK = [
    (Turn(role="user", content="Say one thing about rain."), Turn(role="assistant", content=reply))
    for reply in ("Rain is wet.", "It falls from clouds, mostly in autumn, and rivers carry it away.", "No.")
]


def loaded(folder: Path, dtype: Any) -> HFRewardModel:
    model = load_hf(str(folder), runtime=Runtime(device="cpu", offline=True, dtype=dtype))
    assert isinstance(model, HFRewardModel)
    return model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("arch", ["llama", "qwen2", "mistral"])
def test_every_norm_of_a_decoder_is_fused_and_rewards_stay(
    make_checkpoint: Callable[..., Path], arch: str, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoint(arch)
    fused = loaded(folder, dtype)
    with torch.no_grad():  # weights of trained norms are not all 1
        for name, weight in fused._model.named_parameters():
            if "norm" in name:
                weight.copy_(torch.linspace(0.5, 1.5, len(weight)))
    plain = loaded(folder, dtype)
    plain._model.load_state_dict(fused._model.state_dict())
    monkeypatch.setattr("rmbench.models.hf_forward.fuse_norms", lambda _model: 0)
    expected = [scored.reward for scored in plain.score(TALK)]
    monkeypatch.undo()
    found = [scored.reward for scored in fused.score(TALK)]
    assert found == pytest.approx(expected, abs=1e-5 if dtype == "float32" else 0.03)
    n_layers = fused._model.config.num_hidden_layers
    assert fuse_norms(loaded(folder, dtype)._model) == 2 * n_layers + 1


class WithOneAdded(torch.nn.Module):
    """A norm as Gemma's, whose weight is added to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(8))
        self.eps = 1e-6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        return (normed * (1.0 + self.weight.float())).type_as(x)


class WithOneAddedRMSNorm(WithOneAdded):
    pass


class BiasedRMSNorm(WithOneAdded):
    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(8))


class NoEpsilonRMSNorm(WithOneAdded):
    eps = 0  # type: ignore[assignment]

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.weight = torch.nn.Parameter(torch.zeros(8))


class OwnRMSNorm(torch.nn.Module):
    """A norm as torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(0.5, 1.5, 8))
        self.eps = 1e-6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


class OutsideRMSNorm(OwnRMSNorm):
    """Epsilon is added to the root: another norm where states are small, as embeddings are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x / (x.pow(2).mean(-1, keepdim=True).sqrt() + self.eps)


class OtherEpsilonRMSNorm(OwnRMSNorm):
    """Its attribute is not what it computes with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps / 10)


def test_a_fused_norm_follows_its_module() -> None:
    module = OwnRMSNorm()
    assert fuse_norms(torch.nn.Sequential(module)) == 1
    module.weight = torch.nn.Parameter(torch.full((8,), 3.0))
    states = torch.randn(2, 8)
    assert torch.allclose(module(states), OwnRMSNorm.forward(module, states))
    module(states).sum().backward()
    assert module.weight.grad is not None


@pytest.mark.parametrize(
    "kind",
    [
        WithOneAdded, WithOneAddedRMSNorm, BiasedRMSNorm, NoEpsilonRMSNorm, OutsideRMSNorm,
        OtherEpsilonRMSNorm,
    ],
)  # fmt: skip
def test_a_norm_that_is_another_stays_as_it_is(kind: type[torch.nn.Module]) -> None:
    module = kind()
    states = torch.randn(2, 8)
    before = module(states)
    assert fuse_norms(torch.nn.Sequential(module)) == 0
    assert torch.equal(module(states), before)
