"""The page of a board: what it says, that hostile records stay text, that its policy fits, and its size."""

import base64
import csv
import hashlib
import io
import json
import re
import shutil
from dataclasses import replace
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
from parsed_page import Page
from synthetic_boards import HOSTILE, estimate, facts, spec, synthetic

from rmbench.boards import Leaderboard, load_board, make_board
from rmbench.boards.definition import ModelCard
from rmbench.boards.page import page_of, report_file, report_links
from rmbench.boards.pareto import plots_of
from rmbench.boards.render import render_board
from rmbench.cli.main import run
from rmbench.core.escape import one_line
from rmbench.errors import ConfigError
from rmbench.format.pages import Bar, Scale, anchor, scale_of
from rmbench.metrics import Suite
from rmbench.results.read import find_records
from rmbench.results.run import Run, facts_of

ROOT = Path(__file__).resolve().parents[2]
BOARDS = sorted(path.stem for path in (ROOT / "leaderboards").glob("*.yaml"))


def one(board: Leaderboard, **changes: object) -> Leaderboard:
    """Return a board whose first cell is changed."""
    row = board.rows[0]
    cell = replace(row.cells["c0"], **changes)  # type: ignore[arg-type]
    return replace(board, rows=(replace(row, cells={**row.cells, "c0": cell}), *board.rows[1:]))


def test_a_page_is_whole_and_says_every_number_with_its_interval() -> None:
    board = synthetic()
    text = page_of(board)
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.tags["tbody"] == 2
    assert len(page.values("data-v")) == sum(len(r.cells) + 2 * (r.rank is not None) for r in board.rows)
    cell = board.rows[3].cells["c1"].estimate
    assert cell.ci95 is not None
    assert f"{cell.value:.3f}</a><small>[{cell.ci95[0]:.3f}, {cell.ci95[1]:.3f}] ab</small>" in text
    cells = sum(6 - len(r.cells) for r in board.rows)
    assert text.count("every margin is 0") == cells + len(board.undefined), "in each cell, and in the notes"
    assert "rmbench eval --model org/model-3 --task preference" in text
    assert "rmbench leaderboard made-up" in text


def test_columns_of_a_kind_stand_under_one_head() -> None:
    text = page_of(synthetic())
    heads = re.findall(r'<th scope="colgroup" colspan="(\d+)" data-g="(\d)"><span>([^<]+)</span></th>', text)
    assert heads == [("2", "0", "Preference"), ("2", "1", "Best of N"), ("2", "2", "Calibration")]


def test_shortcuts_and_contaminated_models_are_marked() -> None:
    text = page_of(synthetic())
    assert text.count("<tr data-shortcut>") == 3
    assert text.count("<tr data-contaminated>") == 1
    assert "Trained on 3 prompts of preference, whole or 13 words in a row." in text
    assert text.count(' class="marked"') == 1


def test_gold_of_its_own_is_contaminated() -> None:
    board = one(synthetic(), facts=facts(0, self_gold=True))
    assert board.rows[0].contaminated
    assert (
        '<span class="mark contaminated" title="Its gold is its own: no independent measure.">self-gold'
        in page_of(board)
    )


def hostile() -> Leaderboard:
    """A board where every text that a record or a definition gives is hostile."""
    board = synthetic(len(HOSTILE) + 2, 6, HOSTILE)
    rows = tuple(
        replace(
            row,
            undefined={key: HOSTILE[n % len(HOSTILE)] for key in row.undefined},
            cells={
                k: replace(c, facts=facts(n, command=HOSTILE[-1 - n % 10], machine=HOSTILE[0]))
                for k, c in row.cells.items()
            },
        )
        for n, row in enumerate(board.rows)
    )
    columns = tuple(replace(c, label=HOSTILE[k]) for k, c in enumerate(board.spec.columns))
    return replace(
        board,
        spec=replace(board.spec, title=HOSTILE[6], summary=HOSTILE[0], columns=columns),
        rows=rows,
        metrics={c.id: HOSTILE[1] for c in columns},
        kinds={c.id: HOSTILE[2 + k % 2] for k, c in enumerate(columns)},
        left_out=HOSTILE,
    )


