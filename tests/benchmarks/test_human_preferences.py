"""Public sets of human preferences, on rows written by hand in the published schemas."""

import json
from math import log
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run
from rmbench.errors import DataError
from rmbench.tasks import read_task_items
from rmbench.tasks.items import ItemSet
from rmbench.tasks.spec import apply_params, load_task

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
FILES = {
    "shp": "shp/askbaking/test.json",
    "summarize": "summarize/validation.jsonl",
    "webgpt": "webgpt/comparisons.jsonl",
    "pku-safe-rlhf": "pku-safe-rlhf/data/Alpaca-7B/test.jsonl",
    "ppe-preference": "ppe-preference/test.jsonl",
}
FOLDERS = ("shp", "pku-safe-rlhf")
"""Tasks whose files on the hub have the fixture's names; the others are one file in another container."""


def data_of(task: str) -> Path:
    return FIXTURES / task if task in FOLDERS else FIXTURES / FILES[task]


def read(task: str, path: Path, *, on_bad: str = "fail", **options: str) -> ItemSet:
    return read_task_items(apply_params(load_task(task), options), path, on_bad=on_bad, offline=True)


def rows_of(task: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / FILES[task]).read_text(encoding="utf-8").splitlines()]


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def golds(found: ItemSet) -> list[list[float | None]]:
    return [[r.gold for r in item.responses] for item in found.items]


def test_shp_gold_is_the_logarithm_of_a_score_so_that_strength_is_the_ratio() -> None:
    found = read("shp", FIXTURES / "shp")
    rows = rows_of("shp")
    assert golds(found)[0] == [log(12), log(4)]
    for item, row in zip(found.items, rows, strict=False):
        first, second = (r.gold or 0.0 for r in item.responses)
        assert abs(first - second) == pytest.approx(log(row["score_ratio"]))
        assert (first > second) == (row["labels"] == 1)
    assert [i.strata["domain"] for i in found.items] == ["askbaking"] * 2 + ["askvet"] * 3
    assert [i.id for i in found.items][:2] == ["p1:c1:c2", "p1:c3:c1"]
    assert len({i.cluster for i in found.items}) == 3, "pairs of one post are one cluster"
    assert {i.gold_kind for i in found.items} == {"graded"}


def test_summarize_has_one_item_per_pair_whose_gold_is_the_share_of_votes() -> None:
    found = read("summarize", data_of("summarize"))
    assert golds(found) == [[pytest.approx(1 / 3), pytest.approx(2 / 3)], [1.0, 0.0], [0.5, 0.5], [1.0, 0.0]]
    assert found.dropped == {"further votes of a worker on the same pair": 1, "identical responses": 1}
    assert [r.text for r in found.items[0].responses] == ["I am late.", "The bus was late and so was I."]
    assert found.items[0].prompt[0]["content"] == (
        "SUBREDDIT: r/offmychest\n\nTITLE: Late again\n\nPOST: I waited for the bus for an hour.\n\nTL;DR:"
    )
    assert found.items[3].prompt[0]["content"].startswith("Article:\nIt will rain on Monday")
    assert [i.strata for i in found.items][1:] == [
        {"source": "tldr", "split": "valid2"},
        {"source": "tldr", "split": "valid1"},
        {"source": "cnndm", "split": "valid2"},
    ]
    assert found.items[0].cluster == found.items[1].cluster != found.items[2].cluster


def test_summarize_the_order_of_judgements_and_of_summaries_moves_no_vote(tmp_path: Path) -> None:
    rows = rows_of("summarize")
    swapped = [{**r, "summaries": r["summaries"][::-1], "choice": 1 - r["choice"]} for r in rows[:3]]
    found = read("summarize", lines(tmp_path / "rows.jsonl", *swapped))
    before = read("summarize", lines(tmp_path / "rows.jsonl", *rows[:3]))
    assert [i.id for i in found.items] == [i.id for i in before.items]
    assert golds(found) == [gold[::-1] for gold in golds(before)]


def test_webgpt_gold_is_the_sign_and_a_tie_is_half() -> None:
    found = read("webgpt", data_of("webgpt"))
    assert golds(found) == [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [1.0, 0.0]]
    assert found.dropped == {"identical responses": 1}
    assert [i.strata["dataset"] for i in found.items] == ["eli5", "eli5", "triviaqa", "triviaqa"]
    assert found.items[3].responses[1].text == "", "an empty answer lost, and stays"
    assert found.items[0].cluster == found.items[1].cluster


