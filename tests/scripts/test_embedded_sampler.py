"""The decode loop of the embedded set's script, against transformers' own forward on a tiny real Llama."""

import importlib
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra hf")
transformers = pytest.importorskip("transformers", reason="needs the extra hf")
tokenizers = pytest.importorskip("tokenizers", reason="needs the extra hf")

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "embedded"
TEMPLATE = "{% for m in messages %}<|im_start|> {{ m['content'] }} <|im_end|> {% endfor %}<|im_start|>"


@pytest.fixture
def sampler(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"w{i}" for i in range(13))]
    words = tokenizers.models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=names[0])
    backend = tokenizers.Tokenizer(words)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=names[2], bos_token=names[1], chat_template=TEMPLATE
    )
    config = transformers.LlamaConfig(
        vocab_size=len(names),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        initializer_range=0.3,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=0,
    )
    torch.manual_seed(3)
    model = transformers.LlamaForCausalLM(config).eval()
    return importlib.import_module("sampler").Sampler(model, tokenizer)


def test_the_loop_equals_the_forward_of_transformers(sampler: Any) -> None:
    assert sampler.self_check("w1 w2 w3", n_steps=12) < 1e-4


def test_replies_repeat_with_the_seed_and_end_where_the_model_ends(sampler: Any) -> None:
    once = sampler.sample("w1 w2", n=24, max_new_tokens=10, seed=5)
    sampler.sample("w7", n=3, max_new_tokens=4, seed=9)
    assert sampler.sample("w1 w2", n=24, max_new_tokens=10, seed=5) == once
    assert sampler.sample("w1 w2", n=24, max_new_tokens=10, seed=6) != once
    assert {reply.finish for reply in once} == {"stop", "length"}
    assert all((reply.finish == "length") == (reply.n_tokens == 10) for reply in once)
    assert all("<|" not in reply.text and len(reply.text.split()) == reply.n_tokens for reply in once)


def test_tokens_are_drawn_at_temperature_one(sampler: Any) -> None:
    n = 4000
    replies = sampler.sample("w1 w2", n=n, max_new_tokens=2, seed=1)
    with torch.inference_mode():
        ids = sampler.encode("w1 w2")
        first = sampler.model(ids).logits[0, -1].softmax(-1)
        for i in range(13):
            share = sum(reply.text.split()[:1] == [f"w{i}"] for reply in replies) / n
            assert share == pytest.approx(float(first[3 + i]), abs=0.025)
        # The second token as well: it depends on the cache, and on rows that ended being dropped.
        likely = int(first[3:].argmax())
        second = sampler.model(torch.cat([ids, torch.tensor([[3 + likely]])], 1)).logits[0, -1].softmax(-1)
    begun = [reply.text.split() for reply in replies if reply.text.split()[:1] == [f"w{likely}"]]
    for i in range(13):
        share = sum(words[1:] == [f"w{i}"] for words in begun) / len(begun)
        assert share == pytest.approx(float(second[3 + i]), abs=0.06)