def test_hostile_texts_add_no_tag_no_attribute_and_no_hidden_character() -> None:
    safe, text = Page(page_of(synthetic(len(HOSTILE) + 2, 6))), page_of(hostile())
    page = Page(text)
    for tag in ("script", "style", "img", "h1", "b", "meta", "title"):
        # <title> also names each point of a plot.
        assert page.tags[tag] == safe.tags[tag], tag
    assert {name for _, name, _ in page.attributes} == {name for _, name, _ in safe.attributes}
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00\x1b\ud800]", text)
    shown = {one_line(name, 200) for name in HOSTILE}
    assert shown <= set(page.text["a"]), "a name is shown as it is, cut at 200 characters"
    assert "{{ 7 * 7 }}" in text, "no template within a template"
    assert "49" not in page.text["a"]


def test_no_cell_grows_beyond_the_limit() -> None:
    page = Page(page_of(hostile()))
    assert max(map(len, [*page.text["a"], *page.text["small"], *page.text["text"]])) <= 200


@pytest.mark.parametrize("board", [synthetic(), hostile()], ids=["plain", "hostile"])
def test_the_policy_allows_this_script_and_this_style_and_nothing_else(board: Leaderboard) -> None:
    page = Page(page_of(board))
    policy = next(v for v in page.values("content") if "default-src" in v)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert set(rules) == {"default-src", "style-src", "script-src", "base-uri", "form-action"}
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (content,) = page.text[tag]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_a_page_asks_for_nothing_and_links_only_beside_and_within_itself() -> None:
    page = Page(page_of(hostile()))
    assert page.values("src") == []
    assert page.tags["link"] == 0
    assert {v for v in page.values("href") if not v.startswith("#")} == {
        "made-up.csv",
        "made-up.json",
        "made-up.md",
        "made-up.tex",
    }
    style = "".join(page.text["style"])
    assert "url(" not in style
    assert "@import" not in style
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {v[1:] for v in page.values("href") if v.startswith("#")} <= set(ids)


def test_a_number_links_where_it_is_told_to() -> None:
    board = synthetic()
    name = board.rows[0].model
    assert '<a href="models/a.html#accuracy">0.' in page_of(board, {(name, "c0"): "models/a.html#accuracy"})
    for column in ("c0", ""):
        for bad in BAD_LINKS:
            with pytest.raises(ValueError, match="expected a relative link"):
                page_of(board, {(name, column): bad})


BAD_LINKS = (
    "javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", "//example.org", "\\\\example.org", "/etc",
    "https:alert(1)", "https:///x", "http://a\u202eb", "file:///etc/passwd", "java\nscript:alert(1)", "a\tb",
)  # fmt: skip


def test_a_name_links_to_its_report_and_the_commands_stay_reachable() -> None:
    board = synthetic(len(HOSTILE), 3, HOSTILE)
    plain, links = Page(page_of(board)), report_links(board, 'https://example.org/r/?a="b"/', Path("x"))
    page = Page(page_of(board, links))
    assert page.tags["script"] == plain.tags["script"] == 1
    assert page.tags["a"] == plain.tags["a"] + len(HOSTILE)
    all_links = [v for v in page.values("href") if v.startswith("https://example.org/r/?a=%22b%22/")]
    reports = [v for v in all_links if "#" not in v]
    parts = [v.partition("#")[2] for v in all_links if "#" in v]
    assert set(parts) == {anchor(c.task.name) for c in board.spec.columns}
    assert len(parts) == sum(len(row.cells) for row in board.rows)
    files = [v.rpartition("/")[2] for v in reports]
    assert files == [report_file(name) for name in HOSTILE]
    assert len(set(files)) == len(HOSTILE)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+\.html", f) and not f.startswith(".") for f in files)
    ids = page.values("id")
    for n in range(1, len(HOSTILE) + 1):
        assert page.values("href").count(f"#m{n}") == 1
        assert f"m{n}" in ids


