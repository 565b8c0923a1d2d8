"""AlpacaEval's annotations: generators get their published number, judges become records, same models are named."""

import csv
import io
import json
import math
import tarfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import importer, write
from strict_latex import read_latex

from rmbench.benchmarks.alpacaeval import judging_model, win_rate_of
from rmbench.cli.main import run

Capture = pytest.CaptureFixture[str]
GOLD, SAME, OTHER = "weighted_alpaca_eval_gpt4_turbo", "alpaca_eval_gpt4_turbo_fn", "claude"
PREFERENCES: dict[str, list[float | None]] = {
    "a": [1.9, 1.2, 1.5, 0],
    "b": [1.0, 2.0, None, 1.25],
    "NullModel": [1.99, 1.99, 1.99, 1.99],
    "gpt4_1106_preview": [1.5, 1.5, 1.5, 1.5],
}


def rows(model: str, preferences: list[Any], **change: Any) -> list[dict[str, Any]]:
    return [
        {
            "dataset": "d", "instruction": f"question {k}", "output_1": f"reference {k}", "output_2": f"{model} {k}",
            "generator_1": "gpt4_1106_preview", "generator_2": model, "annotator": GOLD, "preference": p, **change,
        }
        for k, p in enumerate(preferences)
    ]  # fmt: skip


def layout(root: Path, judge: str, preferences: dict[str, list[Any]], **change: Any) -> Path:
    for model, values in preferences.items():
        write(root / "results" / model / judge / "annotations.json", rows(model, values, **change))
    return root


def bring(capsys: Capture, path: Path, results: Path, *options: str) -> tuple[list[Any], dict[str, Any], str]:
    code = run(["import", "alpacaeval", str(path), "--results", str(results), "--json", *options])
    said = capsys.readouterr()
    assert code == 0, said.err
    found = json.loads(said.out)
    return found["records"], {g["generator"]: g for g in found["generators"]}, said.err


def test_win_rates_by_hand(tmp_path: Path, capsys: Capture) -> None:
    records, generators, _ = bring(capsys, layout(tmp_path, GOLD, PREFERENCES), tmp_path / "r")
    assert records == [], "the gold is no measure of itself"
    a, b = generators["a"], generators["b"]
    assert a["win_rate"] == pytest.approx(100 * (0.9 + 0.2 + 0.5 + 0.5) / 4)
    assert a["standard_error"] == pytest.approx(100 * stdev([0.9, 0.2, 0.5, 0.5]) / 2)
    assert (a["n_wins"], a["n_wins_base"], a["n_draws"], a["n_total"], a["n_missing"]) == (1, 1, 2, 4, 0)
    assert a["discrete_win_rate"] == 50.0, "0 is an old way to write a draw"
    assert b["win_rate"] == pytest.approx(100 * (0 + 1 + 0.25) / 3), "null does not count"
    assert (b["n_total"], b["n_missing"]) == (3, 1)
    assert b["discrete_win_rate"] == pytest.approx(100 / 3)
    # Nothing but draws among its four prompts: no proof that the next one is a draw, too.
    assert generators["gpt4_1106_preview"]["ci95"] == pytest.approx(
        [50 * 0.025**0.25, 100 - 50 * 0.025**0.25]
    )
    assert [name for name, g in generators.items() if g["adversarial"]] == ["NullModel"]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_one_row_per_prompt_gives_the_published_standard_error(p: list[float]) -> None:
    found = win_rate_of("m", np.array(p), [f"{k:03}" for k in range(len(p))], len(p))
    assert found.win_rate.value == pytest.approx(mean(p), abs=1e-12)
    assert found.win_rate.stderr == pytest.approx(stdev(p) / math.sqrt(len(p)), abs=1e-9)
    low, high = found.win_rate.ci95 or (1.0, 0.0)
    assert 0 <= low <= found.win_rate.value + 1e-12
    assert found.win_rate.value - 1e-12 <= high <= 1
    assert found.discrete_win_rate == mean((x > 0.5) + (x == 0.5) / 2 for x in p)


def test_a_prompt_that_others_have_is_missing(tmp_path: Path, capsys: Capture) -> None:
    folder = layout(tmp_path, GOLD, {"a": [1.1, 1.2, 1.3], "b": [1.1]})
    _, generators, _ = bring(capsys, folder, tmp_path / "r")
    assert (generators["b"]["n_total"], generators["b"]["n_missing"]) == (1, 2)
    assert generators["b"]["standard_error"] is None


