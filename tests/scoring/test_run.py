"""The scoring run: each text once, nothing lost, nothing made up."""

from collections.abc import Mapping, Sequence
from math import copysign, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.errors import ScoringError
from rmbench.scoring import open_store, score_items
from rmbench.scoring.plan import Unit, batches
from rmbench.types import Conversation, Item, Pair, Response, Scored, Turn


class Recorder:
    """A reward model that remembers what it was asked. Reward: characters of the reply."""

    def __init__(self, answers: Mapping[str, object] | None = None) -> None:
        self.asked: list[list[str]] = []
        self.answers = answers or {}

    def fingerprint(self) -> Mapping[str, str]:
        return {"kind": "recorder"}

    def score(self, batch: Sequence[Conversation]) -> Sequence[float]:
        texts = [turns[-1]["content"] for turns in batch]
        self.asked.append(texts)
        return [self.answers.get(t, float(len(t))) for t in texts]  # type: ignore[misc]

    @property
    def n_asked(self) -> int:
        return sum(len(batch) for batch in self.asked)


def item(name: str, *texts: str) -> Item:
    return Item(name, (Turn(role="user", content="q"),), tuple(Response(t) for t in texts), cluster="q")


def test_rewards_come_back_in_place(tmp_path: Path) -> None:
    items = [item("a", "x", "yyy"), item("b", "zz", "x", "wwwww")]
    with open_store(tmp_path, {"kind": "recorder"}) as store:
        scoring = score_items(Recorder(), items, store, batch_tokens=1)
    assert scoring.rewards == ((1.0, 3.0), (2.0, 1.0, 5.0))


def test_equal_conversations_are_scored_once(tmp_path: Path) -> None:
    model = Recorder()
    with open_store(tmp_path, model.fingerprint()) as store:
        scoring = score_items(model, [item("a", "x", "y"), item("b", "x", "x")], store)
    assert model.n_asked == scoring.n_computed == scoring.n_units == 2


def test_the_same_reply_to_another_prompt_is_another_conversation(tmp_path: Path) -> None:
    model = Recorder()
    other = Item("b", (Turn(role="user", content="r"),), (Response("x"), Response("y")), cluster="r")
    with open_store(tmp_path, model.fingerprint()) as store:
        assert score_items(model, [item("a", "x", "y"), other], store).n_computed == 4


def test_a_second_run_asks_the_model_nothing(tmp_path: Path) -> None:
    items = [item("a", "x", "yyy")]
    with open_store(tmp_path, {"kind": "recorder"}) as store:
        first = score_items(Recorder(), items, store)
        again = Recorder()
        second = score_items(again, items, store)
    assert again.asked == []
    assert (second.rewards, second.n_computed) == (first.rewards, 0)


def test_batches_do_not_depend_on_what_is_known(tmp_path: Path) -> None:
    """A resumed run must send the same batches, or padding could change the last bits."""
    items = [item(f"i{n}", "a" * n, "b" * n) for n in range(1, 40)]
    whole = Recorder()
    with open_store(tmp_path / "one", whole.fingerprint()) as store:
        score_items(whole, items, store, batch_tokens=40)
    resumed = Recorder()
    with open_store(tmp_path / "two", resumed.fingerprint()) as store:
        done = {t for batch in whole.asked[:3] for t in batch}
        from rmbench.core.files import conversation_key

        store.put(
            [
                (conversation_key(i.conversation(k)), Scored(float(len(r.text))))
                for i in items
                for k, r in enumerate(i.responses)
                if r.text in done
            ]
        )
        score_items(resumed, items, store, batch_tokens=40)
    assert resumed.asked == whole.asked[3:]


@given(
    lengths=st.lists(st.integers(0, 500), min_size=1, max_size=60),
    budget=st.integers(1, 2000),
    seed=st.randoms(),
)
@settings(max_examples=100, deadline=None)
def test_batches_hold_each_unit_once_within_the_budget(lengths: list[int], budget: int, seed: object) -> None:
    units = [Unit(f"{i:04d}", n) for i, n in enumerate(lengths)]
    shuffled = list(units)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    grouped = batches(units, [u.payload for u in units], budget)
    assert sorted(u.key for batch in grouped for u in batch) == [u.key for u in units]
    for batch in grouped:
        assert len(batch) == 1 or len(batch) * max(u.payload for u in batch) <= budget
    assert batches(shuffled, [u.payload for u in shuffled], budget) == grouped


@pytest.mark.parametrize("bad", [nan, float("inf"), float("-inf")])
def test_a_reward_that_is_not_finite_is_counted_and_asked_again(tmp_path: Path, bad: float) -> None:
    items = [item("a", "x", "yy")]
    with open_store(tmp_path, {"kind": "recorder"}) as store:
        scoring = score_items(Recorder({"x": bad}), items, store)
        assert scoring.n_invalid == 1
        assert not isnan(scoring.rewards[0][1])
        healed = Recorder()
        assert score_items(healed, items, store).rewards == ((1.0, 2.0),)
        assert healed.asked == [["x"]]


