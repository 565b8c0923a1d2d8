"""The Hugging Face adapter against an independent reference: one text at a time, no padding, plain torch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run
from rmbench.models.hf.classifier import HFRewardModel
from rmbench.models.resolve import Runtime, fingerprint_of, load_model
from rmbench.types import Scored, Turn

Make = Callable[..., Path]

TEXTS = [
    ("What is the capital of France?", "Paris is the capital of France."),
    ("What is the capital of France?", "No."),
    ("Tell me all.", "The quick brown fox jumps over the lazy dog. " * 3),
    ("Tell me all.", ""),
]


def chat(prompt: str, response: str) -> list[Turn]:
    return [Turn(role="user", content=prompt), Turn(role="assistant", content=response)]


CONVERSATIONS = [chat(*pair) for pair in TEXTS]


def load(folder: Path, runtime: Runtime | None = None, **options: str) -> HFRewardModel:
    model = load_model(str(folder), options, runtime).model
    assert isinstance(model, HFRewardModel)
    return model


def rewards(model: HFRewardModel, batch: Any = CONVERSATIONS) -> list[float]:
    return [scored.reward for scored in model.score(batch)]


def reference(folder: Path, texts: list[Any], is_pair: bool = False) -> list[float]:
    """Score each text by itself with the class's own modules, at the last position: nothing is padded."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for text in texts:
        with torch.no_grad():
            if is_pair:
                # As lists: transformers takes a lone empty second text for no second text.
                inputs = tokenizer([text[0]], [text[1]], return_tensors="pt")
                found.append(float(model(**inputs).logits[0, 0]))
                continue
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            hidden = model.base_model(ids).last_hidden_state
            found.append(float(model.score(hidden)[0, -1, 0]))
    return found


def rendered(prompt: str, response: str) -> str:
    return f"<s><|user|>{prompt}</s><|assistant|>{response}</s>"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", ["<pad>", "</s>", None])
def test_decoder_equals_reference_whatever_the_padding(
    make_checkpoint: Make, pad: str | None, side: str
) -> None:
    folder = make_checkpoint("llama", pad=pad, side=side)
    model = load(folder)
    expected = reference(folder, [rendered(*pair) for pair in TEXTS])
    assert len(set(expected)) == len(expected)
    assert rewards(model) == pytest.approx(expected, abs=1e-5)
    assert [rewards(model, [c])[0] for c in CONVERSATIONS] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("arch", ["qwen2", "gpt2", "opt", "gpt_neox"])
def test_other_decoders_equal_their_own_forward_pass(make_checkpoint: Make, arch: str) -> None:
    folder = make_checkpoint(arch)
    model = load(folder)
    assert rewards(model) == pytest.approx(reference(folder, [rendered(*p) for p in TEXTS]), abs=1e-5)
    gaps = [model.diagnose(c)["own_forward_gap"] for c in CONVERSATIONS]
    assert all(gap is not None and gap < 1e-5 for gap in gaps)


@pytest.mark.parametrize("arch", ["bert", "roberta", "distilbert", "modernbert"])
def test_encoders_read_a_text_pair(make_checkpoint: Make, arch: str) -> None:
    folder = make_checkpoint(arch, tokenizer="bare" if arch == "modernbert" else "pair", template=None)
    model = load(folder)
    expected = reference(folder, TEXTS, is_pair=True)
    assert rewards(model) == pytest.approx(expected, abs=1e-5)
    assert [rewards(model, [c])[0] for c in CONVERSATIONS] == pytest.approx(expected, abs=1e-5)
    assert model.fingerprint()["format"] == "pair-1"
    assert (model.encode(CONVERSATIONS)[0].type_ids is not None) == (arch == "bert")


def test_pad_equal_to_eos_is_read_at_the_end_and_said_so(make_checkpoint: Make) -> None:
    folder = make_checkpoint("llama", pad="</s>")
    model = load(folder)
    seen = model.diagnose(CONVERSATIONS[0])
    assert (seen["pad_is_eos"], seen["read_at"], seen["own_read_at"]) == (True, "</s>", ".")
    assert any("own forward pass" in note for note in model.notes())
    assert model.model.config.pad_token_id == 2


def test_bos_is_never_doubled(make_checkpoint: Make) -> None:
    model = load(make_checkpoint("llama", tokenizer="bos"))
    ids = model.encode(CONVERSATIONS[:1])[0].ids
    assert ids[0] == 1
    assert ids.count(1) == 1
    assert model.diagnose(CONVERSATIONS[0])["double_bos"] is False


