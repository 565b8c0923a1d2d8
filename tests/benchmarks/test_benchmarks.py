"""The readers of published benchmarks, on small rows of their schema and on the real files."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from rmbench.errors import DataError
from rmbench.tasks import read_task_items
from rmbench.tasks.items import ItemSet
from rmbench.tasks.spec import apply_params, load_task


def read(task: str, path: Path, *, on_bad: str = "fail", **options: str) -> ItemSet:
    return read_task_items(apply_params(load_task(task), options), path, on_bad=on_bad, offline=True)


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def transcript(*turns: str) -> str:
    return "".join(f"\n\n{t}" for t in turns)


def test_hh_the_prompt_is_everything_before_the_last_reply(tmp_path: Path) -> None:
    head = ("Human: Hi", "Assistant: Hello.\n\nHow are you?", "Human: Tell me: what is 1+1?")
    row = {
        "chosen": transcript(*head, "Assistant: 2"),
        "rejected": transcript(*head, "Assistant: Human: 3"),
    }
    (item,) = read("hh-harmless", lines(tmp_path / "t.jsonl", row)).items
    assert [t["role"] for t in item.prompt] == ["user", "assistant", "user"]
    assert item.prompt[1]["content"] == "Hello.\n\nHow are you?"
    assert [(r.text, r.gold) for r in item.responses] == [("2", 1.0), ("Human: 3", 0.0)]
    assert item.strata == {"turns": "2"}


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (("Human: Q", "Assistant: x"), ("Human: Q", "Assistant: x"), "identical responses"),
        (("Human: Q", "Assistant: x"), ("Human: R", "Assistant: y"), "prompts differ between chosen and rejected"),
    ],
)  # fmt: skip
def test_hh_published_pairs_that_compare_nothing_are_left_out_and_counted(
    tmp_path: Path, chosen: tuple[str, ...], rejected: tuple[str, ...], reason: str
) -> None:
    good = {
        "chosen": transcript("Human: a", "Assistant: b"),
        "rejected": transcript("Human: a", "Assistant: c"),
    }
    bad = {"chosen": transcript(*chosen), "rejected": transcript(*rejected)}
    found = read("hh-harmless", lines(tmp_path / "t.jsonl", good, bad))
    assert (len(found.items), found.dropped) == (1, {reason: 1})


@pytest.mark.parametrize(
    "text", ["Human: Q", "\n\nSystem: Q", "\n\nHuman: Q", "\n\nHuman: a\n\nAssistant: b\n\nHuman: c"]
)
def test_hh_what_is_no_transcript_is_an_error(tmp_path: Path, text: str) -> None:
    row = {"chosen": text, "rejected": transcript("Human: Q", "Assistant: x")}
    with pytest.raises(DataError, match=r"t\.jsonl, line 1.*key 'chosen'"):
        read("hh-harmless", lines(tmp_path / "t.jsonl", row))


def test_rm_bench_is_six_styled_responses(tmp_path: Path) -> None:
    row = {"id": 3, "prompt": "Q", "chosen": ["a", "bb", "ccc"], "rejected": ["d", "ee", "fff"]}
    for name in ("safety-refuse_filtered.json", "safety-response_filtered.json"):
        (tmp_path / name).write_text(json.dumps([row]))
    items = read("rm-bench", tmp_path).items
    assert [i.id for i in items] == ["safety-refuse:3", "safety-response:3"]
    assert {i.strata["domain"] for i in items} == {"safety"}
    assert [(r.gold, r.tags["style"]) for r in items[0].responses] == [
        (g, s) for g in (1.0, 0.0) for s in ("concise", "detailed_plain", "detailed_markdown")
    ]


def test_judgebench_category_is_how_the_source_begins(tmp_path: Path) -> None:
    rows = [
        {"pair_id": str(k), "question": "Q", "source": s, "response_A": "a", "response_B": "b", "label": label}
        for k, (s, label) in enumerate(
            [("mmlu-pro-law", "A>B"), ("livebench-math", "B>A"), ("livecodebench", "A>B"), ("livebench-reasoning", "B>A")]
        )
    ]  # fmt: skip
    items = read("judgebench", lines(tmp_path / "j.jsonl", *rows)).items
    assert [i.strata["category"] for i in items] == ["Knowledge", "Math", "Coding", "Reasoning"]
    assert [[r.gold for r in i.responses] for i in items] == [[1, 0], [0, 1], [1, 0], [0, 1]]
    for change, said in (
        ({"source": "arena"}, "unknown source|mmlu-pro"),
        ({"label": "A=B"}, "'A>B' or 'B>A'"),
    ):
        with pytest.raises(DataError, match=said):
            read("judgebench", lines(tmp_path / "bad.jsonl", {**rows[0], **change}))


def test_pandalm_votes_are_soft_labels(tmp_path: Path) -> None:
    base = {
        "idx": 1,
        "instruction": "Do",
        "input": "this",
        "response1": "a",
        "response2": "b",
        "motivation_app": "x",
    }
    votes = [(1, 1, 1), (1, 2, 0), (0, 0, 0), (2, 2, 1)]
    rows = [
        {**base, "idx": k, **dict(zip(("annotator1", "annotator2", "annotator3"), v, strict=True))}
        for k, v in enumerate(votes)
    ]
    (tmp_path / "testset-v1.json").write_text(json.dumps(rows))
    items = read("pandalm", tmp_path).items
    assert [i.responses[0].gold for i in items] == pytest.approx([1.0, 0.5, 0.5, 1 / 3])
    assert items[0].prompt[0]["content"] == "Do\n\nthis"


VERDICTS = {"strong": 1.9, "weak": 1.1, "gpt4_1106_preview": 1.5, "NullModel": 1.99, "gpt4_gamed": 1.8}


def annotations(folder: Path) -> Path:
    for model, preference in VERDICTS.items():
        path = folder / "results" / model / "weighted_alpaca_eval_gpt4_turbo" / "annotations.json"
        path.parent.mkdir(parents=True)
        row = {
            "instruction": "Q", "output_1": "reference", "output_2": f"by {model}",
            "generator_1": "gpt4_1106_preview", "generator_2": model, "preference": preference, "dataset": "d",
        }  # fmt: skip
        path.write_text(
            json.dumps([row, {**row, "instruction": "R", "output_2": "" if model == "weak" else "r"}])
        )
    return folder


def test_alpacaeval_pools_leave_out_the_reference_and_the_adversarial(tmp_path: Path) -> None:
    found = read("alpacaeval-bon", annotations(tmp_path))
    item, other = found.items
    assert {r.tags["generator"]: round(r.gold or 0, 6) for r in item.responses} == {
        "strong": 0.9,
        "weak": 0.1,
    }
    assert [(r.text, round(r.gold or 0, 6)) for r in other.responses] == [("r", 0.9), ("", 0.1)]
    assert found.dropped == {
        "responses of adversarial generators": 4,
        "responses of the reference itself": 2,
    }
    more = read("alpacaeval-bon", tmp_path, adversarial="true", reference="true").items[0]
    assert {r.tags["generator"] for r in more.responses} == {
        "strong",
        "weak",
        "NullModel",
        "gpt4_gamed",
        "reference",
    }
    pairs = read("alpacaeval-calibration", tmp_path, adversarial="true").items
    for responses in (more.responses, [r for pair in pairs for r in pair.responses]):
        marked = {r.tags["generator"] for r in responses if r.tags.get("adversarial") == "yes"}
        assert marked == {"NullModel", "gpt4_gamed"}


def test_alpacaeval_verdicts_against_different_references_are_not_mixed(tmp_path: Path) -> None:
    folder = annotations(tmp_path)
    path = folder / "results" / "weak" / "weighted_alpaca_eval_gpt4_turbo" / "annotations.json"
    rows = json.loads(path.read_text())
    rows[1]["generator_1"] = "another"
    path.write_text(json.dumps(rows))
    for task in ("alpacaeval-bon", "alpacaeval-calibration"):
        with pytest.raises(DataError, match="'another'; other rows are against 'gpt4_1106_preview'"):
            read(task, folder)
        assert read(task, folder, on_bad="skip").dropped["another reference"] == 1


def test_a_file_of_zeros_is_no_archive(tmp_path: Path) -> None:
    with (tmp_path / "zeros.tar.xz").open("wb") as file:
        file.truncate(10**10)  # nothing of it is on the disk
    with pytest.raises(DataError, match=r"no results/<model>/\w+/annotations\.json|not an archive"):
        read("alpacaeval-bon", tmp_path / "zeros.tar.xz")


def test_alpacaeval_folder_and_archive_are_the_same(tmp_path: Path) -> None:
    folder = annotations(tmp_path / "a")
    archive = tmp_path / "results.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(folder / "results", "results")
    for task in ("alpacaeval-bon", "alpacaeval-calibration"):
        assert read(task, folder).data_hash == read(task, archive).data_hash
        assert read(task, folder / "results").data_hash == read(task, archive).data_hash
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(DataError, match="not an archive that can be read"):
        read("alpacaeval-bon", archive)


def test_alpacaeval_annotators_are_names_and_no_patterns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no results/<model>/weighted\*/annotations\.json"):
        read("alpacaeval-bon", annotations(tmp_path), annotator="weighted*")


def test_alpacaeval_pairs_are_soft_labels_against_the_reference(tmp_path: Path) -> None:
    items = read("alpacaeval-calibration", annotations(tmp_path)).items
    assert {i.id.split(":")[0] for i in items} == {"strong", "weak"}
    strong = next(i for i in items if i.id.startswith("strong"))
    assert [round(r.gold or 0, 6) for r in strong.responses] == [0.9, 0.1]
    assert strong.gold_kind == "probability"


def test_alpacaeval_a_preference_of_0_is_a_draw_as_in_win_rates(tmp_path: Path) -> None:
    folder = annotations(tmp_path)
    path = folder / "results" / "strong" / "weighted_alpaca_eval_gpt4_turbo" / "annotations.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([{**row, "preference": 0} for row in rows]))
    pairs = read("alpacaeval-calibration", folder).items
    strong = [i for i in pairs if i.id.startswith("strong")]
    assert [[r.gold for r in i.responses] for i in strong] == [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize("preference", [None, True, float("nan"), "x", 0.5, 2.5])
def test_alpacaeval_a_verdict_out_of_range_is_an_error(tmp_path: Path, preference: object) -> None:
    folder = annotations(tmp_path)
    path = folder / "results" / "strong" / "weighted_alpaca_eval_gpt4_turbo" / "annotations.json"
    rows = json.loads(path.read_text())
    rows[1]["preference"] = preference
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"annotations\.json, line 2, key 'preference'"):
        read("alpacaeval-bon", folder)
    assert read("alpacaeval-bon", folder, on_bad="skip").dropped["no verdict"] == 1


def test_summeval_gold_is_the_mean_rating_or_one_aspect(tmp_path: Path) -> None:
    ratings = {"coherence": 1, "consistency": 5, "fluency": 4, "relevance": 2}
    row = {"id": "a", "article": "A", "summaries": [{"text": "x", "system": "s", **ratings}, {"text": "y", "system": "t", **ratings, "fluency": 1}]}  # fmt: skip
    path = lines(tmp_path / "s.jsonl", row)
    assert [r.gold for r in read("summeval-bon", path).items[0].responses] == [3.0, 2.25]
    assert [r.gold for r in read("summeval-bon", path, aspect="fluency").items[0].responses] == [4.0, 1.0]


REAL = [
    ("hh-harmless", "hh_rlhf/harmless-base", 1709, 3418, 4, {"prompts differ between chosen and rejected": 2}),
    ("hh-harmless", "hh_rlhf", 1709, 3418, 4, {"prompts differ between chosen and rejected": 2}),
    ("hh-helpful", "hh_rlhf/helpful-base/test.jsonl.gz", 1185, 2370, 3, {"prompts differ between chosen and rejected": 6}),
    ("rm-bench", "rm_bench", 395, 2370, 0, {}),
    ("judgebench", "judgebench/data", 620, 1240, 0, {}),
    ("pandalm", "pandalm", 493, 986, 30, {"a response is no text": 6}),
    ("summeval-bon", "summeval", 58, 928, 0, {}),
    ("gsm8k-bon", "gsm8k_pools", 95, 4130, 0, None),
    ("alpacaeval-bon", "alpaca_eval/results.tar.xz", 406, 22321, 16, {"responses of adversarial generators": 812, "responses of the reference itself": 406}),
    ("alpacaeval-calibration", "alpaca_eval/results.tar.xz", 22321, 44642, 16, {"responses of adversarial generators": 812, "responses of the reference itself": 406}),
]  # fmt: skip


@pytest.mark.parametrize(("task", "path", "items", "responses", "empty", "dropped"), REAL)
def test_real_files(
    shared_data: Path,
    task: str,
    path: str,
    items: int,
    responses: int,
    empty: int,
    dropped: dict[str, int] | None,
) -> None:
    found = read(task, shared_data / path)
    assert (len(found.items), sum(len(i.responses) for i in found.items)) == (items, responses)
    if dropped is not None:
        assert found.dropped == dropped
    kept = [r for i in found.items for r in i.responses if not r.text.strip()]
    assert len(kept) == empty
    assert all(r.gold is not None for r in kept)
