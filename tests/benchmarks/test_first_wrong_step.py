"""The first wrong step: ProcessBench's numbers, thresholds and calibration against plain references."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import importer

from rmbench.benchmarks.first_wrong_step import (
    best_threshold,
    fitted_thresholds,
    solutions_of,
    step_error,
    three_numbers,
)
from rmbench.cli.main import run
from rmbench.metrics.panel import Panel, PanelRow, build_panel, folds_of

Capture = pytest.CaptureFixture[str]
MODEL = "org/steps"
SPLITS = ("gsm8k", "math", "olympiadbench", "omnimath")
bring = importer("processbench")


def made_up(n: int = 48, seed: int = 0) -> list[dict[str, Any]]:
    """Rows in ProcessBench's schema; problems 0 and 1, 2 and 3, ... are the same."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(n):
        n_steps = int(rng.integers(1, 6))
        label = int(rng.integers(0, n_steps)) if k % 3 else -1
        p = rng.uniform(0.3, 1.0, n_steps)
        if label >= 0:
            p[label:] *= rng.uniform(0.2, 1.2)
        split = SPLITS[k // 2 % 4]
        rows.append(
            {
                "id": f"{split}-{k}", "generator": "writer", "problem": f"problem {k // 2}", "split": split,
                "steps": [f"step {j}" for j in range(n_steps)], "label": label, "per_step_len": [6] * n_steps,
                "final_answer_correct": label < 0, MODEL: np.minimum(p, 1.0).round(3).tolist(),
            }
        )  # fmt: skip
    return rows


ROWS = made_up(96)


def named(rewards: list[float], threshold: float) -> int:
    return next((j for j, p in enumerate(rewards) if p < threshold), -1)


def f1(rows: list[dict[str, Any]], threshold: float, model: str = MODEL) -> float:
    """F1 from the published description, one solution at a time."""
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for r in rows:
        hits[r["label"] >= 0].append(named(r[model], threshold) == r["label"])
    a, b = (sum(h) / len(h) for h in hits.values())
    return 2 * a * b / (a + b) if a + b else 0.0


def save(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def panel_of_rows(rows: list[dict[str, Any]]) -> Panel:
    found = []
    for r in rows:
        k, label = len(r["steps"]), r["label"]
        gold = [1.0 if label < 0 or j < label else 0.0 if j == label else None for j in range(k)]
        found.append(
            PanelRow(
                id=r["id"], rewards=r[MODEL], gold=gold, lengths=[0] * k, cluster=r["problem"],
                strata={"split": r["split"]}, gold_kind="label",
            )
        )  # fmt: skip
    return build_panel(found)


def value(record: dict[str, Any], name: str) -> float:
    return float(record["metrics"][name]["value"])


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("process")
    save(folder / "in" / "table.jsonl", ROWS)
    command = ["import", "processbench", str(folder / "in"), "--results", str(folder / "r"), "-q"]
    assert run(command) == 0
    (found,) = (folder / "r").rglob("*.json")
    return dict(json.loads(found.read_text(encoding="utf-8")))


def test_official_numbers(record: dict[str, Any]) -> None:
    parts = [f1([r for r in ROWS if r["split"] == split], 0.5) for split in SPLITS]
    assert [value(record, f"official_{split}") for split in SPLITS] == pytest.approx(parts, abs=1e-9)
    assert value(record, "official") == pytest.approx(sum(parts) / 4, abs=1e-9)


def test_areas_and_depth(record: dict[str, Any]) -> None:
    reductions = {"min": min, "mean": np.mean, "product": np.prod, "last": lambda s: s[-1]}
    for name, how in reductions.items():
        right = [how(r[MODEL]) for r in ROWS if r["label"] < 0]
        wrong = [how(r[MODEL]) for r in ROWS if r["label"] >= 0]
        wins = [(a > b) + 0.5 * (a == b) for a in right for b in wrong]
        assert value(record, f"auroc_{name}") == pytest.approx(np.mean(wins), abs=1e-9), name
    shares = [value(record, f"process_{name}") for name in ("found", "early", "late", "missed")]
    assert sum(shares) == pytest.approx(1.0)
    table = record["curves"]["first_wrong_step"]
    assert sum(row["n"] for row in table) == sum(r["label"] >= 0 for r in ROWS)
    found = sum(row["n"] * row["found"] for row in table)
    assert found == pytest.approx(shares[0] * sum(r["label"] >= 0 for r in ROWS))


def test_the_best_threshold_is_that_of_a_search() -> None:
    found = solutions_of(panel_of_rows(ROWS))
    assert not isinstance(found, str)
    fold = folds_of(found.cluster, 5, 0)
    fitted = fitted_thresholds(found, 5, 0)
    values = sorted({p for r in ROWS for p in r[MODEL]})
    everywhere = [(a + b) / 2 for a, b in pairwise(values)]
    for k in range(5):
        others = [r for r, n in zip(ROWS, fold, strict=True) if n != k]
        best = max(f1(others, t) for t in everywhere)
        assert f1(others, best_threshold(found, fold != k)) == pytest.approx(best, abs=1e-12)
        assert len(set(fitted[fold == k])) == 1
    # Solutions of one problem are never in the fit of their own threshold.
    assert len({(r["problem"], k) for r, k in zip(ROWS, fold, strict=True)}) == len(
        {r["problem"] for r in ROWS}
    )


def test_f1_has_the_error_of_leaving_problems_out() -> None:
    rows = made_up(600, seed=2)
    found = solutions_of(panel_of_rows(rows))
    assert not isinstance(found, str)
    hit = np.array([float(named(r[MODEL], 0.5) == r["label"]) for r in rows])
    score = three_numbers(found, hit)[0]
    problems = sorted({r["problem"] for r in rows})
    without = np.array([f1([r for r in rows if r["problem"] != p], 0.5) for p in problems])
    n = len(problems)
    jackknife = ((n - 1) / n * np.square(without - without.mean()).sum()) ** 0.5
    assert score.value == pytest.approx(f1(rows, 0.5))
    assert score.stderr == pytest.approx(jackknife, rel=0.05)


def test_calibration_of_steps_sees_a_bias_on_one_side() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.05, 0.95, 6000)
    right = (rng.uniform(size=6000) < p).astype(float)
    cluster = np.arange(6000) // 3
    fair, _ = step_error(p, right, cluster, 2000, 15)
    low, table = step_error(p * 0.8, right, cluster, 2000, 15)
    assert fair.value < 0.025
    assert low.value == pytest.approx(np.mean(right - 0.8 * p), abs=0.01)
    assert sum(int(row["n"]) for row in table) == 6000


def test_files_without_steps_are_joined_by_id(tmp_path: Path, capsys: Capture) -> None:
    save(tmp_path / "in" / "table.jsonl", ROWS)
    other = [{"id": r["id"], f"{MODEL}, perturbed": [p / 2 for p in r[MODEL]]} for r in reversed(ROWS)]
    file = save(tmp_path / "in" / "no_question.jsonl", other)
    found = {r["model"]: r for r in bring(capsys, tmp_path / "in", tmp_path / "r", "-q")}
    assert set(found) == {MODEL, f"{MODEL} (no_question)"}
    assert len({r["identity"]["data"] for r in found.values()}) == 1
    for name in ("auroc_min", "process_f1", "process_early"):  # halved rewards: the same order
        assert value(found[f"{MODEL} (no_question)"], name) == value(found[MODEL], name)
    data = tmp_path / "in" / "table.jsonl"
    (alone,) = bring(capsys, file, tmp_path / "r", "-q", "--data", str(data))
    assert alone["identity"] == found[f"{MODEL} (no_question)"]["identity"]
    own_run = ["eval", "-m", "length", "-t", "processbench", "--data", str(data), "--results", str(tmp_path)]
    assert run([*own_run, "--json", "-q"]) == 0
    (own,) = json.loads(capsys.readouterr().out)
    assert own["identity"]["data"] == alone["identity"]["data"]
    assert "no probabilities" in own["undefined"]["step_ece"]
    assert run(["import", "processbench", str(file), "--results", str(tmp_path / "r")]) == 2
    assert "expected one, to which others are joined by id" in capsys.readouterr().err


BAD = {
    "expected one for each of": {MODEL: [0.5] * 9},
    "expected the index of the first wrong": {"label": 9},
    "expected a list of texts": {"steps": []},
    "null or not finite": {MODEL: [None] * len(ROWS[0]["steps"])},
    "no column with a list of rewards": {MODEL: "0.5"},
}


@pytest.mark.parametrize("said", BAD)
def test_a_table_that_does_not_fit_stops(said: str, tmp_path: Path, capsys: Capture) -> None:
    file = save(tmp_path / "table.jsonl", [{**ROWS[0], **BAD[said]}, *ROWS[1:]])
    assert run(["import", "processbench", str(file), "--results", str(tmp_path / "r")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "table.jsonl" in error


PUBLISHED = {"gsm8k": 67.6, "math": 50.9, "olympiadbench": 19.9, "omnimath": 18.6}
AREAS = {"": 0.874, " (question_removed)": 0.844, " (question_of_another)": 0.630}


def test_step_rewards_of_a_real_model(shared_data: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = shared_data / "processbench"
    if not folder.is_dir():
        pytest.skip("ProcessBench is not in the real data")
    model = "Skywork-o1-Open-PRM-Qwen-2.5-7B"
    found = {r["model"].removeprefix(model): r for r in bring(capsys, folder, tmp_path, "-q")}
    for split, published in PUBLISHED.items():
        assert round(100 * value(found[""], f"official_{split}"), 1) == published
    assert {name: round(value(r, "auroc_min"), 3) for name, r in found.items()} == AREAS