def test_links_are_relative_to_the_board_and_only_to_pages_that_are_there(tmp_path: Path) -> None:
    board = synthetic(4, 2)
    out, folder = tmp_path / "boards", tmp_path / "re ports#1"
    for place in (out, folder):
        place.mkdir()
    assert report_links(board, None, out) == {}
    name = board.rows[1].model
    (folder / report_file(name)).write_text("page")
    page = f"../re%20ports%231/{report_file(name)}"
    parts = {(name, c.id): f"{page}#{anchor(c.task.name)}" for c in board.spec.columns}
    assert report_links(board, str(folder), out) == {(name, ""): page, **parts}
    (out / "reports").mkdir()
    (out / "reports" / report_file(name)).write_text("page")
    assert report_links(board, None, out)[name, ""] == f"reports/{report_file(name)}"
    assert f'<a href="reports/{report_file(name)}">org/model-1</a>' in page_of(
        board, report_links(board, None, out)
    )
    for wrong in (str(tmp_path / "none"), "ftp://example.org", "javascript://x", "https:// x", "https:///a"):
        with pytest.raises(ConfigError, match="--reports"):
            report_links(board, wrong, out)


def test_the_command_links_and_checks_with_the_pages_that_it_finds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["leaderboard", "main", "--boards-dir", str(ROOT / "leaderboards"), "--out", str(tmp_path)]
    for model in ("builtin_linear-e80918ed", "length"):
        shutil.copytree(ROOT / "results" / model, tmp_path / "some" / model)
    command += ["--results", str(tmp_path / "some")]
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / report_file("builtin:linear")).write_text("page")
    assert run(command) == 0
    assert f'<a href="reports/{report_file("builtin:linear")}">builtin:linear</a>' in (
        tmp_path / "main.html"
    ).read_text(encoding="utf-8")
    assert run([*command, "--check"]) == 0
    capsys.readouterr()
    assert run([*command, "--check", "--reports", "https://example.org"]) == 1
    error = capsys.readouterr().err
    assert "main: 2 of 2 models link to a report" in error
    assert "main.html" in error
    assert "main.md" not in error
    assert run([*command, "--reports", str(tmp_path / "none")]) == 2


@pytest.mark.long
def test_reports_are_written_with_the_board_and_every_link_has_its_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--results", str(tmp_path / "results"), "--store", str(tmp_path / "store"), "-q"]
    assert run(["eval", "-m", "length", "-m", "shortest", "-t", "bon", *place]) == 0
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "small.yaml").write_text(
        "name: small\ntitle: Small\nsummary: Two shortcuts.\ncolumns:\n"
        "  - {id: w, task: bon, metric: win_rate@max, label: win rate}\n"
        "  - {id: g, task: bon, metric: gold@max, label: gold}\nrank_by: [w]\n"
    )
    command = ["leaderboard", "--boards-dir", str(tmp_path / "boards"), "--out", str(tmp_path / "site")]
    command += ["--results", str(tmp_path / "results"), "--with-reports"]
    assert run(command) == 0
    assert "small: 2 of 2 models link to a report" in capsys.readouterr().err
    board = Page((tmp_path / "site" / "small.html").read_text(encoding="utf-8"))
    targets = [v for v in board.values("href") if v.startswith("reports/")]
    assert len(targets) >= 2 * 2
    for target in targets:
        name, _, part = target.partition("#")
        report = Page((tmp_path / "site" / name).read_text(encoding="utf-8"))
        assert not part or part in report.values("id")
    assert run([*command, "--check"]) == 0
    # A record that the board leaves out is on the page, after those that its links mean.
    assert run(["eval", "-m", "length", "-t", "bon", "--limit", "6", *place]) == 0
    assert run(command) == 0
    text = (tmp_path / "site" / "reports" / report_file("length")).read_text(encoding="utf-8")
    ids = Page(text).values("id")
    assert len(ids) == len(set(ids))
    assert "160 items" in text[text.index('id="on-bon"') :].partition("</section>")[0]
    assert "6 items (a sample of 160)" in text
    (tmp_path / "site" / "reports" / report_file("length")).write_text("another")
    assert run([*command, "--check"]) == 1
    assert run([*command, "--reports", "https://example.org"]) == 2