def test_a_pair_that_was_compared_twice_has_two_ids(tmp_path: Path) -> None:
    row = rows_of("webgpt")[0]
    found = read("webgpt", lines(tmp_path / "rows.jsonl", row, {**row, "score_0": -0.5, "score_1": 0.5}, row))
    first, second, third = (i.id for i in found.items)
    assert (second, third) == (f"{first}:2", f"{first}:3")


def test_pku_either_annotation_is_gold() -> None:
    better, safer = (
        read("pku-safe-rlhf", data_of("pku-safe-rlhf"), preference=p) for p in ("better", "safer")
    )
    assert golds(better) == golds(read("pku-safe-rlhf", data_of("pku-safe-rlhf"))), "the task's own choice"
    # Files in the order of their names: Alpaca-7B before Alpaca2-7B.
    assert golds(better) == [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    assert golds(safer) == [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]
    assert [i.id for i in better.items] == [i.id for i in safer.items]
    assert [i.strata["safety"] for i in better.items] == ["one is safe", "both are safe", "one is safe"]


def test_ppe_human_ties_are_left_out_and_counted() -> None:
    found = read("ppe-preference", data_of("ppe-preference"))
    assert [i.id for i in found.items] == ["h1", "h2", "h3", "h4"]
    assert found.dropped == {"human ties": 2}
    assert golds(found) == [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    assert [i.strata["language_group"] for i in found.items] == ["English"] * 3 + ["non-English"]
    assert [i.strata["hard_prompt"] for i in found.items] == ["yes", "no", "yes", "no"]
    assert [r.tags["generator"] for r in found.items[0].responses] == ["writer-a", "writer-b"]


def test_ppe_replies_are_kept_as_published(tmp_path: Path) -> None:
    row = {**rows_of("ppe-preference")[0], "response_1": "", "response_2": ""}
    assert len(read("ppe-preference", lines(tmp_path / "rows.jsonl", row)).items) == 1


def test_ppe_correctness_keeps_the_published_pairs(tmp_path: Path) -> None:
    (path,) = (FIXTURES / "ppe-correctness").glob("*/test.jsonl")
    row = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    row["sampled_conflict_pairs"] = [[0, 1], [3, 2], [0, 1], [0, 2]]
    found = read("ppe-correctness", lines(tmp_path / "rows.jsonl", row))
    assert found.items[0].strata["conflict_pairs"] == "0>1 2>3 0>1", "right first; right is 0 and 2"
    assert found.dropped == {"sampled pairs that are both right or both wrong": 1}
    for wrong in ([[0, 4]], [[0]], [[True, 1]], [[1.0, 0]], ["01"]):
        row["sampled_conflict_pairs"] = wrong
        with pytest.raises(DataError, match=r"key 'sampled_conflict_pairs\[0\]'.*two places from 0 to 3"):
            read("ppe-correctness", lines(tmp_path / "rows.jsonl", row))


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        ("shp", {"labels": 2}, "key 'labels': 2; expected 0 or 1"),
        ("shp", {"labels": True}, "key 'labels': True; expected 0 or 1"),
        ("shp", {"labels": 0}, "key 'labels': 0, but the scores of A and B are 12 and 4"),
        ("shp", {"score_B": 12}, "key 'labels': 1, but the scores of A and B are 12 and 12"),
        ("shp", {"score_B": 0}, "key 'score_B': 0; expected a score above 0"),
        ("shp", {"score_A": "12"}, "key 'score_A'.*expected a number"),
        ("shp", {"history": " "}, "key 'history': empty"),
        ("shp", {"human_ref_A": None}, "key 'human_ref_A': null; expected text"),
        ("summarize", {"choice": 2}, "key 'choice': 2; expected 0 or 1"),
        ("summarize", {"summaries": [{"text": "a"}]}, "key 'summaries': expected a list of two objects"),
        ("summarize", {"summaries": [{"text": "a"}, {"txt": "b"}]}, r"key 'summaries\[1\].text'.*missing"),
        ("summarize", {"info": "t3_a"}, "key 'info': text; expected an object"),
        ("summarize", {"info": {"id": "t3_a"}}, "key 'info.post': the key is missing"),
        ("summarize", {"info": {"post": "A post."}}, "key 'info.id': the key is missing"),
        ("webgpt", {"score_1": 0.5}, "key 'score_0': 0.5 and 0.5; expected two numbers in .* that sum to 0"),
        ("webgpt", {"score_0": 2.0, "score_1": -2.0}, r"key 'score_0': 2 and -2; expected two numbers in \[-1, 1\]"),
        ("webgpt", {"score_0": None}, "key 'score_0': null None; expected a number"),
        ("webgpt", {"question": {"full_text": ""}}, "key 'question.full_text': empty"),
        ("webgpt", {"answer_0": ["a"]}, "key 'answer_0': a list; expected text"),
        ("pku-safe-rlhf", {"better_response_id": -1}, "key 'better_response_id': -1; expected 0 or 1"),
        ("pku-safe-rlhf", {"response_1": None}, "key 'response_1': null; expected text"),
        ("ppe-preference", {"winner": "model_c"}, "key 'winner': 'model_c'; expected model_a, model_b or a tie"),
        ("ppe-preference", {"hard_prompt": "yes"}, "key 'hard_prompt': 'yes'; expected true or false"),
        ("ppe-preference", {"prompt": []}, "key 'prompt'.*expected text or a list of messages"),
    ],
)  # fmt: skip
def test_a_row_that_does_not_fit_is_named(
    tmp_path: Path, task: str, change: dict[str, Any], said: str
) -> None:
    rows = rows_of(task)
    path = lines(tmp_path / "rows.jsonl", rows[1], {**rows[0], **change})
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2, .*{said}"):
        read(task, path)
    found = read(task, path, on_bad="skip")
    assert (len(found.items), sum(found.dropped.values())) == (1, 1)