def test_the_table_for_people(tmp_path: Path, capsys: Capture) -> None:
    layout(tmp_path, GOLD, {**PREFERENCES, "x\x1b[31m": [1.0, 1.5]})
    assert run(["import", "alpacaeval", str(tmp_path), "--results", str(tmp_path / "r")]) == 0
    said = capsys.readouterr()
    assert "NullModel (adversarial)  99.00 [" in said.out
    assert "\x1b" not in said.out
    assert said.out.splitlines()[2].startswith("NullModel"), "best first"
    assert "0 records" in said.err


SAID = {"a": [1.8, 1.0, 1.5, 2.0], "b": [1.1, 1.9, 1.4, 1.3]}
GIVEN = {"a": [1.9, 1.2, 1.4, 1.6], "b": [1.0, 2.0, 1.6, 1.25]}


def test_the_other_formats_have_the_same_numbers(tmp_path: Path, capsys: Capture) -> None:
    whole = {**PREFERENCES, "b": [1.0, 2.0, 1.75, 1.25]}
    for judge in (GOLD, OTHER):
        layout(tmp_path, judge, whole)
    _, generators, _ = bring(capsys, tmp_path, tmp_path / "r")
    command = ["import", "alpacaeval", str(tmp_path), "--results", str(tmp_path / "r"), "-q"]
    assert run([*command, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    rates = {r["model"]: r for r in rows if r["metric"] == "win_rate"}
    assert rates.keys() == generators.keys()
    assert {name: float(r["value"]) for name, r in rates.items()} == pytest.approx(
        {name: g["win_rate"] for name, g in generators.items()}, rel=1e-5
    )
    assert [r for r in rows if r["task"] == "alpacaeval-calibration"], "a judge's record"
    assert run([*command, "--latex"]) == 0
    table = read_latex(capsys.readouterr().out)[-1]
    assert table.label == "win-rates"
    assert {row[0].removesuffix(" (adversarial)") for row in table.rows[1:]} == generators.keys()


def test_another_judge_is_a_record_beside_reward_models(tmp_path: Path, capsys: Capture) -> None:
    layout(tmp_path, GOLD, {**GIVEN, "NullModel": [1.99] * 4})
    layout(tmp_path, OTHER, {**SAID, "NullModel": [1.0] * 4})
    results = tmp_path / "r"
    (record,), _, _ = bring(capsys, tmp_path, results)
    assert (record["model"], record["task"]) == ("claude", "alpacaeval-calibration")
    # a: right, right, tied, right; b: right, right, wrong, right.
    assert record["metrics"]["accuracy"]["value"] == pytest.approx((3 + 0.5 + 3) / 8)
    assert record["counts"]["dropped"] == {
        "responses of adversarial generators": 4,
        "verdicts on pairs without gold": 4,
    }
    assert record["identity"]["model"]["kind"] == "published"
    assert "gold" not in record["identity"]["model"]
    own = ["eval", "-m", "length", "-t", "alpacaeval-calibration", "--data", str(tmp_path)]
    assert run([*own, "--results", str(results), "-q", "--json"]) == 0
    (length,) = json.loads(capsys.readouterr().out)
    assert record["identity"]["data"] == length["identity"]["data"]
    assert (
        run(["compare", "claude", "length", "-t", "alpacaeval-calibration", "--results", str(results)]) == 0
    )
    before = {p: p.read_bytes() for p in results.rglob("*.json")}
    assert run(["remeasure", str(results)]) == 0
    assert {p: p.read_bytes() for p in results.rglob("*.json")} == before


def test_margins_are_the_log_odds_of_verdicts(tmp_path: Path, capsys: Capture) -> None:
    layout(layout(tmp_path, GOLD, GIVEN), OTHER, GIVEN)
    (record,), _, _ = bring(capsys, tmp_path, tmp_path / "r")
    assert record["metrics"]["brier"]["value"] == pytest.approx(0.0, abs=1e-6), "agrees to the digit"
    assert record["metrics"]["accuracy"]["value"] == 1.0


def test_the_same_model_as_the_gold_is_named(tmp_path: Path, capsys: Capture) -> None:
    layout(layout(layout(tmp_path, GOLD, GIVEN), SAME, SAID), OTHER, SAID)
    (same, other), _, said = bring(capsys, tmp_path, tmp_path / "r")
    assert same["model"] == "alpaca_eval_gpt4_turbo_fn (self-gold)"
    assert same["identity"]["model"]["gold"] == "self-gold"
    assert "same model: no independent measure" in said
    assert (other["model"], same["metrics"]["accuracy"]) == ("claude", other["metrics"]["accuracy"])
    swapped, generators, _ = bring(capsys, tmp_path, tmp_path / "r2", "-T", "annotator=claude")
    assert {r["model"] for r in swapped} == {SAME, GOLD}
    assert generators["a"]["win_rate"] == pytest.approx(100 * mean(v - 1 for v in SAID["a"]))


def test_which_model_judges_is_read_off_the_annotator() -> None:
    assert judging_model("alpaca_eval_cot_gpt4_turbo_fn") == judging_model(GOLD) == "gpt4_turbo"
    assert judging_model("alpaca_eval_gpt4") != judging_model(GOLD)
    assert judging_model("my_judge") == "my_judge"


def test_a_judge_is_measured_on_what_it_saw(tmp_path: Path, capsys: Capture) -> None:
    layout(tmp_path, GOLD, GIVEN)
    layout(tmp_path, OTHER, {"a": SAID["a"]}, output_1="another reference")
    said = refused(capsys, tmp_path, tmp_path / "r")
    assert "no verdict of 'claude' on a pair that has gold" in said
    layout(tmp_path, OTHER, {"a": SAID["a"][:3]})
    (record,), _, _ = bring(capsys, tmp_path, tmp_path / "r")
    assert record["counts"]["items"] == 3
    assert record["counts"]["dropped"] == {"pairs that this judge was not asked about": 5}
    path = tmp_path / "results" / "a" / OTHER / "annotations.json"
    path.write_text(json.dumps([*rows("a", SAID["a"][:3]), *rows("a", [2.0])]))
    (again,), _, _ = bring(capsys, tmp_path, tmp_path / "r2")
    assert again["metrics"] == record["metrics"], "the first verdict on a pair counts"
    assert again["counts"]["dropped"]["further verdicts on the same pair"] == 1


def refused(capsys: Capture, path: Path, results: Path, *options: str) -> str:
    assert run(["import", "alpacaeval", str(path), "--results", str(results), *options]) == 2
    said = capsys.readouterr()
    assert not results.exists(), "nothing is written"
    assert said.err.count("\n") == 1
    return said.err


def test_a_judge_without_a_verdict_stops_unless_it_is_allowed(tmp_path: Path, capsys: Capture) -> None:
    layout(layout(tmp_path, GOLD, GIVEN), OTHER, {**SAID, "b": [1.1, None, 1.4, 1.3]})
    assert "1 of 8 items have a score that is null" in refused(capsys, tmp_path, tmp_path / "r")
    (record,), _, _ = bring(capsys, tmp_path, tmp_path / "r", "-T", "invalid=drop")
    assert record["counts"]["preference"]["invalid_items"] == 1
    (left,), _, said = bring(capsys, layout(tmp_path, SAME, SAID), tmp_path / "r2", "--on-bad", "skip")
    assert left["model"].startswith(SAME)
    assert "left out: " in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"preference": 3}, "line 1, key 'preference': 3; expected a number in [1, 2], 0 or null"),
        ({"preference": "x"}, "key 'preference': 'x'; expected a number"),
        ({"preference": True}, "key 'preference': True; expected a number"),
        (
            {"preference": None},
            "a/weighted_alpaca_eval_gpt4_turbo/annotations.json, key 'preference': no row has",
        ),
        ({"instruction": 1}, "key 'instruction': a number; expected text"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, capsys: Capture, change: Any, said: str) -> None:
    assert said in refused(capsys, layout(tmp_path, GOLD, {"a": [1.1, 1.2]}, **change), tmp_path / "r")


