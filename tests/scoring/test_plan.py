"""The plan: each unit once, prompts together, within the budget; and out of memory loses nothing."""

from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_run import Recorder, item

from rmbench.core.files import conversation_key
from rmbench.errors import ScoringError
from rmbench.scoring import open_store, score_items
from rmbench.scoring import work as flow
from rmbench.scoring.plan import Measure, Unit, distinct, plan, windows
from rmbench.types import Conversation, Item, Response, Turn

# A payload is (prompt, length of the prompt, length of the answer).
Made = tuple[str, int, int]


def sharing(batch: Sequence[Made]) -> int:
    prompts = {name: n for name, n, _ in batch}
    return sum(prompts.values()) + sum(answer for _, _, answer in batch)


def measure(joint: Any) -> Measure[Made]:
    return Measure(lambda batch: [p + a for _, p, a in batch], lambda made: made[0], joint)


PROMPT_LENGTHS = st.lists(st.integers(0, 60), min_size=4, max_size=4)
UNITS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), min_size=1, max_size=40)


def units_of(prompts: Sequence[int], drawn: Sequence[tuple[int, int]]) -> list[Unit[Made]]:
    return [Unit(f"{k:03d}", (f"p{p}", prompts[p], answer)) for k, (p, answer) in enumerate(drawn)]


@given(prompts=PROMPT_LENGTHS, drawn=UNITS, budget=st.integers(1, 400), order=st.randoms())
def test_each_unit_once_within_the_budget_whatever_the_order(
    prompts: list[int], drawn: list[tuple[int, int]], budget: int, order: Any
) -> None:
    units = units_of(prompts, drawn)
    shuffled = list(units)
    order.shuffle(shuffled)
    for joint in (sharing, lambda _batch: None):
        found = plan(units, measure(joint), budget)
        assert sorted(u.key for batch in found for u in batch) == [u.key for u in units]
        assert plan(shuffled, measure(joint), budget) == found
        longest = [max(u.payload[1] + u.payload[2] for u in batch) for batch in found]
        assert longest == sorted(longest, reverse=True)
        for batch, width in zip(found, longest, strict=True):
            payloads = [u.payload for u in batch]
            cost = joint(payloads)
            assert len(batch) == 1 or (len(batch) * width if cost is None else cost) <= budget


@given(prompts=PROMPT_LENGTHS, drawn=UNITS)
def test_candidates_of_a_prompt_that_fits_are_not_parted(
    prompts: list[int], drawn: list[tuple[int, int]]
) -> None:
    units = units_of(prompts, drawn)
    budget = max(sharing([u.payload for u in units if u.payload[0] == f"p{p}"]) for p in range(4))
    found = plan(units, measure(sharing), max(1, budget))
    for p in range(4):
        assert sum(any(u.payload[0] == f"p{p}" for u in batch) for batch in found) <= 1


def test_a_prompt_with_too_many_candidates_is_read_once_per_part() -> None:
    units = [Unit(f"{k:02d}", ("p", 30, 10)) for k in range(10)]
    found = plan(units, measure(sharing), 70)
    assert [len(batch) for batch in found] == [4, 4, 2]


def test_several_prompts_fill_half_of_the_budget_and_one_prompt_all_of_it() -> None:
    units = units_of([20, 10, 10, 10], [(0, 30), (0, 30), (1, 20), (1, 20), (2, 20), (3, 5)])
    found = plan(units, measure(sharing), 100)
    assert [[u.key for u in batch] for batch in found] == [["000", "001"], ["002", "003"], ["004", "005"]]


def test_groups_that_are_padded_and_groups_that_share_in_one_plan() -> None:
    def joint(batch: Sequence[Made]) -> int | None:
        return None if batch[0][0] == "p0" else sharing(batch)

    units = units_of([50, 5, 5, 5], [(0, 1), (0, 2), (1, 1), (2, 1), (3, 1)])
    found = plan(units, measure(joint), 110)
    assert [[u.key for u in batch] for batch in found] == [["001", "000"], ["002", "003", "004"]]