def test_bos_is_not_doubled_by_a_template_that_doubles_it(make_checkpoint: Make) -> None:
    template = (
        "{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    )
    model = load(make_checkpoint("llama", template=template))
    assert list(model.encode(CONVERSATIONS[:1])[0].ids).count(1) == 1


def test_plain_format_without_a_template(make_checkpoint: Make) -> None:
    folder = make_checkpoint("llama", template=None)
    model = load(folder)
    texts = [f"<s>\n\nHuman: {prompt}\n\nAssistant: {response}</s>" for prompt, response in TEXTS]
    assert rewards(model) == pytest.approx(reference(folder, texts), abs=1e-5)
    assert any("transcript" in note for note in model.notes())
    system = [Turn(role="system", content="Answer like a pirate."), *CONVERSATIONS[1]]
    expected = reference(folder, ["<s>Answer like a pirate." + texts[1].removeprefix("<s>")])
    assert rewards(model, [system]) == pytest.approx(expected, abs=1e-5)


def test_a_template_without_system_role_folds_it_and_says_so(make_checkpoint: Make) -> None:
    refuses = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}"
        "{{ raise_exception('no system') }}{% endif %}"
        "<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    )
    drops = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] != 'system' %}"
        "<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    conversation = [Turn(role="system", content="Answer like a pirate."), *CONVERSATIONS[0]]
    for k, template in enumerate((refuses, drops)):
        folder = make_checkpoint("llama", template=template, folder=f"tiny{k}")
        model = load(folder)
        assert model.notes() == []
        expected = reference(folder, [rendered("Answer like a pirate.\n\n" + TEXTS[0][0], TEXTS[0][1])])
        assert rewards(model, [conversation]) == pytest.approx(expected, abs=1e-5)
        assert any("system" in note for note in model.notes())


def test_a_template_that_refuses_the_roles_is_an_error_not_a_score(make_checkpoint: Make) -> None:
    from rmbench.errors import ScoringError

    alternates = (
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}"
        "{{ m['content'] }}{{ eos_token }}{% endfor %}"
    )
    model = load(make_checkpoint("llama", template=alternates))
    with pytest.raises(ScoringError, match=r"roles user, user, assistant: roles must alternate"):
        model.score([[CONVERSATIONS[0][0], *CONVERSATIONS[0]]])


def test_a_missing_eos_is_noted(make_checkpoint: Make) -> None:
    template = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    model = load(make_checkpoint("llama", template=template))
    assert any("no EOS ('</s>')" in note for note in model.notes())
    assert model.diagnose(CONVERSATIONS[0])["eos_seen"] is False