def test_wrong_paths_and_annotators_are_named(tmp_path: Path, capsys: Capture) -> None:
    assert "no such file or folder" in refused(capsys, tmp_path / "x", tmp_path / "r")
    assert "no results/<model>/<annotator>/annotations.json" in refused(capsys, tmp_path, tmp_path / "r")
    layout(tmp_path, GOLD, GIVEN)
    said = refused(capsys, tmp_path, tmp_path / "r", "-T", "annotator=weighted_alpaca_eval_gpt4_trubo")
    assert f"Did you mean {GOLD!r}" in said


def test_an_archive_is_as_good_as_a_folder(tmp_path: Path, capsys: Capture) -> None:
    folder = layout(layout(tmp_path / "in", GOLD, GIVEN), OTHER, SAID)
    with tarfile.open(tmp_path / "results.tar.xz", "w:xz") as archive:
        archive.add(folder / "results", "results")
    (one,), first, _ = bring(capsys, folder, tmp_path / "r")
    (two,), second, _ = bring(capsys, tmp_path / "results.tar.xz", tmp_path / "r")
    assert first == second
    assert one["identity"] == two["identity"]
    raw = (tmp_path / "results.tar.xz").read_bytes()
    (tmp_path / "results.tar.xz").write_bytes(raw[:-200])
    assert "not an archive that can be read" in refused(capsys, tmp_path / "results.tar.xz", tmp_path / "r2")


