"""Texts that a model cannot read, and replies that its template writes in part: named, counted, never a crash."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import CHAT

from rmbench.cli.main import run
from rmbench.errors import ConfigError
from rmbench.models.resolve import Runtime, load_model
from rmbench.results.read import find_records
from rmbench.results.record import caveats

Make = Callable[..., Path]
CPU = Runtime(device="cpu")
GOOD = {"id": "good", "prompt": "Tell me all.", "responses": ["Paris.", "No."], "gold": [1, 0]}
ALTERNATES = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant/user/assistant') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
)
"""As those of Llama 2, Mistral and Gemma."""
ADDS_NUMBERS = CHAT.replace("{{ m['content'] }}", "{{ m['content'] + (1 if m['role'] == 'tool' else '') }}")
"""Raises a TypeError of Python's for a turn of a tool."""
THINKS = (
    "{{ bos_token }}{% for m in messages %}{% set text = m['content'] %}"
    "{% if '</think>' in text %}{% set text = text.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "<|{{ m['role'] }}|>{{ text | trim }}{{ eos_token }}{% endfor %}"
)
"""As those of Qwen3 and DeepSeek: what stands before </think> is dropped."""


def turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


@pytest.fixture
def evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Return a function that evaluates rows and returns (exit code, record or None, stderr)."""

    def evaluate(spec: str, rows: list[Any], *more: str) -> tuple[int, Any, str]:
        data = tmp_path / "items.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        capsys.readouterr()
        code = run(["eval", "--model", spec, "--task", "preference", "--data", str(data), "--device", "cpu", *more,
                    "--results", f"{tmp_path}/results", "--store", f"{tmp_path}/store", "--json"])  # fmt: skip
        out, err = capsys.readouterr()
        return code, json.loads(out)[0] if code == 0 else None, err

    return evaluate


def error_of(text: str) -> str:
    (line,) = [line for line in text.splitlines() if "error: " in line]
    return line


BAD: dict[str, tuple[str, Any, str]] = {
    "two user turns": (ALTERNATES, turns(("user", "Tell me."), ("user", "Now.")), "Roles must alternate"),
    "a tool's turn": (ADDS_NUMBERS, turns(("user", "Tell me."), ("tool", "9")), "TypeError: "),
    "an undefined name": (
        CHAT.replace("{{ m['content'] }}", "{{ m['content'] if m['role'] != 'tool' else m.name.first }}"),
        turns(("user", "Tell me."), ("tool", "9")),
        "has no attribute 'name'",
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("scheme", ["hf", "dpo", "process"])
def test_a_conversation_that_the_template_refuses_is_named(
    make_checkpoint: Make, evaluated: Any, scheme: str, name: str
) -> None:
    template, prompt, reason = BAD[name]
    tasks = {"hf": "SequenceClassification", "dpo": "CausalLM", "process": "TokenClassification"}
    folder = make_checkpoint("llama", template=template, task=tasks[scheme])
    spec = {"hf": f"{folder}", "dpo": f"dpo:policy={folder},ref={folder}", "process": f"process:{folder}"}[
        scheme
    ]
    rows = [GOOD, {**GOOD, "id": "odd", "prompt": prompt}, {**GOOD, "id": "more"}]
    code, _, err = evaluated(spec, rows)
    error = error_of(err)
    assert code == 2
    assert "item 'odd', response 1" in error
    assert reason in error
    assert "--on-bad skip" in error
    code, record, _ = evaluated(spec, rows, "--on-bad", "skip")
    assert code == 0
    assert record["counts"]["dropped"] == {"refused by the chat template": 1}
    assert (record["counts"]["items"], record["counts"]["items_available"]) == (2, 2)
    _, whole, _ = evaluated(spec, [rows[0], rows[2]], "--on-bad", "skip")
    assert whole["run_id"] != record["run_id"]
    assert whole["metrics"] == record["metrics"]


def test_items_that_can_all_be_written_keep_their_run_id(make_checkpoint: Make, evaluated: Any) -> None:
    folder = str(make_checkpoint("llama"))
    ids = {evaluated(folder, [GOOD], *more)[1]["run_id"] for more in ([], ["--on-bad", "skip"])}
    assert len(ids) == 1


def test_where_no_item_can_be_written_nothing_is_measured(make_checkpoint: Make, evaluated: Any) -> None:
    rows = [{**GOOD, "prompt": turns(("user", "a"), ("user", "b"))}]
    code, _, err = evaluated(str(make_checkpoint("llama", template=ALTERNATES)), rows, "--on-bad", "skip")
    assert code == 2
    assert "can read no item: 1 refused by the chat template" in error_of(err)


def test_a_token_beyond_the_embedding_is_named(make_checkpoint: Make, evaluated: Any) -> None:
    from transformers import AutoTokenizer

    folder = make_checkpoint("llama", vocab_size=400)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    n_known = len(tokenizer)
    tokenizer.add_tokens([f"extra{k}" for k in range(400 - n_known + 5)])
    tokenizer.save_pretrained(folder)
    beyond = tokenizer.convert_ids_to_tokens(402)
    rows = [GOOD, {**GOOD, "id": "odd", "responses": ["Paris.", f"No {beyond} here."]}]
    code, _, err = evaluated(str(folder), rows)
    error = error_of(err)
    assert code == 2
    assert f"item 'odd', response 2: its text has the token {beyond!r} (id 402)" in error
    assert "400 embeddings" in error
    assert "5 tokens of the tokenizer are beyond" in err
    code, record, _ = evaluated(str(folder), rows, "--on-bad", "skip")
    assert code == 0
    assert record["counts"]["dropped"] == {"a token that the model does not have": 1}


def test_a_token_beyond_the_embedding_that_every_text_has_is_found_at_load(make_checkpoint: Make) -> None:
    from transformers import AutoTokenizer

    folder = make_checkpoint("llama", vocab_size=400, template=CHAT.replace("<|", "<beyond>"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"extra{k}" for k in range(400 - len(tokenizer))] + ["<beyond>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ConfigError, match=r"token '<beyond>' \(id 400\), and the model has 400 embeddings"):
        load_model(str(folder), {}, CPU)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            {"rag": CHAT, "tool_use": CHAT},
            r"named 'rag', 'tool_use', and none is the default.*chat_template=FILE",
        ),
        (
            "{% for m in messages %}{{ m['content'] }",
            r"cannot write a question and its reply.*chat_template=",
        ),
        ("{{ messages[0].content }}{{ 1 + 'a' }}", r"cannot write .*TypeError: .*chat_template="),
        ("{{ raise_exception('never') }}", r"cannot write a question and its reply.*never"),
    ],
)
def test_a_template_that_cannot_be_used_is_one_line_at_load(
    make_checkpoint: Make, evaluated: Any, template: Any, message: str
) -> None:
    folder = make_checkpoint("llama", template=template)
    with pytest.raises(ConfigError, match=message):
        load_model(str(folder), {}, CPU)
    code, _, err = evaluated(str(folder), [GOOD])
    assert code == 2
    assert error_of(err)
    assert evaluated(str(folder), [GOOD], "-M", "chat_template=plain")[0] == 0


def test_a_template_without_system_prompts_folds_them_whatever_it_raises(make_checkpoint: Make) -> None:
    template = CHAT.replace("{{ m['content'] }}", "{{ m['content'] + (1 if m['role'] == 'system' else '') }}")
    model: Any = load_model(str(make_checkpoint("llama", template=template)), {}, CPU).model
    asked = turns(("system", "Be short."), ("user", "Tell me."), ("assistant", "No."))
    ids = model.encode([asked])[0].ids
    assert "Be short.\n\nTell me." in model.tokenizer.decode(ids)


def test_a_token_classifier_as_a_folder_is_sent_to_process(make_checkpoint: Make) -> None:
    folder = make_checkpoint("llama", task="TokenClassification", n_labels=2)
    with pytest.raises(ConfigError, match=rf"LlamaForTokenClassification rates .*process:{folder}"):
        load_model(str(folder), {}, CPU)


@pytest.mark.parametrize("scheme", ["hf", "dpo"])
def test_replies_of_which_a_template_drops_a_part_are_counted(
    make_checkpoint: Make,
    evaluated: Any,
    scheme: str,
    tmp_path: Path,
) -> None:
    folder = make_checkpoint(
        "llama", template=THINKS, task="CausalLM" if scheme == "dpo" else "SequenceClassification"
    )
    spec = f"dpo:policy={folder},ref={folder}" if scheme == "dpo" else str(folder)
    thought = "<think>Is it?</think>\n"
    rows = [
        {**GOOD, "id": "same", "responses": [f"{thought}Paris.", "<think>No?</think>Paris."]},
        {**GOOD, "id": "other", "responses": [f"{thought}Paris.", "No."]},
        {**GOOD, "id": "space", "responses": ["  Paris. \n", "Paris."]},
        {**GOOD, "id": "asked", "prompt": f"Say {thought}x", "responses": [f"{thought}x", "x"]},
        GOOD,
    ]
    code, record, _ = evaluated(spec, rows)
    assert code == 0
    assert record["counts"]["changed_by_template"] == {"replies": 4, "pairs_made_equal": 2}
    (found,) = find_records(tmp_path / "results")
    (caveat,) = [c for c in caveats(found.record) if "template" in c]
    assert "drops part of 4 replies, which makes 2 pairs of replies equal" in caveat
    plain = evaluated(spec, rows, "-M", "chat_template=plain")[1]
    assert "changed_by_template" not in plain["counts"]


def test_remarks_of_a_model_are_in_its_record(make_checkpoint: Make, evaluated: Any) -> None:
    code, record, _ = evaluated(str(make_checkpoint("fnet", tokenizer="pair", template=None)), [GOOD])
    assert code == 0
    assert any("depend on the other texts" in remark for remark in record["provenance"]["remarks"])
    _, usual, _ = evaluated(str(make_checkpoint("llama", folder="usual")), [GOOD])
    assert "remarks" not in usual["provenance"]