def test_the_date_in_a_template_does_not_change_overnight(make_checkpoint: Make) -> None:
    template = (
        "{{ bos_token }}Today is {{ strftime_now('%d %b %Y') }}."
        "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    )
    folder = make_checkpoint("llama", template=template)
    model = load(folder)
    texts = [f"<s>Today is 26 Jul 2024.{prompt}</s>{response}</s>" for prompt, response in TEXTS]
    assert rewards(model) == pytest.approx(reference(folder, texts), abs=1e-5)
    assert model.fingerprint()["format"].endswith(":2024-07-26")


def test_truncation_takes_the_left_of_the_prompt(make_checkpoint: Make) -> None:
    model = load(make_checkpoint("llama"), Runtime(max_length=40))
    long = chat("Tell me all. " * 30, "Paris is the capital of France.")
    whole = load_encoded(model, long, 10_000)
    cut = model.encode([long])[0]
    assert (len(cut.ids), cut.truncated) == (40, True)
    assert cut.ids[0] == 1
    assert cut.ids[1:] == whole[-39:]
    scored = model.score([long, CONVERSATIONS[1]])
    assert [(s.n_tokens, s.truncated) for s in scored] == [(40, True), (scored[1].n_tokens, False)]
    assert model.lengths([long, CONVERSATIONS[1]]) == [s.n_tokens for s in scored]
    # A response that does not fit loses its beginning, never its end.
    huge = chat("Tell me all.", "x " * 300 + "Paris.")
    kept = model.encode([huge])[0].ids
    assert (kept[0], kept[-1], len(kept)) == (1, 2, 40)


def load_encoded(model: HFRewardModel, conversation: list[Turn], max_length: int) -> tuple[int, ...]:
    return model.text_format.encode([conversation], max_length)[0].ids


def test_truncation_of_a_pair_keeps_special_tokens_and_response(make_checkpoint: Make) -> None:
    model = load(make_checkpoint("bert", tokenizer="pair", template=None), Runtime(max_length=30))
    whole = model.text_format.encode([chat("Tell me all. " * 30, "Paris is the capital.")], 10_000)[0]
    cut = model.text_format.encode([chat("Tell me all. " * 30, "Paris is the capital.")], 30)[0]
    assert whole.type_ids is not None
    n_reply = sum(whole.type_ids)
    assert cut.truncated
    assert cut.ids[0] == 1
    assert cut.ids[-n_reply:] == whole.ids[-n_reply:]  # the response and its separator, whole
    assert cut.ids[1:] == whole.ids[-29:]  # the prompt, from its left
    assert cut.type_ids is not None
    assert len(cut.type_ids) == 30
    huge = model.text_format.encode([chat("Tell me all.", "x " * 300)], 30)[0]
    assert (len(huge.ids), huge.ids[0], huge.ids[-1], huge.ids.count(2)) == (30, 1, 2, 2)


def test_length_limits(make_checkpoint: Make) -> None:
    from rmbench.errors import ConfigError

    assert load(make_checkpoint("llama")).max_length == 256
    assert load(make_checkpoint("roberta", tokenizer="pair", template=None, folder="r")).max_length == 257
    with pytest.raises(ConfigError, match="the model has 256 positions"):
        load(make_checkpoint("llama"), Runtime(max_length=257))
    assert load(make_checkpoint("llama"), max_length="20").max_length == 20


def test_two_labels_need_a_choice(make_checkpoint: Make) -> None:
    from rmbench.errors import ConfigError

    folder = make_checkpoint("llama", n_labels=2)
    with pytest.raises(ConfigError, match=r"2 labels \(0=LABEL_0, 1=LABEL_1\).*-M label=K"):
        load(folder)
    with pytest.raises(ConfigError, match="option 'label' is 2"):
        load(folder, label="2")
    first, second = load(folder, label="0"), load(folder, label="1")
    assert rewards(first) == pytest.approx(reference(folder, [rendered(*p) for p in TEXTS]), abs=1e-5)
    assert rewards(first) != pytest.approx(rewards(second), abs=1e-3)
    assert first.fingerprint() != second.fingerprint()


def test_a_missing_head_is_refused_unless_drawn_on_purpose(make_checkpoint: Make) -> None:
    from rmbench.errors import ConfigError

    folder = make_checkpoint("llama", head=False)
    with pytest.raises(ConfigError, match=r"no trained reward head: .*score.weight"):
        load(folder)
    one, again, other = (load(folder, fresh_head=seed) for seed in ("1", "1", "2"))
    assert rewards(one) == rewards(again)
    assert rewards(one) != pytest.approx(rewards(other), abs=1e-4)
    assert one.fingerprint() == again.fingerprint()
    assert one.fingerprint() != other.fingerprint()
    assert any("random" in note for note in one.notes())
    trained = make_checkpoint("llama", folder="trained")
    with pytest.raises(ConfigError, match="has a head of its own"):
        load(trained, fresh_head="1")
    with pytest.raises(ConfigError, match="has a head of its own"):
        load(make_checkpoint("llama", n_labels=2, folder="two"), fresh_head="1")


def test_an_encoder_without_head_and_pooler(make_checkpoint: Make) -> None:
    from rmbench.errors import ConfigError

    folder = make_checkpoint("bert", tokenizer="pair", template=None, head=False)
    with pytest.raises(ConfigError, match="no trained reward head"):
        load(folder)
    assert len(set(rewards(load(folder, fresh_head="0")))) == len(TEXTS)


def test_a_missing_layer_is_refused_even_with_a_fresh_head(make_checkpoint: Make) -> None:
    from safetensors.torch import load_file, save_file

    from rmbench.errors import ConfigError

    folder = make_checkpoint("llama", head=False)
    weights = load_file(folder / "model.safetensors")
    del weights["layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ConfigError, match=r"1 weights of the model itself are missing, .*layers\.1\.mlp\.up_proj"
    ):
        load(folder, fresh_head="0")


def test_pickled_weights_under_other_names_are_refused(make_checkpoint: Make) -> None:
    import torch
    from safetensors.torch import load_file

    from rmbench.errors import ConfigError

    folder = make_checkpoint("llama")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "pytorch_model.bin").rename(folder / "rm.bin")
    with pytest.raises(ConfigError, match=r"found only rm\.bin, a pickle under a name that is not read"):
        load(folder)
    (folder / "rm.bin").unlink()
    with pytest.raises(ConfigError, match=r"weights as \*\.safetensors or pytorch_model\.bin; found none"):
        load(folder)


