"""Models that left different items out are compared on the items that both answered."""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmbench.boards.separation import better_of, ranges_of, standings
from rmbench.cli.main import run
from rmbench.core.files import sha256_file, to_jsonl_gz
from rmbench.metrics import Panel, PanelRow, Suite, build_panel, measure_suite, with_flips
from rmbench.plot.curves import Layout, gather, notes_of
from rmbench.results.compare import CommonItems, compare_many
from rmbench.results.read import find_records, find_run
from rmbench.results.record import sealed
from rmbench.results.run import Run
from rmbench.stats import Statistic, mean, rank_ranges
from rmbench.stats import compare as compare_statistics
from rmbench.study.tables import Pairing, paired_over_seeds, seed_of

N = 100
Capture = pytest.CaptureFixture[str]
Rewards = Callable[[int], list[float | None]]
RIGHT: list[float | None] = [1.0, 0.0]
WRONG: list[float | None] = [0.0, 1.0]
NONE: list[float | None] = [None, None]


def evaluate(folder: Path, models: dict[str, Rewards], *options: str, n: int = N) -> Path:
    """Make records of pairs whose first response is the better one, and of these as pools."""
    rows = [
        {
            "id": f"i{k}",
            "prompt": f"question {k}",
            "responses": ["a" * (1 + k % 7), "b" * (2 + k % 5)],
            "gold": [1, 0],
            "gold_kind": "graded",
        }
        for k in range(n)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = ["--data", str(folder / "items.jsonl"), "--results", str(folder / "results"), "-q"]
    for name, rewards in models.items():
        lines = [json.dumps({"id": f"i{k}", "rewards": rewards(k)}) for k in range(n)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        assert run(["eval", "-m", f"scores:{folder / name}.jsonl", *base, *options]) == 0
    return folder / "results"


@pytest.fixture(scope="module")
def issue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A is right on 60; B answers those, with one wrong, and no others; C answers the others; D like A."""
    models: dict[str, Rewards] = {
        "A": lambda k: RIGHT if k < 60 else WRONG,
        "B": lambda k: RIGHT if k < 59 else WRONG if k == 59 else NONE,
        "C": lambda k: RIGHT if k >= 60 else NONE,
        "D": lambda k: RIGHT if k % 3 else WRONG,
    }
    options = ("-t", "preference", "-t", "calibration", "-t", "bon", "-T", "invalid=drop")
    return evaluate(tmp_path_factory.mktemp("issue"), models, *options)


def compare(results: Path, capsys: Capture, *arguments: str) -> str:
    capsys.readouterr()
    assert run(["compare", *arguments, "--results", str(results), "-t", "preference"]) == 0
    return capsys.readouterr().out


def test_the_example_of_the_issue(issue: Path, capsys: Capture) -> None:
    report = json.loads(compare(issue, capsys, "A", "B", "--json"))
    found = report["metrics"]["accuracy"]
    assert found["difference"]["value"] == pytest.approx(1 / 60, abs=1e-9)
    assert found["p_value"] == 1.0, "one discordant pair says nothing"
    assert found["items"] == {"both": 60, "first": 100, "second": 60, "of": 100}
    assert (found["first"]["value"], found["second"]["value"]) == pytest.approx((1.0, 59 / 60))
    assert (found["own"]["first"]["value"], found["own"]["second"]["value"]) == pytest.approx((0.6, 59 / 60))
    assert {d["item"] for d in report["disagreements"]} == {"i59"}, "no item that only one answered"


@pytest.mark.long
def test_every_format_says_on_how_many(issue: Path, capsys: Capture, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    said = "on the 60 of 100 items that both answered (A answered 100, B 60)"
    for names in (("A", "B"), ("A", "B", "C", "D")):
        for form in (("--wide", "--html", str(page)), ("--markdown",), ("--latex",)):
            text = compare(issue, capsys, *names, *form).replace("\\", "")
            assert said in text
            assert "60 of 100" in text.replace(said, ""), "in the row as well"
        short = compare(issue, capsys, *names)
        assert "on the 60 of 100 items that both answered" in short, "in the finding"
        assert re.search(r"A answered 100, B 60|B answered 60 items, another model 100", short)
        assert said in page.read_text()
        rows = list(csv.DictReader(io.StringIO(compare(issue, capsys, *names, "--csv"))))
        row = next(r for r in rows if (r["metric"], r["first"], r["second"]) == ("accuracy", "A", "B"))
        counts = [row[c] for c in ("items_both", "items_first", "items_second", "items")]
        assert counts == ["60", "100", "60", "100"]
        assert float(row["difference"]) == pytest.approx(1 / 60, abs=1e-6)


def test_each_pair_has_its_own_common_items(issue: Path) -> None:
    runs = [find_run(issue, name, "preference") for name in "ABCD"]
    report = compare_many(runs, ["accuracy"], 0)
    found = {(p.first, p.second): p.metrics[0] for p in report.pairs if p.metrics}
    # D is right where k % 3: on 66 of 100, on 40 of the first 60, on 26 of the last 40.
    expected = {
        ("A", "B"): (1.0, 59 / 60, 60),
        ("A", "C"): (0.0, 1.0, 40),
        ("A", "D"): (0.6, 0.66, None),
        ("B", "D"): (59 / 60, 40 / 60, 60),
        ("C", "D"): (1.0, 26 / 40, 40),
    }
    assert found.keys() == expected.keys()
    for pair, m in found.items():
        assert (m.first.value, m.second.value, m.count and m.count.both) == pytest.approx(expected[pair])
    assert report.answered == {"accuracy": (100, 60, 40, 100)}
    assert [e.value for e in report.estimates["accuracy"] if e] == pytest.approx([0.6, 59 / 60, 1.0, 0.66])
    (none,) = (p for p in report.pairs if (p.first, p.second) == ("B", "C"))
    assert none.lacking == {"accuracy": "no item that both answered"}


def test_without_a_common_item_there_is_no_number(issue: Path, capsys: Capture) -> None:
    report = json.loads(compare(issue, capsys, "B", "C", "--json", "--metric", "accuracy"))
    assert report["metrics"] == {}
    assert report["lacking"] == {"accuracy": "no item that both answered"}
    text = compare(issue, capsys, "B", "C", "--metric", "accuracy")
    assert "no accuracy of B against C: no item that both answered" in text
    assert "B on all 60 items that it answered: accuracy 0.983" in text


def test_wrong_leaves_items_out_of_calibration_alone(tmp_path: Path) -> None:
    models: dict[str, Rewards] = {
        "A": lambda k: [2.0, 0.0] if k < 60 else [0.0, 3.0],
        "B": lambda k: [1.0, 0.0] if k < 59 else [0.0, 1.0] if k == 59 else NONE,
    }
    results = evaluate(tmp_path, models, "-t", "preference", "-t", "calibration", "-T", "invalid=wrong")
    runs = [find_run(results, name, "preference") for name in "AB"]
    found = {m.metric: m for m in compare_many(runs, ["accuracy", "brier"], 0).pairs[0].metrics}
    assert found["accuracy"].count is None, "an invalid item counts as wrong"
    assert found["accuracy"].paired.difference.value == pytest.approx(0.6 - 0.59)
    assert found["brier"].count is not None
    assert found["brier"].count.both == 60
    right, low = (1 / (1 + np.exp(m)) for m in (2.0, 1.0))  # what a right pair's forecast lacks
    expected = right**2 - (59 * low**2 + (1 - low) ** 2) / 60
    assert found["brier"].paired.difference.value == pytest.approx(expected)


def test_nothing_is_measured_again_unless_items_differ(
    issue: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(Run, "measure_on", never)
    for form in ("--json", "--csv", "--markdown", "--latex"):
        text = compare(issue, capsys, "A", "D", form)
        assert not re.search(r"items_|answered|\bown\b|lacking| of 100", text)
    same: dict[str, Rewards] = {
        "E": lambda k: NONE if k < 30 else RIGHT,
        "F": lambda k: NONE if k < 30 else WRONG if k < 40 else RIGHT,
    }
    results = evaluate(tmp_path, same, "-t", "preference", "-T", "invalid=drop")
    found = json.loads(compare(results, capsys, "E", "F", "--json"))["metrics"]["accuracy"]
    assert found["items"] == {"both": 70, "first": 70, "second": 70, "of": 100}
    assert found["difference"]["value"] == pytest.approx(10 / 70)


@pytest.mark.parametrize("rule", ["best", "soft", "pessimistic", "length-penalty"])
@pytest.mark.parametrize("invalid", ["drop", "wrong"])
def test_pools_are_compared_on_common_pools(tmp_path: Path, rule: str, invalid: str) -> None:
    """The gold of a random pick is known by pool: what is compared at n = 1 shows which pools those are."""
    rng = np.random.default_rng(0)
    gold = [[float(v) for v in rng.integers(0, 5, 3)] for _ in range(40)]
    rows = [
        {"id": f"i{k}", "prompt": f"q{k}", "responses": ["x", "yy", "zzz"], "gold": g, "gold_kind": "graded"}
        for k, g in enumerate(gold)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parameter = {"best": [], "length-penalty": ["-T", "penalty=0.1"]}.get(rule, ["-T", "temperature=0.5"])
    base = [
        "--data",
        str(tmp_path / "items.jsonl"),
        "--results",
        str(tmp_path / "results"),
        "-q",
        "-t",
        "bon",
    ]
    base += ["-T", f"invalid={invalid}", "-T", f"select={rule}", *parameter]
    lacking = {"A": range(5), "B": range(3, 12)}
    for name, without in lacking.items():
        lines = [
            {
                "id": f"i{k}",
                "rewards": [None, 1.0, 2.0] if k in without else list(map(float, rng.normal(size=3))),
            }
            for k in range(40)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert run(["eval", "-m", f"scores:{tmp_path / name}.jsonl", *base]) == 0
    runs = [find_run(tmp_path / "results", name, "bon") for name in "AB"]
    (found,) = compare_many(runs, ["gold@1"], 0).pairs[0].metrics
    some = invalid == "drop" or rule in ("soft", "pessimistic")
    kept = [k for k in range(40) if not (some and k < 12)]
    expected = float(np.mean([gold[k] for k in kept]))
    assert (found.first.value, found.second.value) == pytest.approx((expected, expected))
    assert (None if found.count is None else found.count.both) == (28 if some else None)
    if some:
        _, left = gather([tmp_path / "results"], Layout())
        assert left == []
        (note,) = notes_of(gather([tmp_path / "results"], Layout())[0])
        assert "A lacks 5, B lacks 9" in note


def test_models_without_a_common_item_are_not_said_to_agree(issue: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert run(["compare", "B", "C", "-t", "preference", "--results", str(issue)]) == 0
    shown = capsys.readouterr().out
    assert "share no item" in shown
    assert "never disagree" not in shown


def pairwise(issue: Path, flips: Sequence[int], comparisons: Sequence[int]) -> Run:
    class Judged(Run):
        @property
        def panel(self) -> Panel:  # type: ignore[override]
            return with_flips(super().panel, (flips, comparisons))

        @property
        def suite(self) -> Suite:  # type: ignore[override]
            return measure_suite(self.panel, ["preference"], {"seed": 0})

    found = find_run(issue, "A", "preference")
    return Judged(found.record, found.path)


def test_flip_rates_are_of_pairs_that_both_judges_answered(issue: Path) -> None:
    first = pairwise(issue, [int(k < 10) for k in range(N)], [1] * N)
    second = pairwise(issue, [int(k == 0) for k in range(N)], [int(k < 50) for k in range(N)])
    both = CommonItems().of(first, second, "flip_rate")
    assert both.first is not None
    assert both.second is not None
    assert (both.first.value, both.second.value) == pytest.approx((10 / 50, 1 / 50))
    assert both.count is not None
    assert (both.count.both, both.count.of) == (50, N)


def test_official_numbers_leave_nothing_out() -> None:
    panel = build_panel(
        PanelRow(
            id=f"i{k}", rewards=[np.nan if k < 5 else 1.0, 0.0], gold=[1.0, 0.0], lengths=[1, 1],
            cluster=f"i{k}", strata={"source": "mmlu-pro"}, gold_kind="label",
        )
        for k in range(20)
    )  # fmt: skip
    suite = measure_suite(panel, ["preference", "judgebench"], {"seed": 0, "invalid": "drop"})
    assert suite.left_out.keys() == {"preference"}
    found = next(name for name in suite.metrics if name.startswith("official"))
    assert suite.without(found) is None
    without = suite.without("accuracy")
    assert without is not None
    assert without.sum() == 5


def test_a_difference_over_seeds_is_on_common_items(issue: Path) -> None:
    a, b = (seed_of(find_run(issue, name, "preference")) for name in "AB")
    found, by_seed, items = paired_over_seeds([a], [b], "accuracy", Pairing())
    assert found is not None
    assert found.difference.value == pytest.approx(1 / 60)
    assert by_seed == pytest.approx([1 / 60])
    assert items == (60, 100)
    found, _, items = paired_over_seeds([a], [a], "accuracy", Pairing())
    assert found is not None
    assert items is None


BOARD = """
name: test
title: Test
summary: For tests.
columns:
  - {id: acc, task: preference, metric: accuracy, label: accuracy, params: {invalid: drop}}
  - {id: brier, task: preference, metric: brier, label: Brier, params: {invalid: drop}}
rank_by: [acc]
"""


@pytest.fixture(scope="module")
def boarded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`skips` has no reward on the hard half, is right on 80 of the easy 100, and so tops the board.

    `works` is right on all easy ones and on 40 hard ones; `mends` answers all but ten; `fails` is poor.
    """
    folder = tmp_path_factory.mktemp("boarded")
    models: dict[str, Rewards] = {
        "skips": lambda k: NONE if k >= 100 else RIGHT if k % 5 else WRONG,
        "works": lambda k: RIGHT if k < 140 else WRONG,
        "mends": lambda k: NONE if k >= 190 else RIGHT if k < 120 else WRONG,
        "fails": lambda k: RIGHT if k % 4 == 0 else WRONG,
    }
    evaluate(folder, models, "-t", "preference", "-t", "calibration", "-T", "invalid=drop", n=200)
    (folder / "boards").mkdir()
    (folder / "boards" / "test.yaml").write_text(BOARD)
    arguments = ["--boards-dir", str(folder / "boards"), "--out", str(folder / "out")]
    assert run(["leaderboard", *arguments, "--results", str(folder / "results")]) == 0
    return folder / "out"


def rows_of(boarded: Path) -> dict[str, Any]:
    return {row["model"]: row for row in json.loads((boarded / "test.json").read_text())["rows"]}


def test_a_board_tests_on_common_items_and_says_what_its_order_hides(boarded: Path) -> None:
    rows = rows_of(boarded)
    assert [(m, r["rank"]) for m, r in rows.items()] == [
        ("skips", 1),
        ("works", 2),
        ("mends", 3),
        ("fails", 4),
    ]
    # On the easy half works and mends are right on all 100, skips on 80; works beats mends on 20 of 190.
    assert rows["skips"]["rank_range"] == [3, 3]
    assert rows["works"]["rank_range"] == [1, 1]
    assert rows["mends"]["rank_range"] == [2, 2]
    assert rows["fails"]["rank_range"] == [4, 4]
    assert rows["skips"]["better_below"] == ["works", "mends"]
    assert "better_below" not in rows["works"]
    cells = {m: (r["cells"]["acc"].get("items"), r["cells"]["acc"].get("of_items")) for m, r in rows.items()}
    assert cells == {"skips": (100, 200), "works": (None, None), "mends": (190, 200), "fails": (None, None)}


def test_what_a_board_could_have_shown_is_of_its_tests(boarded: Path) -> None:
    """Neighbours in rank: skips and works on 100 items, works and mends on 190, mends and fails on 190."""
    families = json.loads((boarded / "test.json").read_text())["families"]

    def credit(right: Callable[[int], bool], n: int) -> Statistic:
        return mean(np.array([float(right(k)) for k in range(n)]), np.arange(n), n, bounded=True)

    right: dict[str, Callable[[int], bool]] = {
        "skips": lambda k: k % 5 != 0,
        "works": lambda k: k < 140,
        "mends": lambda k: k < 120,
        "fails": lambda k: k % 4 == 0,
    }
    found = []
    for first, second, n in (("skips", "works", 100), ("works", "mends", 190), ("mends", "fails", 190)):
        resolution = compare_statistics(credit(right[first], n), credit(right[second], n)).resolution
        assert resolution is not None
        found.append(resolution.smallest(0.05 / 6))
    expected = sorted(found, key=lambda value: np.inf if value is None else value)[1]
    assert families["score"]["shows_from"] == pytest.approx(expected)
    assert families["acc"]["shows_from"] == pytest.approx(expected)


def test_every_file_of_a_board_marks_numbers_on_fewer_items(boarded: Path) -> None:
    (markdown, latex, page) = ((boarded / f"test.{kind}").read_text() for kind in ("md", "tex", "html"))
    assert re.search(r"\| 3 \| 1 \| skips \| 0\.800 \[[^]]*\]‡", markdown)
    assert re.search(r"\| 1 \| 2 \| works \| 0\.700 \[", markdown)
    assert "skips: accuracy, Brier: 100 of 200 items of preference" in markdown
    assert "these models with a lower score are better: works, mends" in markdown
    assert "n = 200" in markdown, "the column's size is that of a model which answered all"
    assert "0.800" in latex
    assert "‡" in latex
    assert r"\mathbf{0.700}" in latex, "no test finds another better"
    assert r"\mathbf{0.800}" not in latex
    assert "100 of 200 items" in page
    assert "ranked too high" in page
    rows = list(csv.DictReader(io.StringIO((boarded / "test.csv").read_text())))
    assert [(r["model"], r["acc_items"]) for r in rows] == [
        ("skips", "100"), ("works", ""), ("mends", "190"), ("fails", ""),
    ]  # fmt: skip


def test_a_board_measures_each_model_once_for_each_set_of_items(
    boarded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, measure_on = [], Run.measure_on

    def counted(run_of: Run, panel: Panel, kinds: Sequence[str]) -> Suite:
        measured.append((run_of.model, panel.n_items, tuple(kinds)))
        return measure_on(run_of, panel, kinds)

    monkeypatch.setattr(Run, "measure_on", counted)
    arguments = ["--boards-dir", str(boarded.parent / "boards"), "--out", str(tmp_path)]
    assert run(["leaderboard", *arguments, "--results", str(boarded.parent / "results")]) == 0
    assert len(measured) == len(set(measured))
    # On the items of skips three others, on those of mends the two that answered all.
    of_accuracy = {m[:2] for m in measured if m[2] == ("preference",)}
    assert of_accuracy == {("works", 100), ("mends", 100), ("fails", 100), ("works", 190), ("fails", 190)}
    assert (tmp_path / "test.md").read_bytes() == (boarded / "test.md").read_bytes()


@pytest.mark.parametrize("seed", range(20))
def test_without_common_items_ranks_and_bold_are_as_the_order_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((6, 6)) < 0.4, 1)
    different = upper | upper.T
    better = better_of(different, {})
    assert ranges_of(better) == rank_ranges(different)
    leads = [s.leads for s in standings(different, better)]
    assert leads == [bool(different[0].any()) and not different[0, n] for n in range(6)]


def test_the_better_one_of_a_pair_is_so_on_its_common_items() -> None:
    def number(value: float) -> Statistic:
        return mean(np.full(3, value), np.arange(3), 3)

    different = np.array([[False, True, True], [True, False, False], [True, False, False]])
    pairs = {(0, 1): (number(0.4), number(0.6)), (1, 2): (number(0.1), number(0.9)), (0, 2): None}
    better = better_of(different, pairs)
    assert better.tolist() == [[False, False, True], [True, False, False], [False, False, False]]
    assert ranges_of(better) == [(2, 2), (1, 2), (2, 3)]
    lower = better_of(different, pairs, higher=False)
    assert lower[0, 1]
    assert not lower[1, 0]


def test_a_report_says_that_numbers_rest_on_different_items(issue: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    paths = [str(r.path) for r in find_records(issue) if r.task == "preference" and r.model in ("A", "B")]
    assert run(["report", *paths, "--out", str(page)]) == 0
    assert "B lacks 40 in preference, B lacks 40 in calibration" in page.read_text()


def test_runs_whose_rewards_name_other_prompts_are_not_paired(tmp_path: Path, capsys: Capture) -> None:
    """Their records name the same data; a test of pairs would pair one prompt with another."""
    results = evaluate(tmp_path, {"a": lambda k: RIGHT, "b": lambda k: WRONG}, "-t", "preference", n=6)
    found = next(r for r in find_records(results) if r.model == "b")
    rows = [json.loads(line) for line in gzip.decompress(found.rewards_path.read_bytes()).splitlines()]
    rows[0]["cluster"], rows[1]["cluster"] = "another", rows[0]["cluster"]
    found.rewards_path.write_bytes(to_jsonl_gz(rows))
    record = json.loads(found.path.read_text())
    record["files"]["rewards"]["sha256"] = sha256_file(found.rewards_path)
    found.path.write_text(json.dumps(sealed(record)))
    for command in (["compare", "a", "b", "-t", "preference"], ["power", "a", "b", "-t", "preference"]):
        assert run([*command, "--results", str(results)]) == 2
        assert re.search("other items|different items", capsys.readouterr().err)