@pytest.mark.parametrize(
    ("value", "shown"), [(nan, "NaN"), (inf, "∞"), (-inf, "-∞"), (0.0, "0.000"), (-1e-9, "0.000")]
)
def test_zero_and_no_number_are_shown_as_what_they_are(value: float, shown: str) -> None:
    board = one(synthetic(), estimate=replace(estimate(0.5), value=value, ci95=None))
    text = page_of(board)
    row = text[text.index("<tbody>") :]
    row = row[: row.index("</tr>")]
    finite = value == value and abs(value) != inf
    assert (
        f">{shown}</a><small>no interval ab</small>" in row
        or f">{shown}</a><small>no interval a</small>" in row
    )
    assert ('title="not a finite number"' in row) != finite
    assert "nan" not in text.lower().replace("not a", "").replace(shown.lower(), "").split("<script>")[0]


@pytest.mark.long
def test_500_models_by_40_columns_stay_below_5_mb_and_have_the_same_bytes() -> None:
    board = synthetic(500, 40)
    text = page_of(board)
    assert len(text.encode()) < 5_000_000
    assert page_of(synthetic(500, 40)) == text


def test_a_scale_holds_all_intervals_between_round_ends() -> None:
    scale = scale_of([estimate(0.41, 0.04), estimate(0.77, 0.02)])
    assert scale.ends() == ("0.3", "0.8")
    assert scale.bar(0.55, (0.3, 0.8)) == Bar("50", "0", "100")
    assert scale.bar(0.55, None) == scale.bar(0.55, (nan, 1.0)) == Bar("50", "50", "0")
    assert scale.bar(nan, (0.3, 0.8)) is None
    assert scale_of([]) == Scale(0.0, 1.0)
    for value in (0.0, 1e308, -1e308, 1e-300):
        found = scale_of([replace(estimate(value), ci95=None)])
        assert found.low < found.high
        assert 0 <= float(found.at(value)) <= 100
    assert scale_of([estimate(-1e308), estimate(1e308)]).at(0.0) == "50"


def test_the_frontier_is_what_no_other_model_beats_in_both() -> None:
    board = synthetic(5, 1)
    # (score, tokens per second): a 0.9 at 100, b 0.8 at 1000, c 0.7 at 500 (beaten by b), d 0.6 at 10000.
    speeds = (100.0, 1000.0, 500.0, 10_000.0, None)
    scores = (0.9, 0.8, 0.7, 0.6, 0.5)
    rows = tuple(
        replace(
            row,
            model="abcde"[n],
            shortcut=False,
            score=estimate(scores[n]),
            cells={
                "c0": replace(
                    row.cells["c0"], trained_on=0, facts=facts(n, tokens_per_s=speeds[n], parameters=None)
                )
            },
        )
        for n, row in enumerate(board.rows)
    )
    speed, size = plots_of(replace(board, rows=rows))
    assert [p["label"] for p in speed["points"]] == ["a", "b", "c", "d"]
    place = {p["label"]: (p["x"], p["y"]) for p in speed["points"]}
    (path,) = speed["frontiers"]
    a, b, d = (place[k] for k in "abd")
    assert path == f"M{a[0]} {a[1]}V{b[1]}H{b[0]}V{d[1]}H{d[0]}"
    assert speed["missing"].startswith("1 of 5 ranked models are not drawn")
    assert size["points"] == []
    assert size["missing"].startswith("5 of 5")
    # Of two machines each has its own.
    other = replace(
        rows[1],
        cells={"c0": replace(rows[1].cells["c0"], facts=facts(1, tokens_per_s=1000.0, machine="arm64"))},
    )
    speed, _ = plots_of(replace(board, rows=(rows[0], other, *rows[2:])))
    assert len(speed["frontiers"]) == 2


