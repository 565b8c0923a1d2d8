"""`rmbench report`: what a page says is what its records say, any text is only text, the same bytes twice."""

import base64
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape
from parsed_page import Drawn
from report_records import HOSTILE, evaluate, rows, spoil, spoil_identity

from rmbench.cli.main import run
from rmbench.core.escape import one_line
from rmbench.errors import ConfigError
from rmbench.format.pages import text_block
from rmbench.metrics.panel import PanelRow, build_panel
from rmbench.plot import FIGURES, Source
from rmbench.plot.inline import inline_svg
from rmbench.report.numbers import runs_of, sections_of
from rmbench.report.page import make_report
from rmbench.report.worst import margin_of, worst_items
from rmbench.results.read import find_records
from rmbench.results.record import sealed

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    evaluate(folder, "length", "markdown")
    return folder


@pytest.fixture(scope="module")
def page_text(made: Path) -> str:
    out = made / "page.html"
    assert run(["report", "length", "markdown", *data(made), "--out", str(out)]) == 0
    return out.read_text(encoding="utf-8")


def data(folder: Path) -> list[str]:
    path = folder / "items.jsonl"
    where = ["--results", str(folder / "results")]
    return [*where, "--data", f"preference={path}", "--data", f"bon={path}"]


def test_every_headline_is_there_with_its_interval(made: Path, page_text: str) -> None:
    for stored in find_records(made / "results"):
        names = ("accuracy", "ece") if stored.record.task == "preference" else ("win_rate@4", "gold@4")
        for name in names:
            e = stored.record.metrics[name]
            assert e.ci95 is not None
            assert f">{e.value:.3f}<small>[{e.ci95[0]:.3f}, {e.ci95[1]:.3f}]</small>" in page_text
        assert stored.record.run_id in page_text
        assert str(stored.record.identity["data"]) in page_text
        assert f"<code>{escape(shlex.join(stored.record.provenance['command']))}</code>" in page_text


def test_a_page_is_whole_and_its_contents_lead_to_its_parts(page_text: str) -> None:
    page = Drawn(page_text)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = [v for v in page.values("href") if v.startswith("#")]
    assert {v[1:] for v in targets} <= set(ids)
    assert {"s1-numbers", "s1-figures", "s1-items", "s1-counts", "s2-runs"} <= set(ids)
    assert page.tags["h2"] == 2
    assert page.text["h2"] == ["preference", "bon"]


def test_each_figure_is_drawn_or_said_not_to_be(page_text: str) -> None:
    drawn = {i for i in Drawn(page_text).values("id") if re.fullmatch(r"s\d-[a-z_]+", i)}
    assert {"s1-differences", "s2-differences"} <= drawn
    figures = {f"{s}-{name}" for s in ("s1", "s2") for name in FIGURES}
    missing = {"s1-best_of_n", "s1-styles"} | {f"s2-{n}" for n in FIGURES if n not in ("best_of_n", "strata")}
    assert drawn & figures == figures - missing
    assert "best_of_n (the task preference measures no best_of_n)" in page_text


def test_a_page_asks_for_nothing_and_its_policy_allows_its_own_alone(page_text: str) -> None:
    page = Drawn(page_text)
    assert page.values("src") == []
    assert page.values("style") == []
    assert {v[0] for v in page.values("href")} == {"#"}
    assert not re.search(r"https?://", page_text.replace("http://www.w3.org", ""))
    policy = next(v for v in page.values("content") if "default-src" in v)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (content,) = page.text[tag]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
        assert "url(" not in content
        assert "@import" not in content


def test_ids_of_figures_do_not_clash_and_all_references_are_met(page_text: str) -> None:
    page = Drawn(page_text)
    ids = set(page.values("id"))
    used = re.findall(r"url\(#([^)]+)\)", page_text)
    assert used
    assert set(used) <= ids
    # Clip paths of the same figure of two sections have names of their own.
    assert {u.split("-")[0] for u in used} == {"s1", "s2"}


