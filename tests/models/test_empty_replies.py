"""What models of every kind say of an empty response: a reward, or none with the reason; never a silent 0."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import CHAT

from rmbench.cli.main import run
from rmbench.errors import ScoringError
from rmbench.models.hf.text import NO_TOKENS
from rmbench.models.hf.tokens import REFUSED
from rmbench.models.resolve import load_model
from rmbench.types import Scored, Turn

Make = Callable[..., Path]

REFUSES = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' and not m['content'] %}"
    "{{ raise_exception('Assistant message must have content') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
)
"""As several published templates do."""
ENDS_BARE = "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}{% endfor %}"
"""Writes nothing after a reply: an empty one has no tokens."""


def chat(response: str, prompt: str = "Tell me all.") -> list[Turn]:
    return [Turn(role="user", content=prompt), Turn(role="assistant", content=response)]


BATCH = [chat("Paris."), chat(""), chat("No."), chat(" ")]


def score(model: Any, batch: Any = BATCH) -> list[Scored]:
    return list(load_model(model, {}).model.score(batch) if isinstance(model, str) else model.score(batch))


@pytest.mark.parametrize(
    ("arch", "tokenizer", "template"),
    [("llama", "bos", CHAT), ("llama", "bos", None), ("llama", "bos", ENDS_BARE), ("bert", "pair", None)],
)
def test_a_classifier_gives_them_what_its_forward_pass_says(
    make_checkpoint: Make, arch: str, tokenizer: str, template: str | None
) -> None:
    folder = make_checkpoint(arch, tokenizer=tokenizer, template=template)
    model = load_model(str(folder), {}).model
    together, alone = score(model), [score(model, [turns])[0] for turns in BATCH]
    assert [s.why for s in together] == [""] * 4
    for a, b in zip(together, alone, strict=True):
        assert math.isfinite(a.reward)
        assert a.reward == pytest.approx(b.reward, abs=1e-5)
    if arch == "llama":
        gaps = [model.diagnose(turns)["own_forward_gap"] for turns in BATCH]  # type: ignore[union-attr]
        assert max(gaps) < 1e-5
    assert len({round(s.reward, 7) for s in together}) >= 3, "an empty response is not the prompt's constant"


def test_a_template_that_refuses_them_gives_no_reward_and_says_why(make_checkpoint: Make) -> None:
    folder = make_checkpoint(template=REFUSES)
    found = score(str(folder))
    assert [math.isfinite(s.reward) for s in found] == [True, False, True, True]
    assert [s.why for s in found] == ["", REFUSED, "", ""]
    other = score(str(make_checkpoint(template=CHAT, folder="other")))
    for k in (0, 2, 3):
        assert found[k].reward == pytest.approx(other[k].reward, abs=1e-5), "its neighbours are as without it"


def test_what_a_template_refuses_for_another_reason_is_still_an_error(make_checkpoint: Make) -> None:
    refuses_tools = CHAT.replace(
        "<|{{", "{% if m['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}<|{{", 1
    )
    model = load_model(str(make_checkpoint(template=refuses_tools)), {}).model
    tool = Turn(role="tool", content="12:00")
    with pytest.raises(ScoringError, match="refuses the roles user, tool, assistant: no tools"):
        score(model, [[Turn(role="user", content="Q"), tool, Turn(role="assistant", content="")]])


def causal(make: Make, folder: str, seed: int, template: str) -> Path:
    return make(task="CausalLM", folder=folder, seed=seed, template=template)


@pytest.mark.parametrize("average", ["true", "false"])
def test_an_implicit_reward_of_no_tokens_is_none_not_the_best(make_checkpoint: Make, average: str) -> None:
    policy, reference = (causal(make_checkpoint, f"m{k}", k, ENDS_BARE) for k in (1, 2))
    for spec, options in (
        (f"dpo:policy={policy},ref={reference}", {}),
        (f"dpo:policy={policy}", {"reference": "none", "average": average}),
    ):
        found = score(load_model(spec, options).model)
        assert [s.why for s in found] == ["", NO_TOKENS, "", NO_TOKENS]
        assert [math.isfinite(s.reward) for s in found] == [True, False, True, False]
    ended = causal(make_checkpoint, "ended", 1, CHAT)
    found = score(load_model(f"dpo:policy={ended}", {"reference": "none"}).model)
    assert all(s.reward < 0 and not s.why for s in found), "that it ends is a token, and has a probability"


def test_a_process_model_reads_no_token_of_the_prompt_in_their_place(make_checkpoint: Make) -> None:
    bare, ended = (
        make_checkpoint(task="TokenClassification", folder=f, template=t)
        for f, t in (("bare", ENDS_BARE), ("ended", CHAT))
    )
    for reduce in ("last", "min", "mean", "prod"):
        found = score(load_model(f"process:{bare}", {"reduce": reduce}).model)
        assert [s.why for s in found] == ["", NO_TOKENS, "", NO_TOKENS]
        assert all(
            math.isfinite(s.reward) for s in score(load_model(f"process:{ended}", {"reduce": reduce}).model)
        )


def test_an_ensemble_has_none_where_a_member_has_none(make_checkpoint: Make) -> None:
    fine, refuses = make_checkpoint(folder="fine"), make_checkpoint(folder="refuses", template=REFUSES)
    found = score(load_model(f"ensemble:{fine},{refuses}", {}).model)
    assert [math.isfinite(s.reward) for s in found] == [True, False, True, True]
    assert found[1].why == f"ensemble member 2 (refuses): {REFUSED}"


def test_a_run_counts_them_under_the_reason_and_stops_where_it_must(
    make_checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_checkpoint(template=REFUSES)
    rows = [
        {
            "id": f"r{k}",
            "prompt": f"Q{k}",
            "responses": ["yes", "no", "" if k < 2 else "so"],
            "gold": [1, 0, 0],
        }
        for k in range(5)
    ]
    data = tmp_path / "i.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        "eval",
        "-m",
        str(folder),
        "-t",
        "preference",
        "--data",
        str(data),
        "-q",
        "--store",
        str(tmp_path / "s"),
    ]
    command += ["--results", str(tmp_path / "r")]
    assert run(command) != 0
    told = capsys.readouterr().err
    assert "2 of 15 rewards are not finite" in told
    assert f"without an answer: 2 for {REFUSED}" in told
    assert run([*command, "-T", "invalid=wrong", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["counts"]["unanswered"] == {REFUSED: 2}
    assert (record["counts"]["invalid"], record["counts"]["empty"]) == (2, 2)
    assert run([*command, "-T", "invalid=wrong"]) == 0
    assert f"2 without an answer ({REFUSED})" in capsys.readouterr().out


def test_gold_of_a_model_that_refuses_them_is_unknown_by_reason(
    make_checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_checkpoint(template=REFUSES)
    data = tmp_path / "i.jsonl"
    rows = [{"id": f"r{k}", "prompt": f"Q{k}", "responses": ["yes", "no", ""]} for k in range(3)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["eval", "-m", "length", "-t", "preference", "--data", str(data), "--gold", str(folder), "-q"]
    assert run([*command, "--results", str(tmp_path / "r"), "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["counts"]["gold"] == {f"unknown: {REFUSED}": 3}
