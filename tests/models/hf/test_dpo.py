"""Implicit rewards against a plain computation: one text at a time, all logits, float64."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import SPECIAL

from rmbench.cli.main import run
from rmbench.errors import ConfigError
from rmbench.models.hf.dpo import ImplicitReward, parse_places
from rmbench.models.hf.reply import ReplyFormat
from rmbench.models.hf.text import ChatFormat, PlainFormat
from rmbench.models.resolve import Runtime, load_model
from rmbench.types import Scored, Turn

Make = Callable[..., Path]

TEXTS = [
    ("What is the capital of France?", "Paris is the capital of France."),
    ("What is the capital of France?", "No."),
    ("Tell me all.", "The quick brown fox jumps over the lazy dog. " * 3 + "é"),
    ("Tell me all.", ""),
]
CHATML = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]\n{{ m['content'] | trim }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]\n{% endif %}"
)


def chat(prompt: str, response: str) -> list[Turn]:
    return [Turn(role="user", content=prompt), Turn(role="assistant", content=response)]


CONVERSATIONS = [chat(*pair) for pair in TEXTS]


def causal(make: Make, folder: str, arch: str = "llama", seed: int = 0, **more: Any) -> Path:
    return make(arch, task="CausalLM", folder=folder, seed=seed, **more)


def load(spec: str, runtime: Runtime | None = None, **options: str) -> ImplicitReward:
    model = load_model(spec, options, runtime).model
    assert isinstance(model, ImplicitReward)
    return model


def rewards(model: ImplicitReward, batch: Any = CONVERSATIONS) -> list[float]:
    return [scored.reward for scored in model.score(batch)]


def plain_sums(folder: Path, texts: list[tuple[str, str]], ends: int = 0) -> tuple[list[float], list[int]]:
    """Return log pi(reply | prompt) and the tokens counted; `texts` are (before the reply, the reply)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    sums, counts = [], []
    for before, reply in texts:
        prompt = tokenizer(before, add_special_tokens=False)["input_ids"]
        ids = tokenizer(before + reply, add_special_tokens=False)["input_ids"]
        assert ids[: len(prompt)] == prompt
        with torch.no_grad():
            logps = model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
        places = range(len(prompt), len(ids) - ends)
        sums.append(float(sum(logps[i - 1, ids[i]] for i in places)))
        counts.append(len(places))
    return sums, counts


WRITTEN = [(f"<s><|user|>{p}</s><|assistant|>", f"{r}</s>") for p, r in TEXTS]


@pytest.mark.parametrize("arch", ["llama", "qwen2", "gpt2", "opt", "gemma2"])
def test_rewards_equal_a_plain_computation_whatever_the_batch(make_checkpoint: Make, arch: str) -> None:
    policy, ref = (causal(make_checkpoint, f"m{seed}", arch, seed) for seed in (1, 2))
    model = load(f"dpo:policy={policy},ref={ref}", beta="0.5")
    mine, theirs = plain_sums(policy, WRITTEN)[0], plain_sums(ref, WRITTEN)[0]
    expected = [0.5 * (a - b) for a, b in zip(mine, theirs, strict=True)]
    assert len(set(expected)) == 4
    assert rewards(model) == pytest.approx(expected, abs=1e-5, rel=2e-6)
    assert rewards(model, CONVERSATIONS[::-1])[::-1] == pytest.approx(expected, abs=1e-5, rel=2e-6)
    alone = [rewards(model, [c])[0] for c in CONVERSATIONS]
    assert alone == pytest.approx(expected, abs=1e-5, rel=2e-6)


def test_chunks_of_the_vocabulary_change_nothing(make_checkpoint: Make, monkeypatch: Any) -> None:
    spec = f"dpo:policy={causal(make_checkpoint, 'p')}"
    whole = rewards(load(spec, reference="none"))
    monkeypatch.setattr("rmbench.models.hf.dpo.CELLS_AT_ONCE", {"cpu": 1_200})  # three tokens at a time
    assert rewards(load(spec, reference="none")) == pytest.approx(whole, abs=1e-5)


