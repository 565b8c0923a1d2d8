"""Figures of records: what is drawn is what the metrics say, the same bytes twice, and any name is only text."""

import json
import shutil
import sys
from dataclasses import replace
from functools import lru_cache
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmbench import plot
from rmbench.errors import ConfigError, DataError, StoreError
from rmbench.metrics.calibration import claims_of
from rmbench.metrics.margins import deciles
from rmbench.metrics.panel import PanelRow, build_panel, pairs_of
from rmbench.metrics.preference import accuracy_by_length
from rmbench.metrics.reliability import Forecasts
from rmbench.plot.calibration import histogram
from rmbench.plot.catalogue import FIGURES
from rmbench.results.read import find_records
from rmbench.results.run import Run
from rmbench.stats import mean

RESULTS = Path(__file__).resolve().parents[2] / "results"


@lru_cache(maxsize=1)
def stored() -> list[Run]:
    return list(find_records(RESULTS))


def runs(task: str, *models: str) -> list[Run]:
    """Return records that the project holds; unnamed, `builtin:linear` and another."""
    found = {r.record.model: r for r in stored() if r.record.task == task}
    other = "internlm/internlm2-7b-reward" if task == "judgebench" else "builtin:tiny"
    return [found[m] for m in models or ("builtin:linear", other)]


def with_identity(run: Run, folder: Path, identity: dict[str, Any], **more: Any) -> Run:
    """Return the run with changes of its identity, so with another id, and its rewards, in `folder`."""
    record = replace(run.record, identity={**run.record.identity, **identity}, **more)
    changed = Run(record, folder / f"{record.run_id}.json")
    shutil.copy(run.rewards_path, changed.rewards_path)
    return changed


def xy(line: Any) -> tuple[list[float], list[float]]:
    return [float(v) for v in line.get_xdata()], [float(v) for v in line.get_ydata()]


def bars(axes: Any) -> list[list[tuple[float, float]]]:
    """Return the vertical intervals of each record in a panel: (low, high) of each point."""
    found = []
    for container in axes.containers:
        if type(container).__name__ == "ErrorbarContainer":
            (lines,) = container.lines[2]
            found.append([(float(s[0][1]), float(s[1][1])) for s in lines.get_segments()])
    return found


def near(values: Any) -> Any:
    return pytest.approx(list(values), abs=1e-6)


def texts(figure: Any) -> set[str]:
    from matplotlib.text import Text

    return {t.get_text() for t in figure.findobj(Text)}


def test_the_reliability_diagram_is_the_records_with_its_intervals() -> None:
    found = runs("judgebench")
    figure = plot.reliability(found)
    for column, curve in enumerate(("reliability", "reliability_scaled")):
        upper, lower = figure.axes[column], figure.axes[2 + column]
        lines = [line for line in upper.lines if len(line.get_xdata()) > 2]
        for run, line, intervals in zip(found, lines, bars(upper), strict=True):
            rows = run.record.curves[curve]
            assert xy(line) == (near(r["forecast"] for r in rows), near(r["observed"] for r in rows))
            inside = [lo < r["observed"] < hi for (lo, hi), r in zip(intervals, rows, strict=True)]
            # The bin around 1/2 holds a pair and its mirror image: its share is 1/2, always.
            assert inside.count(False) == sum(r["observed"] == 0.5 for r in rows) <= 1
        counts = [[float(s[1][1]) for s in c.get_segments()] for c in lower.collections]
        assert counts == [[r["n"] for r in run.record.curves[curve]] for run in found]
    shown = [f"ECE {run.record.metrics[m].value:.3f}" for run in found for m in ("ece", "ece_scaled")]
    assert set(shown) <= texts(figure)


def test_the_interval_of_a_bin_is_that_of_a_share_by_prompt() -> None:
    """One bin holds all pairs in one order, the other their mirror images."""
    label = np.array([1.0, 1, 1, 0, 1, 0, 1, 1, 0, 1])
    cluster = np.array([0, 0, 1, 1, 2, 3, 3, 4, 4, 4])
    forecasts = Forecasts(np.full(10, 1.5), label, cluster, 5)
    low, high = (s.estimate() for s in forecasts.observed(np.array([0.0])))
    expected = mean(label, cluster, 5, bounded=True).estimate()
    assert (high.value, high.n, high.n_clusters) == (0.7, 10, 5)
    assert high.ci95 == pytest.approx(expected.ci95)
    assert low.value == pytest.approx(0.3)
    assert low.ci95 == pytest.approx([1 - v for v in reversed(expected.ci95 or ())])


