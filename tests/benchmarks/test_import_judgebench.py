"""JudgeBench's published outputs become records, and give its published table."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from layouts import importer

from rmbench.cli.main import run

Capture = pytest.CaptureFixture[str]
LABELS = ["A>B", "B>A", "A>B", "A>B", "B>A"]
SOURCES = ["mmlu-pro-law", "livebench-reasoning", "livebench-math", "livecodebench", "mmlu-pro-health"]


def pair(k: int, judgments: list[Any], judge: str = "arena_hard") -> dict[str, Any]:
    return {
        "pair_id": f"p{k}", "original_id": k, "source": SOURCES[k], "question": f"question {k}",
        "response_model": "writer", "response_A": f"a {k}", "response_B": f"bb {k}", "label": LABELS[k],
        "judge_name": judge, "judgments": judgments,
    }  # fmt: skip


def verdict(decision: str | None, model: str = "org/judge") -> dict[str, Any]:
    return {"judgment": {"judge_model": model, "prompt": "", "response": ""}, "decision": decision}


def scored(first: float, second: float, decision: str = "A>B") -> dict[str, Any]:
    return {"judgment": {"judge_model": "org/rm", "scores": [first, second]}, "decision": decision}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


bring = importer("judgebench")


def official(records: list[dict[str, Any]], name: str = "official") -> float:
    return float(records[0]["metrics"][name]["value"])


PUBLISHED = {
    # Knowledge, Reasoning, Math, Coding, Overall in percent, from the benchmark's own table.
    "Ray2333/GRM-Gemma-2B-rewardmodel-ft": (62.99, 53.06, 64.29, 54.76, 59.43),
    "internlm/internlm2-7b-reward": (56.49, 61.22, 71.43, 50.00, 59.43),
}
COLUMNS = ("official_knowledge", "official_reasoning", "official_math", "official_coding", "official")


def test_the_published_table_of_two_reward_models(shared_data: Path, tmp_path: Path, capsys: Capture) -> None:
    records = bring(capsys, shared_data / "judgebench" / "outputs", tmp_path, "-q")
    assert {r["model"] for r in records} == set(PUBLISHED)
    for record in records:
        found = tuple(round(100 * record["metrics"][name]["value"], 2) for name in COLUMNS)
        assert found == PUBLISHED[record["model"]]
    data = shared_data / "judgebench" / "data" / "dataset=judgebench,response_model=gpt-4o-2024-05-13.jsonl"
    own = ["eval", "-m", "length", "-t", "judgebench", "--data", str(data), "--results", str(tmp_path)]
    assert run([*own, "--json", "-q"]) == 0
    (length,) = json.loads(capsys.readouterr().out)
    assert {r["identity"]["data"] for r in records} == {length["identity"]["data"]}
    names = sorted(PUBLISHED)
    assert (
        run(["compare", *names, "-t", "judgebench", "--results", str(tmp_path), "--convention", "official"])
        == 0
    )
    assert "official_coding" in capsys.readouterr().out


def test_a_judge_in_two_orders(tmp_path: Path, capsys: Capture) -> None:
    # The second judgement is shown B first: "B>A" then speaks for A.
    rows = [
        pair(0, [verdict("A>B"), verdict("B>A")]),  # right twice
        pair(1, [verdict("B>A"), verdict("B>A")]),  # right, then wrong: contradicts itself
        pair(2, [verdict(None), verdict("B>A")]),  # no verdict, then right
        pair(3, [verdict("A=B"), verdict("A=B")]),  # twice a tie
        pair(4, [verdict("B>A"), None]),  # right, then a failed call
    ]
    path = write(tmp_path / "o.jsonl", rows)
    assert run(["import", "judgebench", str(path), "--results", str(tmp_path / "r"), "--json"]) == 0
    said = capsys.readouterr()
    assert "4 judgements without a verdict" in said.err
    (record,) = json.loads(said.out)
    assert record["model"] == "org/judge (arena_hard)"
    assert official([record]) == 3 / 5
    assert record["counts"]["judgebench"]["split_verdicts"] == 1
    assert record["metrics"]["accuracy"]["value"] == (1 + 0.5 + 1 + 0.5 + 1) / 5
    assert record["metrics"]["flip_rate"]["value"] == 1 / 5
    before = {p: p.read_bytes() for p in (tmp_path / "r").rglob("*.json")}
    assert run(["remeasure", str(tmp_path / "r")]) == 0
    assert {p: p.read_bytes() for p in (tmp_path / "r").rglob("*.json")} == before


def published_accuracy(rows: list[dict[str, Any]]) -> float:
    """`compute_final_metrics`, written out."""
    turned = {"A>B": "B>A", "B>A": "A>B"}
    right = 0
    for row in rows:
        first, second = ((j or {}).get("decision") for j in row["judgments"])
        votes = [first, turned.get(second, second)]
        right += sum((v == row["label"]) - (v == turned[row["label"]]) for v in votes) > 0
    return right / len(rows)


def test_every_combination_of_verdicts_is_as_published(tmp_path: Path, capsys: Capture) -> None:
    choices = ["A>B", "B>A", "A=B", None]
    for a in choices:
        for b in choices:
            rows = [pair(k, [verdict(a), verdict(b)]) for k in range(2)]  # both labels
            name = f"{a}{b}".replace(">", "").replace("=", "")
            found = bring(capsys, write(tmp_path / f"{name}.jsonl", rows), tmp_path / name, "-q")
            assert official(found) == published_accuracy(rows), (a, b)


def test_one_order_is_all_there_is_for_some(tmp_path: Path, capsys: Capture) -> None:
    rows = [pair(0, [verdict("A>B")]), pair(1, [verdict("A>B")])]
    found = bring(capsys, write(tmp_path / "o.jsonl", rows), tmp_path / "r", "-q")
    assert official(found) == 1 / 2
    assert found[0]["undefined"]["flip_rate"] == "no pair was compared in both orders"


def test_scores_are_rewards_and_the_second_order_is_turned_back(tmp_path: Path, capsys: Capture) -> None:
    rows = [
        pair(0, [scored(1.0, 0.5), scored(0.5, 1.0)], "reward_model"),
        pair(1, [scored(2.0, 0.5), scored(0.5, 2.0)], "reward_model"),
    ]
    found = bring(capsys, write(tmp_path / "o.jsonl", rows), tmp_path / "r", "-q")
    assert found[0]["model"] == "org/rm"
    assert official(found) == 1 / 2
    assert "flip_rate" not in found[0]["metrics"]
    (path,) = (tmp_path / "r").rglob("*.gz")
    stored = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert [row["rewards"] for row in stored] == [[1.0, 0.5], [2.0, 0.5]]
    assert not any("a 0" in json.dumps(row) for row in stored), "no text is kept"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"judgments": None}, "line 2, key 'judgments': expected a list of one or two judgements"),
        ({"judgments": [1, 2]}, r"key 'judgments\[0\]': expected"),
        ({"judgments": [scored(1, "x")] * 2}, "'x'; expected a number, x or"),
        ({"label": "A=B"}, "key 'label'"),
        ({"source": "arena"}, "key 'source'"),
        ({"pair_id": "p0"}, "key 'pair_id': 'p0' occurs twice"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, capsys: Capture, change: Any, said: str) -> None:
    both = [scored(1.0, 0.5), scored(0.5, 1.0)]
    path = write(tmp_path / "o.jsonl", [pair(0, both), {**pair(1, both), **change}])
    assert run(["import", "judgebench", str(path), "--results", str(tmp_path / "r")]) == 2
    found = capsys.readouterr().err
    assert re.search(said, found), found
    assert not (tmp_path / "r").exists()


def test_scores_stay_scores_where_a_call_failed(tmp_path: Path, capsys: Capture) -> None:
    judgments = [
        [scored(2.0, 1.0), None],  # A>B, right
        [None, scored(3.0, 0.5)],  # B is shown first: B>A, right
        [scored(0.0, 1.0), scored(1.0, 0.0)],  # wrong, twice
        [None, None],
    ]
    rows = [pair(k, two, "reward_model") for k, two in enumerate(judgments)]
    assert (
        run(["import", "judgebench", str(write(tmp_path / "x.jsonl", rows)), "--results", str(tmp_path)]) == 2
    )
    assert "1 of 4 items have a score that is null or not finite" in capsys.readouterr().err
    (record,) = records = bring(capsys, tmp_path / "x.jsonl", tmp_path / "r", "-q", "-T", "invalid=wrong")
    assert official(records) == 2 / 4
    (path,) = (tmp_path / "r").rglob("*.gz")
    stored = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert [row["rewards"] for row in stored] == [[2.0, 1.0], [0.5, 3.0], [0.0, 1.0], [None, None]]
    assert "flips" not in stored[0], "scores, not verdicts"
    assert record["counts"]["invalid"] == 2


def test_a_score_that_is_null_stops_unless_it_is_allowed(tmp_path: Path, capsys: Capture) -> None:
    rows = [pair(0, [scored(None, 0.5), scored(0.5, None)]), pair(1, [scored(0.0, 0.5), scored(0.5, 0.0)])]  # type: ignore[arg-type]
    path = write(tmp_path / "o.jsonl", rows)
    assert run(["import", "judgebench", str(path), "--results", str(tmp_path / "r")]) == 2
    assert "1 of 2 items have a score that is null" in capsys.readouterr().err
    assert official(bring(capsys, path, tmp_path / "r", "-q", "-T", "invalid=wrong")) == 1 / 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"judge_name": "another"}, "two kinds of judge in one file: another, arena_hard"),
        ({"judge_name": 3.5}, "key 'judge_name': a number; expected text"),
        (
            {"judgments": [verdict("A>B", "org/other"), verdict("B>A")]},
            "two judges in one file: org/judge, org/other",
        ),
        (
            {"judgments": [{**verdict("A>B"), "decision": False}, verdict("B>A")]},
            "'False'; expected text or null",
        ),
        ({"judgments": [{**verdict("A>B"), "decision": ["A>B"]}, verdict("B>A")]}, "expected text or null"),
    ],
)
def test_two_judges_in_one_file_and_decisions_of_another_type(
    tmp_path: Path, capsys: Capture, change: Any, said: str
) -> None:
    rows = [pair(k, [verdict("A>B"), verdict("B>A")]) for k in range(5)]
    rows[2] |= change
    assert (
        run(
            ["import", "judgebench", str(write(tmp_path / "j.jsonl", rows)), "--results", str(tmp_path / "r")]
        )
        == 2
    )
    assert said in capsys.readouterr().err
