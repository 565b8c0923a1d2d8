"""`rmbench curve`: what is drawn, what is said, and the same bytes twice."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strict_latex import read_latex

from rmbench.cli.main import run
from rmbench.metrics.selection import kl_bound
from rmbench.plot import curve_figures as draw
from rmbench.plot.curves import Layout, gather

N_VALUES = (1, 2, 4, 8)


def items() -> list[dict[str, Any]]:
    """Return pools of 8 from two policies; the weak one's texts have log-probabilities as all do."""
    rng = np.random.default_rng(0)
    return [
        {
            "id": f"i{k:02d}",
            "prompt": f"question {k}",
            "responses": ["x" * int(v) for v in rng.integers(1, 60, 8)],
            "gold": [round(float(v), 3) for v in rng.random(8)],
            "gold_kind": "graded",
            "logprobs": [-round(float(v), 3) for v in rng.exponential(3.0, 8)],
            "strata": {"policy": "large" if k % 2 else "small"},
        }
        for k in range(24)
    ]


def evaluate(folder: Path, *options: str, task: str = "bon", results: str = "results") -> Path:
    data = folder / "items.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in items()))
    common = ["--data", str(data), "--results", str(folder / results), "--store", str(folder / "store"), "-q"]
    assert run(["eval", "-m", "length", "-m", "shortest", "-t", task, *common, *options]) == 0
    return folder / results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluate(tmp_path_factory.mktemp("curves"))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """All is drawn but the pixels, which take most of the time: for tests of tables and of what is said."""
    monkeypatch.setattr("rmbench.plot.style.image", lambda figure, kind, **more: b"")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_figures_and_tables_are_the_same_bytes_twice(results: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run(["curve", str(results), "--out", str(tmp_path / name), "--columns", "policy"]) == 0
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    figures = ("gain-by-kl", "gold", "gold-by-reward", "win-rate", "win-rate-by-kl")
    assert names == sorted(
        ["curves.csv", "curves.tex", "fits.csv", *(f"{f}.{kind}" for f in figures for kind in ("svg", "png"))]
    )
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    svg = (tmp_path / "a" / "gain-by-kl.svg").read_text()
    for label in ("length", "shortest", "small", "large", "estimated KL"):
        assert label in svg


@pytest.mark.usefixtures("undrawn")
def test_the_tables_hold_what_the_records_do(results: Path, tmp_path: Path) -> None:
    assert run(["curve", str(results), "--out", str(tmp_path)]) == 0
    rows = table(tmp_path / "curves.csv")
    assert [(r["line"], int(r["n"])) for r in rows] == [
        (m, n) for m in ("length", "shortest") for n in N_VALUES
    ]
    for path in results.rglob("*.json"):
        record = json.loads(path.read_text())
        for row in (r for r in rows if r["line"] == record["model"]):
            for name in ("gold", "win_rate", "kl"):
                assert float(row[name]) == pytest.approx(
                    record["metrics"][f"{name}@{row['n']}"]["value"], rel=1e-5
                )
            assert float(row["gold_low"]) <= float(row["gold"]) <= float(row["gold_high"])
            assert row["kl_is"] == "estimate"
            assert float(row["kl"]) <= kl_bound(int(row["n"])) + 1e-6
            assert float(row["sqrt_kl"]) == pytest.approx(float(row["kl"]) ** 0.5, rel=1e-4)
    fits = {(r["line"], r["metric"]): r for r in table(tmp_path / "fits.csv")}
    fit = fits["length", "fit_alpha"]
    assert float(fit["low"]) <= float(fit["value"]) <= float(fit["high"])
    # Of a length model the pick's proxy is its length.
    lengths = [[len(t) for t in item["responses"]] for item in items()]
    top = next(r for r in rows if r["line"] == "length" and r["n"] == "8")
    assert float(top["reward"]) == pytest.approx(np.mean([max(row) for row in lengths]), rel=1e-5)
    assert float(top["reward_sd"]) == pytest.approx(np.sqrt(np.mean([np.var(r) for r in lengths])), rel=1e-5)


@pytest.mark.usefixtures("undrawn")
def test_latex_has_the_numbers_of_the_csv(results: Path, tmp_path: Path) -> None:
    assert run(["curve", str(results), "--out", str(tmp_path), "--columns", "policy"]) == 0
    tables = {t.label: t for t in read_latex((tmp_path / "curves.tex").read_text(encoding="utf-8"))}
    for row in table(tmp_path / "curves.csv"):
        read = tables[f"curve-bon-{row['column']}-gold"]
        (line,) = [r for r in read.rows[1:] if r[0] == row["line"]]
        shown = line[read.rows[0].index(f"n = {row['n']}")]
        value, low, high = re.fullmatch(r"\$(.*)_\{(.*)\}\^\{(.*)\}\$", shown).groups()  # type: ignore[union-attr]
        ends = (row["gold"], row["gold_low"], row["gold_high"])
        assert [float(v) for v in (value, low, high)] == pytest.approx([float(e) for e in ends], abs=6e-4)
    fits = tables["curve-fits"]
    assert len(fits.rows) == 1 + 4
    missing = {r["undefined"] for r in table(tmp_path / "fits.csv")} - {""}
    assert all(why in fits.notes for why in missing)


@pytest.mark.usefixtures("undrawn")
def test_strata_are_measured_on_their_own_items(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    arguments = ["curve", str(results), "--out", str(tmp_path), "--rows", "policy", "--json"]
    assert run(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(c["row"], c["line"]) for c in found["curves"]] == [
        (policy, model) for model in ("length", "shortest") for policy in ("large", "small")
    ]
    for curve in found["curves"]:
        rows = [i for i in items() if i["strata"]["policy"] == curve["row"]]
        expected = np.mean([np.mean(i["gold"]) for i in rows])
        assert curve["metrics"]["gold@1"]["value"] == pytest.approx(expected)
        assert curve["metrics"]["gain@1"]["value"] == 0.0
        assert curve["metrics"]["gold@1"]["n"] == 12


def test_the_peak_is_drawn_with_its_interval(results: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra train")
    from matplotlib.figure import Figure

    series, _ = gather([results], Layout())
    assert [s.line for s in series] == ["length", "shortest"]
    for kind in (kind for kind in draw.FIGURES if kind.shows_peak):
        for k, s in enumerate(series):
            axes = Figure().subplots()
            draw.draw_peak(axes, s, kind, k, len(series))
            best = s.found.metrics["best_n"]
            assert best.ci95 is not None
            place = {n: np.sqrt(kl) for n, kl in zip(s.found.n_values, s.found.kl, strict=True)}
            found = [list(line.get_xdata()) for line in axes.get_lines()]
            wanted = [[*best.ci95]] * 2 + [[best.value]]
            if kind.against == "kl":
                wanted = [[place[int(n)] for n in row] for row in wanted]
            assert found == [pytest.approx(row, abs=1e-6) for row in wanted]


def test_gold_against_the_rise_of_the_proxy_reward(results: Path) -> None:
    series, _ = gather([results], Layout())
    (kind,) = (kind for kind in draw.FIGURES if kind.against == "reward")
    lengths = np.array([[len(t) for t in item["responses"]] for item in items()])
    x = draw.places_along_x(series[0], kind)
    assert x[0] == 0.0
    rise = lengths.max(axis=1).mean() - lengths.mean()
    assert x[-1] == pytest.approx(rise / np.sqrt(lengths.var(axis=1).mean()), abs=1e-5)
    # Proxies that say the same on other scales are one line; this one says the opposite, as well spread.
    assert draw.places_along_x(series[1], kind)[-1] == pytest.approx(
        (lengths.mean() - lengths.min(axis=1).mean()) / np.sqrt(lengths.var(axis=1).mean()), abs=1e-5
    )


def test_a_proxy_without_spread_is_noted_and_not_in_that_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = evaluate(tmp_path)
    data = ["--data", f"{tmp_path}/items.jsonl", "--results", str(folder), "--store", f"{tmp_path}/store"]
    assert run(["eval", "-m", "constant", "-t", "bon", *data, "-q"]) == 0
    capsys.readouterr()
    assert run(["curve", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "no reward for bon / constant: its rewards are equal in every pool" in capsys.readouterr().err
    assert "constant" in (tmp_path / "out" / "gold.svg").read_text()
    assert "constant" not in (tmp_path / "out" / "gold-by-reward.svg").read_text()
    # Alone it leaves no such figure.
    assert run(["curve", str(folder / "constant"), "--out", str(tmp_path / "alone")]) == 0
    assert not list((tmp_path / "alone").glob("gold-by-reward*"))


@pytest.mark.long
@pytest.mark.usefixtures("undrawn")
def test_policies_of_pools_are_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{key: value for key, value in item.items() if key != "strata"} for item in items()]
    for k, row in enumerate(rows):
        row["sampling"] = {"policy": ("tiny", "huge")[k % 2], "temperature": 1.0}
    arguments = ["--results", f"{tmp_path}/results", "--store", f"{tmp_path}/store", "-q"]
    for name, part in (("mixed", rows), ("first-half", rows[:12]), ("second-half", rows[12:])):
        data = tmp_path / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in part))
        assert run(["eval", "-m", "length", "-m", "shortest", "-t", "bon", "--data", str(data), *arguments,
                    "--results", f"{tmp_path}/{name}"]) == 0  # fmt: skip
    # One pool of two policies: told apart by what `rmbench sample` wrote.
    grid = ["--rows", "model", "--columns", "policy", "--lines", "task"]
    assert run(["curve", f"{tmp_path}/mixed", "--out", f"{tmp_path}/a", *grid]) == 0
    places = {(r["row"], r["column"], r["line"]) for r in table(tmp_path / "a" / "curves.csv")}
    assert places == {(m, p, "bon") for m in ("length", "shortest") for p in ("huge", "tiny")}
    # A pool each: told apart by the names of their files.
    halves = [f"{tmp_path}/first-half", f"{tmp_path}/second-half"]
    capsys.readouterr()
    assert run(["curve", *halves, "--out", f"{tmp_path}/b"]) == 2
    assert "source" in capsys.readouterr().err
    assert run(["curve", *halves, "--out", f"{tmp_path}/b", "--columns", "source"]) == 0
    columns = list(dict.fromkeys(r["column"] for r in table(tmp_path / "b" / "curves.csv")))
    assert columns == ["first-half.jsonl", "second-half.jsonl"]


@pytest.mark.long
@pytest.mark.usefixtures("undrawn")
def test_sizes_of_proxies_are_rows_smaller_ones_first(tmp_path: Path) -> None:
    folder = evaluate(tmp_path, "-m", "builtin:tiny", "-m", "builtin:linear")
    records = [json.loads(path.read_text()) for path in folder.rglob("*.json")]
    sizes = {r["model"]: r["provenance"]["parameters"] for r in records}
    assert 1_000_000 > sizes["builtin:linear"] > 1_000
    assert 10_000_000 > sizes["builtin:tiny"] > 1_000_000
    assert run(["curve", str(folder), "--out", f"{tmp_path}/a", "--rows", "size", "--columns", "policy"]) == 0
    rows = list(dict.fromkeys((r["row"], r["line"]) for r in table(tmp_path / "a" / "curves.csv")))
    assert [line for _, line in rows] == ["builtin:linear", "builtin:tiny", "length", "shortest"]
    labels = [row for row, _ in rows]
    assert (labels[0][-1], labels[1][-1]) == ("K", "M")
    assert float(labels[0][:-1]) * 1e3 == pytest.approx(sizes["builtin:linear"], rel=0.005)
    assert float(labels[1][:-1]) * 1e6 == pytest.approx(sizes["builtin:tiny"], rel=0.005)
    assert labels[2:] == ["size unknown"] * 2


@pytest.mark.usefixtures("undrawn")
def test_rules_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(tmp_path)
    folder = evaluate(tmp_path, "-T", "select=top-k", "-T", "k=2")
    capsys.readouterr()
    assert run(["curve", str(folder), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "are the same line (bon, length)" in said
    assert "rule" in said
    assert not (tmp_path / "out").exists()
    assert run(["curve", str(folder), "--out", str(tmp_path / "out"), "--columns", "rule"]) == 0
    rows = table(tmp_path / "out" / "curves.csv")
    assert {r["column"]: r["kl_is"] for r in rows} == {"best": "estimate", "top-k k=2": "bound"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rows", "polcy"], "Did you mean 'policy'"),
        (["--lines", "model.kid"], "Did you mean 'model.kind'"),
    ],
)
def test_a_field_that_is_none_is_named(
    results: Path, tmp_path: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["curve", str(results), "--out", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_records_of_other_kinds_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = evaluate(tmp_path, task="preference")
    capsys.readouterr()
    assert run(["curve", str(others), "--out", str(tmp_path / "out")]) == 2
    assert "no record of best of n" in capsys.readouterr().err
    evaluate(tmp_path)
    capsys.readouterr()
    assert run(["curve", str(others), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "left out, no best of n among its kinds: length on preference, shortest on preference" in told.err
    assert told.out.startswith("2 curves in ")


def test_records_without_a_curve_are_an_error_that_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without = [{**item, "gold": None} for item in items()]
    monkeypatch.setitem(globals(), "items", lambda: without)
    results = evaluate(tmp_path)
    capsys.readouterr()
    assert run(["curve", str(results), "--out", str(tmp_path / "out")]) == 2
    assert "nothing to draw; shortest, bon: no pool with gold on every response" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_lines_on_different_items_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = evaluate(tmp_path)
    half = evaluate(tmp_path, "--part", "0:0.5", results="half")
    one = next((whole / "length").rglob("*.json"))
    other = next((half / "shortest").rglob("*.json"))
    capsys.readouterr()
    assert run(["curve", str(one), str(other), "--out", str(tmp_path / "out")]) == 0
    assert "the lines of bon rest on 2 different sets of items" in capsys.readouterr().err
