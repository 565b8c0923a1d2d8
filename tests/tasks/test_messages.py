"""Messages keep what they hold: calls of tools, tools, names, reasoning; plain messages keep their identity."""

import json
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run
from rmbench.core.files import conversation_key, prompt_cluster
from rmbench.errors import DataError, UnwritableError
from rmbench.scoring.plan import pairs_of
from rmbench.tasks import ItemShelf, read_task_items
from rmbench.tasks.items import export_items, hash_items
from rmbench.tasks.spec import apply_params, load_task
from rmbench.train.pairs import read_training_data
from rmbench.types import Item, Response, Turn

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}
OTHER_CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Basel"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
ASK: dict[str, Any] = {"role": "user", "content": "Is it raining in Bern?"}
CALLED: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [CALL]}
TOLD: dict[str, Any] = {"role": "tool", "content": "rain", "name": "weather", "tool_call_id": "c1"}
PROMPT = [ASK, CALLED, TOLD]
YES: dict[str, Any] = {"role": "assistant", "content": "Yes."}
NO: dict[str, Any] = {"role": "assistant", "content": "No."}

LAYOUTS = {
    "own pairs": {"prompt": PROMPT, "chosen": "Yes.", "rejected": "No.", "tools": [TOOL], "strata": {}},
    "own items": {"prompt": PROMPT, "responses": ["Yes.", "No."], "gold": [1, 0], "tools": [TOOL]},
    "a layout": {"prompt": PROMPT, "chosen": [YES], "rejected": [NO], "tools": json.dumps([TOOL])},
    "whole conversations": {"chosen": [*PROMPT, YES], "rejected": [*PROMPT, NO], "tools": [TOOL]},
    "ShareGPT": {
        "conversations": [{"from": "human", "value": ASK["content"]}, CALLED, TOLD], "chosen": YES,
        "rejected": NO, "tools": json.dumps([TOOL]),
    },
    "OpenAI": {
        "input": {"messages": PROMPT, "tools": [TOOL]}, "preferred_output": [YES], "non_preferred_output": [NO],
    },
    "a table's nulls": {
        "prompt": [ASK | {"tool_calls": None, "name": None}, CALLED | {"content": None, "name": None}, TOLD],
        "chosen": [YES], "rejected": [NO], "tools": [TOOL],
    },
    "without a content": {
        "prompt": [ASK, {"role": "assistant", "tool_calls": [CALL]}, TOLD], "chosen": "Yes.", "rejected": "No.",
        "tools": [TOOL],
    },
}  # fmt: skip


def read(path: Path, reader: str = "jsonl", *rows: Any) -> list[Item]:
    from dataclasses import replace

    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    spec = apply_params(load_task("preference"), {})
    spec = replace(spec, data=replace(spec.data, reader=reader, options={}))
    return list(read_task_items(spec, path, offline=True).items)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_prompt_with_calls_of_tools(name: str, tmp_path: Path) -> None:
    (item,) = read(tmp_path / "x.jsonl", "jsonl", LAYOUTS[name])
    assert list(item.prompt) == [ASK | {"tools": [TOOL]}, CALLED, TOLD]
    assert sorted(r.text for r in item.responses) == ["No.", "Yes."]


@pytest.mark.parametrize("reader", ["jsonl", "pairs"])
def test_replies_that_differ_in_their_calls_alone_are_a_pair(reader: str, tmp_path: Path) -> None:
    row = {"prompt": [ASK], "chosen": [CALLED], "rejected": [CALLED | {"tool_calls": [OTHER_CALL]}]}
    (item,) = read(tmp_path / "x.jsonl", reader, row)
    assert [dict(item.conversation(k)[-1]) for k in (0, 1)] == [row["chosen"][0], row["rejected"][0]]
    assert [r.gold for r in item.responses] == [1.0, 0.0]
    keys = {conversation_key(item.conversation(k)) for k in (0, 1)}
    assert len({*keys, conversation_key([*item.prompt, Turn(role="assistant", content="")])}) == 3


def test_items_keep_messages_as_responses_and_what_judges_are_shown(tmp_path: Path) -> None:
    shown = {"reference": "It rains.", "rubric": ["calls the tool"], "principle": "Be right."}
    row = {"id": "a", "prompt": [ASK], "responses": [CALLED, "No."], "gold": [1, 0], **shown}
    (item,) = read(tmp_path / "x.jsonl", "jsonl", row)
    assert dict(item.expected) == shown
    (told,) = export_items([item])
    assert told == {"id": "a", "prompt": [ASK], "responses": [CALLED, "No."], **shown}
    # What is exported can be read again.
    (again,) = read(tmp_path / "y.jsonl", "jsonl", told | {"gold": [1, 0]})
    assert again == item
    assert hash_items([again]) == hash_items([item])


def test_a_layout_keeps_what_judges_are_shown(tmp_path: Path) -> None:
    row = {"question": "Q?", "chosen": "a", "rejected": "b", "reference_answer": "a", "rubrics": ["x"]}
    (item,) = read(tmp_path / "x.jsonl", "jsonl", row)
    assert dict(item.expected) == {"reference": "a", "rubric": ["x"]}


def test_what_judges_are_shown_is_not_part_of_the_hash(tmp_path: Path) -> None:
    row = {"prompt": "Q?", "chosen": "a", "rejected": "b"}
    (plain,), (shown,) = (
        read(tmp_path / "x.jsonl", "jsonl", each) for each in (row, row | {"reference": "a"})
    )
    assert hash_items([plain]) == hash_items([shown])