@pytest.mark.parametrize(
    ("task", "key"),
    [
        *(("shp", key) for key in ("history", "human_ref_B", "labels", "score_A", "domain", "post_id")),
        *(("summarize", key) for key in ("info", "summaries", "choice")),
        *(("webgpt", key) for key in ("question", "answer_1", "score_1")),
        *(("pku-safe-rlhf", key) for key in ("prompt", "response_0", "better_response_id")),
        *(("ppe-preference", key) for key in ("prompt", "response_2", "winner")),
    ],
)
def test_a_key_that_is_missing_is_named(tmp_path: Path, task: str, key: str) -> None:
    rows = rows_of(task)
    path = lines(tmp_path / "rows.jsonl", rows[1], {k: v for k, v in rows[0].items() if k != key})
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2, key '{key}': the key is missing"):
        read(task, path)
    assert read(task, path, on_bad="skip").dropped == {"missing key": 1}


@pytest.mark.parametrize(
    ("task", "replies"),
    [
        ("shp", ("human_ref_A", "human_ref_B")),
        ("webgpt", ("answer_0", "answer_1")),
        ("pku-safe-rlhf", ("response_0", "response_1")),
    ],
)
def test_pairs_that_compare_nothing_are_left_out_and_counted(
    tmp_path: Path, task: str, replies: tuple[str, str]
) -> None:
    rows = rows_of(task)
    path = lines(tmp_path / "rows.jsonl", rows[1], {**rows[0], replies[0]: "Same.", replies[1]: "Same."})
    found = read(task, path)
    assert (len(found.items), found.dropped) == (1, {"identical responses": 1})


@pytest.mark.parametrize(
    ("task", "hub_name"),
    [
        ("shp", "test-00000-of-00001.parquet"),
        ("summarize", "comparisons/validation/0000.parquet"),
        ("webgpt", "default/train/0000.parquet"),
        ("ppe-preference", "data/test-00000-of-00001.parquet"),
    ],
)
def test_the_container_does_not_matter(tmp_path: Path, task: str, hub_name: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    hub = tmp_path / hub_name
    hub.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows_of(task)), hub)
    folder = hub if task == "shp" else tmp_path
    assert read(task, folder).data_hash == read(task, FIXTURES / FILES[task]).data_hash


