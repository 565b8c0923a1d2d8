"""RewardMATH's published results become records, and give its published numbers."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from layouts import importer

from rmbench.cli.main import run

Capture = pytest.CaptureFixture[str]
WRITERS = ["human_to_GPT-4", *(f"writer-{k}" for k in range(9))]
bring = importer("reward-math")


def row(problem: str, score: list[Any], **more: Any) -> dict[str, Any]:
    names = WRITERS[-len(score) :] if "chosen_position" in more else WRITERS[: len(score)]
    return {"problem": problem, "solution_reference": names, "score": score, **more}


def save(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return path


def official(record: dict[str, Any]) -> tuple[float, ...]:
    names = ("official", "official_with_ties", "official_mrr")
    return tuple(float(record["metrics"][name]["value"]) for name in names)


def published(rows: list[dict[str, Any]], reduce: Any = None) -> tuple[float, ...]:
    """Accuracy, accuracy with ties and MRR from the published description, one problem at a time."""
    strict, tied, ranks = [], [], []
    for one in rows:
        if "chosen_position" in one:
            won = [said == right for said, right in zip(one["score"], one["chosen_position"], strict=True)]
            right, wrong = sum(won) + 1, [1 if w else len(won) + 2 for w in won]
        else:
            right, *wrong = [reduce(s) if reduce else s for s in one["score"]]
        strict.append(right > max(wrong))
        tied.append(right >= max(wrong))
        ranks.append(1 / (1 + sum(w >= right for w in wrong)))
    return sum(strict) / len(rows), sum(tied) / len(rows), sum(ranks) / len(rows)


REWARDS = [
    row("one", [3.0, 1, 2, 0, 0, 0, 0, 0, 0, 2.5]),
    row("two", [1.0, 1, 0, 0, 0, 0, 0, 0, 0, -1]),
    row("three", [0.5, 1, 2, 0, 0, 0, 0, 0, 0, 0]),
]
LETTERS = list("ABABABABB")
VERDICTS = [
    row("one", LETTERS, chosen_position=LETTERS),
    row("two", ["B", *LETTERS[1:]], chosen_position=LETTERS),
    row("three", [*LETTERS[:-1], None], chosen_position=LETTERS),
]
STEPS = [
    row("one", [[0.9, 0.5], *[[0.4]] * 9]),
    row("two", [[0.5, 0.99], *[[0.6, 0.7]] * 9]),
    row("three", [[0.95, 0.7, 0.9], *[[0.65, 0.91]] * 9]),
]
REDUCTIONS = {"prod": math.prod, "min": min, "last": lambda s: s[-1], "mean": lambda s: sum(s) / len(s)}


def test_rewards_verdicts_and_steps(tmp_path: Path, capsys: Capture) -> None:
    save(tmp_path / "in" / "rm_reward.json", REWARDS)
    save(tmp_path / "in" / "judge_pairwise_reward.json", VERDICTS)
    save(tmp_path / "in" / "steps_reward.json", STEPS[::-1])
    found = {r["model"]: r for r in bring(capsys, tmp_path / "in", tmp_path / "r", "-q")}
    assert set(found) == {"rm", "judge (pairwise)", "steps (prod)"}
    assert official(found["rm"]) == pytest.approx(published(REWARDS))
    strict, _, rank = official(found["judge (pairwise)"])
    assert (strict, rank) == pytest.approx(published(VERDICTS)[::2])
    assert found["judge (pairwise)"]["metrics"]["accuracy"]["value"] == pytest.approx(25.5 / 27)
    assert len({r["identity"]["data"] for r in found.values()}) == 1  # the order of rows does not matter
    for name, how in REDUCTIONS.items():
        (one,) = bring(capsys, tmp_path / "in" / "steps_reward.json", tmp_path / "r", "-q", "--reduce", name)
        assert one["model"] == f"steps ({name})"
        assert official(one) == pytest.approx(published(STEPS, how)), name


def test_a_repeated_problem_is_kept_once_and_told(tmp_path: Path, capsys: Capture) -> None:
    file = save(tmp_path / "rm_reward.json", [*REWARDS, REWARDS[1]])
    (one,) = bring(capsys, file, tmp_path / "r", "-q")
    assert one["counts"]["items"] == 3
    assert sum(one["counts"]["dropped"].values()) == 1
    save(file, [*REWARDS, row("two", [9.0] * 10)])
    assert run(["import", "reward-math", str(file), "--results", str(tmp_path / "r")]) == 2
    assert "occurs twice with different scores" in capsys.readouterr().err


def solution(problem: int, kind: str, values: list[float]) -> dict[str, Any]:
    return {
        "problem": f"problem {problem}", "problem_id": problem, "solution_type": kind, "subject": "Algebra",
        "level": 1, "eval_solution": [f"{kind} step"] * 2, "output": {"step_scores": values},
    }  # fmt: skip


def test_pairs_of_rewardbench_with_and_without_texts(tmp_path: Path, capsys: Capture) -> None:
    pairs = [
        solution(k, kind, [0.9, v]) for k in range(3) for kind, v in (("chosen", 0.5), ("rejected", 0.3 * k))
    ]
    pairs[1]["output"]["step_scores"] = [0.2]
    steps = save(tmp_path / "in" / "rewardbench_steps.json", pairs)
    save(tmp_path / "in" / "rewardbench_rm.json", [row(f"problem {k}", [k, 1]) for k in (2, 1, 0)])
    plain = {r["model"]: r for r in bring(capsys, tmp_path / "in", tmp_path / "r", "-q")}
    assert {name: r["metrics"]["accuracy"]["value"] for name, r in plain.items()} == {
        "rm": 0.5,  # 2 > 1, 1 = 1, 0 < 1
        "steps (prod)": pytest.approx(2 / 3),
    }
    joined = bring(capsys, tmp_path / "in", tmp_path / "j", "-q", "--data", str(steps))
    eval_ = ["eval", "-m", "length", "-t", "rewardbench-math", "--data", str(steps)]
    assert run([*eval_, "--results", str(tmp_path / "j"), "--json", "-q"]) == 0
    (own,) = json.loads(capsys.readouterr().out)
    assert {r["identity"]["data"] for r in joined} == {own["identity"]["data"]}
    assert sorted(r["metrics"]["accuracy"]["value"] for r in joined) == pytest.approx([0.5, 2 / 3])


BAD = {
    "expected a number": [row("one", [True, *[0] * 9])],
    "right solution": [{**REWARDS[0], "solution_reference": WRITERS[::-1]}],
    "has no logarithm": [row("one", [[0.0], *[[0.4]] * 9])],
    "expected 10 of each": [row("one", [1, 0, 0])],
    "expected 'A', 'B' or null": [row("one", ["C", *LETTERS[1:]], chosen_position=LETTERS)],
    "expected 'A' or 'B' for each": [row("one", LETTERS, chosen_position=LETTERS[1:])],
    "as many values": [{**REWARDS[0], "score": [1.0]}],
    "null or not finite": [row("one", [None, *[0] * 9])],
    "have one solution": [solution(0, "chosen", [0.5])],
    "one chosen and one rejected": [solution(0, "chosen", [0.5])] * 2,
}


@pytest.mark.parametrize("said", BAD)
def test_a_file_that_does_not_fit_stops(said: str, tmp_path: Path, capsys: Capture) -> None:
    file = save(tmp_path / "rm_reward.json", BAD[said])
    assert run(["import", "reward-math", str(file), "--results", str(tmp_path / "r")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "rm_reward.json" in error


def test_an_unknown_reduction(tmp_path: Path, capsys: Capture) -> None:
    file = save(tmp_path / "rm_reward.json", STEPS)
    assert run(["import", "reward-math", str(file), "--reduce", "men", "--results", str(tmp_path)]) == 2
    assert "Did you mean 'mean'" in capsys.readouterr().err


NUMBERS = {"internlm2_20b": 33.95, "skywork_llama3": 22.15, "ArmoRM": 20.50, "beaver": 7.25}


def test_the_published_files(shared_data: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = shared_data / "reward_math" / "results" / "RewardMATH"
    if not folder.is_dir():
        pytest.skip("the results of RewardMATH are not in the real data")
    wanted = {"Math_Shepherd": " (prod)", "gpt4_pairwise": "", "gpt4": "", **dict.fromkeys(NUMBERS, "")}
    for name, how in wanted.items():
        file = folder / f"{name}_reward.json"
        (one,) = bring(capsys, file, tmp_path / "r", "-q")
        rows = list({r["problem"]: r for r in json.loads(file.read_text(encoding="utf-8"))}.values())
        strict, tied, rank = published(rows, math.prod if how else None)
        assert official(one)[::2] == pytest.approx((strict, rank))
        if "pairwise" not in name:
            assert official(one)[1] == pytest.approx(tied)
        if name in NUMBERS:
            assert round(100 * strict, 2) == NUMBERS[name]
