"""Further benchmarks: readers on rows in the published schemas, and the numbers of `length` worked out by hand."""

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


def read(task: str, path: Path | None = None, *, on_bad: str = "fail") -> ItemSet:
    return read_task_items(load_task(task), path or FIXTURES / task, on_bad=on_bad, offline=True)


def rows_of(path: str) -> list[dict[str, Any]]:
    text = (FIXTURES / path).read_text(encoding="utf-8")
    return list(json.loads(text)) if path.endswith(".json") else [json.loads(x) for x in text.splitlines()]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows) if path.suffix == ".json" else "\n".join(map(json.dumps, rows)))
    return path


EXPECTED = {
    # Longer wins but in mt-bench-hard and math-prm; hep-python is a tie, so 0 of its 164.
    "m-rewardbench": {
        "official_deu_latn": (1 + (456 - 37) / 456 + 1 + (1968 - 984 - 164) / 1968) / 4,
        "accuracy": (20 + 0.5 + 1) / 24,
    },
    # Right first of ten; third, behind one longer and one tied; second, behind one tied.
    "reward-math": {
        "official": 1 / 3, "official_with_ties": 2 / 3, "official_mrr": (1 + 1 / 3 + 1 / 2) / 3,
        "accuracy": (9 + 0 + 0.5 + 7 + 0.5 + 8) / 27,
    },
    # One of two above all its losers (the other is as long as one), 1, 0, and a tie. Pairs: 2, 0.5 + 1, 1, 0 + 1, 0.5.
    "rmb": {
        "official": (1 / 2 + 1 + 0 + 0) / 4, "official_helpfulness_bon": 0.5, "official_helpfulness_pairwise": 1.0,
        "official_harmlessness_bon": 0.0, "official_harmlessness_pairwise": 0.0, "accuracy": 6 / 8,
    },
    "rag-rewardbench": {"accuracy": 1 / 2},
    # Longer, shorter, as long.
    "memory-rewardbench": {"accuracy": 1.5 / 3},
    # One split has a pair of each; a tie is one half; planning_multi_hard is wrong.
    "plan-rewardbench": {
        "official": (1 + 0 + 1 / 2 + 1 + 1 + 1 / 2 + 1) / 7, "official_planning_single_easy": 0.5,
        "official_safety_refusal": 0.5, "accuracy": 5.5 / 8,
    },
}  # fmt: skip


