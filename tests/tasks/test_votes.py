"""Votes of annotators from the data to the record: read, checked, hashed, stored, measured again."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run
from rmbench.errors import DataError
from rmbench.results.read import find_records
from rmbench.results.run import Run, stored_panel
from rmbench.tasks import read_task_items
from rmbench.tasks.items import ItemSet
from rmbench.tasks.spec import apply_params, load_task

ROWS = [
    {"id": "a", "prompt": "p", "responses": ["yes", "no!!"], "gold": [1, 0], "votes": [3, 0]},
    {"id": "b", "prompt": "q", "responses": ["yes", "no!!"], "gold": [0, 1], "votes": [1, 2, 0]},
    {"id": "c", "prompt": "r", "responses": ["yes", "no!!"], "gold": [1, 0], "votes": [2, 0, 1]},
    {"id": "d", "prompt": "s", "responses": ["yes", "no!!"], "gold": [1, 0]},
    {"id": "e", "prompt": "t", "responses": ["yes", "no!!"], "gold": [1, 0], "votes": [0, 0, 0]},
]


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def read(task: str, path: Path, **options: str) -> ItemSet:
    return read_task_items(apply_params(load_task(task), options), path, offline=True)


def evaluated(data: Path, results: Path, *options: str) -> Run:
    where = ["--data", str(data), "--results", str(results)]
    assert run(["eval", "-m", "length", "-t", "preference", *where, "-q", *options]) == 0
    (found,) = find_records(results)
    return found


def test_votes_are_read_from_items_and_pairs(tmp_path: Path) -> None:
    items = read("preference", lines(tmp_path / "items.jsonl", *ROWS)).items
    assert [i.votes for i in items] == [(3, 0, 0), (1, 2, 0), (2, 0, 1), None, None]
    pair = {"prompt": "p", "chosen": "yes", "rejected": "no", "votes": [2, 1]}
    task = lines(tmp_path / "mine.yaml")
    task.write_text(
        "name: mine\nversion: 1\nkinds: [preference]\nsummary: My pairs.\nsource: mine\nlicense: MIT\n"
        "data: {reader: pairs, path: pairs.jsonl}\nprimary: accuracy\n"
    )
    (item,) = read(str(task), lines(tmp_path / "pairs.jsonl", pair)).items
    assert item.votes == (2, 1, 0)


@pytest.mark.parametrize(
    ("votes", "said"),
    [
        ([1], "such as \\[2, 1\\]"),
        ([1, 2, 0, 0], "such as \\[2, 1\\]"),
        ({"a": 1}, "such as \\[2, 1\\]"),
        ([1, -1], "votes\\[1\\].*whole number"),
        ([True, 1], "votes\\[0\\].*whole number"),
        ([1.5, 1], "votes\\[0\\].*whole number"),
    ],
)
def test_votes_that_do_not_fit_are_named(tmp_path: Path, votes: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read("preference", lines(tmp_path / "bad.jsonl", {**ROWS[0], "votes": votes}))


def test_votes_are_about_two_responses(tmp_path: Path) -> None:
    row = {**ROWS[0], "responses": ["a", "b", "c"], "gold": [1, 0, 0]}
    with pytest.raises(DataError, match="given with 3 responses; votes are about two"):
        read("preference", lines(tmp_path / "bad.jsonl", row))


def test_votes_change_the_run_and_not_the_data(tmp_path: Path) -> None:
    with_votes = read("preference", lines(tmp_path / "a.jsonl", *ROWS))
    other = read(
        "preference", lines(tmp_path / "b.jsonl", *ROWS[:1], {**ROWS[1], "votes": [0, 3]}, *ROWS[2:])
    )
    none = read("preference", lines(tmp_path / "c.jsonl", *({**r, "votes": None} for r in ROWS)))
    assert with_votes.data_hash == other.data_hash == none.data_hash
    assert none.votes_hash is None
    assert len({with_votes.votes_hash, other.votes_hash, None}) == 3
    runs = [evaluated(tmp_path / f"{x}.jsonl", tmp_path / x).record for x in "abc"]
    assert len({r.run_id for r in runs}) == 3
    assert "votes" not in runs[2].identity
    assert "annotator_agreement" not in {**runs[2].metrics, **runs[2].undefined}


def test_what_votes_say_is_measured_again_from_the_stored_rewards(tmp_path: Path) -> None:
    found = evaluated(lines(tmp_path / "items.jsonl", *ROWS), tmp_path / "out")
    metrics = found.record.metrics
    # Agreement 1, 1/3 and 1/3; of 3 : 0, 1 : 2 and 2 : 0, s is (1 - 1/3 + 1) / 3 and low (1 + s) / 2.
    assert metrics["annotator_agreement"].value == pytest.approx(5 / 9)
    assert metrics["ceiling_low"].value == pytest.approx(7 / 9)
    assert metrics["accuracy_of_ceiling"].n == 3
    again = found.measure(strata=True)
    assert {n: s.estimate().value for n, s in again.metrics.items()} == pytest.approx(
        {n: e.value for n, e in metrics.items()}
    )
    rows = found.rows()
    assert [row.get("votes") for row in rows] == [[3, 0, 0], [1, 2, 0], [2, 0, 1], None, None]
    older = stored_panel([{k: v for k, v in row.items() if k != "votes"} for row in rows])
    assert older.votes is None


def test_gold_that_votes_did_not_make_has_no_ceiling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = lines(tmp_path / "items.jsonl", {**ROWS[0], "votes": [1, 2]}, *ROWS[1:])
    found = evaluated(data, tmp_path / "out").record
    why = "gold is not the majority of the votes in 1 of 3 pairs"
    assert {found.undefined[n] for n in ("ceiling", "accuracy_of_ceiling")} == {why}
    assert "annotator_alpha" in found.metrics
    assert why in capsys.readouterr().out


def test_comparisons_leave_the_ceiling_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, results = lines(tmp_path / "items.jsonl", *ROWS), tmp_path / "out"
    where = ["--data", str(data), "--results", str(results)]
    assert run(["eval", "-m", "length", "-m", "shortest", "-t", "preference", *where, "-q"]) == 0
    assert "accuracy_of_ceiling" in capsys.readouterr().out
    assert run(["compare", "length", "shortest", "-t", "preference", "--results", str(results)]) == 0
    shown = capsys.readouterr().out
    assert "accuracy" in shown
    assert "ceiling" not in shown


def test_public_sets_bring_their_votes(tmp_path: Path) -> None:
    row = {
        "idx": 1, "instruction": "Do", "input": "", "response1": "a", "response2": "b", "motivation_app": "x",
        "annotator1": 1, "annotator2": 0, "annotator3": 2,
    }  # fmt: skip
    (tmp_path / "testset-v1.json").write_text(json.dumps([row, {**row, "idx": 2, "annotator3": 1}]))
    assert [i.votes for i in read("pandalm", tmp_path).items] == [(1, 1, 1), (2, 0, 1)]
    fixtures = Path(__file__).resolve().parent.parent / "fixtures"
    graded = fixtures / "helpsteer3" / "validation.jsonl"
    assert all(i.votes is None for i in read("helpsteer3", graded).items)
    for item in read("helpsteer3", graded, gold="votes").items:
        assert item.votes is not None
        first, second, equal = item.votes
        assert item.responses[0].gold == pytest.approx((first + equal / 2) / (first + second + equal))


def test_the_data_of_pandalm_has_the_numbers_that_its_documentation_shows(
    shared_data: Path, tmp_path: Path
) -> None:
    where = ["--data", str(shared_data / "pandalm"), "--results", str(tmp_path)]
    assert run(["eval", "-m", "length", "-t", "pandalm", *where, "-q"]) == 0
    (found,) = find_records(tmp_path)
    metrics = found.record.metrics
    votes = [row["votes"] for row in found.rows()]
    two = [sum(c * (c - 1) for c in v) / 6 for v in votes]
    assert metrics["annotator_agreement"].value == pytest.approx(sum(two) / len(two))
    decided = [v for v in votes if v[0] != v[1]]
    several = [(2 * v[0] - (k := v[0] + v[1])) ** 2 - k for v in decided if v[0] + v[1] > 1]
    sizes = [k * (k - 1) for v in decided if (k := v[0] + v[1]) > 1]
    s = sum(a / b for a, b in zip(several, sizes, strict=True)) / len(sizes)
    assert metrics["ceiling_low"].value == pytest.approx((1 + s) / 2)
    low, high = metrics["ceiling"].ci95 or (0, 0)
    assert (
        low < metrics["ceiling_low"].value < metrics["ceiling"].value < metrics["ceiling_high"].value < high
    )
    with gzip.open(found.rewards_path) as rewards:
        assert b"votes" in rewards.read()