def test_bins_without_a_forecast_are_left_out_of_both() -> None:
    forecasts = Forecasts(np.array([2.2, 2.9]), np.ones(2), np.arange(2), 2)
    edges = np.array([-1.1, 0.0, 1.1])
    assert [r["observed"] for r in forecasts.table(edges)] == [s.value for s in forecasts.observed(edges)]
    assert len(forecasts.observed(edges)) == 2


def test_the_histogram_holds_every_pair_on_its_side_of_0() -> None:
    (run,) = runs("judgebench", "builtin:linear")
    figure = plot.margins(run)
    margin = pairs_of(plot.sources_of(run)[0].panel).margin
    heights = {c.get_label(): sum(p.get_height() for p in c) for c in figure.axes[0].containers}
    assert heights == {"right": (margin > 0).sum(), "wrong": (margin < 0).sum()}
    edges, counts = histogram(np.array([-3.0, -1e-12, 1e-12, 2.0, 0.0, 50.0]))
    assert edges[20] == 0.0
    assert (counts[:20].sum(), counts[20:].sum()) == (2, 3)
    assert counts[-1] == 1
    assert histogram(np.zeros(3))[1].sum() == 0


def test_tied_pairs_are_drawn_as_such() -> None:
    (run,) = runs("judgebench", "constant")
    figure = plot.margins(run)
    heights = {c.get_label(): sum(p.get_height() for p in c) for c in figure.axes[0].containers}
    assert heights == {"right": 0, "wrong": 0, "tied": 350}


def test_accuracy_by_margin_is_the_records() -> None:
    found = runs("judgebench")
    axes = plot.margin_deciles(found).axes[0]
    for k, run in enumerate(found):
        rows = run.record.curves["margin_deciles"]
        assert xy(axes.containers[k].lines[0])[1] == near(r["accuracy"] for r in rows)
        assert bars(axes)[k] == [near(r["ci95"]) for r in rows]


def test_best_of_n_is_the_records_between_random_and_oracle() -> None:
    found = runs("bon")
    left, right = plot.best_of_n(found).axes
    for axes, stem in ((left, "win_rate"), (right, "gold")):
        for k, run in enumerate(found):
            values = plot.sources_of(run)[0].by_n(stem)
            assert xy(axes.lines[k]) == (near(values), near(e.value for e in values.values()))
    oracle = plot.sources_of(found[0])[0].by_n("oracle")
    assert xy(right.lines[2])[1] == near(e.value for e in oracle.values())
    win = xy(left.lines[2])[1]
    assert win[0] == pytest.approx(0.5)
    assert win == sorted(win)
    assert xy(right.lines[3])[1][0] == pytest.approx(found[0].record.metrics["gold@1"].value)
    assert len(left.lines) == 4, "the same pools have one oracle"


def test_the_oracle_of_a_pool_worked_out_by_hand() -> None:
    """Gold 0, 1, 2, 3: the best of all four beats the other three, the better of two 2/3 of them."""
    source = plot.sources_of(runs("bon", "builtin:linear")[0])[0]
    panel = build_panel(
        PanelRow(
            id=str(i), rewards=[0.0, 3.0, 1.0, 2.0], gold=[0.0, 1.0, 2.0, 3.0], lengths=[1] * 4,
            cluster=str(i), strata={}, gold_kind="graded",
        )
        for i in range(3)
    )  # fmt: skip
    source.__dict__["panel"] = panel
    found = FIGURES["best_of_n"].find(source)
    assert found.oracle_win_rate == pytest.approx([0.5, 7 / 9, 1.0])


def test_strata_are_the_records_with_the_whole_above() -> None:
    found = runs("judgebench")
    axes = plot.strata(found).axes[0]
    names = [t.get_text() for t in axes.get_yticklabels()]
    strata = [run.record.strata["category"] for run in found]
    assert names == ["all", *strata[0]]
    for k, run in enumerate(found):
        values = [run.record.metrics["accuracy"], *(m["accuracy"] for m in strata[k].values())]
        assert xy(axes.containers[k].lines[0])[0] == near(e.value for e in values)