def test_fingerprint_follows_what_can_change_a_score(make_checkpoint: Make) -> None:
    folder = make_checkpoint("llama")
    same = make_checkpoint("llama", folder="copy")
    before = fingerprint_of(load_model(str(folder)))
    assert before == fingerprint_of(load_model(str(same)))
    assert before["dtype"] == "float32"
    changed = [
        fingerprint_of(load_model(str(folder), {}, Runtime(dtype="bfloat16"))),
        fingerprint_of(load_model(str(folder), {}, Runtime(max_length=64))),
        fingerprint_of(load_model(str(folder), {"chat_template": "plain"})),
        fingerprint_of(load_model(str(make_checkpoint("llama", seed=1, folder="other")))),
        fingerprint_of(load_model(str(make_checkpoint("llama", template="{% for m in messages %}"
        "{{ m['content'] }}{{ eos_token }}{% endfor %}", folder="template")))),
    ]  # fmt: skip
    assert len({tuple(sorted(f.items())) for f in [before, *changed]}) == 6


def test_tokens_are_computed_once_for_lengths_and_score(make_checkpoint: Make) -> None:
    model = load(make_checkpoint("llama"))
    asked: list[int] = []
    encode = model.text_format.encode
    model.text_format.encode = lambda batch, n: asked.append(len(batch)) or encode(batch, n)  # type: ignore
    model.lengths(CONVERSATIONS)
    model.score([*CONVERSATIONS, CONVERSATIONS[0]])
    assert asked == [len(CONVERSATIONS)]
    assert model.score([]) == []
    assert isinstance(model.score(CONVERSATIONS[:1])[0], Scored)


def test_half_precision_stays_near_and_scores_in_fp32(make_checkpoint: Make) -> None:
    folder = make_checkpoint("llama")
    half = load(folder, Runtime(dtype="bfloat16"))
    assert half.model.score.weight.dtype.is_floating_point
    assert str(half.model.score.weight.dtype) == "torch.float32"
    assert rewards(half) == pytest.approx(rewards(load(folder)), abs=0.5)
    assert any(float(x) != round(x, 2) for x in rewards(half))


def test_odd_texts(make_checkpoint: Make) -> None:
    model = load(make_checkpoint("llama"))
    odd = [
        chat("\ud800 lone", "\udfff"),
        chat("\u2028", "\x07"),
        chat("", ""),
        chat("a", "\U0001f469\u200d\U0001f680"),
    ]
    assert len(set(rewards(model, odd))) == 4


def test_a_mistyped_folder_is_not_looked_for_on_the_hub(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rmbench.errors import ConfigError

    make_checkpoint("llama")
    (tmp_path / "models" / "my-reward-model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError,
        match=r"no such folder .* hf:models/my-rewardmodel\. Did you mean models/my-reward-model\?",
    ):
        load_model("models/my-rewardmodel", {}, Runtime())


def test_unusable_checkpoints(make_checkpoint: Make, tmp_path: Path) -> None:
    from rmbench.errors import ConfigError

    folder = make_checkpoint("llama")
    for options, runtime, message in [
        ({}, Runtime(device="cuda"), "device 'cuda' is not available"),
        ({"chat_template": "none.jinja"}, Runtime(), "there is no file none.jinja"),
        ({"attn": "fast"}, Runtime(), "unknown value 'fast'"),
        ({"gguf_file": "x.gguf"}, Runtime(), "there is no file x.gguf"),
    ]:
        with pytest.raises(ConfigError, match=message):
            load_model(str(folder), options, runtime)
    with pytest.raises(ConfigError, match="leaves out what the assistant said"):
        load(make_checkpoint("llama", template="{{ messages[0]['content'] }}", folder="deaf"))
    with pytest.raises(ConfigError, match="there is no such folder"):
        load_model("hf:" + str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="trust_remote_code needs a pinned revision"):
        load_model("hf:some/model@main", {"trust_remote_code": "true"})
    with pytest.raises(
        ConfigError, match="no folder some/model here, and some/model of the Hugging Face Hub"
    ):
        load_model("some/model", {}, Runtime(offline=True))
    (folder / "config.json").write_text('{"model_type": "t5", "num_labels": 1, "is_encoder_decoder": true}')
    with pytest.raises(ConfigError, match="tiny"):
        load(folder)


def test_a_tokenizer_that_crashes_its_library_is_one_line(
    make_checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A crash of the library, written in Rust, is no Exception of Python."""
    folder = make_checkpoint("llama")
    path = folder / "tokenizer.json"
    piece = [{"SpecialToken": {"id": "nope", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": piece, "pair": piece, "special_tokens": {}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": template}))
    assert run(["check", "-m", str(folder), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert f"error: {folder} cannot be loaded" in error
    assert "Traceback" not in error
