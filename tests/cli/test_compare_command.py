"""`rmbench compare`: every two of several models, corrected for their number, in every format."""

import csv
import io
import json
import random
from itertools import combinations
from math import inf
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import nct, ttest_rel
from scipy.stats import t as student_t
from strict_latex import read_latex
from synthetic_boards import HOSTILE

from rmbench.cli.main import run
from rmbench.core.escape import one_line

N = 40
MODELS = ("good", "fair", "length", "constant")
Capture = pytest.CaptureFixture[str]


def write_scores(path: Path, weight: float, seed: int) -> str:
    rng = random.Random(seed)
    rows = [
        {"id": f"i{k}", "rewards": [weight * (k + j) % 3 + rng.gauss(0, 1) for j in range(3)]}
        for k in range(N)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"scores:{path}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    rows = [
        {
            "id": f"i{k}",
            "prompt": f"question {k}",
            "responses": ["a" * (1 + k % 5), "b" * (1 + (k * 3) % 7), "c" * (1 + (k * 5) % 11)],
            "gold": [k % 3, (k + 1) % 3, (k + 2) % 3],
            "gold_kind": "graded",
        }
        for k in range(N)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = ["--data", str(folder / "items.jsonl"), "--results", str(folder / "results"), "-q"]
    base += ["--store", str(folder / "store"), "-t", "preference", "-t", "calibration"]
    assert run(["eval", "-m", "length", "-m", "constant", *base]) == 0
    for name, weight in (("good", 1.0), ("fair", 0.6)):
        assert run(["eval", "-m", write_scores(folder / f"{name}.jsonl", weight, len(name)), *base]) == 0
    hostile = write_scores(folder / "hostile.jsonl", 0.3, 9)
    assert run(["eval", "-m", hostile, "-M", f"name={HOSTILE[3]}", *base]) == 0
    return folder


def compare(made: Path, capsys: Capture, *arguments: str, task: str = "preference") -> str:
    capsys.readouterr()
    assert run(["compare", *arguments, "-t", task, "--results", str(made / "results")]) == 0
    return capsys.readouterr().out


def refused(made: Path, capsys: Capture, *arguments: str) -> str:
    capsys.readouterr()
    assert run(["compare", *arguments, "-t", "preference", "--results", str(made / "results")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def by_closed_testing(p_values: list[float]) -> list[float]:
    """Holm's adjusted p-values by another way: the largest Bonferroni p of all subsets that hold the test."""
    tests = range(len(p_values))
    subsets = [s for n in range(1, len(p_values) + 1) for s in combinations(tests, n)]
    return [
        max(min(1.0, len(s) * min(p_values[k] for k in s)) for s in subsets if test in s) for test in tests
    ]


def test_every_pair_is_what_the_command_for_two_says(made: Path, capsys: Capture) -> None:
    report = json.loads(compare(made, capsys, *MODELS, "--json"))
    assert report["models"] == list(MODELS)
    assert [(p["first"], p["second"]) for p in report["pairs"]] == list(combinations(MODELS, 2))
    for pair in report["pairs"]:
        two = json.loads(compare(made, capsys, pair["first"], pair["second"], "--json"))
        assert pair["metrics"].keys() == two["metrics"].keys()
        for metric, found in two["metrics"].items():
            family = {"p_holm": None, "verdict": None, "shows_from": None}  # another one of fewer tests
            assert {**pair["metrics"][metric], **family} == {**found, **family}
            shown = (pair["metrics"][metric]["shows_from"], found["shows_from"], found["shows_from_alone"])
            assert list(shown) == sorted(shown, key=lambda v: inf if v is None else v, reverse=True)
        assert pair["disagreements"] == two["disagreements"]
        assert pair["undefined"] == two["undefined"]


@pytest.mark.parametrize("names", [MODELS, MODELS[:3], MODELS[:2]])
def test_the_metric_of_the_verdict_is_one_family_and_all_others_another(
    made: Path, capsys: Capture, names: tuple[str, ...]
) -> None:
    metrics = ["--metric", "accuracy", "--metric", "nll", "--metric", "brier"]
    report = json.loads(compare(made, capsys, *names, *metrics, "--json", task="calibration"))
    pairs = report.get("pairs", [report])
    n_pairs = len(list(combinations(names, 2)))
    for family in (["accuracy"], ["nll", "brier"]):
        tests = [p["metrics"][name] for p in pairs for name in family]
        assert len(tests) == n_pairs * len(family)
        raw = [t["p_value"] for t in tests]
        assert [t["p_holm"] for t in tests] == pytest.approx(by_closed_testing(raw), rel=1e-12)
        assert sum(t["p_holm"] > t["p_value"] for t in tests) >= (len(tests) > 1)
    # The verdict and its row in the table are one test.
    verdicts = [(v["first"], v["second"], v["p"]) for v in report["verdicts"]]
    of_first = [(p["first"], p["second"], p["metrics"]["accuracy"]["p_holm"]) for p in pairs]
    assert verdicts == [row for row in of_first if row[0] == names[0]]
    of = f"{ {2: '1 pair', 3: '3 pairs', 4: '6 pairs'}[len(names)] } of {len(names)} models on 3 metrics"
    words = f"the other metrics: Holm's correction at 5% over {2 * n_pairs} tests ({of})"
    assert words in report["adjustment"]
    assert ("accuracy: one test" in report["adjustment"]) == (n_pairs == 1)
    shown = compare(made, capsys, *names, *metrics, task="calibration")
    assert words in shown
    assert "80% power, after the correction" in shown
    one = json.loads(compare(made, capsys, *names[:2], "--metric", "accuracy", "--json"))
    assert one["metrics"]["accuracy"]["p_holm"] == one["metrics"]["accuracy"]["p_value"]
    assert "nothing to correct for" in one["adjustment"]


def test_the_smallest_difference_is_that_of_the_noncentral_t(made: Path, capsys: Capture) -> None:
    pair = json.loads(compare(made, capsys, "good", "fair", "--metric", "accuracy", "--json"))
    found = pair["metrics"]["accuracy"]
    shift = found["shows_from"] / found["difference"]["stderr"]
    critical = student_t.isf(0.025, N - 1)  # every prompt has three pairs
    assert nct.sf(critical, N - 1, shift) + nct.cdf(-critical, N - 1, shift) == pytest.approx(0.8, abs=1e-4)


def test_equivalence_is_the_ninety_percent_interval_within_the_margin(made: Path, capsys: Capture) -> None:
    plain = json.loads(compare(made, capsys, "good", "fair", "--metric", "accuracy", "--json"))
    difference = plain["metrics"]["accuracy"]["difference"]
    reach = abs(difference["value"]) + student_t.isf(0.05, N - 1) * difference["stderr"]
    for margin, within in ((reach * 0.99, False), (reach * 1.01, True)):
        margins = ["--margin", str(margin), "--metric", "accuracy"]
        found = json.loads(compare(made, capsys, "good", "fair", *margins, "--json"))["metrics"]["accuracy"]
        assert found["within_margin"] == within
        expected = student_t.sf((margin - abs(difference["value"])) / difference["stderr"], N - 1)
        assert found["p_equivalence"] == pytest.approx(expected, rel=1e-6)
        assert (found["p_equivalence"] < 0.05) == within
        shown = compare(made, capsys, "good", "fair", *margins)
        assert (f"equivalent within {margin:g}" in shown or f", by less than {margin:g}" in shown) == within
    assert plain["metrics"]["accuracy"]["within_margin"] is None


def test_a_difference_that_is_shown_to_be_small_is_both(made: Path, capsys: Capture) -> None:
    names = ("good", "constant")
    found = json.loads(compare(made, capsys, *names, "--metric", "accuracy", "--json"))["metrics"]["accuracy"]
    assert found["verdict"] == "better"
    far = ["--metric", "accuracy", "--margin", "0.9"]
    both = json.loads(compare(made, capsys, *names, *far, "--json"))["metrics"]["accuracy"]
    assert (both["verdict"], both["within_margin"]) == ("better", True)
    assert "better, by less than 0.9" in compare(made, capsys, *names, *far)
    assert "worse, by less than 0.9" in compare(made, capsys, *reversed(names), *far)
    assert "worse" in compare(made, capsys, "good", "constant", "--metric", "ece", task="calibration")


@pytest.mark.parametrize("margin", ["0", "-0.1", "nan", "inf"])
def test_a_margin_is_above_zero(made: Path, capsys: Capture, margin: str) -> None:
    assert "margin" in refused(made, capsys, "good", "fair", "--margin", margin)


def test_closed_testing_agrees_with_holm_worked_out_by_hand() -> None:
    # Sorted: 0.005 x 4 = 0.02, 0.01 x 3 = 0.03, 0.03 x 2 = 0.06, and 0.04 x 1, which may not be smaller.
    assert by_closed_testing([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_the_p_value_is_that_of_the_paired_t_test_over_prompts(made: Path, capsys: Capture) -> None:
    pair = json.loads(compare(made, capsys, "good", "fair", "--items", str(N), "--json"))
    parted = {d["item"]: d["first"] - d["second"] for d in pair["disagreements"]}
    differences = [parted.get(f"i{k}", 0.0) for k in range(N)]  # every item has three pairs
    found = pair["metrics"]["accuracy"]
    assert found["difference"]["value"] == pytest.approx(sum(differences) / N)
    assert found["p_value"] == pytest.approx(ttest_rel(differences, [0.0] * N).pvalue, rel=1e-9)


def test_what_a_model_has_no_value_of_is_named_and_not_corrected_for(made: Path, capsys: Capture) -> None:
    report = json.loads(compare(made, capsys, *MODELS, "--json", task="calibration"))
    assert report["undefined"]["temperature"]["constant"] == "every margin is 0"
    tested = [
        p["metrics"]["ece_scaled"] for p in report["pairs"] if "constant" not in (p["first"], p["second"])
    ]
    assert len(tested) == 3
    tests = [t for p in report["pairs"] for t in p["metrics"].values() if t["p_value"] is not None]
    further = [
        t
        for p in report["pairs"]
        for name, t in p["metrics"].items()
        if t["p_value"] is not None and name != report["verdicts"][0]["metric"]
    ]
    smallest = min(further, key=lambda t: t["p_value"])
    assert smallest["p_holm"] == pytest.approx(min(1.0, len(further) * smallest["p_value"]))
    assert f"Holm's correction at 5% over {len(further)} tests" in report["adjustment"]
    missing = 6 * len(report["pairs"][0]["metrics"]) - len(tests)
    assert missing > 0
    assert f"; {missing} without a test" in report["adjustment"]
    assert all("ece_scaled" not in p["metrics"] for p in report["pairs"] if p["second"] == "constant")
    assert "no ece_scaled, temperature for constant: every margin is 0" in compare(
        made, capsys, "good", "constant", task="calibration"
    )


def test_items_are_those_with_the_largest_less_the_smallest_value(made: Path, capsys: Capture) -> None:
    report = json.loads(compare(made, capsys, *MODELS[:3], "--items", "5", "--json"))
    values: dict[str, dict[str, float]] = {}
    for first, second in combinations(MODELS[:3], 2):
        pair = json.loads(compare(made, capsys, first, second, "--items", str(N), "--json"))
        for d in pair["disagreements"]:
            values.setdefault(d["item"], {}).update({first: d["first"], second: d["second"]})
    gaps = {item: max(v.values()) - min(v.values()) for item, v in values.items()}
    largest = sorted(gaps, key=lambda item: (-gaps[item], int(item[1:])))[:5]
    assert [d["item"] for d in report["disagreements"]] == largest
    assert report["disagreements"][0]["values"] == values[largest[0]]


def test_a_terminal_has_matrices_where_they_fit(
    made: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    wide = compare(made, capsys, *MODELS, "--data", str(made / "items.jsonl"), "--metric", "accuracy")
    assert "accuracy, row minus column; *: p (Holm) < 0.05:" in wide
    matrix = wide.split("row minus column")[1].split("Differences")[0]
    rows = [line.split() for line in matrix.splitlines() if line.startswith("(")]
    assert [r[:2] for r in rows] == [[f"({n})", name] for n, name in enumerate(MODELS, 1)]
    cells = [r[2:] for r in rows]
    assert [cells[n][n] for n in range(4)] == ["-"] * 4
    opposite = str.maketrans("+-", "-+")
    for i, j in combinations(range(4), 2):
        assert cells[j][i] == cells[i][j].translate(opposite)
    assert "accuracy: Holm's correction at 5% over 6 tests (6 pairs of 4 models on 1 metric)." in wide
    assert "No mark: not told apart. Smallest difference that the data show: 0." in wide
    assert "question " in wide
    stars = {(i, j) for i, j in combinations(range(4), 2) if cells[i][j].endswith("*")}
    report = json.loads(compare(made, capsys, *MODELS, "--metric", "accuracy", "--json"))
    p_holm = [p["metrics"]["accuracy"]["p_holm"] for p in report["pairs"]]
    assert stars == {pair for pair, p in zip(combinations(range(4), 2), p_holm, strict=True) if p < 0.05}
    assert 0 < len(stars) < 6
    monkeypatch.setenv("COLUMNS", "40")
    narrow = compare(made, capsys, *MODELS, "--metric", "accuracy")
    assert "row minus column" not in narrow
    assert "Matrices of differences would need " in narrow


def test_latex_has_every_number_and_nothing_that_latex_would_run(made: Path, capsys: Capture) -> None:
    names = ("good", HOSTILE[3], "length")
    tables = read_latex(compare(made, capsys, *names, "--latex"))
    assert tables[0].label == "compare-preference"
    assert [row[0] for row in tables[0].rows[1:]] == [one_line(name, 40) for name in names]
    pairs = next(t for t in tables if t.label == "compare-preference-pairs")
    assert "3 pairs of 3 models on " in pairs.notes
    report = json.loads(compare(made, capsys, *names, "--json"))
    assert len(pairs.rows) - 1 == sum(len(p["metrics"]) for p in report["pairs"])
    bold = [row for row in pairs.rows[1:] if r"\mathbf" in row[3]]
    p_values = [m["p_holm"] for p in report["pairs"] for m in p["metrics"].values()]
    assert len(bold) == sum(p is not None and p < 0.05 for p in p_values)
    (two, *_) = read_latex(compare(made, capsys, "good", HOSTILE[3], "--latex"))
    assert two.rows[0] == [
        *("preference", "good", one_line(HOSTILE[3], 30)),
        "difference (paired)",
        *("p", "p (Holm)", "verdict", "shows from"),
    ]


@pytest.mark.parametrize("names", [("good", "fair"), ("good", HOSTILE[3], "length")])
def test_csv_is_one_table_for_any_number_of_models(
    made: Path, capsys: Capture, names: tuple[str, ...]
) -> None:
    rows = list(csv.DictReader(io.StringIO(compare(made, capsys, *names, "--csv"))))
    report = json.loads(compare(made, capsys, *names, "--json"))
    for pair in report.get("pairs", [report]):
        for metric, found in pair["metrics"].items():
            (row,) = [
                r
                for r in rows
                if (r["metric"], r["first"], r["second"]) == (metric, pair["first"], pair["second"])
            ]
            expected: dict[str, Any] = {
                "first_value": found["first"]["value"],
                "difference": found["difference"]["value"],
                "difference_low": (found["difference"]["ci95"] or [None])[0],
                "p": found["p_value"],
                "p_holm": found["p_holm"],
                "shows_from": found["shows_from"],
            }
            for key, value in expected.items():
                assert row[key] == ("" if value is None else f"{value:.6g}")
    assert len(rows) == sum(len(p["metrics"]) for p in report.get("pairs", [report]))


def test_markdown_keeps_its_columns(made: Path, capsys: Capture) -> None:
    text = compare(made, capsys, "good", HOSTILE[3], "length", "--metric", "accuracy", "--markdown")
    widths = [line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")]
    assert set(widths) == {3, 5, 7, 9}
    assert "](javascript" not in text


def test_wrong_use_is_one_line(made: Path, capsys: Capture) -> None:
    assert "expected two models or more" in refused(made, capsys, "good")
    assert "'good' is given twice" in refused(made, capsys, "good", "fair", "good")
    assert "Did you mean 'fair'" in refused(made, capsys, "good", "length", "fiar")
    assert "--csv and --latex: give one" in refused(made, capsys, "good", "fair", "--csv", "--latex")
    assert "accuracyy" in refused(made, capsys, "good", "fair", "length", "--metric", "accuracyy")
    assert "'--items'" in refused(made, capsys, "good", "fair", "--items", "-1")


def test_numbers_of_the_data_alone_are_no_tests_of_models(made: Path, capsys: Capture) -> None:
    found = json.loads(compare(made, capsys, "good", "fair", "--json"))["metrics"]
    assert "accuracy_length_controlled" in found
    assert not {"longer_wins", "longer_wins_length_controlled"} & found.keys()


def test_two_records_of_one_name_are_told_apart(made: Path, capsys: Capture) -> None:
    other = made / "other"
    scores = write_scores(made / "good2.jsonl", 0.1, 77)
    base = [
        "--data",
        str(made / "items.jsonl"),
        "--results",
        str(other),
        "-q",
        "--store",
        str(made / "store"),
    ]
    assert run(["eval", "-m", scores, "-M", "name=good", "-t", "preference", *base]) == 0
    path = str(next(p for p in other.rglob("*.json") if not p.name.startswith(".")))
    report = json.loads(compare(made, capsys, "good", path, "fair", "--json"))
    assert report["models"][2] == "fair"
    first, second = report["models"][:2]
    assert first != second
    assert first.startswith("good (")
    assert second.startswith("good (")


def test_without_a_common_item_there_is_no_family_of_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": str(k), "prompt": f"p{k}", "responses": ["good", "bad"], "gold": [1, 0]} for k in range(20)
    ]
    Path("data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for name, answered in (("first", range(10)), ("last", range(10, 20))):
        found = [{"id": str(k), "rewards": [1.0, 0.0 if k in answered else None]} for k in range(20)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in found))
        command = ["eval", "-m", f"scores:{name}.jsonl", "-t", "preference", "--data", "data.jsonl"]
        assert run([*command, "-T", "invalid=drop", "-q"]) == 0
    capsys.readouterr()
    assert run(["compare", "first", "last", "--task", "preference", "--metric", "accuracy"]) == 0
    out = capsys.readouterr().out
    assert "no test (1 pair of 2 models on 1 metric): no error is known, or no item is common" in out
    assert "no accuracy of first against last: no item that both answered" in out
    assert "one family" not in out


def test_many_models_have_a_short_answer_best_first_and_wide_says_all(made: Path, capsys: Capture) -> None:
    short = compare(made, capsys, *MODELS, "--data", str(made / "items.jsonl"))
    assert len(short.splitlines()) <= 25
    report = json.loads(compare(made, capsys, *MODELS, "--json"))
    values = {
        p[end]: p["metrics"]["accuracy"][end]["value"] for p in report["pairs"] for end in ("first", "second")
    }
    rows = [
        line.split() for line in short.splitlines() if line.startswith("(") and not line.startswith("(n)")
    ]
    assert [row[1] for row in rows] == sorted(values, key=lambda name: -values[name])
    found = {(p["first"], p["second"]): p["metrics"]["accuracy"] for p in report["pairs"]}
    for i, row in enumerate(rows):
        cells = row[-len(rows) :]
        for j, other in enumerate(rows):
            a, b = row[1], other[1]
            told = found.get((a, b)) or found.get((b, a))
            if told is None:
                assert (i == j, cells[j]) == (True, "-")
                continue
            sign = 1 if (a, b) in found else -1
            assert float(cells[j].rstrip("*")) == pytest.approx(sign * told["difference"]["value"], abs=6e-4)
            assert cells[j].endswith("*") == (told["p_holm"] < 0.05)
    wide = compare(made, capsys, *MODELS, "--wide")
    assert "Differences of every two models" in wide
    assert "--wide or --metric NAME" in short
