"""Calls of tools reach the chat template: rewards against transformers' own forward pass on its own rendering."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run
from rmbench.errors import UnwritableError
from rmbench.models.resolve import load_model
from rmbench.models.runtime import Runtime
from rmbench.tasks import read_task_items
from rmbench.tasks.spec import load_task

WRITES = (
    "{{ bos_token }}{% if tools %}<|tools|>{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] or '' }}"
    "{% for c in m['tool_calls'] or [] %}<call>{{ c['function']['name'] }} {{ c['function']['arguments'] | tojson }}"
    "{% endfor %}{{ eos_token }}{% endfor %}"
)
FIRST_ALONE = WRITES.replace("m['tool_calls'] or []", "(m['tool_calls'] or [])[:1]")
NO_TOOLS = WRITES.replace("{% if tools %}", "{% if false %}")
NO_CALLS = WRITES.replace("m['tool_calls'] or []", "[]")


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


TOOL = {"type": "function", "function": {"name": "rain", "parameters": {"type": "object", "properties": {}}}}
USER = {"role": "user", "content": "What is the capital of France?"}
CALLED: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [call("rain", city="Paris")]}
TWICE: dict[str, Any] = CALLED | {"tool_calls": [call("rain", city="Paris"), call("rain", city="Rome")]}
ANSWER = {"role": "tool", "content": "The fox sleeps.", "name": "rain"}
ROWS = [
    {"prompt": [USER, CALLED, ANSWER], "chosen": "Paris.", "rejected": "I do not know.", "tools": [TOOL]},
    {"prompt": [USER], "chosen": [CALLED], "rejected": [{"role": "assistant", "content": "Paris."}], "tools": [TOOL]},
    {"prompt": [USER | {"content": "Tell me all."}], "chosen": [TWICE], "rejected": [CALLED], "tools": [TOOL]},
]  # fmt: skip


def reference(folder: Path, messages: list[dict[str, Any]], tools: Any) -> float:
    """Return the reward of one conversation: transformers' template, tokenizer and forward pass."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    text = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return float(model(input_ids=ids).logits[0, 0])


def raw(row: Any, side: str) -> list[dict[str, Any]]:
    reply = row[side] if isinstance(row[side], list) else [{"role": "assistant", "content": row[side]}]
    return [*row["prompt"], *reply]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "calls.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_rewards_of_conversations_with_calls(make_checkpoint: Callable[..., Path], data: Path) -> None:
    folder = make_checkpoint(template=WRITES, max_position_embeddings=512)
    model: Any = load_model(str(folder), {}, Runtime(device="cpu", dtype="float32")).model
    items = list(read_task_items(load_task("preference"), data, offline=True).items)
    expected = [
        reference(folder, raw(row, side), row["tools"]) for row in ROWS for side in ("chosen", "rejected")
    ]
    asked = [item.conversation(k) for item in items for k in (0, 1)]
    assert [s.reward for s in model.score(asked)] == pytest.approx(expected, abs=1e-5)
    assert [model.score([turns])[0].reward for turns in asked] == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 4) for value in expected}) == 6, "the calls matter"
    assert (
        model.notes()
        == ["messages hold what the chat template does not write: name (2) (conversations)"]
        + model.notes()[1:]
    )


@pytest.mark.parametrize(
    ("template", "turns", "says"),
    [
        (NO_CALLS, [USER, CALLED], "does not write tool_calls"),
        (FIRST_ALONE, [USER, TWICE], "does not write tool_calls"),
        (NO_TOOLS, [USER | {"tools": [TOOL]}, CALLED], "does not write tools"),
        (None, [USER, CALLED], r"turn 2 of a conversation \(assistant\) holds tool_calls"),
    ],
)
def test_what_a_format_cannot_write_is_refused(
    template: str | None, turns: Any, says: str, make_checkpoint: Callable[..., Path]
) -> None:
    model: Any = load_model(str(make_checkpoint(template=template)), {}, Runtime(device="cpu")).model
    with pytest.raises(UnwritableError, match=says):
        model.score([turns])


def test_an_encoder_refuses_calls(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint("bert", tokenizer="pair", template=None)
    model: Any = load_model(str(folder), {}, Runtime(device="cpu")).model
    with pytest.raises(UnwritableError, match="an encoder's pair of texts cannot write"):
        model.score([[USER, CALLED]])


def test_tools_survive_a_template_without_a_system_role(make_checkpoint: Callable[..., Path]) -> None:
    no_system = WRITES.replace(
        "{% for m in messages %}",
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}",
    )
    folder = make_checkpoint(template=no_system, max_position_embeddings=512)
    model: Any = load_model(str(folder), {}, Runtime(device="cpu", dtype="float32")).model
    system = {"role": "system", "content": "Answer.", "tools": [TOOL]}
    folded = USER | {"content": f"Answer.\n\n{USER['content']}"}
    expected = reference(folder, [folded, CALLED], [TOOL])
    assert model.score([[system, USER, CALLED]])[0].reward == pytest.approx(expected, abs=1e-5)


def test_the_store_keeps_other_calls_apart(
    make_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_checkpoint(template=WRITES, max_position_embeddings=512)
    where = [
        "--results",
        str(tmp_path / "r"),
        "--store",
        str(tmp_path / "s"),
        "--device",
        "cpu",
        "-q",
        "--json",
    ]
    rewards = []
    for city in ("Paris", "Rome"):
        chosen = CALLED | {"tool_calls": [call("rain", city=city)]}
        row = {
            "id": "a",
            "prompt": [USER],
            "chosen": [chosen],
            "rejected": [{"role": "assistant", "content": "No."}],
        }
        path = tmp_path / "x.jsonl"
        path.write_text(json.dumps(row))
        code = run(["eval", "--model", str(folder), "--task", "preference", "--data", str(path), *where])
        assert code == 0, capsys.readouterr().err
        (record,) = json.loads(capsys.readouterr().out)
        rewards.append(record["provenance"]["computed"])
    assert rewards == [2, 1], "the reply without a call is read from the store, the other call is not"