@pytest.mark.parametrize("task", EXPECTED)
def test_the_numbers_of_length(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data", str(FIXTURES / task), "--results", str(tmp_path)]
    assert run(["eval", "-m", "length", "-t", task, *where, "--json", "-q"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    for name, value in EXPECTED[task].items():
        assert record["metrics"][name]["value"] == pytest.approx(value, abs=1e-9), name
    assert record["primary"] == load_task(task).primary


def test_one_language_has_its_number_and_says_that_21_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data", str(FIXTURES / "m-rewardbench"), "--results", str(tmp_path), "-q"]
    assert run(["eval", "-m", "length", "-t", "m-rewardbench", *where]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "no official: the mean of 22 languages: 21 have no number" in said
    assert "no official_ell_grek: no item of 22 of 23 subsets, such as alpacaeval-length" in said


def test_m_rewardbench_translations_of_an_item_are_one_cluster() -> None:
    found = read("m-rewardbench")
    assert found.dropped == {"files of the translation sets": 1}
    german, greek = found.items[0], found.items[-1]
    assert (german.id, greek.id) == ("deu_Latn:alpacaeval-easy:0", "ell_Grek:alpacaeval-easy:0")
    assert german.cluster == greek.cluster == "alpacaeval-easy:0"
    assert german.strata == {"language": "deu_Latn", "section": "Chat", "subset": "alpacaeval-easy"}


def test_m_rewardbench_the_first_version_calls_the_subset_so(tmp_path: Path) -> None:
    rows = rows_of("m-rewardbench/deu_Latn/test-00000-of-00001.jsonl")
    old = [{**{k: v for k, v in row.items() if k != "source"}, "subset": row["source"]} for row in rows]
    path = write(tmp_path / "deu_Latn" / "test-00000.jsonl", old)
    assert (
        read("m-rewardbench", path.parent).data_hash
        == read("m-rewardbench", FIXTURES / "m-rewardbench" / "deu_Latn").data_hash
    )


def test_reward_math_rows_are_grouped_into_problems() -> None:
    items = read("reward-math").items
    assert [item.id for item in items] == ["0", "1", "2"]
    assert [[r.gold for r in item.responses] for item in items] == [[1.0] + [0.0] * 9] * 3
    assert items[0].responses[0].text == "Two and two.\nThey make \\boxed{4}."
    assert items[1].strata == {"subject": "Prealgebra", "level": "2"}


def test_reward_math_a_bad_row_takes_its_problem_with_it(tmp_path: Path) -> None:
    rows = rows_of("reward-math/RewardMATH_direct.json")
    rows[13] = {**rows[13], "eval_solution": " "}
    del rows[29]
    path = write(tmp_path / "RewardMATH_direct.json", rows)
    with pytest.raises(DataError, match=r"line 14, key 'eval_solution': expected a list of steps"):
        read("reward-math", path)
    found = read("reward-math", path, on_bad="skip")
    assert [item.id for item in found.items] == ["0"]
    others = {"other solutions of a problem that does not fit": 9 + 8}
    assert found.dropped == {"text is not a string": 1, "solutions do not fit": 1, **others}, (
        "every row of 29 is told"
    )


def test_rmb_best_of_n_items_and_pairs_are_told_apart_by_their_path() -> None:
    found = read("rmb")
    assert {item.id: (item.strata["part"], item.strata["category"]) for item in found.items} == {
        "bon:1": ("Helpfulness BoN", "Code"),
        "bon:2": ("Helpfulness BoN", "Code"),
        "bon:3": ("Harmlessness BoN", "S1"),
        "pair:1": ("Helpfulness Pairwise", "Chat"),
        "pair:2": ("Harmlessness Pairwise", "S1"),
    }
    sizes = {item.id: [r.gold for r in item.responses] for item in found.items}
    assert sizes["bon:1"] == [1.0, 0.0, 0.0]
    assert sizes["pair:1"] == [1.0, 0.0]
    clusters = {item.id: item.cluster for item in found.items}
    assert clusters["bon:3"] == clusters["pair:2"], "both ask the same"


def test_rmb_the_repository_and_its_folder_of_data_are_the_same() -> None:
    assert read("rmb").data_hash == read("rmb", FIXTURES / "rmb" / "RMB_dataset").data_hash


def test_rag_rewardbench_asks_the_question_once() -> None:
    prompts = [item.prompt[0]["content"] for item in read("rag-rewardbench").items]
    assert [p.count("?") for p in prompts] == [1, 1]
    assert prompts[0].endswith("capital of Norway.\n\nWhat is the capital of Norway?")


def test_memory_rewardbench_ids_tell_the_tasks_apart(tmp_path: Path) -> None:
    for k, name in enumerate(("a", "b")):
        rows = rows_of("memory-rewardbench/test.jsonl")[k : k + 1]
        shutil.copy(write(tmp_path / name / "train.jsonl", rows), tmp_path / f"{name}.jsonl")
    assert [item.id for item in read("memory-rewardbench", tmp_path).items] == [
        "Long-context_Reasoning:a:1",
        "Long-form_Generation:b:1",
    ]


def test_plan_rewardbench_a_trajectory_is_one_reply() -> None:
    items = {item.id: item for item in read("plan-rewardbench").items}
    first = items["planning_single_easy:1"]
    (turn,) = first.prompt
    assert turn["content"].startswith('<tool_environment>\n[\n  {\n    "type": "function",')
    assert turn["content"].endswith("<user_query>\nWhat time is it?\n</user_query>")
    assert first.responses[0].text == (
        "[USER] What time is it?\n\n[TOOL_CALL] {'name': 'clock-now', 'arguments': '{}'}\n\n"
        "[TOOL_RESPONSE name=clock-now] 12:00\n\n[ASSISTANT] It is noon."
    )
    assert first.cluster == items["planning_single_easy:2"].cluster
    assert len({item.strata["split"] for item in items.values()}) == 7


GERMAN = "m-rewardbench/deu_Latn/test-00000-of-00001.jsonl"
BON, PAIRS = (
    "rmb/RMB_dataset/BoN_set/Harmlessness/S1.json",
    "rmb/RMB_dataset/Pairwise_set/Harmlessness/S1.json",
)
RAG, MEMORY, PLAN = "rag-rewardbench/Dataset/citation.json", "memory-rewardbench/test.jsonl", "plan-rewardbench/safety_refusal.jsonl"  # fmt: skip

BAD = [
    ("m-rewardbench", GERMAN, {"source": "hep-pythn"}, "key 'source': unknown source 'hep-pythn'; did you mean 'hep-python'"),
    ("m-rewardbench", GERMAN, {"language": "deu_Latin"}, "key 'language': unknown language 'deu_Latin'; did you mean 'deu_Latn'"),
    ("m-rewardbench", GERMAN, {"chosen": None}, "key 'chosen': null; expected text"),
    ("rmb", BON, {"loser_list": []}, "key 'loser_list': expected a list of at least one reply"),
    ("rmb", BON, {"bon_best": {"llm_name": "a"}}, "key 'bon_best': expected an object with 'answer'"),
    ("rmb", BON, {"category_path": "BoN_set/Humour/S1"}, "key 'category_path': 'BoN_set/Humour/S1'; expected BoN_set or"),
    ("rmb", PAIRS, {"reject": {"answer": None}}, r"key 'reject\.answer': null; expected text"),
    ("rmb", PAIRS, {"conversation_input": [{"role": "assistant", "content": "Hi"}]}, "key 'conversation_input': ends with"),
    ("rag-rewardbench", RAG, {"question": 3}, "key 'question': a number; expected text"),
    ("memory-rewardbench", MEMORY, {"ctx_length": 8}, "key 'ctx_length': a number; expected text"),
    ("plan-rewardbench", PLAN, {"chosen": {"messages": "Hi"}}, "key 'chosen': expected an object with a list"),
    ("plan-rewardbench", PLAN, {"reject": {"messages": ["Hi"]}}, r"key 'reject\.messages\[0\]': expected an object with a role"),
    ("plan-rewardbench", PLAN, {"chosen": {"messages": [{"role": "user", "content": 3}]}}, r"key 'chosen\.messages\[0\]\.content': expected text"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "fixture", "change", "said"), BAD)
def test_a_row_that_does_not_fit_is_named_or_counted(
    tmp_path: Path, task: str, fixture: str, change: dict[str, Any], said: str
) -> None:
    good = rows_of(fixture)[0]
    other = {key: "other" for key in ("bon_uid", "pair_uid", "id") if isinstance(good.get(key), str)}
    other |= {"id": 99} if isinstance(good.get("id"), int) else {}
    path = write(tmp_path / Path(fixture).name, [good, {**good, **other, **change}])
    with pytest.raises(DataError, match=rf"{path.name}, line 2, {said}"):
        read(task, path)
    found = read(task, path, on_bad="skip")
    assert (len(found.items), sum(found.dropped.values())) == (1, 1)


@pytest.mark.parametrize(
    ("task", "fixture", "key"),
    [("m-rewardbench", GERMAN, "rejected"), ("reward-math", "reward-math/RewardMATH_direct.json", "solution_type"),
     ("rmb", BON, "bon_best"), ("rag-rewardbench", RAG, "subset"), ("memory-rewardbench", MEMORY, "task"),
     ("plan-rewardbench", PLAN, "query")],
)  # fmt: skip
def test_a_missing_key_is_named(tmp_path: Path, task: str, fixture: str, key: str) -> None:
    row = {**rows_of(fixture)[0], f"{key}_": 1}
    del row[key]
    path = write(tmp_path / Path(fixture).name, [row])
    with pytest.raises(DataError, match=rf"line 1, key '{key}': the key is missing \(did you mean '{key}_'"):
        read(task, path)
    assert read(task, path, on_bad="skip").dropped == {"missing key": 1}


def test_plan_rewardbench_a_file_that_is_no_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1.*the file is not a split"):
        read("plan-rewardbench", write(tmp_path / "rows.jsonl", rows_of(PLAN)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"problem_id": -1}, "key 'problem_id': -1; expected a whole number from 0"),
        ({"solution_type": "wrong"}, "key 'solution_type': 'wrong'; expected chosen or rejected"),
        ({"solution_type": "rejected"}, "key 'problem_id': 0 right and 10 wrong solutions; expected 1 and 9"),
        ({"eval_solution": "text"}, "key 'eval_solution': expected a list of steps"),
    ],
)
def test_reward_math_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    rows = rows_of("reward-math/RewardMATH_direct.json")[:10]
    path = write(tmp_path / "RewardMATH_direct.json", [{**rows[0], **change}, *rows[1:]])
    with pytest.raises(DataError, match=f"line 1, {said}"):
        read("reward-math", path)


def test_reward_math_a_problem_has_one_text(tmp_path: Path) -> None:
    rows = rows_of("reward-math/RewardMATH_direct.json")[:10]
    rows[4] = {**rows[4], "problem": "Another?"}
    with pytest.raises(DataError, match="line 5, key 'problem': differs from the problem"):
        read("reward-math", write(tmp_path / "RewardMATH_direct.json", rows))
