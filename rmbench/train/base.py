"""Base models for training: a one-label head, a separate padding token, no dropout."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rmbench.core.overlap import PROMPTS_FILE, TrainingPrompts
from rmbench.errors import ConfigError, StoreError
from rmbench.models.hf.checkpoint import RECORD, find_checkpoint
from rmbench.models.hf.device import checked_length
from rmbench.models.hf.identity import pin_of
from rmbench.models.hf.load import NoHeadError, explained, load_classifier, quiet
from rmbench.models.hf.text import TextFormat, choose_format
from rmbench.models.runtime import Runtime
from rmbench.types import Turn

_PROBE = (Turn(role="user", content="a"), Turn(role="assistant", content="b"))


@dataclass(slots=True)
class Base:
    """A classifier with one label, ready to be trained."""

    model: Any
    tokenizer: Any
    text_format: TextFormat
    pad_id: int
    positions: int
    body_seed: str
    """The seed, if more than the last layer was initialised at random; else empty."""

    def limit(self, max_length: int) -> int:
        """Return the tokens per conversation: the requested number, at most what the model can read."""
        return min(max_length, self.positions)

    def merged(self) -> Any:
        """Return the ordinary model: LoRA adapters merged into its weights."""
        return self.model.merge_and_unload() if hasattr(self.model, "merge_and_unload") else self.model


def identity_of_base(name: str, runtime: Runtime) -> tuple[str, str]:
    """Return the identity of the base's weights, and its name without a path."""
    checkpoint = find_checkpoint(name, None)
    with quiet(), explained(checkpoint):
        return pin_of(checkpoint, _reading(runtime)).weights, checkpoint.name


def _reading(runtime: Runtime) -> Runtime:
    """Return how a base is read."""
    return Runtime(device="cpu", dtype="float32", offline=runtime.offline)


def prompts_seen(base: str, trained: Iterable[Sequence[Turn]]) -> TrainingPrompts:
    """Return the prompts that a model has seen: its training prompts, and those recorded with its base.

    Raises:
        StoreError: If the base's file of them is damaged, or missing although rmbench trained the base.
    """
    checkpoint, own = find_checkpoint(base, None), TrainingPrompts.of(trained)
    folder = Path(checkpoint.location)
    earlier = TrainingPrompts.load(folder) if checkpoint.is_folder else None
    if checkpoint.is_folder and earlier is None and (folder / RECORD).is_file():
        raise StoreError(
            f"{folder / PROMPTS_FILE}: missing, although rmbench trained this base ({RECORD} is there):"
            " without it the new model's training prompts would be only some of them; put the file back"
        )
    return own if earlier is None else own.joined(earlier)


def load_base(name: str, seed: int, lora: int | None, runtime: Runtime, weights: str | None = None) -> Base:
    """Return a base (folder, `org/name[@revision]` or `builtin:tiny`); a new head is drawn by `seed`.

    Args:
        name: The base.
        seed: Of a new head.
        lora: Rank of adapters; None for none.
        runtime: Offline.
        weights: From `identity_of_base` before; None: not known.

    Raises:
        ConfigError: If it cannot be loaded, has no tokenizer, or is not what `weights` says.
    """
    checkpoint = find_checkpoint(name, None)
    in_fp32 = _reading(runtime)
    try:
        loaded = load_classifier(checkpoint, in_fp32, None, "auto")
    except NoHeadError:
        loaded = load_classifier(checkpoint, in_fp32, seed, "auto")
    if loaded.recipe is not None:
        raise ConfigError(
            f"{name}: its head is read by the recipe {loaded.recipe.name}; expected a base model, or a"
            " classifier with the head 'score'"
        )
    if weights not in (None, loaded.weights):
        raise ConfigError(
            f"{name}: it changed since this training began; start again when nothing writes to it"
        )
    if (n_labels := int(loaded.model.config.num_labels)) != 1:
        raise ConfigError(f"{name}: its head has {n_labels} labels; expected one, or none at all")
    text_format = choose_format(loaded.tokenizer, loaded.is_encoder, "auto")
    pad_id = _pad_id(loaded.model, loaded.tokenizer, text_format)
    for module in loaded.model.modules():
        # With dropout the batch statistic of the look-ahead would not be that of the training pass.
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    positions = checked_length(name, loaded.model.config, loaded.tokenizer, in_fp32)
    model = loaded.model if lora is None else _with_lora(loaded.model, lora)
    head = {id(p) for p in head_of(loaded.model).parameters()}
    body = [n for n, p in loaded.model.named_parameters() if n in loaded.fresh and id(p) not in head]
    return Base(model.train(), loaded.tokenizer, text_format, pad_id, positions, str(seed) if body else "")


def head_of(model: Any) -> Any:
    """Return the last linear map to one number."""
    heads = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1]
    return heads[-1]


def _pad_id(model: Any, tokenizer: Any, text_format: TextFormat) -> int:
    """Return a padding id that never ends a conversation, and set it on tokenizer and config.

    transformers reads a decoder's reward at the last token that is not padding. If padding is EOS, it reads
    one token early, so such a base gets another special token as padding, or a new one.
    """
    used = set(text_format.encode([_PROBE], 64)[0].ids)
    current = tokenizer.pad_token_id
    if current is None or current in used:
        spare = [
            i for i in sorted(tokenizer.all_special_ids) if i not in used and i != tokenizer.eos_token_id
        ]
        if spare:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(spare[0])
        else:
            tokenizer.add_special_tokens({"pad_token": "<|rmbench_pad|>"})
            if len(tokenizer) > model.get_input_embeddings().num_embeddings:
                model.resize_token_embeddings(len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    return int(tokenizer.pad_token_id)


def _with_lora(model: Any, rank: int) -> Any:
    import peft

    config = peft.LoraConfig(task_type="SEQ_CLS", r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    with warnings.catch_warnings():
        # peft asks the model by a name that transformers has deprecated.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return peft.get_peft_model(model, config)