def test_more_strata_than_there_is_room_for_are_said_to_be() -> None:
    (run,) = runs("judgebench", "builtin:linear")
    accuracy = run.record.metrics["accuracy"]
    many = {f"s{k:02d}": {"accuracy": replace(accuracy, n=k)} for k in range(40)}
    changed = Run(replace(run.record, strata={"subset": many, "set": {"x": {}}}), run.path)
    figure = plot.strata(changed)
    shown = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert shown == ["all", *[f"s{k:02d}" for k in range(10, 40)]]
    assert "subset (30 of 40, the largest)" in texts(figure)


def test_the_matrix_of_styles(tmp_path: Path) -> None:
    (run,) = runs("judgebench", "builtin:linear")
    matrix = [[0.5, 0.25, 0.125], [0.75, 0.5, 0.0625], [1.0, 0.875, 0.5]]
    task = {**run.record.identity["task"], "kinds": ["rm-bench"]}
    curves = {"style_matrix": {"chat": matrix, "all": np.transpose(matrix).tolist()}}
    changed = with_identity(run, tmp_path, {"task": task}, curves=curves)
    figure = plot.styles(changed)
    assert [a.get_title(loc="left") for a in figure.axes if a.axison] == ["all domains", "chat alone"]
    for axes, table in zip(figure.axes, (np.transpose(matrix), matrix), strict=False):
        cells = {t.get_position(): t.get_text() for t in axes.texts}
        assert cells == {(j, i): f"{table[i][j]:.2f}" for i in range(3) for j in range(3)}
    assert len(plot.styles([changed, changed]).axes) == 2


def test_accuracy_by_length_worked_out_by_hand() -> None:
    """Twenty pairs, two of each length difference: a tenth each."""
    rows = [
        PanelRow(
            id=f"i{k:02d}", rewards=[1.0 if k % 4 else -1.0, 0.0], gold=[1.0, 0.0],
            lengths=[100 + 10 * (k // 2), 100], cluster=f"c{k}", strata={}, gold_kind="label",
        )
        for k in range(20)
    ]  # fmt: skip
    pairs = pairs_of(build_panel(rows))
    found = accuracy_by_length(pairs, (pairs.margin > 0).astype(float), 20)
    assert [r["length_median"] for r in found] == [10.0 * k for k in range(10)]
    assert [r["accuracy"] for r in found] == [0.5, 1.0] * 5
    assert [r["n"] for r in found] == [2] * 10
    assert [d["n"] for d in deciles(pairs, 20)["margin_deciles"]] == [20]


def test_length_bias_shows_the_records_numbers() -> None:
    found = runs("judgebench")
    left, right = plot.length_bias(found).axes
    for k, run in enumerate(found):
        names = ("accuracy", "accuracy_length_controlled", "longer_wins")
        assert xy(left.containers[k].lines[0])[1] == near(run.record.metrics[n].value for n in names)
        rows = FIGURES["length_bias"].find(plot.sources_of(run)[0]).tenths
        assert sum(r["n"] for r in rows) == 350
        assert xy(right.containers[k].lines[0])[1] == near(r["accuracy"] for r in rows)
        total = sum(r["accuracy"] * r["n"] for r in rows)
        assert total / 350 == pytest.approx(run.record.metrics["accuracy"].value)


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "styles"])  # its own test has a record
def test_a_figure_has_the_same_bytes_twice(name: str, tmp_path: Path) -> None:
    task = "bon" if name == "best_of_n" else "judgebench"
    paths = [r.path for r in runs(task)]
    for kind in ("svg", "png"):
        for copy in ("a", "b"):
            plot.save(getattr(plot, name)(paths), tmp_path / copy / f"{name}.{kind}")
        first, second = ((tmp_path / c / f"{name}.{kind}").read_bytes() for c in ("a", "b"))
        assert first == second


@pytest.mark.parametrize("name", ["reliability", "margin_deciles"])
def test_a_record_of_an_older_version_draws_the_same(name: str) -> None:
    """One without the tables that a figure is drawn of: they are measured from its rewards."""
    (run,) = runs("judgebench", "builtin:linear")
    older = Run(replace(run.record, curves={}), run.path)
    images = [plot.image_of(name, getattr(plot, name)(r), "svg") for r in (run, older)]
    assert images[0] == images[1]