EXPECTED: dict[str, dict[str, dict[str, float]]] = {
    # The longer comment lost both pairs of askbaking and won 1, 1/2 (both have four letters) and 1 of askvet.
    # A constant is 0.5 everywhere: Brier 0.25.
    "shp": {
        "length": {"accuracy": 2.5 / 5, "accuracy_macro": (0 + 2.5 / 3) / 2},
        "shortest": {"accuracy": 2.5 / 5},
        "constant": {"accuracy": 0.5, "brier": 0.25},
    },
    # The longer summary has 2 of 3 votes, 1 of 1, and loses on the article; 1 : 1 has no order.
    # A constant: (1/2 - 2/3)^2, 1/4, 1/4, and 0 for the split pair.
    "summarize": {
        "length": {"accuracy": 2 / 3, "accuracy_macro": (1 + 0) / 2},
        "constant": {"accuracy": 0.5, "brier": (1 / 36 + 1 / 4 + 1 / 4 + 0) / 4},
    },
    # Longer wins the first, loses the last; the tie counts for Brier alone.
    "webgpt": {
        "length": {"accuracy": 2 / 3},
        "constant": {"accuracy": 0.5, "brier": (1 / 4 + 0 + 1 / 4 + 1 / 4) / 4},
    },
    "pku-safe-rlhf": {"length": {"accuracy": 2 / 3}, "shortest": {"accuracy": 1 / 3}},
    # Longer: right, wrong, right, and a tie.
    "ppe-preference": {
        "length": {
            "official": 2.5 / 4, "official_hard": 1.0, "official_easy": 0.0, "official_math": 1.0,
            "official_english": 2 / 3, "official_non_english": 0.5, "accuracy": 2.5 / 4,
            "accuracy_macro": (2 / 3 + 1 / 2) / 2,
        },
        "constant": {"official": 0.5, "brier": 0.25},
    },
    # In all: (0, 1/2, 1, 1) of q1's four pairs, (1/2, 0, 1, 0) of q2's. On [0, 1] right answers have
    # 0, 1, 0, 1/2 and wrong ones 7/15, 0, 0, 1: AUC (1 + 3.5 + 1 + 3) / 16. f(1..4) = 1/2 throughout,
    # the best there is 1/2, 5/6, 1, 1.
    "ppe-correctness": {
        "length": {
            "official_math": (2.5 / 4 + 1.5 / 4) / 2, "official_math_auc": 8.5 / 16, "official_math_max": 0.5,
            "official_math_end": 0.5, "official_math_loss": (0 + 1 / 9 + 1 / 4 + 1 / 4) / 4,
        },
        "constant": {"official_math": 0.5, "official_math_auc": 0.5, "official_math_end": 0.5},
    },
}  # fmt: skip


@pytest.mark.parametrize(("task", "model"), [(t, m) for t, models in EXPECTED.items() for m in models])
def test_the_numbers_of_a_baseline_from_the_command_line(
    task: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    correctness = FIXTURES / "ppe-correctness" / "PPE-MATH-Best-of-K" / "test.jsonl"
    data = correctness if task == "ppe-correctness" else data_of(task)
    command = [
        "eval",
        "-m",
        model,
        "-t",
        task,
        "--data",
        str(data),
        "--results",
        str(tmp_path),
        "--json",
        "-q",
    ]
    assert run(command) == 0
    (record,) = json.loads(capsys.readouterr().out)
    for name, value in EXPECTED[task][model].items():
        assert record["metrics"][name]["value"] == pytest.approx(value, abs=1e-9), name


def test_pku_the_other_annotation_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["eval", "-m", "length", "-t", "pku-safe-rlhf", "--data", str(FIXTURES / "pku-safe-rlhf"), "-q"]
    assert run([*base, "-T", "preference=safer", "--results", str(tmp_path), "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    # The longer one is safer in the second pair alone.
    assert record["metrics"]["accuracy"]["value"] == pytest.approx(1 / 3)
    assert run([*base, "-T", "preference=safest", "--results", str(tmp_path)]) == 2
    assert "Did you mean 'safer'" in capsys.readouterr().err


def test_ppe_tables_show_what_the_task_has_and_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task, data, shown, hidden in (
        ("ppe-preference", FIXTURES / "ppe-preference" / "test.jsonl", "official_hard", "official_auc"),
        ("ppe-correctness", FIXTURES / "ppe-correctness" / "PPE-MATH-Best-of-K" / "test.jsonl",
         "official_auc", "official_hard"),
    ):  # fmt: skip
        assert (
            run(["eval", "-m", "length", "-t", task, "--data", str(data), "--results", str(tmp_path), "-q"])
            == 0
        )
        said = capsys.readouterr().out
        assert "official, as ppe defines it:" in said
        assert shown in said
        assert hidden not in said
    assert "the mean of five sets: no item of the set MMLU-Pro" in said
