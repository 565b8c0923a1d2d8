"""Builders of PEFT adapters on tiny bases, and their plain reference: peft's own merge, one text at a time."""

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

AUTO = {"SEQ_CLS": "SequenceClassification", "CAUSAL_LM": "CausalLM", "TOKEN_CLS": "TokenClassification"}


def auto(task: str) -> Any:
    return getattr(transformers, f"AutoModelFor{AUTO[task]}")


def put_adapter(
    base: Path,
    where: Path,
    *,
    task: str | None = "SEQ_CLS",
    kind: str = "SEQ_CLS",
    named: str | None = None,
    n_labels: int = 1,
    seed: int = 7,
    merged_into: Path | None = None,
    grow_vocabulary: int = 0,
    **options: Any,
) -> Path:
    """Save an adapter with random weights.

    Args:
        base: Folder of the base.
        where: Folder of the adapter.
        task: The task_type in its config.
        kind: The class that it is put on.
        named: The base_model_name_or_path in its config; None for `base`.
        n_labels: Of the head.
        seed: Of its weights, the head's among them.
        merged_into: Folder to save the merged model to as well.
        grow_vocabulary: New tokens, whose embeddings are saved too.
        options: Of LoraConfig.
    """
    import peft

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels = {} if kind == "CAUSAL_LM" else {"num_labels": n_labels}
        model = auto(kind).from_pretrained(base, ignore_mismatched_sizes=True, **labels)
        if grow_vocabulary:
            model.resize_token_embeddings(model.config.vocab_size + grow_vocabulary)
        model.name_or_path = str(base) if named is None else named
        config = peft.LoraConfig(
            **{"task_type": task, "r": 4, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False}
            | options
        )
        torch.manual_seed(seed)
        adapted = peft.get_peft_model(model, config)
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if (
                    "lora_" in name
                    or "modules_to_save" in name
                    or (grow_vocabulary and "embed_tokens" in name)
                ):
                    weight.normal_(0, 0.3)
        adapted.save_pretrained(where)
        if merged_into is not None:
            adapted.merge_and_unload().save_pretrained(merged_into)
    return where


def merged_by_peft(base: Path, adapter: Path, kind: str, vocabulary: int = 0, **config: Any) -> Any:
    """Return the reference model, in float32."""
    import peft

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = auto(kind).from_pretrained(base, dtype=torch.float32, ignore_mismatched_sizes=True, **config)
        if vocabulary:
            model.resize_token_embeddings(vocabulary)
        return peft.PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().eval()


def reference_rewards(model: Any, rows: list[tuple[int, ...]]) -> list[float]:
    """Return the reward of each row of ids: the head at its last token, alone in its batch."""
    found = []
    with torch.inference_mode():
        for ids in rows:
            hidden = model.model(input_ids=torch.tensor([ids])).last_hidden_state
            found.append(float(model.score(hidden[0, -1])[0]))
    return found