def test_claims_are_what_calibration_is_measured_on() -> None:
    source = plot.sources_of(runs("judgebench", "builtin:linear")[0])[0]
    claims = claims_of(source.panel, source.params)
    assert not isinstance(claims.scaled, str)
    value = float(np.square(claims.scaled.probability - claims.scaled.label).mean())
    assert value == pytest.approx(source.record.metrics["brier_scaled"].value)


def test_one_model_on_two_tasks_has_two_names_and_the_same_run_twice_too(tmp_path: Path) -> None:
    a, b = runs("preference", "builtin:linear"), runs("judgebench", "builtin:linear")
    assert [s.label for s in plot.sources_of([*a, *b])] == [
        "builtin:linear, preference",
        "builtin:linear, judgebench",
    ]
    other = with_identity(a[0], tmp_path, {"seed": 7})
    labels = [s.label for s in plot.sources_of([*a, other])]
    assert len(set(labels)) == 2
    assert all(label.startswith("builtin:linear, ") for label in labels)


@pytest.mark.parametrize(
    ("name", "task", "why"),
    [
        ("reliability", "bon", "the task bon measures no calibration"),
        ("best_of_n", "judgebench", "the task judgebench measures no best_of_n"),
        ("styles", "judgebench", "the task judgebench measures no rm-bench"),
    ],
)
def test_what_a_record_has_not_is_said_in_one_line(name: str, task: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"no {name} of builtin:linear on {task}: {why}"):
        getattr(plot, name)(runs(task)[0])


def test_a_path_that_is_no_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no record"):
        plot.reliability(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DataError, match=r"bad\.json: not a run record"):
        plot.reliability(tmp_path / "bad.json")
    (run,) = runs("judgebench", "builtin:linear")
    shutil.copy(run.path, tmp_path / "alone.json")
    with pytest.raises(StoreError, match="the rewards of this record are missing"):
        plot.margins(tmp_path / "alone.json")
    with pytest.raises(ConfigError, match=r"ends in \.svg or \.png"):
        plot.save(None, tmp_path / "figure.pdf")
    with pytest.raises(ConfigError, match="no record to draw"):
        plot.strata([])


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'rmbench\[plot\]'"):
        plot.strata(runs("judgebench"))


@pytest.mark.parametrize(
    "name",
    [
        "</svg><script>document.title=1</script>",
        "$x^2$ ${} \\frac{1",
        "_hidden",
        "<![CDATA[ ]]> -- <!-- -->",
        "\u202eright to left\u200f \ufffe\uffff \x00\x1b",
        "long" * 2500,
        "模型 🤖 نموذج",
    ],
)
def test_any_name_is_drawn_as_text(name: str) -> None:
    from xml.etree import ElementTree

    (run,) = runs("judgebench", "builtin:linear")
    strata = {name: {name: run.record.strata["category"]["Math"]}}
    hostile = Run(replace(run.record, model=name, strata=strata), run.path)
    for figure in ("strata", "margin_deciles"):
        drawn = getattr(plot, figure)([hostile, run])
        root = ElementTree.fromstring(plot.image_of(figure, drawn, "svg"))  # noqa: S314
        assert plot.image_of(figure, drawn, "png").startswith(b"\x89PNG")
        tags = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert not tags & {"script", "image", "a", "foreignObject"}
        shown = "".join(root.itertext())
        assert not any(c in shown for c in "\u202e\u200f\x00\x1b\ufffe\uffff")


def test_a_record_with_nan_is_not_drawn(tmp_path: Path) -> None:
    (run,) = runs("judgebench", "builtin:linear")
    raw = json.loads(run.path.read_text())
    raw["strata"]["category"]["Math"]["accuracy"]["value"] = float("nan")
    (tmp_path / run.path.name).write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match="'accuracy', key 'value': nan; expected a finite number"):
        plot.strata(tmp_path / run.path.name)


def test_a_notebook_shows_a_figure_as_it_is_and_an_error_in_one_line() -> None:
    figure = plot.reliability(runs("preference"))
    image, size = methodcaller("_repr_png_")(figure)  # what IPython asks any object for
    assert image.startswith(b"\x89PNG")
    width, height = (int.from_bytes(image[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (2 * size["width"], 2 * size["height"]), "sharp where a pixel is half a point"
    error = ConfigError("--task: unknown task 'x'")
    shown = methodcaller("_render_traceback_")(error)  # what it asks an error for
    assert shown == ["error: --task: unknown task 'x'"]
