"""A tiny policy, drawn at random, with many end tokens so that some responses end."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_models import SPECIAL, tiny_config

CHAT = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
STOPS = [2, *range(300, 320)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """So small a model is slower in two threads; and sums in one order have the same last bits everywhere."""
    torch = pytest.importorskip("torch", reason="needs the extra hf")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_policy(tmp_path: Path, tokenizers_by_kind: dict[str, Any]) -> Callable[..., Path]:
    """Return a function that saves a language model and returns its folder."""

    def make(
        folder: str = "policy", *, template: str | None = CHAT, stops: list[int] | None = STOPS, seed: int = 0
    ) -> Path:
        import torch
        from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizers_by_kind["bos"],
            model_input_names=["input_ids", "attention_mask"],
            **SPECIAL,
            pad_token="<pad>",  # noqa: S106
        )
        fast.chat_template = template
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config("llama", pad_token_id=fast.pad_token_id))
        model.generation_config.eos_token_id = stops
        # What a checkpoint asks for by itself: none of it may come into the pool.
        model.generation_config.update(do_sample=True, temperature=0.3, top_k=3, repetition_penalty=1.7)
        model.save_pretrained(tmp_path / folder)
        fast.save_pretrained(tmp_path / folder)
        return tmp_path / folder

    return make


@pytest.fixture
def policy(make_policy: Callable[..., Path]) -> Path:
    return make_policy()


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes rows as JSON Lines."""

    def write(rows: list[Any], name: str = "prompts.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write