@pytest.mark.parametrize(
    "provenance",
    [
        {},
        {"tokens_per_s": nan, "tokens": inf, "parameters": -1, "command": "rm -rf", "machine": 3},
        {"tokens_per_s": True, "tokens": "9", "parameters": 1e308, "command": None, "machine": None},
        {"tokens_per_s": 0, "tokens": 0, "parameters": 0, "command": [], "machine": ""},
    ],
)
def test_a_provenance_that_makes_no_sense_is_no_fact(provenance: dict[str, object]) -> None:
    stored = next(find_records(ROOT / "results" / "random"))
    found = facts_of(replace(stored, record=replace(stored.record, provenance=provenance)))
    assert (found.command, found.tokens_per_s, found.tokens, found.parameters) == ("", None, 0, None)
    assert found.machine == ""


def test_a_command_is_quoted_for_a_shell() -> None:
    stored = next(find_records(ROOT / "results" / "random"))
    found = facts_of(
        replace(
            stored,
            record=replace(stored.record, provenance={"command": ["rmbench", "eval", "-M", "name=a b;rm"]}),
        )
    )
    assert found.command == "rmbench eval -M 'name=a b;rm'"


@pytest.mark.parametrize("name", BOARDS)
def test_the_committed_pages_are_whole(name: str) -> None:
    text = (ROOT / "leaderboards" / f"{name}.html").read_text(encoding="utf-8")
    values = json.loads((ROOT / "leaderboards" / f"{name}.json").read_text(encoding="utf-8"))
    page = Page(text)
    assert len(text) < 100_000
    names = [row["model"] for row in values["rows"]]
    assert [t for t in page.text["a"] if t in names] == names


def test_a_number_that_is_not_finite_is_no_value_in_any_format() -> None:
    class WithNan(Run):
        @property
        def suite(self) -> Suite:  # type: ignore[override]
            suite = super().suite
            changed = {"ece": replace(suite.metrics["ece"], value=nan)} if "ece" in suite.metrics else {}
            return replace(suite, metrics={**suite.metrics, **changed})

    runs = [WithNan(run.record, run.path) for run in find_records(ROOT / "results" / "random")]
    made = make_board(load_board(ROOT / "leaderboards", "main"), runs)
    assert made.undefined == ["no ECE: it is nan, no finite number"]
    made_files = render_board(made)
    assert json.loads(made_files["main.json"])["rows"][0]["rank"] == 1
    assert '<td class="none" title="it is nan, no finite number">–</td>' in made_files["main.html"]


def test_check_notices_one_byte_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in BOARDS:
        for kind in ("md", "csv", "json", "html"):
            shutil.copy(ROOT / "leaderboards" / f"{name}.{kind}", tmp_path)
    (tmp_path / "main.html").write_text(
        (ROOT / "leaderboards" / "main.html").read_text().replace("0.737", "0.837", 1)
    )
    command = [
        "leaderboard",
        "--check",
        "main",
        "--boards-dir",
        str(ROOT / "leaderboards"),
        "--out",
        str(tmp_path),
    ]
    assert run([*command, "--results", str(ROOT / "results")]) == 1
    error = capsys.readouterr().err
    assert "main.html" in error
    assert "main.csv" not in error