best_of_n = importer("rewardbench-bon")
SCORES = {(0, 0): 0.5, (0, 1): 2.0, (1, 0): 1.0, (1, 1): -1.0, (0, 2): 9.0}


def candidates(root: Path) -> Path:
    for sample, preferences in enumerate(([1.2, 1.6], [1.9, 1.1])):
        found = rows(
            f"s{sample}", preferences, generator_1="gpt-3.5-turbo-0613", generator_2=f"org/writer.{sample}"
        )
        write(root / f"writer.{sample}" / GOLD / "annotations.json", found)
    return root


def scores(path: Path, values: Any = None, writer: str = "org/writer", nested: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = [
        {"config": "t=1", "id": list(place), "model": writer, "scores": [v] if nested else v}
        for place, v in (SCORES if values is None else values).items()
    ]
    path.write_text("".join(json.dumps(o, indent=4, sort_keys=True) + "\n" for o in objects))
    return path


def test_published_best_of_n_scores_meet_the_judges_gold(tmp_path: Path, capsys: Capture) -> None:
    root = tmp_path / "best-of-n" / "alpaca_eval" / "w"
    scores(root / "org" / "rm.json")
    scores(root / "org" / "flat.json", nested=False)
    write(root / "bon_eval_results.json", {"rm": 1})
    write(root / "eval_results" / "rm.json", {"win_rate": 1})
    data = candidates(tmp_path / "gold")
    flat, rm = best_of_n(capsys, root, tmp_path / "r", "--data", str(data))
    assert (flat["model"], rm["model"], rm["task"]) == ("org/flat", "org/rm", "alpacaeval-bon")
    assert rm["metrics"]["gold@1"]["value"] == pytest.approx((0.2 + 0.9 + 0.6 + 0.1) / 4)
    assert rm["metrics"]["gold@2"]["value"] == pytest.approx((0.9 + 0.6) / 2), (
        "the higher score of each prompt"
    )
    assert rm["counts"]["dropped"] == {"scores of responses that the data does not have": 1}
    assert rm["identity"]["task"]["params"]["gold_meaning"] == "P(beats gpt-3.5-turbo-0613)"
    assert flat["files"] != {}
    assert flat["metrics"] == rm["metrics"]
    (alone,) = best_of_n(capsys, root / "org" / "rm.json", tmp_path / "r", "--data", str(data))
    assert alone["run_id"] == rm["run_id"]


@pytest.mark.parametrize(
    ("values", "writer", "said"),
    [
        ({k: v for k, v in SCORES.items() if k != (1, 0)}, "org/writer", "no score for 1 of 4 responses"),
        (SCORES, "org/other", "key 'model': 'org/other', but --data has samples of 'writer'"),
        ({**SCORES, (0, "x"): 1}, "org/writer", "line 6, key 'id': [0, 'x']; expected [example, sample]"),
        ({**SCORES, (0, 1): None}, "org/writer", "1 of 2 items have a score that is null"),
        ({**SCORES, (0, 1): "high"}, "org/writer", "key 'scores': ['high']; expected one number"),
    ],
)
def test_scores_that_do_not_fit_are_named(
    tmp_path: Path, capsys: Capture, values: Any, writer: str, said: str
) -> None:
    path, data = scores(tmp_path / "rm.json", values, writer), candidates(tmp_path / "gold")
    command = ["import", "rewardbench-bon", str(path), "--results", str(tmp_path / "r")]
    assert run([*command, "--data", str(data)]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_scores_without_gold_are_no_record(tmp_path: Path, capsys: Capture) -> None:
    path = scores(tmp_path / "rm.json")
    assert run(["import", "rewardbench-bon", str(path), "--results", str(tmp_path / "r")]) == 2
    assert "give --data FOLDER with <writer>.<sample>/<annotator>" in capsys.readouterr().err
    layout(tmp_path / "gold", GOLD, GIVEN)
    command = ["import", "rewardbench-bon", str(path), "--results", str(tmp_path / "r")]
    assert run([*command, "--data", str(tmp_path / "gold")]) == 2
    assert "the generator 'a'; expected <writer>.<sample>" in capsys.readouterr().err
