"""The page of a study and its figures: the finding in words, differences with intervals, nothing cut."""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rmbench.cli.main import run
from rmbench.plot import forest, style
from rmbench.stats import Comparison
from rmbench.study import figures
from rmbench.study.finding import finding, forest_files, forests_of
from rmbench.study.tables import Row
from rmbench.types import Estimate

LONG = "a_method-with-a_very$long$name<b>-0123456789-0123456789"


def row(
    method: str, value: float, half: float, p: float, *, metric: str = "accuracy", base: str = "b"
) -> Row:
    """A row with a difference to the reference."""
    told = Estimate(
        value=value, ci95=(value - half, value + half), stderr=half / 2, n=9, n_clusters=9, unit="",
        higher_is_better=metric != "nll",
    )  # fmt: skip
    return Row(
        base=base, data="d", method=method, task="t", metric=metric, mean=0.5, deviation=0.1, n_seeds=2,
        n_undefined=0, difference=Comparison(told, p), seeds=(value - 0.01, value + 0.01),
    )  # fmt: skip


def spec_of(methods: Sequence[str], bases: Sequence[str] = ("b",)) -> Any:
    """The part of a study that its words and figures read."""
    return SimpleNamespace(
        reference=methods[0], methods=[SimpleNamespace(name=m) for m in methods], bases=dict.fromkeys(bases)
    )


def test_a_finding_says_gain_interval_and_what_is_told_apart() -> None:
    spec = spec_of(["ref", "good", "bad", "same"])
    rows = [row("good", 0.1, 0.02, 0.001), row("bad", -0.1, 0.02, 0.001), row("same", 0.01, 0.02, 0.04)]
    assert finding(spec, rows) == [
        "good against ref, accuracy (b, d, t): a gain of +0.100 [+0.080, +0.120]: better.",
        "bad against ref, accuracy (b, d, t): a gain of -0.100 [-0.120, -0.080]: worse.",
        "same against ref, accuracy (b, d, t): a gain of +0.010 [-0.010, +0.030]: better.",
    ]
    # The same p-value among more tests does not survive; a lower NLL is a gain.
    more = [row(m, 0.01, 0.02, 0.04, metric="nll", base=b) for m, b in product(["good", "bad"], "vwxyz")]
    more[0] = row("good", -0.3, 0.02, 1e-6, metric="nll", base="v")
    assert finding(spec, more) == [
        "good against ref, NLL as trained: of 5 cells (base x data x task) better in 1, worse in 0, not told apart in 4.",
        "bad against ref, NLL as trained: of 5 cells (base x data x task) better in 0, worse in 0, not told apart in 5.",
    ]


def test_every_difference_is_drawn_once_whatever_their_number() -> None:
    methods = [f"m{k}" for k in range(12)]
    bases = [f"base{k}" for k in range(8)]
    rows = [row(m, 0.01, 0.02, 0.5, base=b) for b in bases for m in methods[1:]]
    drawn = forests_of(spec_of(methods, bases), rows)
    assert max(len(f.rows) for f in drawn) <= forest.MOST
    assert [r.label for f in drawn for r in f.rows] == [f"{m}, {b}" for b in bases for m in methods[1:]]
    assert [f.stem for f in drawn] == [f"difference.accuracy.{n}" for n in (1, 2, 3)]
    nll = forests_of(spec_of(methods), [row("m1", -0.2, 0.1, 0.01, metric="nll")])
    (only,) = nll[0].rows
    assert (only.gain.value, only.points) == (0.2, pytest.approx((0.21, 0.19)))


def inside(drawn: list[Any]) -> None:
    """Assert that all that was drawn lies inside its picture."""
    assert drawn
    for figure in drawn:
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert box.x0 >= -0.02, box
        assert box.y0 >= -0.02, box
        assert box.x1 <= width + 0.02, (box, width)
        assert box.y1 <= height + 0.02, (box, height)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every figure that is drawn."""
    found: list[Any] = []
    plain = style.image

    def note(figure: Any, kind: str, **how: Any) -> bytes:
        found.append(figure)
        return plain(figure, kind, **how)

    for module in (style, forest):
        monkeypatch.setattr(module, "image", note)
    return found


@pytest.mark.parametrize(("n_bases", "n_methods"), [(1, 1), (1, 10), (3, 4), (8, 10)])
def test_nothing_of_a_figure_is_cut(n_bases: int, n_methods: int, drawn: list[Any]) -> None:
    methods = [f"{LONG}{k}" for k in range(n_methods)]
    bases = [f"{LONG}-base{k}" for k in range(n_bases)]
    x = np.arange(1.0, 5.0)
    line = figures.Line(x, x / 10, x / 100)
    grid = {f"{LONG}{k}\nwin rate": {b: dict.fromkeys(methods, line) for b in bases} for k in range(2)}
    look = figures.Look("N (responses to choose from)", doubling=True, level=0.5)
    files = figures.draw_grid("stem", f"trained on {LONG} (mean over seeds)", grid, look)
    assert set(files) == {"stem.svg", "stem.png"}
    shown = re.findall(r">([^<]*)</text>", files["stem.svg"].decode())
    for end in (*(f"-base{k}" for k in range(n_bases)), *(f"-0123456789{k}" for k in range(n_methods))):
        assert any(text.endswith(end) for text in shown), end
    rows = [row(m, 0.01, 0.02, 0.5, base=b) for b in bases for m in methods]
    spec = spec_of([LONG, *methods], bases)
    forest_files(spec, forests_of(spec, rows))
    inside(drawn)


STUDY = """\
name: "<b>tiny & small"
summary: "Does <i>it</i> help?"
bases: {tiny: "builtin:tiny"}
data: [{name: embedded, source: "preference:train", pairs_per_prompt: 1, limit: 40}]
methods: [{name: bradley-terry}, {name: confidence-margin}]
seeds: 2
train: {freeze_backbone: true, epochs: 1, max_length: 64}
evaluate: [{task: preference, limit: 10}]
reference: bradley-terry
"""


def test_a_study_has_a_folder_of_its_own_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(STUDY)
    assert run(["study", "mine.yaml", "--out", "out", "-q", "--store", "store"]) == 0
    assert not (tmp_path / "results").exists(), "a study's models do not stand on one's boards"
    told = capsys.readouterr()
    (place,) = re.findall(r"Records: (.+)\.$", told.err, re.MULTILINE)
    assert len(list((tmp_path / place).rglob("*.json"))) == 4
    page = (tmp_path / "out" / "study.html").read_text()
    assert "<h1>&lt;b&gt;tiny &amp; small</h1>" in page
    assert "<i>it</i>" not in page
    assert str(tmp_path) not in page
    assert "confidence-margin against bradley-terry, accuracy (tiny, embedded, preference): a gain of" in page
    assert page.count('<svg class="drawn"') >= 4
    for reference in re.findall(r"(?:src|href)=\"([^#\"][^\"]*)\"", page):
        raise AssertionError(f"the page asks for {reference}")
    assert run(["study", "mine.yaml", "--out", "out", "-q", "--store", "store"]) == 0
    assert (tmp_path / "out" / "study.html").read_text() == page