def test_the_page_is_one_of_a_boards_files() -> None:
    assert set(render_board(replace(synthetic(), spec=spec(6)))) == {
        f"made-up.{k}" for k in ("md", "csv", "tex", "json", "html")
    }


def test_a_record_says_how_many_parameters_its_model_has(tmp_path: Path) -> None:
    """`builtin:linear`: as many as its file has weights; a baseline has none to count."""
    base = [
        "-t",
        "preference",
        "--limit",
        "2",
        "--results",
        str(tmp_path),
        "--store",
        str(tmp_path / "store"),
        "-q",
    ]
    assert run(["eval", "-m", "builtin:linear", "-m", "length", *base]) == 0
    found = {r.record.model: r.record.provenance["parameters"] for r in find_records(tmp_path)}
    with np.load(ROOT / "rmbench" / "_data" / "builtin" / "linear.npz") as arrays:
        assert found == {"builtin:linear": arrays["weights"].size, "length": None}


def test_hostile_texts_break_no_table_and_are_no_formula_in_the_other_formats() -> None:
    board = hostile()
    files = render_board(replace(board, spec=replace(board.spec, title="t", summary="s")))
    hidden = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00\x1b\ud800]")
    for text in files.values():
        assert not hidden.search(text)
        text.encode("utf-8")
    table = [
        re.sub(r"\\[\\|]", "", line) for line in files["made-up.md"].splitlines() if line.startswith("|")
    ]
    assert {line.count("|") for line in table} == {12}
    assert "<script>" not in files["made-up.md"]
    assert max(map(len, table)) < 4000
    for line in list(csv.reader(io.StringIO(files["made-up.csv"])))[1:]:
        assert not line[4].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert [row["model"] for row in json.loads(files["made-up.json"])["rows"]][: len(HOSTILE)] == list(
        HOSTILE
    )


def row_of(text: str, n: int) -> str:
    """Return the n-th row of a page's board, from 0."""
    return text[text.index("<tbody>") :].split("<tr")[n + 1]


def test_the_best_of_a_column_is_marked_and_controls_and_shortcuts_are_not() -> None:
    board = synthetic(5, 2)
    values = (0.9, 0.8, 0.7, 0.6, 0.6)
    rows = []
    for n, row in enumerate(board.rows):
        cell = replace(
            row.cells["c0"],
            estimate=estimate(values[n]),
            trained_on=3 if n == 1 else 0,
            facts=facts(n, untrained=n == 2),
        )
        rows.append(replace(row, shortcut=n == 0, cells={"c0": cell}))
    text = page_of(replace(board, rows=tuple(rows)))
    marked = [re.findall(r'<td[^>]*class="([^"]*)"[^>]*><a', row_of(text, n)) for n in range(5)]
    assert [["best" in found for found in one] for one in marked] == [[], [False], [], [True], [True]]
    control = '<span class="mark control" title="Its head is random: a trained model must beat it.">'
    assert [control in row_of(text, n) for n in range(5)] == [False, False, True, False, False]
    lower = [
        replace(
            r, shortcut=False, cells={"c0": replace(r.cells["c0"], estimate=estimate(0.3 + n, higher=False))}
        )
        for n, r in enumerate(board.rows)
    ]
    text = page_of(replace(board, rows=tuple(lower)))
    assert "accuracy, lower is better</small>" in text
    assert ["best" in row_of(text, n) for n in (0, 2, 3)] == [True, False, False]


def test_arrows_are_for_sorting_alone() -> None:
    text = page_of(synthetic())
    assert "↑" not in text
    assert "↓" not in text


