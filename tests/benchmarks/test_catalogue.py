"""The catalogue's readers on rows written by hand in the published schemas, and the numbers of `length` on them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run
from rmbench.errors import DataError
from rmbench.tasks import read_task_items
from rmbench.tasks.items import ItemSet
from rmbench.tasks.spec import load_task

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


def read(task: str, path: Path, *, on_bad: str = "fail") -> ItemSet:
    return read_task_items(load_task(task), path, on_bad=on_bad, offline=True)


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def first_rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / name).read_text(encoding="utf-8").splitlines()]


def test_rewardbench_ids_are_unique_within_a_subset() -> None:
    items = read("rewardbench", FIXTURES / "rewardbench" / "filtered.jsonl").items
    assert [i.id for i in items][-2:] == ["math-prm:4", "hep-python:4"]
    assert [i.strata["section"] for i in items] == ["Chat", "Chat", "Chat Hard", "Safety", "Reasoning", "Reasoning"]  # fmt: skip
    assert [[r.gold for r in i.responses] for i in items] == [[1.0, 0.0]] * 6


def test_rewardbench_prior_sets_are_read_and_what_does_not_count_is_counted() -> None:
    found = read("rewardbench", FIXTURES / "rewardbench" / "prior.jsonl")
    assert [i.strata for i in found.items] == [
        {"section": "Prior Sets", "subset": s} for s in ("anthropic_helpful", "shp")
    ]
    assert [t["role"] for t in found.items[0].prompt] == ["user", "assistant", "user"]
    assert found.dropped == {"rows of sets that count for no number": 1}


def test_rewardbench_a_folder_may_hold_the_prior_sets_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    core = first_rows("rewardbench/filtered.jsonl")
    prior = [{k: r[k] for k in ("prompt", "chosen", "rejected")} for r in core[:2]]
    prior = [{**r, "subset": "a site"} for r in prior]
    for name, rows in (
        ("core/data/filtered", core), ("core/data/raw", core), ("prior/data/shp", prior), ("prior/data/mtbench_gpt4", prior),
    ):  # fmt: skip
        path = tmp_path / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
    found = read("rewardbench", tmp_path)
    assert [i.id for i in found.items][6:] == ["shp:1", "shp:2"]
    assert found.dropped == {"files of other splits": 1, "rows of sets that count for no number": 2}
    command = [
        "eval",
        "-m",
        "length",
        "-t",
        "rewardbench",
        "--data",
        str(tmp_path),
        "--results",
        str(tmp_path / "r"),
    ]
    assert run([*command, "--json", "-q"]) == 0
    metrics = json.loads(capsys.readouterr().out)[0]["metrics"]
    four = EXPECTED["rewardbench"]["official"] * 4
    assert metrics["official_prior_sets"]["value"] == 0.5
    assert metrics["official"]["value"] == pytest.approx((2 * four + 0.5) / 9, abs=1e-9)


def test_rewardbench2_right_answers_come_first_and_both_rows_of_a_tie_are_one_cluster() -> None:
    items = read("rewardbench2", FIXTURES / "rewardbench2" / "test.jsonl").items
    assert [len(i.responses) for i in items] == [4, 4, 4, 4, 4, 3, 4]
    assert [[r.gold for r in i.responses] for i in items][-2:] == [[1, 0, 0], [1, 1, 0, 0]]
    assert [(i.id, i.cluster, i.strata["ties"]) for i in list(items)[-2:]] == [
        ("Ties:ref:0", "ties:0", "ref:0"),
        ("Ties:tied:0", "ties:0", "tied:0"),
    ]


@pytest.mark.parametrize(
    ("task", "fixture", "hub_name"),
    [
        ("rewardbench", "rewardbench/filtered.jsonl", "data/filtered-00000-of-00001.parquet"),
        ("rewardbench2", "rewardbench2/test.jsonl", "data/test-00000-of-00001.parquet"),
    ],
)
def test_the_folder_as_it_is_on_the_hub_is_the_same(
    tmp_path: Path, task: str, fixture: str, hub_name: str
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(first_rows(fixture)), tmp_path / hub_name)
    expected = read(task, FIXTURES / fixture).data_hash
    assert read(task, tmp_path).data_hash == expected
    assert read(task, tmp_path / "data").data_hash == expected


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        ("rewardbench", {"subset": "alpacaeval-esay"}, "key 'subset': unknown subset.*did you mean 'alpacaeval-easy'"),
        ("rewardbench", {"chosen": None}, "key 'chosen': null; expected text"),
        ("rewardbench", {"prompt": ""}, "key 'prompt': empty"),
        ("rewardbench2", {"subset": "ties"}, "did you mean 'Ties'"),
        ("rewardbench2", {"num_correct": 2}, "key 'num_correct': 2, but there are 1"),
        ("rewardbench2", {"total_completions": 5}, "key 'total_completions': 5, but there are 4"),
        ("rewardbench2", {"chosen": [], "num_correct": None}, "key 'chosen': expected a list of at least one"),
        ("rewardbench2", {"chosen": ["a", "b"], "num_correct": None, "total_completions": None}, "2 right responses; expected 1"),
        ("rewardbench2", {"subset": "Ties"}, "key 'id': '0'; expected ref:N or tied:N"),
        ("rewardbench2", {"subset": "Ties", "id": "tied:1"}, "a tied row has several"),
    ],
)  # fmt: skip
def test_a_row_that_does_not_fit_is_named(
    tmp_path: Path, task: str, change: dict[str, Any], said: str
) -> None:
    fixture = {"rewardbench": "rewardbench/filtered.jsonl", "rewardbench2": "rewardbench2/test.jsonl"}[task]
    rows = first_rows(fixture)
    path = lines(tmp_path / "rows.jsonl", rows[1], {**rows[0], **change})
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2, .*{said}"):
        read(task, path)
    assert len(read(task, path, on_bad="skip").items) == 1


def test_ppe_pools_are_named_after_their_set(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fixture = FIXTURES / "ppe-correctness" / "PPE-MATH-Best-of-K" / "test.jsonl"
    items = read("ppe-correctness", fixture).items
    assert [i.id for i in items] == ["MATH:q1", "MATH:q2"]
    assert [[r.gold for r in i.responses] for i in items] == [[1, 0, 1, 0], [0, 1, 1, 0]]
    assert items[0].strata == {"set": "MATH", "generator": "writer-a"}
    hub = tmp_path / "PPE-MATH-Best-of-K" / "data" / "train-00000-of-00001.parquet"
    hub.parent.mkdir(parents=True)
    rows = first_rows("ppe-correctness/PPE-MATH-Best-of-K/test.jsonl")
    pq.write_table(pa.Table.from_pylist(rows), hub)
    expected = read("ppe-correctness", fixture).data_hash
    assert read("ppe-correctness", tmp_path).data_hash == expected, "a folder of several sets"
    assert read("ppe-correctness", hub.parent).data_hash == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scores": [True, False]}, "key 'scores': expected a list of 4"),
        ({"scores": [1, 0, 1, 0]}, r"key 'scores\[0\]': 1; expected true or false"),
        ({"response_6": "x"}, "expected response_1, response_2, ... without a gap"),
        ({"response_2": None}, "key 'response_2': null; expected text"),
    ],
)
def test_ppe_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    row = first_rows("ppe-correctness/PPE-MATH-Best-of-K/test.jsonl")[0]
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 1, .*{said}"):
        read("ppe-correctness", lines(tmp_path / "rows.jsonl", {**row, **change}))


def test_ppe_the_end_of_the_curve_is_the_gold_of_the_top_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = FIXTURES / "ppe-correctness" / "PPE-MATH-Best-of-K" / "test.jsonl"
    command = [
        "eval",
        "-m",
        "length",
        "-t",
        "ppe-correctness",
        "--data",
        str(data),
        "--results",
        str(tmp_path),
    ]
    assert run([*command, "--json", "-q"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    # The longest answers: right for q1, wrong for q2. One of four at random: half are right.
    assert record["metrics"]["gold@4"]["value"] == pytest.approx(0.5)
    assert record["metrics"]["gold@1"]["value"] == pytest.approx(0.5)
    # Two of four: the longest is picked with 1/2, the next with 1/3, one of the two tied ones with 1/6, half right.
    # q1 is right, wrong, then one of each: 1/2 + 1/12. q2 is wrong, right, then one of each: 1/3 + 1/12.
    assert record["metrics"]["gold@2"]["value"] == pytest.approx((1 / 2 + 1 / 12 + 1 / 3 + 1 / 12) / 2)


EXPECTED = {
    # Longer wins: Chat 100/140, Chat Hard 0, Safety 1, Reasoning 984/1148 (hep-python is a tie, so 0).
    "rewardbench": {"official": (100 / 140 + 0 + 1 + 984 / 1148) / 4, "official_micro": 3 / 6, "accuracy": 3.5 / 6},
    # Factuality 1, Precise IF 0, Math 1/4, Safety 1, Focus 1. Ties: ref d = 0, g = 5 - 4; tied d = 0, g = 6 - 4.
    "rewardbench2": {"official": (1 + 0 + 0.25 + 1 + 1 + 1.01) / 6, "official_ties": 1.01},
    # Styles lengthen both sides alike. chat: Three. beats Two. by 2 characters; math and both of code are ties.
    "rm-bench": {"official_chat": 2 / 3, "official_code": 1 / 3, "official_math": 1 / 3, "official_easy": 1.0, "official_hard": 0.0},
    "judgebench": {"official": 3 / 4, "official_reasoning": 0.0, "official_coding": 1.0},
}  # fmt: skip


@pytest.mark.parametrize("task", EXPECTED)
def test_the_numbers_of_a_baseline_from_the_command_line(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = FIXTURES / task
    data = {"rewardbench": folder / "filtered.jsonl", "rewardbench2": folder / "test.jsonl"}.get(task, folder)
    base = ["eval", "-m", "length", "-t", task, "--data", str(data), "--results", str(tmp_path), "-q"]
    assert run([*base, "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    for name, value in EXPECTED[task].items():
        assert record["metrics"][name]["value"] == pytest.approx(value, abs=1e-9), name
    assert record["primary"] == "official"
    assert run([*base, "--convention", "official"]) == 0
    official = capsys.readouterr().out
    assert run([*base, "--convention", "clean"]) == 0
    clean = capsys.readouterr().out
    assert run(base) == 0
    both = capsys.readouterr().out
    assert "official_" in official
    assert "accuracy" not in official
    assert "accuracy" in clean
    assert "official" not in clean
    assert both.index("official_") < both.index("accuracy"), "the official headline, then the clean estimate"


def test_a_task_without_an_official_number_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "-m", "length", "-t", "bon", "--convention", "official"]) == 2
    said = capsys.readouterr().err
    assert "task 'bon' has no official convention; tasks that have: judgebench, " in said


def test_a_file_of_one_domain_has_its_own_number_and_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(FIXTURES / "rm-bench" / "chat_filtered.json", tmp_path)
    base = ["eval", "-m", "length", "-t", "rm-bench", "--data", str(tmp_path), "--results", str(tmp_path / "r"), "-q"]  # fmt: skip
    assert run(base) == 0
    said = capsys.readouterr().out
    assert "no official, official_easy, official_normal, official_hard: the mean of four domains" in said
    assert "no official_math: no item of the domain math" in said


def test_a_judge_is_right_only_if_its_two_orders_do_not_contradict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "judge.py").write_text(
        "class Judge:\n"
        "    def fingerprint(self):\n        return {'kind': 'first-place'}\n"
        "    def prefer(self, batch):\n"
        "        return [0.9 if len(p.first) > 4 else 0.3 for p in batch]\n"
    )
    command = ["eval", "-m", f"{tmp_path}/judge.py:Judge", "-t", "judgebench", "--json", "-q"]
    where = ["--data", str(FIXTURES / "judgebench"), "--results", str(tmp_path / "r")]
    assert run([*command, *where]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    # p0 and p1: one reply is short, both orders agree (p1 wrongly). p2 and p3: whatever is shown first wins.
    assert record["metrics"]["official"]["value"] == 1 / 4
    assert record["counts"]["judgebench"]["split_verdicts"] == 2
    assert record["metrics"]["accuracy"]["value"] == (1 + 0 + 0.5 + 0.5) / 4
    before = {p: p.read_bytes() for p in (tmp_path / "r").rglob("*.json")}
    assert run(["remeasure", str(tmp_path / "r")]) == 0
    assert {p: p.read_bytes() for p in (tmp_path / "r").rglob("*.json")} == before


def matrix_by_hand(rows: list[dict[str, Any]], reward: Any) -> list[list[float]]:
    n = len(rows)
    return [
        [sum(reward(r["chosen"][i]) > reward(r["rejected"][j]) for r in rows) / n for j in range(3)]
        for i in range(3)
    ]


BASELINES = {"length": len, "shortest": lambda text: -len(text), "constant": lambda text: 0.0}


@pytest.mark.parametrize("model", BASELINES)
def test_rm_bench_matrix_on_the_real_files(
    shared_data: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data / "rm_bench"
    command = ["eval", "-m", model, "-t", "rm-bench", "--data", str(folder), "--results", str(tmp_path)]
    assert run([*command, "--json", "-q"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    files = {"chat": ["chat"], "code": ["code"], "safety": ["safety-refuse", "safety-response"]}
    for domain, names in files.items():
        rows = [row for n in names for row in json.loads((folder / f"{n}_filtered.json").read_text())]
        expected = matrix_by_hand(rows, BASELINES[model])
        found = record["curves"]["style_matrix"][domain]
        for i in range(3):
            assert found[i] == pytest.approx(expected[i], abs=1e-9)
        assert record["metrics"][f"official_{domain}"]["value"] == pytest.approx(
            sum(map(sum, expected)) / 9, abs=1e-9
        )
