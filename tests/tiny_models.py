"""Tiny Hugging Face checkpoints, made on the spot: a tokenizer trained here, a model drawn at random."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CORPUS = [
    "What is the capital of France? Paris is the capital of France.",
    "The quick brown fox jumps over the lazy dog, and then it sleeps.",
    "Answer like a pirate. Tell me all. I do not know. Human: Assistant: user system assistant",
    "0 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m n o p q r s t u v w x y z",
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
PAIR_SPECIAL = {"cls_token": "<s>", "sep_token": "</s>"}
BATCH_DEPENDENT = ("canine", "convbert", "fnet", "nystromformer", "yoso")
"""Encoders whose reward of a text depends on the padding beside it."""
CHAT = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
)


def train_tokenizer(kind: str) -> Any:
    """Return a byte-level BPE; `kind` decides the special tokens that it adds by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in special]
    if kind == "bos":
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", ids)
    elif kind == "pair":
        tokenizer.post_processor = processors.TemplateProcessing(
            "<s> $A </s>", "<s>:0 $A:0 </s>:0 $B:1 </s>:1", ids
        )
    return tokenizer


@pytest.fixture(scope="session")
def tokenizers_by_kind() -> dict[str, Any]:
    return {kind: train_tokenizer(kind) for kind in ("bare", "bos", "pair")}


@pytest.fixture
def make_checkpoint(tmp_path: Path, tokenizers_by_kind: dict[str, Any]) -> Callable[..., Path]:
    """Return a function that saves a checkpoint and returns its folder."""
    return checkpoint_maker(tmp_path, tokenizers_by_kind)


def checkpoint_maker(below: Path, tokenizers_by_kind: dict[str, Any]) -> Callable[..., Path]:
    """Return a function that saves a checkpoint in a folder below `below`."""

    def make(
        arch: str = "llama",
        *,
        tokenizer: str = "bos",
        template: str | None = CHAT,
        pad: str | None = "<pad>",
        side: str = "right",
        n_labels: int = 1,
        head: bool = True,
        task: str = "SequenceClassification",
        seed: int = 0,
        folder: str = "tiny",
        **config: Any,
    ) -> Path:
        import torch
        import transformers
        from transformers import PreTrainedTokenizerFast

        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizers_by_kind[tokenizer],
            # Only BERT knows a second segment.
            model_input_names=[
                "input_ids",
                *(["token_type_ids"] if arch == "bert" else []),
                "attention_mask",
            ],
            **SPECIAL,
            pad_token=pad,
            padding_side=side,
            **(PAIR_SPECIAL if tokenizer == "pair" else {}),
        )
        fast.chat_template = template
        made = tiny_config(arch, pad_token_id=fast.pad_token_id, num_labels=n_labels, **config)
        torch.manual_seed(seed)
        auto = getattr(transformers, f"AutoModelFor{task}" if head else "AutoModel")
        model = auto.from_config(made)
        where = below / folder
        model.save_pretrained(where)
        fast.save_pretrained(where)
        return where

    return make


def tiny_config(arch: str, **overrides: Any) -> Any:
    from transformers import AutoConfig

    common = {
        "vocab_size": 400,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    special: dict[str, dict[str, Any]] = {
        "llama": {"num_key_value_heads": 2},
        "qwen2": {"num_key_value_heads": 2},
        "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
        "mistral": {"num_key_value_heads": 2},
        "gemma2": {"num_key_value_heads": 2, "head_dim": 8},
        "falcon": {"alibi": True},
        "bloom": {},
        "gpt2": {},
        "gpt_neox": {},
        "bert": {"type_vocab_size": 2},
        "roberta": {"type_vocab_size": 2, "max_position_embeddings": 258},
        "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4},
        "modernbert": {"cls_token_id": 1, "sep_token_id": 2, "global_attn_every_n_layers": 1},
        "phi3": {"num_key_value_heads": 2, "pad_token_id": 0},
        "phimoe": {"num_key_value_heads": 2, "num_local_experts": 4},
        "qwen2_moe": {
            "num_key_value_heads": 2,
            "num_experts": 4,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 32,
        },
        **{name: {} for name in BATCH_DEPENDENT},
        "convbert": {"embedding_size": 32},
        "big_bird": {},
    }
    return AutoConfig.for_model(arch, **common | special[arch] | overrides)
