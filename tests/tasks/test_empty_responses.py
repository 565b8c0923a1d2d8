"""Empty responses: every reader keeps them with their gold, and a run counts them."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run
from rmbench.tasks import read_task_items
from rmbench.tasks.items import ItemSet
from rmbench.tasks.spec import DataSpec, load_task

FIXTURES = Path(__file__).parent.parent / "fixtures"
POOL = {"id": "a", "prompt": "Q", "responses": ["right", "", "wrong", " \n"], "gold": [1.0, 0.25, 0.0, 0.5]}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def own(path: Path, reader: str) -> ItemSet:
    from dataclasses import replace

    spec = replace(load_task("preference"), data=DataSpec(reader=reader))
    return read_task_items(spec, path, offline=True)


def first_row(file: str) -> dict[str, Any]:
    text = (FIXTURES / file).read_text(encoding="utf-8")
    value = json.loads(text) if text.lstrip().startswith("[") else json.loads(text.splitlines()[0])
    return dict(value[0] if isinstance(value, list) else value)


def said(*turns: str) -> list[dict[str, str]]:
    return [dict(zip(("role", "content"), turn.split(":", 1), strict=True)) for turn in turns]


def changed(row: dict[str, Any], keys: str, value: Any) -> dict[str, Any]:
    """Return a row with another value at a place such as `a.0.b`."""
    row = json.loads(json.dumps(row))
    here: Any = row
    *above, last = [int(k) if k.isdigit() else k for k in keys.split(".")]
    for key in above:
        here = here[key]
    here[last] = value
    return row


BENCHMARKS = [
    ("shp", "shp/askbaking/test.json", "human_ref_A"),
    ("summarize", "summarize/validation.jsonl", "summaries.0.text"),
    ("webgpt", "webgpt/comparisons.jsonl", "answer_0"),
    ("pku-safe-rlhf", "pku-safe-rlhf/data/Alpaca-7B/test.jsonl", "response_1"),
    ("ppe-preference", "ppe-preference/test.jsonl", "response_1"),
    ("rmb", "rmb/RMB_dataset/Pairwise_set/Harmlessness/S1.json", "chosen.answer"),
    ("rmb", "rmb/RMB_dataset/BoN_set/Harmlessness/S1.json", "loser_list.0.answer"),
    ("rag-rewardbench", "rag-rewardbench/Dataset/citation.json", "reject"),
    ("memory-rewardbench", "memory-rewardbench/test.jsonl", "chosen"),
    ("plan-rewardbench", "plan-rewardbench/safety_refusal.jsonl", "chosen.messages"),
    ("helpsteer2-preference", "", "response_1"),
    ("helpsteer3", "", "response2"),
    ("ultrafeedback", "", "chosen.1.content"),
    ("rm-bench", "", "rejected.2"),
    ("judgebench", "", "response_B"),
    ("rewardbench", "", "rejected"),
    ("summeval-bon", "", "summaries.1.text"),
    ("gsm8k-bon", "", "responses.0"),
    ("pandalm", "", "response2"),
    ("hh-harmless", "", "chosen"),
    ("pm-bon", "", "sampled_answers.1.sampled_string"),
]  # fmt: skip

_RATED = {"coherence": 1, "consistency": 5, "fluency": 4, "relevance": 2}
ROWS: dict[str, dict[str, Any]] = {
    "helpsteer2-preference": {
        "split": "val", "prompt": "Q", "response_1": "x", "response_2": "y", "preference_strength": -2,
    },
    "helpsteer3": {
        "domain": "general", "language": "english", "context": said("user:Q"), "response1": "x",
        "response2": "y", "overall_preference": 1,
    },
    "ultrafeedback": {
        "chosen": said("user:Q", "assistant:x"), "rejected": said("user:Q", "assistant:y"),
        "score_chosen": 7, "score_rejected": 3,
    },
    "rm-bench": {"id": 3, "prompt": "Q", "domain": "chat", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"]},
    "judgebench": {
        "pair_id": "p", "question": "Q", "source": "livebench-math", "label": "A>B", "response_A": "x",
        "response_B": "y", "response_model": "gpt-4o",
    },
    "rewardbench": {"id": 1, "prompt": "Q", "chosen": "x", "rejected": "y", "subset": "alpacaeval-easy"},
    "summeval-bon": {"id": "a", "article": "A", "summaries": [{"text": t, **_RATED} for t in "xy"]},
    "gsm8k-bon": {"id": "a", "prompt": "Q", "responses": ["1", "2"], "gold": [True, False], "models": ["m", "n"]},
    "pandalm": {
        "idx": 1, "instruction": "I", "response1": "x", "response2": "y", "annotator1": 1, "annotator2": 1,
        "annotator3": 0,
    },
    "hh-harmless": {"chosen": "\n\nHuman: Q\n\nAssistant: x", "rejected": "\n\nHuman: Q\n\nAssistant: y"},
    "pm-bon": {
        "rl_prompt": "\n\nHuman: Q\n\nAssistant:", "comparison_dataset": "d",
        "sampled_answers": [{"sampled_string": t, "pm_scores": [{"pm_score": s}]} for t, s in (("x", 1.5), ("y", -0.5))],
    },
}  # fmt: skip
EMPTY: dict[str, Any] = {"hh-harmless": "\n\nHuman: Q\n\nAssistant:", "plan-rewardbench": []}
NAMES = {"rm-bench": "chat_filtered.json", "plan-rewardbench": "safety_refusal.jsonl", "rmb": "S1.json"}


def golds(found: ItemSet) -> list[list[float | None]]:
    return [sorted((r.gold for r in item.responses), key=str) for item in found.items]


@pytest.mark.parametrize(("task", "file", "key"), BENCHMARKS, ids=lambda v: v if isinstance(v, str) else None)
def test_a_benchmark_keeps_an_empty_response_with_its_gold(
    tmp_path: Path, task: str, file: str, key: str
) -> None:
    row = first_row(file) if file else ROWS[task]
    name = NAMES.get(task, Path(file).name or "rows.jsonl")
    full, bare = tmp_path / "full", tmp_path / "bare"
    for folder, value in ((full, row), (bare, changed(row, key, EMPTY.get(task, "")))):
        folder.mkdir()
        write(folder / name, value)
    before, after = (read_task_items(load_task(task), f / name, offline=True) for f in (full, bare))
    assert golds(after) == golds(before)
    assert after.dropped == before.dropped == {}
    texts = [r.text for item in after.items for r in item.responses]
    assert [t.strip() for t in texts].count("") == 1
    assert len(texts) == sum(len(item.responses) for item in before.items)


def test_reward_math_an_empty_solution_is_one_of_ten(tmp_path: Path) -> None:
    rows = json.loads((FIXTURES / "reward-math/RewardMATH_direct.json").read_text(encoding="utf-8"))
    rows[3]["eval_solution"], rows[14]["eval_solution"] = [], [" "]
    path = tmp_path / "RewardMATH_direct.json"
    path.write_text(json.dumps(rows))
    found = read_task_items(load_task("reward-math"), path, offline=True)
    assert [len(item.responses) for item in found.items] == [10, 10, 10]
    assert (found.items[0].responses[3].text, found.items[0].responses[3].gold) == ("", 0.0)


@pytest.mark.parametrize("empty", ["", " \n\t"])
def test_our_own_formats_keep_them(tmp_path: Path, empty: str) -> None:
    pool = own(write(tmp_path / "i.jsonl", {**POOL, "responses": ["a", empty, "b", "c"]}), "jsonl")
    assert [(r.text, r.gold) for r in pool.items[0].responses][1] == (empty, 0.25)
    forms: list[tuple[Any, Any]] = [
        ("x", empty), (said("assistant:x"), said(f"assistant:{empty}")),
        (said("user:Q", "assistant:x"), said("user:Q", f"assistant:{empty}")),
    ]  # fmt: skip
    for n, (chosen, rejected) in enumerate(forms):
        row = {"prompt": "Q", "chosen": chosen, "rejected": rejected}
        if n == 2:
            del row["prompt"]
        (item,) = own(write(tmp_path / "p.jsonl", row), "pairs").items
        assert [(r.text, r.gold) for r in item.responses] == [("x", 1.0), (empty, 0.0)]


def test_what_is_no_text_is_still_left_out_and_counted(tmp_path: Path) -> None:
    row = changed({**ROWS["gsm8k-bon"], "responses": ["1", "2", ""]}, "responses.0", None)
    row |= {"gold": [True, False, False], "models": ["m", "n", "o"]}
    found = read_task_items(load_task("gsm8k-bon"), write(tmp_path / "g.jsonl", row), offline=True)
    assert [r.text for r in found.items[0].responses] == ["2", ""]
    assert found.dropped == {"responses that are no text": 1}


def test_a_pool_without_its_empty_responses_would_look_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The length baseline over pools whose empty responses are the bad ones: by hand, with and without."""
    rows = [
        {"id": f"r{k}", "prompt": f"Q{k}", "responses": ["long one", "mid", ""], "gold": [0.5, 1.0, 0.0]}
        for k in range(4)
    ]
    base = ["-t", "bon", "--results", str(tmp_path / "r"), "-q"]
    path = write(tmp_path / "full.jsonl", *rows)
    assert run(["eval", "-m", "length", *base, "--data", str(path), "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    # Of three responses the longest has 1/2; one drawn at random (0.5 + 1 + 0) / 3.
    assert record["metrics"]["gold@1"]["value"] == pytest.approx(0.5)
    assert record["counts"]["empty"] == 4
    assert record["counts"]["responses"] == 12
    assert not record["counts"]["dropped"]
    assert run(["eval", "-m", "length", *base, "--data", str(path)]) == 0
    assert "4 of 12 responses are empty: they keep their gold" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["length", "shortest", "markdown", "random", "constant", "builtin:linear"])
def test_models_without_a_tokenizer_have_a_finite_reward_for_them(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "i.jsonl", POOL, {**POOL, "id": "b", "prompt": "R"})
    assert run(["eval", "-m", model, "-t", "preference", "--data", str(path), "--results", str(tmp_path / "r"),
                "--json", "-q"]) == 0  # fmt: skip
    (record,) = json.loads(capsys.readouterr().out)
    assert record["counts"]["invalid"] == 0
    assert record["counts"]["empty"] == 4
    (rewards,) = (tmp_path / "r").rglob("*.rewards.jsonl.gz")
    for line in gzip.decompress(rewards.read_bytes()).decode().splitlines():
        row = json.loads(line)
        assert len(row["rewards"]) == 4
        assert row["gold"] == POOL["gold"]
        if model == "length":
            assert row["rewards"] == [5.0, 0.0, 5.0, 2.0]


ANSWERS: list[tuple[str, dict[str, Any], Callable[[Any], bool]]] = [
    ("math", {"answer": "4"}, lambda gold: gold == 0.0),
    ("exact", {"answer": "4"}, lambda gold: gold == 0.0),
    ("regex", {"pattern": r"\d"}, lambda gold: gold == 0.0),
    ("json-schema", {"schema": {"type": "object"}}, lambda gold: gold == 0.0),
    ("instruction", {"checks": [{"name": "words", "at_most": 3}]}, lambda gold: gold == 0.0),
]


@pytest.mark.parametrize(
    ("verifier", "expected", "holds"), ANSWERS, ids=lambda v: v if isinstance(v, str) else ""
)
@pytest.mark.parametrize("empty", ["", " \n"])
def test_a_verifier_gives_them_gold(
    verifier: str, expected: dict[str, Any], holds: Callable[[Any], bool], empty: str
) -> None:
    from rmbench.gold.verifier import find_verifier

    factory, _ = find_verifier(verifier)
    assert holds(factory().verify(empty, expected).gold)