@given(sizes=st.lists(st.integers(0, 9), max_size=40), most=st.integers(1, 20))
def test_windows_are_the_things_in_order(sizes: list[int], most: int) -> None:
    found = list(windows(sizes, lambda n: n, most))
    assert list(chain.from_iterable(found)) == sizes
    assert all(len(w) == 1 or sum(w) <= most for w in found)
    for window, after in pairwise(found):
        assert sum(window) + after[0] > most


class Small(Recorder):
    """A model with memory for so many characters of replies at a time."""

    def __init__(self, fits: int, error: Exception) -> None:
        super().__init__()
        self.fits, self.error, self.failed = fits, error, 0

    def score(self, batch: Sequence[Conversation]) -> Sequence[float]:
        if sum(len(turns[-1]["content"]) for turns in batch) > self.fits:
            self.failed += 1
            raise self.error
        return super().score(batch)


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        RuntimeError("CUDA out of memory"),
        MemoryError(),
    ],
    ids=str,
)
def test_out_of_memory_halves_the_budget_and_loses_nothing(tmp_path: Path, error: Exception) -> None:
    items = [item(f"i{n}", "a" * n, "b" * n) for n in range(1, 100)]
    model = Small(300, error)
    with open_store(tmp_path, model.fingerprint()) as store:
        scoring = score_items(model, items, store, batch_tokens=1_000)
    assert scoring.rewards == tuple((float(n), float(n)) for n in range(1, 100))
    assert model.n_asked == scoring.n_computed == 2 * 99
    # 1,000 tokens are about 4,000 characters: four halvings, and then it fits.
    assert 1 <= model.failed <= 6


def test_one_text_that_does_not_fit_stops_the_run_and_keeps_the_others(tmp_path: Path) -> None:
    items = [item("a", "x" * 10, "y" * 500), item("b", "z" * 20, "w" * 30)]
    model = Small(100, MemoryError("no room"))
    with open_store(tmp_path, model.fingerprint()) as store:
        with pytest.raises(ScoringError, match="MemoryError on a batch of 1: no room"):
            score_items(model, items, store, batch_tokens=10_000)
        # The longest goes first, alone in the end: nothing was before it.
        assert len(store) == 0
        patient = Small(600, MemoryError("no room"))
        assert score_items(patient, items, store, batch_tokens=10_000).rewards == (
            (10.0, 500.0),
            (20.0, 30.0),
        )


def test_another_error_is_not_asked_again(tmp_path: Path) -> None:
    model = Small(0, RuntimeError("shape mismatch"))
    with (
        open_store(tmp_path, model.fingerprint()) as store,
        pytest.raises(ScoringError, match="shape mismatch"),
    ):
        score_items(model, [item("a", "x", "y")], store)
    assert model.failed == 1