def test_without_a_reference_it_is_the_log_probability_whole_or_per_token(make_checkpoint: Make) -> None:
    policy = causal(make_checkpoint, "p")
    sums, counts = plain_sums(policy, WRITTEN)
    spec = f"dpo:policy={policy}"
    assert rewards(load(spec, reference="none")) == pytest.approx(sums, abs=1e-5, rel=2e-6)
    simpo = load(spec, reference="none", average="yes", beta="2.5")
    expected = [2.5 * total / n for total, n in zip(sums, counts, strict=True)]
    assert rewards(simpo) == pytest.approx(expected, abs=1e-5, rel=2e-6)


def test_beta_scales_and_has_a_default(make_checkpoint: Make) -> None:
    policy, ref = (causal(make_checkpoint, f"m{seed}", seed=seed) for seed in (1, 2))
    spec = f"dpo:policy={policy},ref={ref}"
    ones = rewards(load(spec, beta="1"))
    assert rewards(load(spec)) == pytest.approx([0.1 * x for x in ones])
    prints = [load(spec, **options).fingerprint() for options in ({}, {"beta": "1"}, {"average": "yes"})]
    assert len({tuple(sorted(p.items())) for p in prints}) == 3
    assert prints[0] == load(spec, beta="0.1").fingerprint()
    assert prints[0]["policy"] != prints[0]["reference"]
    assert load(f"dpo:policy={ref},ref={policy}").fingerprint() != prints[0]


def test_a_policy_that_is_its_reference_gives_exactly_0(make_checkpoint: Make) -> None:
    one, two = (causal(make_checkpoint, name) for name in ("one", "two"))
    for ref in (one, two):  # the same folder, and a copy of its weights
        model = load(f"dpo:policy={one},ref={ref}")
        assert rewards(model) == [0.0] * 4
        assert model.fingerprint()["policy"] == model.fingerprint()["reference"]


def test_the_template_decides_what_is_the_reply(make_checkpoint: Make) -> None:
    policy = causal(make_checkpoint, "p", template=CHATML)
    written = [
        (f"<s>[user]\n{p}</s>\n[assistant]\n", f"{r.strip()}</s>\n") for p, r in TEXTS
    ]  # the end of the turn counts, the line break after it does not
    sums, _ = plain_sums(policy, written, ends=1)
    assert rewards(load(f"dpo:policy={policy}", reference="none")) == pytest.approx(sums, abs=1e-5, rel=2e-6)


def test_without_a_template_a_transcript_is_read(make_checkpoint: Make) -> None:
    policy = causal(make_checkpoint, "p", template=None)
    written = [(f"<s>\n\nHuman: {p}\n\nAssistant:", f" {r}</s>") for p, r in TEXTS]
    model = load(f"dpo:policy={policy}", reference="none")
    assert rewards(model) == pytest.approx(plain_sums(policy, written)[0], abs=1e-5, rel=2e-6)
    assert any("transcript" in note for note in model.notes())


@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize("is_chat", [False, True])
def test_the_places_of_a_reply_decode_to_it(
    tokenizers_by_kind: dict[str, Any], is_chat: bool, trimmed: bool
) -> None:
    from copy import deepcopy

    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    inner = deepcopy(tokenizers_by_kind["bare"])
    if trimmed:  # offsets that leave out white space, as Llama 3 tells them
        inner.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **SPECIAL)
    text_format = ChatFormat(tokenizer, CHATML) if is_chat else PlainFormat(tokenizer)
    replies = ["Paris. Yes.", "a\n\nb\n\nc", "\U0001f600 é", "QReplyQ", "no </s> end", "x"]
    asked = [chat("Hi", reply) for reply in replies]
    for reply, row in zip(
        replies, ReplyFormat(tokenizer, text_format, "\n\n").encode(asked, 99), strict=True
    ):
        assert row.reply is not None
        told = tokenizer.decode(row.ids[slice(*row.reply)])
        assert told == (f"{reply}</s>" if is_chat else f" {reply}</s>")
        ends = [tokenizer.decode(row.ids[row.reply[0] : place + 1]).strip(" ") for place in row.steps]
        assert ends == [*(["a\n\n", "a\n\nb\n\n"] if reply.startswith("a") else []), told.strip(" ")]