@pytest.mark.parametrize(("answer", "said"), [("high", "'high'"), (None, "None"), ([1.0, 2.0], "list")])
def test_a_reward_that_is_no_number_stops_the_run(tmp_path: Path, answer: object, said: str) -> None:
    with open_store(tmp_path, {"kind": "recorder"}) as store, pytest.raises(ScoringError, match=said):
        score_items(Recorder({"x": answer}), [item("a", "x", "yy")], store)


@pytest.mark.parametrize("n_tokens", [-1, 2**63, 1.5, "5"])
def test_a_number_of_tokens_that_is_no_count_stops_the_run(tmp_path: Path, n_tokens: Any) -> None:
    with open_store(tmp_path, {"kind": "recorder"}) as store, pytest.raises(ScoringError, match="n_tokens"):
        score_items(Recorder({"x": Scored(1.0, n_tokens)}), [item("a", "x", "yy")], store)


def test_zero_is_the_same_whether_it_is_stored_or_not(tmp_path: Path) -> None:
    with open_store(tmp_path, {"kind": "recorder"}) as store:
        found = [score_items(Recorder({"x": -0.0}), [item("a", "x", "yy")], store) for _ in range(2)]
    assert [copysign(1.0, scoring.rewards[0][0]) for scoring in found] == [1.0, 1.0]


def test_numpy_counts_are_stored(tmp_path: Path) -> None:
    counted = Scored(np.float32(1.5), np.int64(7), np.bool_(True))  # type: ignore[arg-type]
    with open_store(tmp_path, {"kind": "recorder"}) as store:
        score_items(Recorder({"x": counted}), [item("a", "x", "yy")], store)
        again = score_items(Recorder(), [item("a", "x", "yy")], store)
        assert (again.n_computed, again.rewards[0][0]) == (0, 1.5)


def test_a_model_that_returns_too_few_rewards_stops_the_run(tmp_path: Path) -> None:
    class Short(Recorder):
        def score(self, batch: Sequence[Conversation]) -> Sequence[float]:
            return [0.0]

    with (
        open_store(tmp_path, {"kind": "recorder"}) as store,
        pytest.raises(ScoringError, match="1 rewards for 2"),
    ):
        score_items(Short(), [item("a", "x", "yy")], store)


def test_a_model_that_raises_keeps_what_was_scored_before(tmp_path: Path) -> None:
    class Fragile(Recorder):
        def score(self, batch: Sequence[Conversation]) -> Sequence[float]:
            if any(t[-1]["content"] == "x" for t in batch):
                raise RuntimeError("out of memory")
            return super().score(batch)

    items = [item("a", "y" * 40, "x")]
    with open_store(tmp_path, {"kind": "recorder"}) as store:
        with pytest.raises(ScoringError, match="RuntimeError on a batch of 1: out of memory"):
            score_items(Fragile(), items, store, batch_tokens=1)
        assert len(store) == 1


def test_truncation_is_counted_per_response_and_unknown_stays_unknown(tmp_path: Path) -> None:
    items = [item("a", "x", "yy"), item("b", "x", "zzz")]
    reported = Recorder(
        {"x": Scored(1.0, 5, True), "yy": Scored(2.0, 6, False), "zzz": Scored(3.0, 7, False)}
    )
    with open_store(tmp_path / "one", {"kind": "recorder"}) as store:
        scoring = score_items(reported, items, store)
    assert (scoring.n_truncated, scoring.n_tokens) == (2, 18)
    with open_store(tmp_path / "two", {"kind": "recorder"}) as store:
        assert score_items(Recorder(), items, store).n_truncated is None


class Judge:
    """A pairwise model with a known bias towards the first place."""

    def __init__(self, bias: float = 0.0) -> None:
        self.bias = bias
        self.asked = 0

    def fingerprint(self) -> Mapping[str, str]:
        return {"kind": "judge", "bias": str(self.bias)}

    def prefer(self, batch: Sequence[Pair]) -> Sequence[float]:
        self.asked += len(batch)
        return [min(1.0, max(0.0, (0.8 if len(p.first) > len(p.second) else 0.2) + self.bias)) for p in batch]


def test_a_pairwise_model_is_asked_in_both_orders(tmp_path: Path) -> None:
    judge = Judge()
    with open_store(tmp_path, judge.fingerprint()) as store:
        scoring = score_items(judge, [item("a", "x", "yy", "zzz")], store)
        assert judge.asked == 6
        assert scoring.rewards[0][0] < scoring.rewards[0][1] < scoring.rewards[0][2]
        assert (scoring.flips, scoring.comparisons) == ((0,), (3,))
        score_items(judge, [item("a", "x", "yy", "zzz")], store)
    assert judge.asked == 6


def test_a_judge_that_likes_the_first_place_flips(tmp_path: Path) -> None:
    judge = Judge(bias=0.4)
    with open_store(tmp_path, judge.fingerprint()) as store:
        scoring = score_items(judge, [item("a", "x", "yy")], store)
    assert scoring.flips == (1,)


def test_a_preference_outside_0_to_1_stops_the_run(tmp_path: Path) -> None:
    class Loud(Judge):
        def prefer(self, batch: Sequence[Pair]) -> Sequence[float]:
            return [7.0] * len(batch)

    with open_store(tmp_path, {"kind": "judge"}) as store, pytest.raises(ScoringError, match=r"7\.0"):
        score_items(Loud(), [item("a", "x", "yy")], store)
