"""Preference data in the layouts and containers that people have: the right items, or an error with the way."""

import bz2
import csv
import gzip
import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from rmbench.errors import ConfigError, DataError
from rmbench.tasks import read_task_items
from rmbench.tasks.items import ItemSet
from rmbench.tasks.rows import BadRows
from rmbench.tasks.spec import apply_params, load_task
from rmbench.tasks.training import training_rows
from rmbench.train.pairs import read_training_data

Q, GOOD, BAD = "What is 2+2?", "It is 4.", "It is 5, I think."
HUMAN = f"\n\nHuman: {Q}\n\nAssistant:"


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def gpt(who: str, text: str) -> dict[str, str]:
    return {"from": who, "value": text}


USER, YES, NO = said("user", Q), said("assistant", GOOD), said("assistant", BAD)
DPO = {"prompt": Q, "chosen": GOOD, "rejected": BAD}

SAME: dict[str, Mapping[str, Any]] = {
    "prompt, chosen, rejected": DPO,
    "messages for all three": {"prompt": [USER], "chosen": [YES], "rejected": [NO]},
    "whole conversations beside a prompt": {"prompt": Q, "chosen": [USER, YES], "rejected": [USER, NO]},
    "TRL, implicit prompt": {"chosen": [USER, YES], "rejected": [USER, NO]},
    "HH transcripts": {"chosen": f"{HUMAN} {GOOD}", "rejected": f"{HUMAN} {BAD}"},
    "a transcript as the prompt": {"prompt": HUMAN, "chosen": GOOD, "rejected": BAD},
    "transcripts beside their prompt": {"prompt": HUMAN, "chosen": f"{HUMAN} {GOOD}", "rejected": f"{HUMAN} {BAD}"},
    "ms-swift messages": {"messages": [USER, YES], "rejected_messages": [USER, NO]},
    "ms-swift response": {"messages": [USER, YES], "rejected_response": BAD},
    "LLaMA-Factory ranking, ShareGPT": {
        "conversations": [gpt("human", Q)], "chosen": gpt("gpt", GOOD), "rejected": gpt("gpt", BAD),
    },
    "LLaMA-Factory ranking, Alpaca": {"instruction": Q, "input": "", "chosen": GOOD, "rejected": BAD},
    "Alpaca, output as a list": {"instruction": Q, "input": "", "output": [GOOD, BAD]},
    "ShareGPT in both": {
        "chosen": [gpt("human", Q), gpt("gpt", GOOD)], "rejected": [gpt("human", Q), gpt("gpt", BAD)],
    },
    "OpenAI preference": {
        "input": {"messages": [USER], "tools": []}, "preferred_output": [YES], "non_preferred_output": [NO],
    },
    "question, chosen, rejected": {"system": "", "question": Q, "chosen": GOOD, "rejected": BAD},
    "argilla": {"instruction": Q, "chosen_response": GOOD, "rejected_response": BAD},
    "response_j and response_k": {"question": Q, "response_j": GOOD, "response_k": BAD},
    "output_1, output_2, preference": {"instruction": Q, "output_1": BAD, "output_2": GOOD, "preference": 2},
    "output_a, output_b, preference": {"prompt": Q, "output_a": GOOD, "output_b": BAD, "preference": "A"},
    "response_1, response_2, winner": {"prompt": Q, "response_1": BAD, "response_2": GOOD, "winner": "response_2"},
    "response_0, better_response_id": {"prompt": Q, "response_0": BAD, "response_1": GOOD, "better_response_id": 1},
    "response_a, winner model_a": {"prompt": Q, "response_a": GOOD, "response_b": BAD, "winner": "model_a"},
    "arena conversations": {
        "conversation_a": [USER, YES], "conversation_b": [USER, NO], "winner": "model_a", "judge": "arena",
    },
    "arena marks": {
        "prompt": Q, "response_a": BAD, "response_b": GOOD, "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0,
    },
    "judge's letters": {"prompt": Q, "answer_a": BAD, "answer_b": GOOD, "verdict": "[[B]]"},
    "columns with dashes": {"Prompt": Q, "response-1": GOOD, "response-2": BAD, "choose-best": [{"value": 1}]},
    "content in parts": {
        "prompt": [said("user", "") | {"content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "2+2?"}]}],
        "chosen": GOOD, "rejected": BAD,
    },
}  # fmt: skip
"""Rows that mean the same pair with a label as gold."""

GRADED: dict[str, tuple[Mapping[str, Any], list[float]]] = {
    "UltraFeedback, binarised": (
        {
            "prompt": Q, "prompt_id": "7f", "chosen": [USER, YES], "rejected": [USER, NO], "messages": [USER, YES],
            "score_chosen": 8.5, "score_rejected": 3.0,
        }, [8.5, 3.0],
    ),
    "argilla ratings": (
        {"instruction": Q, "chosen_response": GOOD, "rejected_response": BAD, "chosen_avg_rating": 5, "rejected_avg_rating": 2},
        [5, 2],
    ),
    "margin": (DPO | {"margin": 2.5}, [2.5, 0]),
    "strength": (DPO | {"strength": 3}, [3, 0]),
    "HelpSteer3": ({"context": [USER], "response1": GOOD, "response2": BAD, "overall_preference": -2}, [2, 0]),
    "WebGPT scores": ({"question": Q, "answer_0": GOOD, "answer_1": BAD, "score_0": 1.0, "score_1": -1.0}, [1, -1]),
    "responses and scores": ({"prompt": Q, "responses": [GOOD, BAD], "scores": [4, 1.5]}, [4, 1.5]),
    "completions with ratings": (
        {"instruction": Q, "completions": [{"response": GOOD, "overall_score": 9}, {"response": BAD, "overall_score": 2}]},
        [9, 2],
    ),
    "generations and ratings": ({"instruction": Q, "generations": [GOOD, BAD], "ratings": [5, 1]}, [5, 1]),
}  # fmt: skip


def read(path: Path, on_bad: str = "fail", **options: str) -> ItemSet:
    spec = apply_params(load_task("preference"), options)
    return read_task_items(spec, path, on_bad=on_bad, offline=True)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def sides(found: ItemSet) -> list[tuple[list[Any], list[tuple[str, float | None]]]]:
    return [
        ([(t["role"], t["content"]) for t in item.prompt], sorted((r.text, r.gold) for r in item.responses))
        for item in found.items
    ]


def expected(good: float, bad: float) -> list[Any]:
    return [([("user", Q)], sorted([(GOOD, good), (BAD, bad)]))]


@pytest.mark.parametrize("name", SAME)
def test_a_layout_gives_the_same_pair(name: str, tmp_path: Path) -> None:
    found = read(write(tmp_path / "pairs.jsonl", SAME[name]))
    assert sides(found) == expected(1.0, 0.0)
    assert found.items[0].gold_kind == "label"
    assert len(found.remarks) == 1
    assert "pairs.jsonl: " in found.remarks[0]


@pytest.mark.parametrize("name", GRADED)
def test_a_layout_with_scores_gives_graded_gold(name: str, tmp_path: Path) -> None:
    row, (good, bad) = GRADED[name]
    found = read(write(tmp_path / "pairs.jsonl", row))
    assert sides(found) == expected(good, bad)
    assert found.items[0].gold_kind == "graded"


def test_ranks_are_better_when_lower(tmp_path: Path) -> None:
    answers = [{"answer": BAD, "model": "x", "rank": 3}, {"answer": GOOD, "model": "y", "rank": 1.0}]
    found = read(write(tmp_path / "nectar.jsonl", {"prompt": HUMAN, "answers": answers}))
    assert sides(found) == expected(-1.0, -3.0)


def test_lists_of_chosen_and_of_rejected(tmp_path: Path) -> None:
    row = {"prompt": Q, "chosen": [GOOD], "rejected": [BAD, "5", "6"]}
    (item,) = read(write(tmp_path / "x.jsonl", row)).items
    assert [(r.text, r.gold) for r in item.responses] == [(GOOD, 1), (BAD, 0), ("5", 0), ("6", 0)]


def test_an_alpaca_preference_between_two_is_a_probability(tmp_path: Path) -> None:
    row = {"instruction": Q, "output_1": GOOD, "output_2": BAD, "preference": 1.25}
    (item,) = read(write(tmp_path / "x.jsonl", row)).items
    assert ([r.gold for r in item.responses], item.gold_kind) == ([0.75, 0.25], "probability")


def test_a_system_prompt_an_input_and_earlier_turns_are_part_of_the_prompt(tmp_path: Path) -> None:
    row = {
        "system": "Be brief.", "history": [["Hi", "Hello"]], "instruction": "Translate", "input": "chat",
        "chosen": "cat", "rejected": "dog",
    }  # fmt: skip
    (item,) = read(write(tmp_path / "x.jsonl", row)).items
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Translate\nchat")]
    assert [(t["role"], t["content"]) for t in item.prompt] == turns


def test_an_implicit_prompt_of_plain_texts_is_told(tmp_path: Path) -> None:
    """TRL's `extract_prompt`: what both begin with, up to a word's end."""
    row = {"chosen": "The sky is blue.", "rejected": "The sky is black."}
    found = read(write(tmp_path / "x.jsonl", row))
    (item,) = found.items
    assert [t["content"] for t in item.prompt] == ["The sky is"]
    assert [r.text for r in item.responses] == ["blue.", "black."]
    assert "1 rows without a prompt: it is the text that both replies begin with" in found.remarks[0]


def test_columns_in_between_become_strata_or_are_told(tmp_path: Path) -> None:
    rows = [
        DPO | {"source": "maths", "annotator": "x" * 99},
        DPO | {"source": "words", "note": 1, "prompt": "Hm?"},
    ]
    found = read(write(tmp_path / "x.jsonl", *rows))
    assert [item.strata for item in found.items] == [{"source": "maths"}, {"source": "words"}]
    assert found.strata == ("source",)
    assert found.remarks[0].endswith("strata: source; not read: annotator, note")


def test_columns_are_named_by_the_user(tmp_path: Path) -> None:
    row = {"ask": Q, "nice": GOOD, "nasty": BAD, "prompt": "not this", "team": "a"}
    path = write(tmp_path / "x.jsonl", row)
    found = read(path, columns="prompt:ask,chosen:nice,rejected:nasty,group:team")
    assert sides(found) == expected(1.0, 0.0)
    assert found.items[0].strata == {"group": "a"}
    row = {"q": Q, "x": BAD, "y": GOOD, "best": 0}
    path = write(tmp_path / "y.jsonl", row)
    found = read(path, columns="prompt:q,first:x,second:y,winner:best", winner="1:first,0:second")
    assert sides(found) == expected(1.0, 0.0)
    row = DPO | {"generations": [GOOD, BAD], "grades": [3, 1]}
    found = read(write(tmp_path / "z.jsonl", row), columns="responses:generations,scores:grades")
    assert sides(found) == expected(3.0, 1.0)


def test_gold_may_be_the_order_alone(tmp_path: Path) -> None:
    row = DPO | {"score_chosen": 2, "score_rejected": 2}
    path = write(tmp_path / "x.jsonl", row, row | {"score_chosen": 1}, row | {"score_chosen": 3})
    found = read(path)
    assert len(found.items) == 1
    assert found.dropped == {"scores do not prefer a reply": 1, "the scores prefer the rejected reply": 1}
    assert len(read(path, gold_from="order").items) == 3


@pytest.mark.parametrize("value", [0, "model_1", "C", True, 2.5, ["1", "2"]])
def test_a_winner_that_is_neither_reply_is_never_guessed(value: Any, tmp_path: Path) -> None:
    """Rows with 1 may mean another side then, so that not even --on-bad skip goes on."""
    row = {"prompt": Q, "answer_a": GOOD, "answer_b": BAD}
    path = write(tmp_path / "x.jsonl", row | {"winner": "A"}, row | {"winner": value})
    for on_bad in ("fail", "skip"):
        with pytest.raises(
            ConfigError, match=r"line 2, key 'winner': .* names neither answer_a nor answer_b .* -T winner="
        ):
            read(path, on_bad)


def test_ties_and_identical_replies_are_left_out_and_counted(tmp_path: Path) -> None:
    row = {"prompt": Q, "response_1": GOOD, "response_2": BAD}
    rows = [row | {"winner": w} for w in (1, "tie", "Tie (bothbad)", 2)]
    found = read(write(tmp_path / "x.jsonl", *rows, row | {"response_2": GOOD, "winner": 1}))
    assert len(found.items) == 2
    assert found.dropped == {"identical responses": 1, "no reply is better": 2}


ERRORS: dict[str, tuple[Mapping[str, Any], str]] = {
    "one side": ({"prompt": Q, "chosen": GOOD}, "beside 'chosen' one of .*'rejected'.* is expected; its columns: prompt, chosen"),
    "no winner": ({"prompt": Q, "output_1": GOOD, "output_2": BAD}, "expected one such as winner that says which is better"),
    "no scores": ({"prompt": Q, "completions": [GOOD, BAD]}, "expected a column such as scores with a number for each"),
    "nothing": ({"a": 1, "b": 2}, "expected prompt, chosen and rejected, .*its columns: a, b.*-T columns=prompt:COLUMN"),
    "no prompt": ({"chosen": GOOD, "rejected": "Five"}, "no prompt: expected a column such as 'prompt'"),
    "an image": (DPO | {"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "a part of kind 'image_url'"),
    "a tool call": (DPO | {"chosen": [USER, YES | {"tool_calls": [{"id": 1}]}], "rejected": [USER, NO]}, "tool_calls': expected a list"),
    "an old call": (DPO | {"chosen": [USER, YES | {"function_call": {"name": "f"}}], "rejected": [USER, NO]}, "an older form of calls"),
    "other prompts": (DPO | {"chosen": [said("user", "x"), YES], "rejected": [USER, NO]}, "differ before the last reply"),
    "not its prompt": (DPO | {"prompt": "Other"} | {"chosen": [USER, YES], "rejected": [USER, NO]}, "differs from the prompt"),
    "no reply at the end": (DPO | {"chosen": [YES, USER]}, "ends with a turn of the user"),
    "an unknown role": (DPO | {"chosen": [said("wizard", "x")]}, "'wizard'; expected one of"),
    "scores of another number": ({"prompt": Q, "responses": [GOOD, BAD], "scores": [1]}, "expected a list of 2 numbers"),
    "a score that is text": ({"prompt": Q, "responses": [GOOD, BAD], "scores": ["1", 2]}, "text '1'; expected a number"),
    "a margin below 0": (DPO | {"margin": -1}, "expected a number above 0, or -T gold_from=order"),
    "a prompt that ends with a reply": (DPO | {"prompt": [USER, YES]}, "the prompt ends with a turn of the assistant"),
    "an empty prompt": (DPO | {"prompt": "  "}, "empty; expected text"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_names_the_way(name: str, tmp_path: Path) -> None:
    row, says = ERRORS[name]
    with pytest.raises(DataError, match=says) as caught:
        read(write(tmp_path / "x.jsonl", row))
    assert "x.jsonl, line 1" in str(caught.value)


def test_another_layout_further_down_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", DPO, {"prompt": Q, "responses": [GOOD, BAD], "scores": [1, 0]})
    with pytest.raises(DataError, match=r"line 2.* another layout .* than before"):
        read(path)


def test_options_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", DPO)
    for options, says in (
        ({"columns": "prompt"}, "'prompt'; expected NAME:COLUMN"),
        ({"columns": "prompt:ask"}, "the data has no column 'ask'; it has prompt, chosen, rejected"),
        ({"columns": "a:chosen,b:chosen"}, "names something twice"),
        ({"winner": "1=first"}, "expected VALUE:first"),
    ):
        with pytest.raises(ConfigError, match=says):
            read(path, **options)


ROWS = [DPO, {"prompt": 'A\nB, "c"?', "chosen": "x; y\tz", "rejected": "ü\u2028"}]


def as_csv(rows: Sequence[Mapping[str, Any]], sign: str = ",") -> str:
    from io import StringIO

    out = StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=sign)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def pack(kind: str, raw: bytes) -> bytes:
    if kind == "zst":
        return bytes(pyarrow.compress(raw, codec="zstd", asbytes=True))
    return {"gz": gzip.compress, "xz": lzma.compress, "": bytes}[kind](raw)


@pytest.mark.parametrize("packed", ["", "gz", "xz", "zst"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "ndjson", "csv", "tsv"])
def test_a_container_holds_the_same_items(kind: str, packed: str, tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    text = {"json": json.dumps(ROWS), "csv": as_csv(ROWS), "tsv": as_csv(ROWS, "\t")}.get(kind, lines)
    path = tmp_path / f"x.{kind}{'.' if packed else ''}{packed}"
    path.write_bytes(pack(packed, text.encode()))
    plain = read(write(tmp_path / "plain.jsonl", *ROWS))
    assert sides(read(path)) == sides(plain)
    (tmp_path / "folder").mkdir()
    path.rename(tmp_path / "folder" / path.name)
    assert sides(read(tmp_path / "folder")) == sides(plain)
    raw = (tmp_path / "folder" / path.name).read_bytes()
    if packed:
        path.write_bytes(raw[: len(raw) // 2])
        with pytest.raises(DataError):
            read(path)


def test_parquet_and_arrow_hold_the_same_items(tmp_path: Path) -> None:
    plain = read(write(tmp_path / "plain.jsonl", *ROWS))
    table = pyarrow.Table.from_pylist(ROWS)
    parquet.write_table(table, tmp_path / "x.parquet")
    with (
        pyarrow.OSFile(str(tmp_path / "x.arrow"), "wb") as raw,
        pyarrow.ipc.new_stream(raw, table.schema) as out,
    ):
        out.write_table(table)
    with (
        pyarrow.OSFile(str(tmp_path / "y.arrow"), "wb") as raw,
        pyarrow.ipc.new_file(raw, table.schema) as file,
    ):
        file.write_table(table)
    for name in ("x.parquet", "x.arrow", "y.arrow"):
        assert sides(read(tmp_path / name)) == sides(plain)
    (tmp_path / "z.arrow").write_bytes((tmp_path / "x.arrow").read_bytes()[:300])
    with pytest.raises(DataError, match="not an Arrow file that can be read"):
        read(tmp_path / "z.arrow")


def saved(folder: Path, rows: Sequence[Mapping[str, Any]], indices: Any = None) -> Path:
    """Write what `Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    table = pyarrow.Table.from_pylist(list(rows))
    names = []
    for n in range(table.num_rows):
        names.append(f"data-{n:05d}-of-{table.num_rows:05d}.arrow")
        with (
            pyarrow.OSFile(str(folder / names[-1]), "wb") as raw,
            pyarrow.ipc.new_stream(raw, table.schema) as out,
        ):
            out.write_table(table.slice(n, 1))
    state = {
        "_data_files": [{"filename": name} for name in names],
        "_indices_files": indices,
        "_split": "train",
    }
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_folders_that_datasets_saved(tmp_path: Path) -> None:
    plain = sides(read(write(tmp_path / "plain.jsonl", *ROWS)))
    assert sides(read(saved(tmp_path / "one", ROWS))) == plain
    saved(tmp_path / "both" / "train", ROWS)
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert sides(read(tmp_path / "both")) == plain
    saved(tmp_path / "both" / "test", ROWS[:1])
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(DataError, match=r"several splits: train \(train\), test \(test\); name one of them"):
        read(tmp_path / "both")
    assert len(read(tmp_path / "both" / "test").items) == 1
    with pytest.raises(DataError, match="flatten_indices"):
        read(saved(tmp_path / "chosen", ROWS, [{"filename": "indices.arrow"}]))


def test_nested_folders_and_splits(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    write(tmp_path / "a" / "b" / "part-1.jsonl", DPO)
    write(tmp_path / "a" / "part-0.jsonl", ROWS[1])
    assert [item.id for item in read(tmp_path).items] == ["part-1:1", "part-0:1"]
    write(tmp_path / "a" / "test-00000.jsonl", DPO)
    write(tmp_path / "a" / "train.jsonl", DPO)
    with pytest.raises(
        DataError, match=r"several splits: test \(a/test-00000.jsonl\), train \(a/train.jsonl\)"
    ):
        read(tmp_path)


def test_tables_of_text_hold_numbers_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(as_csv([{"prompt": Q, "responses": json.dumps([GOOD, BAD]), "scores": "[4, 1]"}]))
    assert sides(read(path)) == expected(4.0, 1.0)
    path.write_text(as_csv([DPO | {"chosen": '["a"]', "rejected": '{"a": 1}'}]))  # replies may be JSON
    assert [r.text for r in read(path).items[0].responses] == ['["a"]', '{"a": 1}']
    path.write_text(as_csv([DPO | {"score_chosen": "4", "score_rejected": "1.5"}]))
    assert sides(read(path)) == expected(4.0, 1.5)
    path.write_text(as_csv([{"chosen": json.dumps([USER, YES]), "rejected": json.dumps([USER, NO])}]))
    assert sides(read(path)) == expected(1.0, 0.0)
    path.write_text(as_csv([{"chosen": str([USER, YES]), "rejected": str([USER, NO])}]))
    with pytest.raises(DataError, match="a list as Python prints it; expected JSON"):
        read(path)
    path.write_text(as_csv([DPO], ";"))
    assert sides(read(path)) == expected(1.0, 0.0)
    path.write_text("prompt,chosen\na,b,c\n")
    with pytest.raises(DataError, match="3 cells; the first line has 2"):
        read(path)
    path.write_text("prompt,chosen,chosen\na,b,c\n")
    with pytest.raises(DataError, match="two columns have this name"):
        read(path)


def test_a_row_that_cannot_be_used_does_not_end_the_evening(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", DPO, DPO | {"chosen": None}, ROWS[1])
    with pytest.raises(DataError, match="--on-bad skip leaves such rows out"):
        read(path)
    found = read(path, "skip")
    assert (len(found.items), sum(found.dropped.values())) == (2, 1)


def test_what_is_not_packed_as_its_name_says(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(bz2.compress(b"{}"))
    with pytest.raises(DataError, match="cannot be read"):
        read(path)


def test_the_identity_of_other_data_is_as_before() -> None:
    spec = load_task("preference")
    assert replace(spec, data=replace(spec.data, options={})).digest() == spec.digest()


@pytest.mark.parametrize("name", SAME)
def test_training_data_is_read_alike(name: str, tmp_path: Path) -> None:
    rows = [
        json.loads(
            json.dumps(SAME[name])
            .replace("2+2", f"{n}+2")
            .replace("\\n\\nHuman: What", f"\\n\\nHuman: {n} What")
        )
        for n in range(4)
    ]
    path = write(tmp_path / "pairs.jsonl", *rows)
    found = read_training_data(str(path), held_out=0.5)
    assert {(pair.chosen, pair.rejected) for pair in (*found.train, *found.held_out)} == {(GOOD, BAD)}
    bad = BadRows(skip=False)
    shown = {reply.text: reply.label for row in training_rows(path, "auto", bad) for reply in row.replies}
    assert {GOOD, BAD} <= set(shown)
    if "whole" not in name and "ms-swift" not in name:
        assert shown == {GOOD: "chosen", BAD: "rejected"}
