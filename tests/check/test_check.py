"""`rmbench check` finds the defects that it is for: each model below has exactly one."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rmbench.check import CheckResult, check_model
from rmbench.core.files import conversation_key
from rmbench.models.baselines import Constant, Length, Random
from rmbench.types import Conversation, Item, Pair, Scored


class Sound:
    """A model without a defect, that reads prompt and response."""

    def fingerprint(self) -> dict[str, str]:
        return {"kind": "sound"}

    def score(self, batch: Sequence[Conversation]) -> Sequence[Any]:
        return Random(seed=0).score(batch)


def results(model: Any) -> dict[str, CheckResult]:
    return {result.name: result for result in check_model(model)}


def failures(model: Any) -> set[str]:
    return {name for name, result in results(model).items() if result.passed is False}


def with_score(change: Callable[[Sequence[Conversation], list[float]], Any]) -> Any:
    class Changed(Sound):
        def score(self, batch: Sequence[Conversation]) -> Any:
            return change(batch, list(Random(seed=0).score(batch)))

    return Changed()


def test_sound_models_pass() -> None:
    for model in (Sound(), Length(), Random()):
        found = results(model)
        assert not failures(model)
        assert found["count and range"].passed
        assert all(result.meaning and result.detail for result in found.values())


def test_a_constant_ties_everything() -> None:
    assert failures(Constant()) == {"tells responses apart"}
    assert results(Constant())["long prompt"].passed is None


def raises_on_empty(batch: Sequence[Conversation], rewards: list[float]) -> list[float]:
    if any(not turns[-1]["content"] for turns in batch):
        raise IndexError("string index out of range")
    return rewards


def mutates(batch: Sequence[Conversation], rewards: list[float]) -> list[float]:
    for turns in batch:
        turns[-1]["content"] += "</s>"
    return rewards


def right_truncates(batch: Sequence[Conversation], rewards: list[float]) -> list[float]:
    def seen(turns: Conversation) -> float:
        text = "".join(turn["content"] for turn in turns)[:2_000]
        return Random(seed=0).score([[{"role": "user", "content": text}]])[0]

    return [seen(turns) for turns in batch]


def pads_badly(batch: Sequence[Conversation], rewards: list[float]) -> list[float]:
    widest = max((len(turns[-1]["content"]) for turns in batch), default=0)
    return [
        reward + 1e-3 * (widest - len(turns[-1]["content"]))
        for turns, reward in zip(batch, rewards, strict=True)
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda b, r: sorted(r), {"order", "batch size", "padding", "engine"}),
        (raises_on_empty, {"empty and one-character responses"}),
        (mutates, {"input untouched"}),
        (right_truncates, {"long prompt"}),
        (pads_badly, {"batch size", "padding", "engine"}),
    ],
)
def test_one_defect_is_found_by_its_check(
    change: Callable[[Sequence[Conversation], list[float]], Any], expected: set[str]
) -> None:
    found = failures(with_score(change))
    assert expected <= found
    assert found <= expected | {"deterministic"}


def test_drifting_rewards_are_not_deterministic() -> None:
    calls: list[int] = []
    model = with_score(lambda b, r: [x + 0.01 * len(calls) for x in r] if not calls.append(1) else r)
    assert "deterministic" in failures(model)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (lambda b, r: r[:-1], "returned 3 rewards for 4 conversations"),
        (lambda b, r: [float("nan"), *r[1:]] if r else r, "returned nan for 1 of 4 conversations"),
        (lambda b, r: None, "returned no sequence of numbers"),
        (lambda b, r: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda b, r: r or [0.0], "an empty batch got rewards"),
    ],
)
def test_a_broken_contract_is_a_result_not_a_crash(change: Any, detail: str) -> None:
    result = results(with_score(change))["count and range"]
    assert result.passed is False
    assert detail in result.detail or "returned 1 rewards for 0" in result.detail


def test_a_fingerprint_that_changes() -> None:
    class Drifts(Sound):
        n = 0

        def fingerprint(self) -> dict[str, str]:
            self.n += 1
            return {"kind": "drifts", "time": str(self.n)}

    assert failures(Drifts()) == {"fingerprint"}
    assert "time" in results(Drifts())["fingerprint"].detail


def test_token_counts_are_compared() -> None:
    class Counts(Sound):
        def lengths(self, batch: Sequence[Conversation]) -> list[int]:
            return [len(turns[-1]["content"]) + 1 for turns in batch]

        def score(self, batch: Sequence[Conversation]) -> list[Scored]:
            return [
                Scored(x, len(c[-1]["content"])) for x, c in zip(super().score(batch), batch, strict=True)
            ]

    assert failures(Counts()) == {"token counts"}


def test_a_pairwise_model_is_asked_for_preferences() -> None:
    class FirstWins:
        def fingerprint(self) -> dict[str, str]:
            return {"kind": "first-wins"}

        def prefer(self, batch: Sequence[Pair]) -> list[float]:
            return [0.9 + len(pair.first) * 1e-4 % 0.1 for pair in batch]

    found = results(FirstWins())
    assert "6 of 6 preferences flip" in found["order of a pair"].detail
    assert not {name for name, r in found.items() if r.passed is False} - {"tells responses apart"}

    class OutOfRange(FirstWins):
        def prefer(self, batch: Sequence[Pair]) -> list[float]:
            return [float(len(pair.first)) for pair in batch]

    assert "count and range" in failures(OutOfRange())


def test_precomputed_rewards_are_checked_for_identity_alone() -> None:
    class Precomputed:
        def fingerprint(self) -> dict[str, str]:
            return {"kind": "scores"}

        def rewards(self, items: Sequence[Item]) -> list[list[float]]:
            return [[0.0] * len(item.responses) for item in items]

    found = check_model(Precomputed())
    assert [r.name for r in found if r.passed is not None] == ["fingerprint"]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"double_bos": True}, {"double BOS"}),
        ({"eos_seen": False, "read_at": "?"}, {"EOS"}),
        ({"own_forward_gap": 0.5}, {"own forward pass"}),
        ({"pad_is_eos": True, "read_at": "</s>", "own_read_at": "."}, set()),
        ({}, set()),
    ],
)
def test_what_an_adapter_shows_is_judged(seen: dict[str, Any], expected: set[str]) -> None:
    class Shows(Sound):
        def diagnose(self, conversation: Conversation) -> dict[str, Any]:
            return {"asked": conversation_key(conversation), **seen}

    assert failures(Shows()) == expected


def test_the_engine_is_compared_with_one_at_a_time() -> None:
    class Shares(Sound):
        """Reads a shared prompt once, and gives what it costs to the first candidate."""

        def joint_length(self, batch: Sequence[Conversation]) -> int:
            return 40 + 10 * len(batch)

        def score(self, batch: Sequence[Conversation]) -> list[float]:
            return [x + 0.01 * len(batch) for x in super().score(batch)]

    assert "engine" in failures(Shares())
    found = results(type("Exact", (Sound,), {"joint_length": Shares.joint_length})())["engine"]
    assert found.passed
    assert "0 of 18 pairs change their order" in found.detail
    assert "4 candidates of a prompt are 80 tokens together, 200 apart" in found.detail


def test_another_dtype_is_told_of_and_never_fails() -> None:
    class Rounds(Sound):
        def fingerprint(self) -> dict[str, str]:
            return {"kind": "rounds", "dtype": "float32"}

        def recast(self, dtype: str) -> Any:
            assert dtype == "bfloat16"
            return with_score(lambda b, r: [round(x, 1) for x in r])

    found = results(Rounds())["dtype"]
    assert found.passed is None
    assert "bfloat16 in place of float32 changes rewards by up to 0.0" in found.detail
    assert results(Sound())["dtype"].detail == "not applicable: the model has no other dtype"


def test_the_rewards_of_a_card_stand_beside_the_models_own() -> None:
    from rmbench.models.hf.recipes.recipe import Example

    example = Example(prompt="What?", replies=("a", "b"), rewards=(1.5, -2.25), source="card of org/name")

    class Carded(Sound):
        def card_example(self) -> Any:
            return example, [0.5, 0.25]

    found = results(Carded())["the card's example"]
    assert found.passed is None
    assert found.detail == (
        "for information: this model gives 0.5, 0.25, where the card of org/name states 1.5, -2.25; expected of"
        " that very model only"
    )
    assert results(Sound())["the card's example"].detail == "not applicable: no card states rewards"