def test_figures_have_the_colours_of_the_page(page_text: str) -> None:
    fills = {v.lower() for _, n, v in Drawn(page_text).attributes if n in ("fill", "stroke")}
    assert "var(--s0)" in fills
    assert "currentcolor" in fills
    assert not {f for f in fills if f.startswith("#")}


@pytest.mark.long
def test_the_same_records_give_the_same_bytes(made: Path, page_text: str, tmp_path: Path) -> None:
    command = ["report", "length", "markdown", *data(made), "--figures", str(tmp_path / "figures")]
    assert run([*command, "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page_text
    names = sorted(p.name for p in (tmp_path / "figures").iterdir())
    figures = ["bon.best_of_n", "bon.strata"]
    figures += [f"preference.{n}" for n in FIGURES if n not in ("best_of_n", "styles")]
    figures += [
        f"{task}.{n}" for task in ("preference", "bon") for n in ("differences", "strata-differences")
    ]
    assert names == sorted(f"{f}.{kind}" for f in figures for kind in ("svg", "png"))
    first = {n: (tmp_path / "figures" / n).read_bytes() for n in names}
    assert run([*command]) == 0
    assert {n: (tmp_path / "figures" / n).read_bytes() for n in names} == first


def test_the_texts_of_the_worst_items_are_shown_and_the_worst_is_first(made: Path, page_text: str) -> None:
    """`length` picks the 23 x, which in items 0, 3, 6, ... has gold 0: the largest margin of any pair is 18."""
    first = page_text.index("margin −18</b>")
    assert page_text[first:].startswith("margin −18</b> <code>item 00</code>")
    shown = page_text[first : first + 3000]
    assert "prompt 0" in shown
    assert "<b>chosen</b> reward 6, gold 1 <small>response 4 of 4, 6 characters" in shown
    assert "x" * 23 in shown
    assert "gold lost 1.000</b> <code>item 00</code>" in page_text


def test_without_the_data_the_page_says_so(
    made: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = ["--results", str(made / "results"), "--task", "preference"]
    assert run(["report", "length", *where, "--out", str(tmp_path / "a.html")]) == 0
    # The embedded data of `preference` is another: no text of it belongs to these items.
    assert "8 of 8 items are not in the data at hand" in capsys.readouterr().err
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "8 of 8 items are not in the data at hand, or not with the same responses" in text
    assert "margin −18</b> <code>item 00</code>" in text
    assert 'class="text"' not in text


def test_data_of_other_responses_shows_none(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    changed = rows()
    changed[0]["responses"][0] += "!"
    other.write_text("".join(json.dumps(row) + "\n" for row in changed))
    where = ["--results", str(made / "results"), "--task", "preference", "--data", str(other)]
    assert run(["report", "length", *where, "--out", str(tmp_path / "a.html")]) == 0
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "1 of 8 items are not in the data at hand" in text
    assert "prompt 3" in text
    assert "prompt 0" not in text


def test_hostile_texts_add_no_tag_no_attribute_and_no_hidden_character(tmp_path: Path) -> None:
    plain, hostile = tmp_path / "plain", tmp_path / "hostile"
    pages = {}
    for folder, texts in ((plain, ()), (hostile, HOSTILE)):
        folder.mkdir()
        results = evaluate(folder, "length", "markdown", texts=texts)
        if texts:
            spoil(results)
        out = folder / "page.html"
        assert run(["report", str(results), *data(folder)[2:], "--out", str(out)]) == 0
        pages[folder] = Drawn(out.read_text(encoding="utf-8"))
    text = (hostile / "page.html").read_text(encoding="utf-8")
    safe, page = pages[plain], pages[hostile]
    for tag in ("script", "style", "img", "h1", "meta", "title", "iframe", "a"):
        assert page.tags[tag] == safe.tags[tag], tag
    assert {n for _, n, _ in page.attributes} <= {n for _, n, _ in safe.attributes} | {"stroke-opacity"}
    assert not [n for _, n, _ in page.attributes if n.startswith("on") or n == "style"]
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00\x1b\ufffe]", text)
    assert "{{ 7 * 7 }}" in text
    shown = "".join(part for parts in page.text.values() for part in parts)
    for name in HOSTILE[:7]:
        assert one_line(name)[:40] in shown, name
    assert len(text) < 3_000_000
    assert max(map(len, page.text["summary"])) <= 250


def test_a_hostile_identity_is_only_text_and_names_no_file(tmp_path: Path) -> None:
    results = evaluate(tmp_path, "length")
    spoil_identity(results)
    out = tmp_path / "out"
    command = ["report", str(results), "--out", str(out / "a.html"), "--figures", str(out / "figures")]
    assert run([*command, "--items", "2"]) == 0
    page = Drawn((out / "a.html").read_text(encoding="utf-8"))
    assert (page.tags["script"], page.tags["style"], page.tags["img"], page.tags["h1"]) == (1, 1, 0, 1)
    assert not [n for _, n, _ in page.attributes if n.startswith("on") or n == "style"]
    assert {HOSTILE[0], one_line(HOSTILE[1])} == set(page.text["h2"])
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", p.name) for p in out.rglob("*"))


def test_what_was_cut_left_out_or_trained_on_stands_beside_the_numbers(tmp_path: Path) -> None:
    results = evaluate(tmp_path, "length")
    for path in results.rglob("*.json"):
        record = json.loads(path.read_text())
        record["counts"] |= {
            "truncated": 1234, "invalid": 5, "ties": 6, "unanswered": {"busy": 7, "refused": 0},
            "trained_on": {"exact": 8, "ngram": 0}, "dropped": {"no prompt": 9},
                "preference": {"prompts_near_equal_chosen_longer": 1, "prompts_near_equal_chosen_shorter": 20},
        }  # fmt: skip
        path.write_text(json.dumps(sealed(record)))
    assert run(["report", str(results), "-t", "preference", "--out", str(tmp_path / "a.html")]) == 0
    page = Drawn((tmp_path / "a.html").read_text(encoding="utf-8"))
    expected = (
        "length: 1,234 truncated, 5 invalid, 7 without an answer (busy), 6 tied pairs,"
        " few prompts near equal length (1 with chosen longer, 20 with chosen shorter), so length control is uncertain,"
        " 8 prompts trained on (exact), left out of the data: 9 for no prompt"
    )
    assert expected in page.text["li"]
    assert {"texts cut to fit the model", "left out of the data: no prompt"} <= set(page.text["th"])


def test_a_name_of_10_000_characters_is_cut(tmp_path: Path) -> None:
    results = evaluate(tmp_path, "length")
    for path in results.rglob("*.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(sealed({**record, "model": "long" * 2500})))
    assert run(["report", str(results), "--out", str(tmp_path / "a.html"), "--items", "3"]) == 0
    page = Drawn((tmp_path / "a.html").read_text(encoding="utf-8"))
    for tag in ("h1", "title", "th", "h4", "summary", "text"):
        assert max(map(len, page.text.get(tag, [""]))) <= 210, tag


def test_tasks_whose_numbers_are_the_same_are_one_section() -> None:
    runs = runs_of(["builtin:linear", "length"], RESULTS)
    found = sections_of(runs)
    expected = [("judgebench",), ("preference", "calibration"), ("rewardbench-math",), ("bon",)]
    assert sorted(s.tasks for s in found) == sorted(expected)
    both = [s for s in found if s.tasks != ("rewardbench-math",)]  # a board of published models and shortcuts
    assert [[x.label for x in s.sources] for s in both] == [["builtin:linear", "length"]] * 3
    ordered = runs_of(["length"], RESULTS, ["bon", "preference"])
    assert [r.record.task for r in ordered] == ["bon", "preference"]


def test_records_of_other_items_do_not_stand_side_by_side(tmp_path: Path) -> None:
    evaluate(tmp_path, "length")
    where = ["--results", str(tmp_path / "results"), "--store", str(tmp_path / "store"), "-q", "--limit", "5"]
    assert run(["eval", "-m", "length", "-t", "bon", "--data", str(tmp_path / "items.jsonl"), *where]) == 0
    found = sections_of(runs_of(["length"], tmp_path / "results", ["bon"]))
    assert [len(s.sources) for s in found] == [1, 1]
    report = make_report(found, n_items=2, data={}, command=["rmbench", "report"])
    assert "a sample of 22" in report.html


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (lambda f: ["none.json", "--out", "a.html"], "there is no file or folder none.json"),
        (lambda f: [str(f / "bad.json"), "--out", "a.html"], "not a run record"),
        (lambda f: [str(f / "empty"), "--out", "a.html"], "no record in"),
        (lambda f: ["lenght", *data(f)[:2], "--out", "a.html"], "Did you mean 'length'?"),
        (lambda f: ["length", *data(f)[:2], "-t", "bonn", "--out", "a.html"], "Did you mean 'bon'?"),
        (lambda f: ["length", "--results", "nowhere", "--out", "a.html"], "there is no file or folder nowhere"),
        (lambda f: ["length", *data(f)[:2]], "give --out FILE for the page"),
        (lambda f: ["length", *data(f)[:2], "--out", str(f)], "is a folder"),
        (lambda f: ["length", *data(f)[:2], "--data", "x.jsonl", "--out", "a.html"], "give TASK=PATH"),
        (lambda f: ["length", *data(f), "--data", "bon=x", "--out", "a.html"], "twice for bon"),
        (lambda f: ["length", *data(f), "--data", "judgebench=x", "--out", "a.html"], "unknown task 'judgebench'"),
        (lambda f: ["length", *data(f)[:2], "--data", "bon=none", "--out", "a.html"], "no such file"),
        (lambda f: ["length", *data(f)[:2], "--items", "-1", "--out", "a.html"], "--items"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_and_exit_code_2(
    made: Path,
    arguments: Callable[[Path], list[str]],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (made / "bad.json").write_text("{}")
    (made / "empty").mkdir(exist_ok=True)
    assert run(["report", *arguments(made)]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_one_line_and_no_page(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = tmp_path / "a.html"
    assert run(["report", "length", "--results", str(made / "results"), "--out", str(out)]) == 2
    assert capsys.readouterr().err == "error: figures need matplotlib: pip install 'rmbench[plot]'\n"
    assert not out.exists()


def test_json_says_what_was_written(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.html"
    where = ["--results", str(made / "results"), "-t", "bon", "--items", "0", "--json"]
    assert run(["report", "length", *where, "--out", str(out)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == [str(out)]
    (section,) = said["sections"]
    assert section["figures"] == ["best_of_n", "strata"]
    assert section["missing"]["reliability"] == "the task bon measures no calibration"
    assert section["items"] == [0]
    assert "Worst items" not in out.read_text(encoding="utf-8")


def source_of(
    kind: str,
    rewards: list[list[float]],
    gold: list[list[float]],
    lengths: Sequence[int] | None = None,
    **params: Any,
) -> Source:
    """Return a source with this panel and a record of the project's around it."""
    task = "bon" if kind == "best_of_n" else "judgebench"
    stored = next(r for r in runs_of(["length"], RESULTS) if r.record.task == task)
    identity = stored.record.identity
    with_params = {
        **identity,
        "task": {**identity["task"], "params": {**identity["task"]["params"], **params}},
    }
    source = Source(replace(stored.record, identity=with_params), stored.path, label="")
    source.__dict__["panel"] = build_panel(
        PanelRow(
            id=f"i{k}",
            rewards=r,
            gold=g,
            lengths=lengths or [3] * len(r),
            cluster=str(k),
            strata={},
            gold_kind="graded",
        )
        for k, (r, g) in enumerate(zip(rewards, gold, strict=True))
    )
    return source


def test_the_worst_pairs_worked_out_by_hand() -> None:
    nan = float("nan")
    rewards = [[0.0, 1.0], [5.0, 1.0], [0.0, 3.0, 9.0], [2.0, 2.0], [nan, 4.0]]
    gold = [[1.0, 0.0], [1.0, 0.0], [2.0, 1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]
    found = worst_items(source_of("preference", rewards, gold), 9)
    assert [(w.item, w.margin) for w in found] == [("i2", -9.0), ("i0", -1.0)]
    assert [(s.what, s.place, s.reward, s.gold) for s in found[0].responses] == [
        ("chosen", 0, 0.0, 2.0),
        ("rejected", 2, 9.0, 0.0),
    ]
    assert len(worst_items(source_of("preference", rewards, gold), 1)) == 1


def test_the_worst_picks_worked_out_by_hand() -> None:
    """Of two equal rewards either is picked: item 2 loses half of 4."""
    rewards = [[0.0, 1.0], [5.0, 1.0], [7.0, 7.0], [0.0, 2.0], [1.0, 0.0]]
    gold = [[3.0, 0.0], [1.0, 0.0], [4.0, 0.0], [3.0, 0.0], [np.nan, 1.0]]
    found = worst_items(source_of("best_of_n", rewards, gold), 9)
    assert [(w.item, w.loss, w.margin) for w in found] == [
        ("i3", 3.0, -2.0),
        ("i0", 3.0, -1.0),
        ("i2", 2.0, 0.0),
    ]
    for worst in (found[0], found[2]):  # of equal rewards the pick that loses is shown
        assert [(s.what, s.place) for s in worst.responses] == [("best", 0), ("picked", 1)]


def test_another_models_margin_is_by_the_rule_too() -> None:
    rewards, gold = [[1.0, 0.0]], [[2.0, 0.0]]
    plain = source_of("best_of_n", [[0.0, 1.0]], gold)
    (worst,) = worst_items(plain, 1)
    assert margin_of(source_of("best_of_n", rewards, gold), worst) == 1.0
    assert margin_of(plain, worst) == worst.margin
    # 3 characters against 1 at half a point each: the longer one is picked no more.
    ruled = source_of(
        "best_of_n", [[5.0, 4.5]], [[0.0, 2.0]], lengths=[3, 1], select="length-penalty", penalty=0.5
    )
    assert worst_items(ruled, 1) == []
    lost = source_of(
        "best_of_n", [[5.0, 4.5]], [[2.0, 0.0]], lengths=[3, 1], select="length-penalty", penalty=0.5
    )
    (found,) = worst_items(lost, 1)
    assert found.margin == margin_of(lost, found) == -0.5


def test_a_report_on_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="no record to report on"):
        make_report([], n_items=1, data={}, command=[])


def test_text_blocks_keep_lines_and_say_what_is_cut() -> None:
    assert str(text_block("a<b\r\n\tc\u202e", 99)) == "a&lt;b\n c\\u202e"
    assert str(text_block("x" * 1500, 1000)) == "x" * 1000 + "\n… 500 more characters"


def test_an_svg_loses_its_style_and_keeps_its_shapes() -> None:
    svg = (
        b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9pt"'
        b' viewBox="0 0 9 9"><metadata>x</metadata><defs><style type="text/css">*{}</style></defs>'
        b'<g id="figure_1"><path id="m1" d="M 1.23456 2" style="fill: #0072b2; stroke: #ffffff"/>'
        b'<use xlink:href="#m1" style="stroke: #1c2126"/>'
        b"<text style=\"font: 7px 'DejaVu Sans'; text-anchor: middle\">a &lt; b</text></g></svg>"
    )
    assert str(inline_svg(svg, "k", 'T"')) == (
        '<svg class="drawn" viewBox="0 0 9 9" role="img" aria-label="T&quot;" stroke-linejoin="round">'
        '<defs /><g><path id="k-m1" d="M 1.23 2" fill="var(--s0)" stroke="none" />'
        '<use href="#k-m1" stroke="currentColor" />'
        '<text font-size="7px" text-anchor="middle">a &lt; b</text></g></svg>'
    )


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "--help"]) == 0
    text = capsys.readouterr().out
    for word in ("rmbench report builtin:linear --out linear.html", "--data", "--figures", "no model"):
        assert word.lower() in text.lower()
