"""Graded strength: readers on rows in the published schemas, and the numbers of shortcut models worked out by hand.

The three fixtures hold the same five pairs and one tie. Characters of the better reply minus those of the worse,
and strength: (4, 2), (2, 1), (-3, 3), (6, 3), (-1, 1).
"""

import gzip
import json
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.benchmarks.sets.ratings import turns_of
from rmbench.cli.main import run
from rmbench.errors import DataError
from rmbench.tasks import read_task_items
from rmbench.tasks.items import ItemSet
from rmbench.tasks.rows import Row
from rmbench.tasks.spec import apply_params, load_task

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
FILES = {
    "helpsteer2-preference": FIXTURES / "helpsteer2-preference" / "preference.jsonl",
    "helpsteer3": FIXTURES / "helpsteer3" / "validation.jsonl",
    "ultrafeedback": FIXTURES / "ultrafeedback" / "test_prefs.jsonl",
}


def read(task: str, path: Path, *, on_bad: str = "fail", **options: str) -> ItemSet:
    return read_task_items(apply_params(load_task(task), options), path, on_bad=on_bad, offline=True)


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def rows_of(task: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILES[task].read_text(encoding="utf-8").splitlines()]


def evaluate(
    task: str, model: str, folder: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> dict[str, Any]:
    where = ["--data", str(FILES[task]), "--results", str(folder)]
    assert run(["eval", "-m", model, "-t", task, *where, "--json", "-q", *options]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    return dict(record)


def gold(found: ItemSet) -> list[list[float | None]]:
    return [[r.gold for r in item.responses] for item in found.items]


@pytest.mark.parametrize("task", FILES)
def test_the_numbers_of_length(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = evaluate(task, "length", tmp_path, capsys)
    value = {name: metric["value"] for name, metric in record["metrics"].items()}
    # Three of five are longer where they are better; the tie is no pair and is counted.
    assert value["accuracy"] == 3 / 5
    assert record["counts"]["preference"]["gold_ties"] == 1
    assert record["counts"]["preference"]["pairs"] == 5
    assert value["margin_mean"] == pytest.approx((4 + 2 - 3 + 6 - 1) / 5)
    # Ten comparisons of two pairs: five agree, three do not, two have one strength: 2 / sqrt(10 * 8).
    assert value["kendall_tau"] == pytest.approx(2 / sqrt(80))
    # Ranks 4 3 1 5 2 against 3 1.5 4.5 4.5 1.5: sums of products 1.5, 10 and 9 about the mean.
    assert value["spearman"] == pytest.approx(1.5 / sqrt(90))
    shortest = evaluate(task, "shortest", tmp_path, capsys)["metrics"]
    assert shortest["accuracy"]["value"] == 2 / 5
    assert shortest["kendall_tau"]["value"] == pytest.approx(-2 / sqrt(80))


def test_helpsteer2_strength_is_on_the_side_of_the_better_response() -> None:
    found = read("helpsteer2-preference", FILES["helpsteer2-preference"])
    assert gold(found) == [[0, 2], [1, 0], [3, 0], [0, 3], [1, 0], [0, 0]]
    assert {item.gold_kind for item in found.items} == {"graded"}
    assert found.dropped == {"rows of the other split": 1}


def test_helpsteer2_turns_are_told_apart_by_their_marks() -> None:
    item = read("helpsteer2-preference", FILES["helpsteer2-preference"]).items[1]
    assert [dict(turn) for turn in item.prompt] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello. How can I help?\nTell me."},
        {"role": "user", "content": "What melts?"},
    ]
    assert item.strata == {"turns": "2"}


def test_helpsteer2_a_mark_inside_a_line_is_text_and_an_empty_turn_stays(tmp_path: Path) -> None:
    row = rows_of("helpsteer2-preference")[0]
    text = "What is <extra_id_1>User for?\n<extra_id_1>Assistant\n\n<extra_id_1>User\nWell?"
    item = read("helpsteer2-preference", lines(tmp_path / "rows.jsonl", {**row, "prompt": text})).items[0]
    assert [turn["content"] for turn in item.prompt] == ["What is <extra_id_1>User for?", "", "Well?"]


@given(
    st.lists(st.text("ab \n<>:"), min_size=1, max_size=7).filter(lambda t: len(t) % 2 == 1 and t[0].strip())
)
def test_helpsteer2_turns_come_back_out_of_the_text_that_they_make(contents: list[str]) -> None:
    text = contents[0]
    for k, content in enumerate(contents[1:]):
        text += f"\n<extra_id_1>{'User' if k % 2 else 'Assistant'}\n{content}"
    found = turns_of(Row({"prompt": text}, Path("rows.jsonl"), 1))
    assert [turn["content"] for turn in found] == contents
    assert [turn["role"] for turn in found] == ["user", "assistant"] * (len(contents) // 2) + ["user"]


def test_helpsteer2_the_splits_are_in_one_file() -> None:
    path = FILES["helpsteer2-preference"]
    train = read("helpsteer2-preference", path, split="train")
    assert (gold(train), train.dropped) == ([[2, 0]], {"rows of the other split": 6})
    both = read("helpsteer2-preference", path, split="all")
    assert (len(both.items), both.dropped) == (7, {})


def test_helpsteer2_votes_are_shares_and_neither_is_no_vote() -> None:
    found = read("helpsteer2-preference", FILES["helpsteer2-preference"], gold="votes")
    assert gold(found) == [
        [0.0, 1.0],
        [0.5, 0.5],
        [1.0, 0.0],
        [pytest.approx(1 / 3), pytest.approx(2 / 3)],
        [0.5, 0.5],
    ]
    assert {item.gold_kind for item in found.items} == {"probability"}
    assert found.dropped == {
        "no annotator prefers a response or takes both for equal": 1,
        "rows of the other split": 1,
        "votes for neither response": 3,
    }


def test_helpsteer3_votes_are_shares() -> None:
    found = read("helpsteer3", FILES["helpsteer3"], gold="votes")
    thirds = [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert gold(found) == [[1, 0], [0.5, 0.5], [0, 1], thirds, [0, 1], [0.5, 0.5]]


def test_soft_labels_and_a_constant_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = evaluate("helpsteer3", "constant", tmp_path, capsys, "-T", "gold=votes")
    # Everything is claimed with 1/2: (1/2)^2 for three unanimous pairs, (1/6)^2 for two of three, 0 for two splits.
    assert record["metrics"]["brier"]["value"] == pytest.approx((3 / 4 + 1 / 36) / 6)
    assert record["counts"]["calibration"]["split_labels"] == 2
    assert record["metrics"]["accuracy"]["value"] == 0.5
    assert record["undefined"]["kendall_tau"] == "every pair has the same margin"


def test_helpsteer3_has_domains_languages_and_turns() -> None:
    items = read("helpsteer3", FILES["helpsteer3"]).items
    assert gold(read("helpsteer3", FILES["helpsteer3"])) == [[2, 0], [0, 1], [0, 3], [3, 0], [0, 1], [0, 0]]
    assert items[4].strata == {"domain": "code", "language": "python"}
    assert [turn["role"] for turn in items[1].prompt] == ["user", "assistant", "user"]


def test_ultrafeedback_gold_is_the_rating() -> None:
    found = read("ultrafeedback", FILES["ultrafeedback"])
    assert gold(found) == [[8, 6], [7.5, 6.5], [9, 6], [5, 2], [4, 3], [7, 7]]
    assert [dict(turn) for turn in found.items[0].prompt] == [{"role": "user", "content": "Name a prime."}]


def test_folders_as_they_are_on_the_hub_are_the_same(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for task, name in (("helpsteer2-preference", "preference"), ("helpsteer3", "validation")):
        path = tmp_path / task / "preference" / f"{name}.jsonl.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress(FILES[task].read_bytes()))
        assert read(task, tmp_path / task).data_hash == read(task, FILES[task]).data_hash
        assert read(task, path.parent).data_hash == read(task, FILES[task]).data_hash
    (tmp_path / "ultrafeedback" / "data").mkdir(parents=True)
    for name in ("test_prefs", "train_prefs"):
        path = tmp_path / "ultrafeedback" / "data" / f"{name}-00000-of-00001.parquet"
        pq.write_table(pa.Table.from_pylist(rows_of("ultrafeedback")), path)
    found = read("ultrafeedback", tmp_path / "ultrafeedback")
    assert gold(found) == gold(read("ultrafeedback", FILES["ultrafeedback"]))


@pytest.mark.parametrize("task", ["helpsteer3", "ultrafeedback"])
def test_training_splits_are_named_beside_the_pinned_revision(task: str) -> None:
    data = load_task(task).data
    assert data.hub
    assert data.train is not None
    assert "train" in data.train


MESSAGES = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": ""}]

BAD = [
    ("helpsteer2-preference", {"preference_strength": 4}, "key 'preference_strength': 4; expected a whole number from -3 to 3"),
    ("helpsteer2-preference", {"preference_strength": 1.0}, "key 'preference_strength': 1.0; expected a whole number"),
    ("helpsteer2-preference", {"preference_strength": True}, "key 'preference_strength': True"),
    ("helpsteer2-preference", {"preference_strength": None}, "key 'preference_strength': None"),
    ("helpsteer2-preference", {"split": "test"}, "key 'split': 'test'; expected one of train, val"),
    ("helpsteer2-preference", {"prompt": "a\n<extra_id_1>Robot\nb"}, "key 'prompt': a turn of 'Robot'"),
    ("helpsteer2-preference", {"prompt": "a\n<extra_id_1>Assistant\nb"}, "key 'prompt': ends with an assistant turn"),
    ("helpsteer3", {"overall_preference": -100}, "key 'overall_preference': -100; expected a whole number"),
    ("helpsteer3", {"context": []}, "key 'context': a list; expected text or a list of messages"),
    ("helpsteer3", {"domain": None}, "key 'domain': null; expected text"),
    ("ultrafeedback", {"score_chosen": 11.0}, "key 'score_chosen': 11; expected a number from 0 to 10"),
    ("ultrafeedback", {"score_rejected": "6"}, "key 'score_rejected': text '6'; expected a number"),
    ("ultrafeedback", {"chosen": MESSAGES}, "key 'rejected': the conversation before the reply differs"),
    ("ultrafeedback", {"rejected": MESSAGES[:1]}, "key 'rejected': expected a prompt and a final assistant turn"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "change", "said"), BAD)
def test_a_row_that_does_not_fit_is_named_or_counted(
    tmp_path: Path, task: str, change: dict[str, Any], said: str
) -> None:
    rows = rows_of(task)
    path = lines(tmp_path / "rows.jsonl", rows[1], {**rows[0], **change})
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2, {said}"):
        read(task, path)
    found = read(task, path, on_bad="skip")
    assert (len(found.items), sum(found.dropped.values())) == (1, 1)


@pytest.mark.parametrize(
    ("task", "key"),
    [("helpsteer2-preference", "preference_strength"), ("helpsteer3", "response2"), ("ultrafeedback", "score_chosen")],
)  # fmt: skip
def test_a_missing_key_is_named(tmp_path: Path, task: str, key: str) -> None:
    row = rows_of(task)[0]
    value = row.pop(key)
    with pytest.raises(DataError, match=rf"line 1, key '{key}': the key is missing.*did you mean '{key}s'"):
        read(task, lines(tmp_path / "rows.jsonl", {**row, f"{key}s": value}))
    found = read(task, lines(tmp_path / "rows.jsonl", row, rows_of(task)[1]), on_bad="skip")
    assert found.dropped == {"missing key": 1}


@pytest.mark.parametrize(
    ("votes", "said"),
    [
        ("[1, 2]", r"key 'all_preferences_unprocessed': expected a list of objects"),
        ([1, 2], r"key 'all_preferences_unprocessed\[0\]': expected an object with 'strength'"),
        ([{"strength": 5}], r"key 'all_preferences_unprocessed\[0\]\.strength': 5; expected a whole number"),
    ],
)
def test_votes_that_do_not_fit_are_named(tmp_path: Path, votes: Any, said: str) -> None:
    row = {**rows_of("helpsteer2-preference")[0], "all_preferences_unprocessed": votes}
    path = lines(tmp_path / "rows.jsonl", row)
    with pytest.raises(DataError, match=said):
        read("helpsteer2-preference", path, gold="votes")
    assert len(read("helpsteer2-preference", path).items) == 1, "strength does not look at votes"
