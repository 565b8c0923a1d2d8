"""Encoders: a text pair, or one text by a chat template, against transformers' own forward pass on one text."""

from pathlib import Path
from typing import Any

import pytest
from replicas import Make

from rmbench.errors import ConfigError
from rmbench.models.resolve import load_model
from rmbench.types import Turn

TEXTS = [
    ("What is the capital of France?", "Paris is the capital of France."),
    ("What is the capital of France?", "No."),
    ("Tell me all.", "The quick brown fox jumps over the lazy dog. " * 3),
]
CONVERSATIONS = [
    [Turn(role="user", content=prompt), Turn(role="assistant", content=reply)] for prompt, reply in TEXTS
]
TEMPLATE = "<s>{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
OTHER = "<s>{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}</s>"
ARCHS = ["bert", "roberta", "modernbert"]


def expected(folder: Path, texts: list[Any], *, special: bool) -> list[float]:
    """Return the logit of each text (or pair of texts), read alone."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for text in texts:
        given = text if isinstance(text, tuple) else (text,)
        inputs = tokenizer(*given, add_special_tokens=special, return_tensors="pt")
        with torch.no_grad():
            found.append(float(model(**inputs).logits))
    return found


def rewards(folder: Path, **options: str) -> tuple[list[float], Any]:
    model: Any = load_model(str(folder), options).model
    together = [scored.reward for scored in model.score(CONVERSATIONS)]
    alone = [model.score([turns])[0].reward for turns in CONVERSATIONS]
    assert together == pytest.approx(alone, abs=1e-5)
    return together, model


@pytest.mark.parametrize("arch", ARCHS)
def test_an_encoder_with_a_template_reads_one_text(make_checkpoint: Make, arch: str) -> None:
    folder = make_checkpoint(arch, tokenizer="pair", template=TEMPLATE)
    texts = [f"<s>user: {prompt}</s>assistant: {reply}</s>" for prompt, reply in TEXTS]
    found, model = rewards(folder)
    assert found == pytest.approx(expected(folder, texts, special=False), abs=1e-5)
    assert model.fingerprint()["format"].startswith("one-text:chat-1:")
    assert any("-M chat_template=pair" in note for note in model.notes())
    assert rewards(folder, chat_template="pair")[0] == pytest.approx(
        expected(folder, TEXTS, special=True), abs=1e-5
    )


@pytest.mark.parametrize("arch", ARCHS)
def test_an_encoder_without_a_template_reads_a_pair_as_before(make_checkpoint: Make, arch: str) -> None:
    folder = make_checkpoint(arch, tokenizer="pair", template=None)
    found, model = rewards(folder)
    assert found == pytest.approx(expected(folder, TEXTS, special=True), abs=1e-5)
    assert model.fingerprint()["format"] == "pair-1"
    assert rewards(folder, chat_template="pair")[1].fingerprint() == model.fingerprint()


def test_one_text_by_a_file_or_plain(make_checkpoint: Make, tmp_path: Path) -> None:
    folder = make_checkpoint("bert", tokenizer="pair", template=None)
    file = tmp_path / "other.jinja"
    file.write_text(OTHER)
    texts = [f"<s>[user] {prompt}[assistant] {reply}</s>" for prompt, reply in TEXTS]
    by_file, model = rewards(folder, chat_template=str(file))
    assert by_file == pytest.approx(expected(folder, texts, special=False), abs=1e-5)
    assert any("one text, written by that template" in note for note in model.notes())
    plain = [f"\n\nHuman: {prompt}\n\nAssistant: {reply}" for prompt, reply in TEXTS]
    found, model = rewards(folder, chat_template="plain")
    assert found == pytest.approx(expected(folder, plain, special=True), abs=1e-5)
    assert model.fingerprint()["format"] == "one-text:plain-1"
    assert any("one text, a 'Human: ... Assistant: ...' transcript" in note for note in model.notes())


@pytest.mark.parametrize("chat_template", ["auto", "plain"])
def test_a_long_text_keeps_cls_and_its_end(make_checkpoint: Make, chat_template: str) -> None:
    folder = make_checkpoint("bert", tokenizer="pair", template=TEMPLATE)
    options = {"chat_template": chat_template}
    whole: Any = load_model(str(folder), options).model
    cut: Any = load_model(str(folder), options | {"max_length": "12"}).model
    ids, kept = (model.encode(CONVERSATIONS)[2] for model in (whole, cut))
    assert kept.truncated
    assert kept.ids == (ids.ids[0], *ids.ids[-11:])
    assert kept.ids[0] == whole.tokenizer.cls_token_id


def test_a_decoder_reads_no_pair(make_checkpoint: Make) -> None:
    with pytest.raises(ConfigError, match="chat_template' is pair: a decoder reads one text"):
        load_model(str(make_checkpoint("llama")), {"chat_template": "pair"})