def test_the_shelf_keeps_all_of_it() -> None:
    prompt = (Turn(role="user", content="Q", name="Ann", tools=[TOOL]),)
    item = Item(
        "i", prompt, (Response.of(Turn(role="assistant", content="", tool_calls=[CALL])), Response("b")), "c"
    )
    assert list(ItemShelf.of([item])) == [item]


def test_plain_messages_keep_the_identity_that_they_always_had() -> None:
    """The values are those of version 0.1.0."""
    turns = [Turn(role="user", content="Q"), Turn(role="assistant", content="A")]
    assert conversation_key(turns) == "012be12376afafb79bea932a7ef366d2"
    assert prompt_cluster(turns[:1]) == "05f095f1c31381ca"
    item = Item("i", (turns[0],), (Response("a", 1.0), Response("b", 0.0, logprob=-1.0)), "c")
    assert hash_items([item]) == "bf6c0e5e9f162517ea71bee08bbfd899b73cd9754c2990a42f1d112c15041824"


@pytest.mark.parametrize("key", ["name", "tool_calls", "tools", "reasoning_content"])
def test_every_key_is_part_of_the_identity(key: str) -> None:
    value: Any = [CALL] if key.startswith("tool") else "x"
    plain = Turn(role="user", content="Q")
    more: Any = {**plain, key: value}
    assert conversation_key([plain]) != conversation_key([more])
    items = [Item("i", (turn,), (Response("a", 1.0), Response("b", 0.0)), "c") for turn in (plain, more)]
    assert hash_items(items[:1]) != hash_items(items[1:])


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (CALLED | {"tool_calls": "weather()"}, "expected a list of"),
        (CALLED | {"tool_calls": [{"function": "weather"}]}, "expected a list of"),
        (ASK | {"function_call": {"name": "weather"}}, "an older form of calls"),
        (ASK | {"name": 3}, "expected text"),
        (ASK | {"content": [{"type": "image_url", "image_url": "x"}]}, "a part of kind 'image_url'"),
        (ASK | {"content": None}, "expected text, or a list of parts"),
    ],
)
@pytest.mark.parametrize("reader", ["jsonl", "pairs"])
def test_what_is_no_message_is_refused_by_every_reader(
    reader: str, message: Any, says: str, tmp_path: Path
) -> None:
    row = {"prompt": [message, ASK], "chosen": "a", "rejected": "b"}
    with pytest.raises(DataError, match=says):
        read(tmp_path / "x.jsonl", reader, row)


@pytest.mark.parametrize("reader", ["jsonl", "pairs"])
def test_parts_of_text_are_joined_by_every_reader(reader: str, tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Is it "}, {"type": "text", "text": "raining?"}]
    row = {"prompt": [ASK | {"content": parts}], "chosen": "a", "rejected": "b"}
    (item,) = read(tmp_path / "x.jsonl", reader, row)
    assert item.prompt[0]["content"] == "Is it raining?"


def test_keys_of_messages_that_are_not_kept_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"prompt": [ASK | {"weight": 1}], "chosen": [YES], "rejected": [NO]}))
    found = read_task_items(load_task("preference"), path, offline=True)
    assert found.remarks[0].endswith("not read: prompt[].weight")


REFUSERS = ["length", "builtin:linear", "markdown"]


@pytest.mark.parametrize("model", REFUSERS)
def test_models_that_read_text_alone_refuse_calls(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"prompt": [ASK], "chosen": [CALLED], "rejected": [NO]}))
    where = ["--results", str(tmp_path / "r"), "--store", str(tmp_path / "s")]
    assert run(["eval", "--model", model, "--task", "preference", "--data", str(path), "-q", *where]) == 2
    said = capsys.readouterr().err
    assert "holds tool_calls" in said
    assert len(said.splitlines()) == 1


def test_pairwise_models_are_not_asked_about_calls() -> None:
    called = Response.of(Turn(role="assistant", content="", tool_calls=[CALL]), 1.0)
    with pytest.raises(UnwritableError, match=r"a pairwise model \(item i\)"):
        pairs_of(Item("i", (Turn(role="user", content="Q"),), (called, Response("b", 0.0)), "c"))


def test_training_keeps_them(tmp_path: Path) -> None:
    rows = [
        {"prompt": [ASK | {"content": f"Q{k}"}], "chosen": [CALLED], "rejected": [NO], "tools": [TOOL]}
        for k in range(20)
    ]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_training_data(str(path))
    chosen, rejected = found.train[0].conversations()
    assert dict(chosen[-1]) == CALLED
    assert dict(rejected[-1]) == NO
    assert chosen[0].get("tools") == [TOOL]


def test_contamination_compares_texts_whatever_tools_stand_beside_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"prompt": [ASK, CALLED, TOLD], "chosen": [YES], "rejected": [NO]}
    task, train = tmp_path / "task.jsonl", tmp_path / "train.jsonl"
    task.write_text(json.dumps(row | {"tools": [TOOL]}))
    train.write_text(json.dumps(row))
    asked = [
        "contamination",
        "--train",
        str(train),
        "--task",
        "preference",
        "--data",
        str(task),
        "--json",
        "-q",
    ]
    assert run(asked) == 0
    assert len(json.loads(capsys.readouterr().out)["examples"]) == 1
