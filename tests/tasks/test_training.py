"""Training data in every layout: prompts, replies and what they are labelled as."""

import json
from pathlib import Path
from typing import Any

import pytest

from rmbench.errors import DataError
from rmbench.tasks.rows import BadRows
from rmbench.tasks.training import LAYOUTS, TrainingRow, training_rows
from rmbench.types import Turn

U, A, S = "user", "assistant", "system"
HH = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Name a prime.\n\nAssistant:"


def chat(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def read(folder: Path, *rows: Any, layout: str = "auto", skip: bool = False) -> list[TrainingRow]:
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return list(training_rows(path, layout, BadRows(skip)))


def asked(*turns: tuple[str, str]) -> tuple[Turn, ...]:
    return tuple(Turn(role=r, content=c) for r, c in turns)


Q = asked((U, "Q"))
HI = asked((U, "Hi"), (A, "Hello."), (U, "Name a prime."))
LAID_OUT = [
    ({"prompt": "Q", "chosen": "x", "rejected": "y", "score": 3}, [Q], [("x", "chosen", (0,)), ("y", "rejected", (0,))]),
    ({"chosen": "x", "rejected": "y"}, [], [("x", "chosen", ()), ("y", "rejected", ())]),
    (
        {"prompt": "Q", "chosen": chat((S, "s"), (U, "Q"), (A, "x")), "rejected": chat((A, "y"))},
        [Q, asked((S, "s"), (U, "Q"))], [("x", "chosen", (0, 1)), ("y", "rejected", (0,))],
    ),
    ({"chosen": f"{HH} 7", "rejected": f"{HH} 8"}, [HI], [("7", "chosen", (0,)), ("8", "rejected", (0,))]),
    ({"prompt": HH, "chosen": " 7", "rejected": " 8"}, [HI], [(" 7", "chosen", (0,)), (" 8", "rejected", (0,))]),
    (
        {"prompt": "Q", "responses": ["x", "y", "z"], "gold": [1, 3, 3]},
        [Q], [("x", "rejected", (0,)), ("y", "chosen", (0,)), ("z", "chosen", (0,))],
    ),
    ({"responses": ["x", ""], "gold": [1, 1]}, [], [("x", "unlabelled", ()), ("", "unlabelled", ())]),
    ({"prompt": "Q", "responses": ["x"]}, [Q], [("x", "unlabelled", (0,))]),
    (
        {"messages": chat((U, "Q"), (A, "x"), (U, "more"), (A, "y"))},
        [Q, asked((U, "Q"), (A, "x"), (U, "more"))], [("x", "unlabelled", (0,)), ("y", "unlabelled", (1,))],
    ),
    ({"messages": chat((A, "x"), (U, "Q"))}, [asked((A, "x"), (U, "Q"))], [("x", "unlabelled", ())]),
    (
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "x"}]},
        [Q], [("x", "unlabelled", (0,))],
    ),
    ({"instruction": "Q", "input": "", "output": "x"}, [Q], [("x", "unlabelled", (0,))]),
    (
        {"instruction": "Q", "input": "i", "response": "x"},
        [asked((U, "Q\n\ni")), asked((U, "Q\ni"))], [("x", "unlabelled", (0, 1))],
    ),
    ({"prompt": "Q", "completion": "x"}, [Q], [("x", "unlabelled", (0,))]),
    ({"prompt": chat((U, "Q")), "response": chat((A, "x"))}, [Q], [("x", "unlabelled", (0,))]),
    ({"text": "Q", "messages": None}, [Q], [("Q", "unlabelled", ())]),
]  # fmt: skip


@pytest.mark.parametrize(("row", "prompts", "replies"), LAID_OUT, ids=lambda v: None)
def test_layouts(
    tmp_path: Path, row: dict[str, Any], prompts: list[Any], replies: list[tuple[str, str, tuple[int, ...]]]
) -> None:
    (found,) = read(tmp_path, row)
    assert list(found.prompts) == prompts
    assert [(r.text, r.label, r.asked) for r in found.replies] == replies
    for prompt in prompts:  # every prompt's words, once
        assert any(context[: len(prompt)] == prompt for context in found.contexts) or "input" in row
    assert len(found.contexts) <= max(1, len({p[0]["content"] for p in prompts}))


def test_every_layout_is_tested() -> None:
    keys = [{key for key, value in row.items() if value is not None} for row, *_ in LAID_OUT]
    first = {next(n for n, v in LAYOUTS.items() if all(k & set(one_of) for one_of in v.needed)) for k in keys}
    assert first == set(LAYOUTS)
    assert {key for v in LAYOUTS.values() for key in v.keys} == set().union(*keys) - {"score"}


def test_a_file_has_the_layout_of_its_first_row_or_the_one_that_is_asked_for(tmp_path: Path) -> None:
    rows = [{"text": "a", "prompt": "Q", "completion": "x"}, {"text": "b"}]
    with pytest.raises(DataError, match="line 2, key 'completion': the key is missing"):
        read(tmp_path, *rows)
    assert len(read(tmp_path, *rows, skip=True)) == 1
    assert [r.prompts[0][0]["content"] for r in read(tmp_path, *rows, layout="text")] == ["a", "b"]


def test_unknown_columns_are_one_line_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path, {"question": "Q", "answer": "x", "chosen": "x"})
    said = str(error.value)
    assert "it has: answer, chosen, question" in said
    assert "pairs: chosen and rejected; items: responses; messages: messages or conversations" in said


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "Q", "chosen": 3, "rejected": "y"}, "key 'chosen': a number; expected text or a list"),
        ({"prompt": 3, "chosen": "x", "rejected": "y"}, "key 'prompt': a number"),
        ({"chosen": chat((A, "x"), (U, "Q")), "rejected": "y"}, "ends with a turn of the user"),
        ({"responses": "x"}, "key 'responses': expected a list"),
        ({"responses": ["x", 3]}, "key 'responses[1]': a number; expected text"),
        ({"responses": ["x"], "gold": [1, 2]}, "expected one per response, 1"),
        ({"messages": chat(("wizard", "x"))}, "'wizard'; expected one of system"),
        ({"messages": {"role": "user"}}, "key 'messages[0]': expected"),
        ({"text": ["x"]}, "key 'text': a list; expected text"),
    ],
)
def test_rows_that_do_not_fit(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match="line 1, ") as error:
        read(tmp_path, row)
    assert said in str(error.value)
    assert read(tmp_path, row, skip=True) == []
