"""`rmbench compare --html`: the page holds the report, only text of others, and asks for nothing."""

import base64
import hashlib
import json
import re
from itertools import combinations
from pathlib import Path

import pytest
from parsed_page import Drawn
from synthetic_boards import HOSTILE

from rmbench.cli.main import run
from rmbench.core.digits import digits_of, significant

Capture = pytest.CaptureFixture[str]
N = 30


def evaluate(folder: Path, names: tuple[str, ...], texts: tuple[str, ...]) -> list[str]:
    """Evaluate models of these names on items with these texts; return the arguments that name results."""
    rows = [
        {
            "id": f"i{k}",
            "prompt": f"question {k} {texts[k % len(texts)]}",
            "responses": [f"{texts[(k + j) % len(texts)]}\nline {j}" for j in range(3)],
            "gold": [k % 3, (k + 1) % 3, (k + 2) % 3],
            "gold_kind": "graded",
        }
        for k in range(N)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = ["--results", str(folder / "results"), "-t", "preference"]
    for n, name in enumerate(names):
        scores = folder / f"{n}.jsonl"
        lines = [
            {"id": f"i{k}", "rewards": [(k + j) % 3 * (n + k % 4 > 2) + j / 9 for j in range(3)]}
            for k in range(N)
        ]
        scores.write_text("".join(json.dumps(line) + "\n" for line in lines))
        arguments = ["-m", f"scores:{scores}", "-M", f"name={name}", "--store", str(folder / "store"), "-q"]
        assert run(["eval", *arguments, *base, "--data", str(folder / "items.jsonl")]) == 0
    return base


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("hostile")
    return folder, evaluate(folder, HOSTILE[:4], HOSTILE)


def page_of(folder: Path, names: tuple[str, ...], base: list[str], *more: str) -> str:
    path = folder / "page.html"
    path.unlink(missing_ok=True)
    assert run(["compare", *names, *base, "--html", str(path), *more]) == 0
    return path.read_text(encoding="utf-8")


def test_hostile_names_and_texts_add_no_tag_and_no_script(
    hostile: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, base = hostile
    more = ["--metric", "accuracy", "--data"]
    text = page_of(folder, HOSTILE[:4], base, *more, str(folder / "items.jsonl"))
    plain_base = evaluate(tmp_path, ("a", "b", "c", "d"), ("plain",))
    plain = Drawn(page_of(tmp_path, ("a", "b", "c", "d"), plain_base, *more, str(tmp_path / "items.jsonl")))
    page = Drawn(text)
    for tag in ("script", "style", "img", "h1", "h2", "h3", "meta", "title", "iframe", "a", "details"):
        assert page.tags[tag] == plain.tags[tag], tag
    assert page.tags["script"] == 1
    assert not [n for _, n, _ in page.attributes if n.startswith("on") or n == "style"]
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00\x1b\ud800]", text)
    assert page.values("src") == []
    assert {v[0] for v in page.values("href")} == {"#"}
    (script,), (style,) = page.text["script"], page.text["style"]
    policy = dict(
        rule.split(" ", 1) for v in page.values("content") if "default-src" in v for rule in v.split("; ")
    )
    assert policy["default-src"] == "'none'"
    for kind, content in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert "url(" not in style
    assert len(text) < 1_500_000, "texts are cut"


def test_the_matrices_have_every_difference_in_its_colour(
    hostile: tuple[Path, list[str]], capsys: Capture
) -> None:
    folder, base = hostile
    names = HOSTILE[:3]
    capsys.readouterr()
    text = page_of(folder, names, base, "--json", "--metric", "accuracy", "--metric", "nll")
    report = json.loads(capsys.readouterr().out)
    for metric, good in (("accuracy", 1), ("nll", -1)):
        part = text.split(f"<h4>{metric} <small>")[1].split("</table>")[0]
        rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", part)
        cells = [re.findall(r"<td(?: class=\"([^\"]*)\")?[^>]*>([^<]*)</td>", row) for row in rows]
        assert [len(row) for row in cells] == [3, 3, 3]
        told = [pair["metrics"][metric]["difference"] for pair in report["pairs"]]
        digits = digits_of((d["value"] for d in told), (tuple(d["ci95"]) for d in told if d["ci95"]))
        for (i, j), pair in zip(combinations(range(3), 2), report["pairs"], strict=True):
            found = pair["metrics"][metric]
            value, apart = found["difference"]["value"], found["p_holm"] < 0.05
            for sign, (kind, shown) in ((1, cells[i][j]), (-1, cells[j][i])):
                assert shown == digits.write(sign * value, plus=True) + ("*" if apart else "")
                side = {1: "better", -1: "worse", 0: ""}[
                    (sign * good * value > 0) - (sign * good * value < 0)
                ]
                assert kind == " ".join(filter(None, (side, "apart" if apart else "")))
    assert (
        "the other metric: Holm&#39;s correction at 5% over 3 tests (3 pairs of 3 models on 2 metrics)"
        in text
    )
    told = [t for pair in report["pairs"] for t in pair["metrics"].values() if t["p_holm"] >= 0.05]
    assert text.count("not told apart; the data show differences from ") == 2 * len(told) > 0
    for test in told:
        assert f"the data show differences from {significant(test['shows_from'], 3)} on" in text


def test_texts_are_shown_where_they_are_the_records(
    hostile: tuple[Path, list[str]], tmp_path: Path, capsys: Capture
) -> None:
    folder, base = hostile
    names = HOSTILE[:2]
    with_texts = page_of(folder, names, base, "--data", str(folder / "items.jsonl"))
    assert "{{ 7 * 7 }}{% raw %}\nline" in with_texts
    without = page_of(folder, names, base)
    assert "line 1" not in without, "the embedded data has other items"
    assert "items are not in the data at hand" in without
    other = tmp_path / "items.jsonl"
    other.write_text((folder / "items.jsonl").read_text().replace("line", "another line"))
    assert "another line" not in page_of(folder, names, base, "--data", str(other))
    capsys.readouterr()
    command = ["compare", *names, *base, "--html", str(tmp_path / "x.html"), "--data", str(tmp_path / "none")]
    assert run(command) == 2
    assert not (tmp_path / "x.html").exists()


@pytest.mark.long
def test_the_same_report_has_the_same_bytes(hostile: tuple[Path, list[str]]) -> None:
    folder, base = hostile
    assert page_of(folder, HOSTILE[:3], base) == page_of(folder, HOSTILE[:3], base)


def test_of_a_large_pool_the_picks_and_the_ends_of_gold_are_shown(tmp_path: Path) -> None:
    rows = [
        {"id": f"i{k}", "prompt": "p", "responses": [f"text {j}" for j in range(12)],
         "gold": [0.5, 1.0, 0.0, *[0.5] * 9], "gold_kind": "graded"}
        for k in range(3)
    ]  # fmt: skip
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = ["--results", str(tmp_path / "results"), "-t", "bon"]
    for name, pick in (("a", 5), ("b", 2)):
        lines = [{"id": f"i{k}", "rewards": [float(j == pick) for j in range(12)]} for k in range(3)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        given = ["-m", f"scores:{tmp_path}/{name}.jsonl", "--data", str(tmp_path / "items.jsonl"), "-q"]
        assert run(["eval", *given, "--store", str(tmp_path / "store"), *base]) == 0
    text = page_of(tmp_path, ("a", "b"), base, "--items", "1", "--data", str(tmp_path / "items.jsonl"))
    # Best of gold, worst of gold (which b picks), and a's pick.
    text = text.split("Items where they disagree most")[1].split("Worst items</h3>")[0]
    assert re.findall(r">(text \d+)<", text) == ["text 1", "text 2", "text 5"]
    assert "response 6 of 12; gold 0.5; rewards: a 1; b 0" in text