def test_groups_of_the_score_are_bands_that_a_screen_reader_reads_as_letters() -> None:
    board = synthetic(3, 2)
    groups = ("a", "ab", "b")
    rows = tuple(replace(row, group=group) for row, group in zip(board.rows, groups, strict=True))
    text = page_of(replace(board, rows=rows))
    assert "#board { --bands: 2; }" in text
    on, off = '<i class="on"></i>', "<i></i>"
    for n, (bands, group) in enumerate(zip((on + off, on + on, off + on), groups, strict=True)):
        assert f'<span class="bands">{bands}</span><span class="hidden">group {group}</span>' in row_of(
            text, n
        )
    many = tuple(replace(row, group="abcdefghijklm"[n : n + 12]) for n, row in enumerate(board.rows))
    text = page_of(replace(board, rows=many))
    assert 'class="bands"' not in text
    assert "<small>group abcdefghijkl</small>" in text


def test_a_column_that_alone_ranks_the_models_stands_once() -> None:
    board = synthetic(4, 3)
    alone = replace(board, spec=replace(board.spec, rank_by=("c0",)))
    assert [c.id for c in alone.beside_score] == ["c1", "c2"]
    name = alone.rows[0].model
    text = page_of(alone, {(name, "c0"): "models/a.html#accuracy"})
    heads = re.findall(r'<button type="button">(column \d|score)</button>', text)
    assert heads == ["column 0", "column 1", "column 2"]
    assert text.count('<a href="models/a.html#accuracy">') == 1
    assert render_board(alone)["made-up.md"].count("| column 0 |") == 1
    assert "column 0" in render_board(board)["made-up.md"].splitlines()[4]
    assert "c0,c0_low" in render_board(alone)["made-up.csv"], "files for programs keep every column"


def test_a_plot_without_points_is_a_line_and_no_figure() -> None:
    board = synthetic(4, 2)
    none = {"tokens_per_s": None, "parameters": None}
    rows = tuple(
        replace(r, cells={k: replace(c, facts=facts(n, **none)) for k, c in r.cells.items()})
        for n, r in enumerate(board.rows)
    )
    text = page_of(replace(board, rows=rows))
    assert "<figure>" not in text
    assert "Score against speed: " in text[text.index("<h2>Not drawn</h2>") :]
    assert page_of(board).count("<figure>") == 2


def test_a_model_has_its_size_licence_date_and_link_and_a_column_its_prompts(tmp_path: Path) -> None:
    board = synthetic(3, 2)
    name, other = board.rows[0].model, board.rows[1].model
    cards = {name: ModelCard("Apache-2.0", "https://example.org/card", 7), "gone": ModelCard("MIT")}
    rows = tuple(
        replace(
            r,
            cells={
                k: replace(
                    c, facts=facts(n, date=f"2026-0{n + 1}-02", parameters=None if n == 0 else 134_515_008)
                )
                for k, c in r.cells.items()
            },
        )
        for n, r in enumerate(board.rows)
    )
    text = page_of(replace(board, rows=rows, spec=replace(board.spec, models=cards)))
    assert "7 parameters · Apache-2.0 · 2026-01-02 <a" in row_of(text, 0)
    assert '<a href="https://example.org/card" rel="noreferrer">card</a>' in row_of(text, 0)
    assert "135M parameters · 2026-02-02</small>" in row_of(text, 1)
    assert other in row_of(text, 1)
    assert "Records of 2026-01-02 to 2026-03-02." in text
    assert "<small>300 prompts</small>" in text
    assert "gone: the definition describes it" in text
    for link in ("javascript:alert(1)", "file:///etc/passwd", "https:///x", "card.html"):
        (tmp_path / "b.yaml").write_text(
            "name: b\ntitle: B\nsummary: s\ncolumns: [{id: a, task: preference, metric: accuracy, label: a}]\n"
            f"rank_by: [a]\nmodels: {{m: {{link: '{link}'}}}}\n"
        )
        with pytest.raises(ConfigError, match="expected an address http"):
            load_board(tmp_path, "b")


def test_what_hovering_shows_is_shown_by_a_tap() -> None:
    page = Page(page_of(synthetic()))
    (script,) = page.text["script"]
    assert 'addEventListener("click", (event) => show(told(event.target)))' in script
    assert "innerHTML" not in script
