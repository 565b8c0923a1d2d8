"""Batches side by side in bfloat16 on a CPU: the same rewards, and nobody reads with another's attention."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from threading import enumerate as enumerate_threads
from typing import Any

import pytest
import torch
from test_classifier import load
from test_sharing import BATCH, PROMPTS, REPLIES

from rmbench.errors import ScoringError
from rmbench.models.hf import device as hf_limits
from rmbench.models.hf import sharing as hf_shared
from rmbench.models.hf.device import batches_at_once, tokens_at_once
from rmbench.models.hf.sharing import Gate
from rmbench.models.runtime import Runtime
from rmbench.scoring import open_store, score_items
from rmbench.scoring.executor import InProcess, Threads, executor_of
from rmbench.types import Item, ParallelModel, Response, Turn

Make = Callable[..., Path]
ITEMS = [
    Item(f"{k}", (Turn(role="user", content=f"{prompt} {k}"),), tuple(map(Response, REPLIES)), cluster=f"{k}")
    for k, prompt in enumerate(PROMPTS * 3)
]


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A processor with two cores that computes in bfloat16; those without are only slower."""
    before = torch.get_num_threads()
    monkeypatch.setattr(hf_limits, "is_fast_bfloat16", lambda m: m.dtype == torch.bfloat16)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def load_bfloat16(folder: Path, **options: Any) -> Any:
    return load(folder, runtime=Runtime(device="cpu", offline=True, dtype="bfloat16"), **options)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("batch_tokens", [40, 150, 1000])
def test_rewards_are_those_of_one_batch_after_the_other(
    make_checkpoint: Make, tmp_path: Path, batch_tokens: int
) -> None:
    model = load_bfloat16(make_checkpoint())
    assert isinstance(model, ParallelModel)
    assert model.batches_at_once() == 2
    with executor_of(model, model.score, None) as executor:
        assert isinstance(executor, Threads)
        assert executor.n_at_once == 2
    with open_store(tmp_path / "beside", model.fingerprint()) as store:
        beside = score_items(model, ITEMS, store, batch_tokens=batch_tokens)
    model.batches_at_once = lambda: 1
    with executor_of(model, model.score, None) as executor:
        assert isinstance(executor, InProcess)
    with open_store(tmp_path / "alone", model.fingerprint()) as store:
        alone = score_items(model, ITEMS, store, batch_tokens=batch_tokens)
    # The same batches, and one thread multiplies as two do.
    assert [list(row) for row in beside.rewards] == [list(row) for row in alone.rewards]
    assert (beside.n_computed, beside.n_tokens) == (alone.n_computed, alone.n_tokens)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_forests_and_rows_at_once_do_not_read_with_each_others_attention(make_checkpoint: Make) -> None:
    model = load_bfloat16(make_checkpoint())
    usual = model.model.config._attn_implementation
    shared, single = BATCH[:6], [BATCH[0]]  # six replies to a prompt are a forest
    expected = {1: model.score(single), 6: model.score(shared)}
    wrong: list[Any] = []

    def ask(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(12):
            batch = rng.choice((shared, single))
            if model.score_beside(batch) != expected[len(batch)]:
                wrong.append(batch)
            rows = model.readers[0].states.at_last(model.encode(shared))
            if not torch.isfinite(rows).all():
                wrong.append("rows")

    threads = [Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert model.model.config._attn_implementation == usual


def test_a_gate_holds_one_side_back_while_the_other_is_in() -> None:
    inside: dict[str, int] = {"a": 0, "b": 0}
    switched: list[str] = []
    together: list[int] = []
    gate = Gate(lambda side: switched.append(f"enter {side}"), lambda side: switched.append(f"leave {side}"))

    def pass_through(side: str, seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(30):
            with gate.side(side):
                inside[side] += 1
                together.append(min(inside.values()))
                time.sleep(rng.random() * 1e-4)
                inside[side] -= 1

    threads = [Thread(target=pass_through, args=("ab"[k % 2], k)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(together) == 180
    assert max(together) == 0
    assert [told.split()[0] for told in switched] == ["enter", "leave"] * (len(switched) // 2)
    assert switched[0::2] == [told.replace("leave", "enter") for told in switched[1::2]]
    with pytest.raises(ValueError, match="within"), gate.side("a"):
        raise ValueError("within")
    with gate.side("b"):
        pass


@pytest.mark.usefixtures("two_threads")
def test_who_keeps_something_of_a_pass_in_the_model_is_asked_one_by_one(make_checkpoint: Make) -> None:
    assert load_bfloat16(make_checkpoint("bert", folder="bert")).batches_at_once() == 1
    folder = make_checkpoint(folder="llama")
    assert load_bfloat16(folder, share_prompts="no").batches_at_once() == 1
    assert load(folder).batches_at_once() == 1  # float32


@pytest.mark.usefixtures("two_threads")
def test_how_many_follows_threads_and_free_memory(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_bfloat16(make_checkpoint()).model
    for threads, expected in ((1, (1, 1)), (2, (2, 1)), (5, (5, 1)), (8, (8, 1)), (12, (6, 2)), (17, (8, 2))):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "get_num_threads", lambda n=threads: n)
            assert batches_at_once(model) == expected
    needed = tokens_at_once(model) * hf_limits.bytes_per_token(model)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 8)
        patch.setattr(hf_limits, "free_bytes", lambda _: 2 * 3 * needed)  # half of it holds three batches
        assert batches_at_once(model) == (2, 4)


@pytest.mark.usefixtures("two_threads")
def test_after_a_failure_no_thread_computes_on_and_new_ones_have_the_whole_processor(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_bfloat16(make_checkpoint())
    calls: list[int] = []

    def failing(batch: Any) -> Any:
        calls.append(len(batch))
        if len(calls) == 1:
            time.sleep(0.05)
            return [0.0] * len(batch)
        raise ValueError("not today")

    monkeypatch.setattr(model, "score", failing)
    with (
        open_store(tmp_path, model.fingerprint()) as store,
        pytest.raises(ScoringError, match="not today"),
    ):
        score_items(model, ITEMS, store, batch_tokens=40)
    assert not [t.name for t in enumerate_threads() if t.name.startswith("rmbench-asker")]
    seen: list[int] = []
    fresh = Thread(target=lambda: seen.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    assert seen == [2]


@pytest.mark.parametrize("strip", [1, 3, 10])
def test_strips_change_no_reward(make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch, strip: int) -> None:
    model = load(make_checkpoint())
    expected = [s.reward for s in model.score(BATCH)]
    monkeypatch.setattr(hf_shared, "STRIP", strip)
    assert [s.reward for s in model.score(BATCH)] == pytest.approx(expected, abs=2e-5)