class Sharing(Recorder):
    """Shares prompts; a batch costs its characters. Remembers what it was told to prepare."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[str, int]] = []

    def lengths(self, batch: Sequence[Conversation]) -> list[int]:
        return [sum(len(t["content"]) for t in turns) for turns in batch]

    def joint_length(self, batch: Sequence[Conversation]) -> int:
        return len(batch[0][0]["content"]) + sum(len(turns[-1]["content"]) for turns in batch)

    def batch_tokens(self) -> int:
        return 60

    def prepare(self, batch: Sequence[Conversation]) -> None:
        self.log.append(("prepare", len(batch)))

    def score(self, batch: Sequence[Conversation]) -> Sequence[float]:
        self.log.append(("score", len(batch)))
        return super().score(batch)


def prompted(name: str, prompt: str, *texts: str) -> Item:
    return Item(name, (Turn(role="user", content=prompt),), tuple(Response(t) for t in texts), cluster=name)


def test_a_models_own_budget_and_shared_prompts_make_the_batches(tmp_path: Path) -> None:
    items = [prompted(f"i{n}", f"{n}" * 40, "aaaa", "bb") for n in range(4)]
    model = Sharing()
    with open_store(tmp_path, model.fingerprint()) as store:
        score_items(model, items, store)
    assert [sorted(batch) for batch in model.asked] == [["aaaa", "bb"]] * 4
    assert model.log[0] == ("prepare", 8)


def test_windows_are_prepared_ahead_and_a_killed_run_goes_on_with_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "WINDOW_CHARACTERS", 4 * 256)
    # Every third item repeats the texts of an earlier window.
    items = [prompted(f"i{n}", f"prompt {n - 9 * (n % 3 == 2 and n > 9)}", f"a{n}", "b") for n in range(30)]
    whole = Sharing()
    with open_store(tmp_path / "one", whole.fingerprint()) as store:
        first = score_items(whole, items, store)
        assert len(store) == first.n_computed == first.n_units == whole.n_asked
    keys = {conversation_key(i.conversation(k)) for i in items for k in range(2)}
    assert first.n_units == len(keys) < 60
    kinds = [kind for kind, _ in whole.log]
    assert kinds[:3] == ["prepare", "prepare", "score"]
    for n_done in (1, 5, len(whole.asked) - 1):
        stopped, resumed = Stopping(n_done), Sharing()
        with open_store(tmp_path / f"stopped{n_done}", whole.fingerprint()) as store:
            with pytest.raises(KeyboardInterrupt):
                score_items(stopped, items, store)
            again = score_items(resumed, items, store)
        assert again.rewards == first.rewards
        assert stopped.asked + resumed.asked == whole.asked


class Stopping(Sharing):
    """Is interrupted after so many batches."""

    def __init__(self, n_batches: int) -> None:
        super().__init__()
        self.n_batches = n_batches

    def score(self, batch: Sequence[Conversation]) -> Sequence[float]:
        if len(self.asked) == self.n_batches:
            raise KeyboardInterrupt
        return super().score(batch)


def test_no_more_items_are_alive_than_two_windows_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "WINDOW_CHARACTERS", 10 * 2 * 256)  # ten items
    alive, most = set[str](), 0

    class Watched(Item):
        def __del__(self) -> None:
            alive.discard(self.id)

    class Stream(Sequence[Item]):
        def __len__(self) -> int:
            return 200

        def __getitem__(self, n: Any) -> Any:
            nonlocal most
            if n >= 200:
                raise IndexError
            made = prompted(f"i{n}", f"prompt {n}", f"a{n}", "b")
            alive.add(made.id)
            most = max(most, len(alive))
            return Watched(made.id, made.prompt, made.responses, made.cluster)

    with open_store(tmp_path, Sharing().fingerprint()) as store:
        scoring = score_items(Sharing(), Stream(), store)
    assert len(scoring.rewards) == 200
    assert 10 <= most <= 32


def test_a_warm_store_prepares_and_asks_nothing(tmp_path: Path) -> None:
    items = [prompted(f"i{n}", f"prompt {n}", "a", "b") for n in range(5)]
    with open_store(tmp_path, Sharing().fingerprint()) as store:
        score_items(Sharing(), items, store)
        warm = Sharing()
        score_items(warm, items, store)
    assert warm.log == []


def test_progress_counts_every_text_once(tmp_path: Path) -> None:
    class Counter:
        total = done = tokens = 0

        def start(self, n_texts: int) -> None:
            self.total, self.done = n_texts, 0

        def advance(self, n_texts: int, n_tokens: int) -> None:
            self.done += n_texts
            self.tokens += n_tokens

    items = [item("a", "x", "yy"), item("b", "x", "zzz"), item("c", "x", "x")]
    with open_store(tmp_path, {"kind": "recorder"}) as store:
        for _ in range(2):
            counter = Counter()
            score_items(Recorder(), items, store, progress=counter)
            assert (counter.done, counter.total) == (6, 6)
    assert len(distinct(Unit(str(n % 3), n) for n in range(9))) == 3