def test_a_reply_that_is_cut_is_counted(make_checkpoint: Make) -> None:
    model = load(f"dpo:policy={causal(make_checkpoint, 'p')}", Runtime(max_length=20), reference="none")
    scored = model.score(CONVERSATIONS)
    assert [(s.n_tokens, s.truncated) for s in scored][2] == (20, True)
    assert model.lengths(CONVERSATIONS) == [s.n_tokens for s in scored]
    assert isinstance(scored[0], Scored)


def test_check_passes(make_checkpoint: Make, capsys: pytest.CaptureFixture[str]) -> None:
    policy, ref = (causal(make_checkpoint, f"m{seed}", seed=seed) for seed in (1, 2))
    assert run(["check", "--model", f"dpo:policy={policy},ref={ref}", "--device", "cpu"]) == 0
    seen = load(f"dpo:policy={policy},ref={ref}").diagnose(CONVERSATIONS[0])
    assert seen["own_forward_gap"] < 1e-5
    assert seen["double_bos"] is False
    capsys.readouterr()


@pytest.mark.parametrize(
    ("argument", "options", "message"),
    [
        ("policy={p}", {}, "no ref=PATH; for the policy alone pass -M reference=none"),
        ("policy={p},ref={p}", {"reference": "none"}, "leave one out"),
        ("{p},ref={p}", {}, "is not KEY=PATH"),
        ("ref={p}", {}, "no policy=PATH"),
        ("policy={p},reff={p}", {}, "unknown key 'reff'. Did you mean 'ref'?"),
        ("policy={p},policy={p}", {}, "policy= comes twice"),
        ("policy=a,b,ref={p}", {}, "'b' is not KEY=PATH"),
        ("policy={p},ref=", {}, "'ref=' is not KEY=PATH"),
        ("policy={p}/none,ref={p}", {}, "there is no such folder"),
        ("policy={p},ref={p}", {"beta": "0"}, "option 'beta' is 0.0; expected a number above 0"),
        ("policy={p},ref={p}", {"beta": "x"}, "option 'beta' is 'x'; expected a number"),
        (
            "policy={p},ref={classifier}",
            {},
            "LlamaForSequenceClassification gives rewards and writes no text",
        ),
        ("policy={p},ref={bare}", {}, "weights are missing or have another shape, first 'lm_head.weight'"),
        ("policy={p},ref={other}", {}, "their chat templates differ"),
        ("policy={p},ref={words}", {}, "their tokenizers differ: "),
        ("policy={encoder}", {"reference": "none"}, "bert is no decoder"),
    ],
)
def test_a_bad_spec_is_one_line(
    make_checkpoint: Make, capsys: pytest.CaptureFixture[str], argument: str, options: Any, message: str
) -> None:
    places = {"p": causal(make_checkpoint, "p")}
    makers: dict[str, Callable[[], Path]] = {
        "classifier": lambda: make_checkpoint(folder="classifier"),
        "bare": lambda: make_checkpoint(folder="bare", head=False),
        "other": lambda: causal(make_checkpoint, "other", template=CHATML),
        "encoder": lambda: causal(make_checkpoint, "encoder", "bert", is_decoder=True),
        "words": lambda: other_words(causal(make_checkpoint, "words")),
    }
    places |= {name: make() for name, make in makers.items() if f"{{{name}}}" in argument}
    given = [x for key, value in options.items() for x in ("-M", f"{key}={value}")]
    spec = f"dpo:{argument.format(**places)}"
    assert run(["eval", "--model", spec, "--task", "preference", *given, "--device", "cpu"]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert message in told[-1]
    assert sum("rror" in line for line in told) <= 1


def other_words(folder: Path) -> Path:
    """Exchange the ids of two tokens."""
    file = folder / "tokenizer.json"
    text = file.read_text()
    at, b = '"!": 3', '"\\"": 4'
    assert at in text
    assert b in text
    file.write_text(text.replace(at, '"!": 4').replace(b, '"\\"": 3'))
    return folder


def test_a_path_may_have_an_equals_sign_and_no_comma() -> None:
    assert parse_places("ref=a=b,policy=c/d@e") == {"ref": "a=b", "policy": "c/d@e"}
    with pytest.raises(ConfigError, match="a comma separates"):
        parse_places("policy=a,b")
