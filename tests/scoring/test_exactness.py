"""A real decoder through the whole engine: the same rewards whatever budget, order and sharing."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench.models.hf import device as hf_limits
from rmbench.models.hf.classifier import HFRewardModel
from rmbench.models.resolve import load_model
from rmbench.scoring import open_store, score_items
from rmbench.types import Item, Response, Turn

TEXT = "the quick brown fox jumps over the lazy dog and then it sleeps Paris is the capital of France"


def made_items(seed: int = 0) -> list[Item]:
    rng = random.Random(seed)

    def text(low: int, high: int) -> str:
        return " ".join(rng.choices(TEXT.split(), k=rng.randint(low, high)))

    return [
        Item(
            f"i{n}",
            (Turn(role="user", content=text(1, 25)),),
            tuple(Response(text(0, 12)) for _ in range(rng.choice((2, 2, 2, 9)))),
            cluster=f"i{n}",
        )
        for n in range(8)
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizers_by_kind: dict[str, Any]) -> HFRewardModel:
    from tiny_models import checkpoint_maker

    make: Callable[..., Path] = checkpoint_maker(tmp_path_factory.mktemp("model"), tokenizers_by_kind)
    found = load_model(str(make("llama"))).model
    assert isinstance(found, HFRewardModel)
    return found


def alone(model: HFRewardModel, items: list[Item]) -> list[float]:
    return [model.score([i.conversation(k)])[0].reward for i in items for k in range(len(i.responses))]


@pytest.mark.parametrize("budget", [1, 100, 300, 10**6])
def test_rewards_do_not_depend_on_budget_or_order(model: HFRewardModel, tmp_path: Path, budget: int) -> None:
    items = made_items()
    for k, asked in enumerate((items, items[::-1])):
        with open_store(tmp_path / str(k), model.fingerprint()) as store:
            scoring = score_items(model, asked, store, batch_tokens=budget)
        assert [x for row in scoring.rewards for x in row] == pytest.approx(alone(model, asked), abs=1e-5)
        assert scoring.n_tokens > 0


def test_a_batch_that_does_not_fit_is_read_in_parts(
    model: HFRewardModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    items, read = made_items(1), []
    backbone = model.model.model

    def limited(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        if given["input_ids"].numel() > 200:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        read.append(given["input_ids"].numel())

    expected = alone(model, items)
    hook = backbone.register_forward_pre_hook(limited, with_kwargs=True)
    monkeypatch.setattr(model, "batch_tokens", lambda: 700)
    try:
        with open_store(tmp_path, model.fingerprint()) as store:
            scoring = score_items(model, items, store)
            assert len(store) == scoring.n_computed == scoring.n_units
    finally:
        hook.remove()
    assert [x for row in scoring.rewards for x in row] == pytest.approx(expected, abs=1e-5)
    assert max(read) > 100


def test_the_budget_follows_free_memory_in_halves(
    model: HFRewardModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hf_limits.free_bytes(model.model.device) > 2**20
    found = []
    for free in (2**40, 40 * 2**20, 24 * 2**20, 2**10):
        monkeypatch.setattr(hf_limits, "free_bytes", lambda _device, free=free: free)
        found.append(model.batch_tokens())
    assert found[0] == 3_072
    assert found == sorted(found, reverse=True)
    assert all(3_072 % n == 0 for n in found)
    assert found[-1] < found[0]
