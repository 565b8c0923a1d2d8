"""Encoders with a head at marks, such as PairRM: `pretrained_model` and `head_layer` in one state dict.

PairRM-hf has a config of transformers. llm-blender/PairRM has the config of its training tool, which names
the encoder that it was trained from: config and tokenizer are that one's, and `base` says where they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rmbench.core.files import parse_json, read_whole
from rmbench.errors import ConfigError, first_line
from rmbench.models.hf.checkpoint import Checkpoint, file_of, find_checkpoint
from rmbench.models.hf.device import checked_length, pick_device, pick_dtype
from rmbench.models.hf.identity import Pin, pin_of
from rmbench.models.hf.load import explained, load_tokenizer, quiet, torch, transformers
from rmbench.models.hf.recipes.tensors import Tensors, read_tensors, told
from rmbench.models.hf.tokens import pad_id_of
from rmbench.models.hf.weights.foreign import check_foreign, refuse_heads
from rmbench.models.pair.model import MarkReader, tokenizer_hash
from rmbench.models.pair.recipe import Marks, PairRecipe
from rmbench.models.pair.text import MarkedText
from rmbench.models.runtime import Runtime

_HEAD = "head_layer.1.weight"
_BODY = "pretrained_model."
_MARK_KEYS = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id")
"""Keys of PairRM-hf's config: ids of the marks of the prompt, the first reply and the second."""


@dataclass(frozen=True, slots=True)
class Marked:
    """An encoder with a head at marks, ready to be asked."""

    text: MarkedText
    reader: MarkReader
    identity: dict[str, str]
    """Weights and tokenizer."""


class _Ranker(torch.nn.Module):
    """An encoder, and a head of two linear maps with tanh between them; names as in published files."""

    def __init__(self, body: Any, n_tasks: int) -> None:
        super().__init__()
        nn, width = torch.nn, int(body.config.hidden_size)
        self.pretrained_model = body
        self.head_layer = nn.Sequential(
            nn.Dropout(0.0),
            nn.Linear(2 * width, width),
            nn.Tanh(),
            nn.Dropout(0.0),
            nn.Linear(width, n_tasks),
        )


def load_marked(
    checkpoint: Checkpoint,
    pin: Pin,
    tensors: Tensors,
    recipe: PairRecipe,
    runtime: Runtime,
    attn: str,
    base: str | None,
) -> Marked:
    """Return the encoder and head of a checkpoint.

    Args:
        checkpoint: Where it is.
        pin: Its identity before it was read.
        tensors: What its files hold.
        recipe: Has the marks and lengths.
        runtime: Device, dtype, length.
        attn: Attention implementation, or `auto`.
        base: Where config and tokenizer are, for a checkpoint without them; None for what its config names.

    Raises:
        ConfigError: If a tensor is missing, foreign or of another shape, the tokenizer does not fit, or the
            base cannot be read.
    """
    where, marks = checkpoint.location, recipe.marks
    if marks is None:
        raise ConfigError(f"{where}: the recipe {recipe.name} has no marks")
    with quiet(), explained(checkpoint):
        tool = _tool_config(pin, runtime)
        body_pin = _base_pin(checkpoint, pin, runtime, tool, base)
        marks = replace(
            marks,
            prompt_length=_length(tool, "source_maxlength", marks.prompt_length, where),
            reply_length=_length(tool, "candidate_maxlength", marks.reply_length, where),
        )
        config = transformers.AutoConfig.from_pretrained(body_pin.checkpoint.location, **body_pin.source)
        config.vocab_size = _n_words(tensors, where)
        has_own = file_of(pin.checkpoint, "tokenizer_config.json", runtime) is not None
        source = pin if has_own else body_pin
        tokenizer = load_tokenizer(source.checkpoint, source.source)
        text = MarkedText(tokenizer, marks, _longest(config, tokenizer, marks, runtime, where), where)
        _check_marks(text, config, where)
        model = _ranker(config, tensors, where, attn)
        device = pick_device(runtime.device)
        dtype = pick_dtype(runtime.dtype, device, config.dtype)
        own = config.dtype or torch.float32
        model.pretrained_model.to(device=device, dtype=own if dtype == "auto" else dtype)
        model.head_layer.to(device)  # in float32, whatever the encoder's type
        pin.check()
        body_pin.check()
    weights = pin.weights if body_pin is pin else f"{pin.weights} base {body_pin.weights}"
    identity = {"weights": weights, "tokenizer": tokenizer_hash(tokenizer)}
    return Marked(text, MarkReader(model.eval(), pad_id_of(model.pretrained_model, tokenizer)), identity)


def _tool_config(pin: Pin, runtime: Runtime) -> Mapping[str, Any]:
    """Return the config of LLM-Blender's training tool; empty for a config of transformers."""
    path = file_of(pin.checkpoint, "config.json", runtime)
    own = parse_json(read_whole(path)) if path is not None else {}
    return own if isinstance(own, dict) and "ranker_type" in own else {}


def _length(tool: Mapping[str, Any], key: str, usual: int, where: str) -> int:
    """Return a length that the training tool's config says; `usual` where it says none."""
    found = tool.get(key)
    if found is None:
        return usual
    if type(found) is not int or found < 1:
        raise ConfigError(f"{where}: its config says {key}={found!r}; expected a number of tokens")
    return found


def _base_pin(
    checkpoint: Checkpoint, pin: Pin, runtime: Runtime, tool: Mapping[str, Any], base: str | None
) -> Pin:
    """Return the identity of the checkpoint whose config and tokenizer are used."""
    where, named = checkpoint.location, tool.get("model_name")
    if named is None:
        if base is not None:
            raise ConfigError(f"{where}: option 'base': it has a config of its own; leave the option out")
        return pin
    place = base or str(named)
    try:
        folder = Path(place).expanduser()
        found = (
            Checkpoint(str(folder), None, is_folder=True) if folder.is_dir() else find_checkpoint(place, None)
        )
        return pin_of(found, runtime)
    except (ConfigError, OSError) as error:
        if base is not None:
            raise ConfigError(
                f"{where}: option 'base': {place} cannot be read ({first_line(error)})"
            ) from None
        raise ConfigError(
            f"{where}: its config names the encoder {place}, whose config and tokenizer cannot be read here"
            f" ({first_line(error)}); pass -M base=FOLDER"
        ) from None


def _n_words(tensors: Tensors, where: str) -> int:
    """Return the rows of the embedding: marks were added to those of the encoder's own vocabulary."""
    found = [t for n, t in tensors.items() if n.startswith(_BODY) and n.endswith("word_embeddings.weight")]
    if len(found) != 1:
        raise ConfigError(f"{where}: its files have no {_BODY}embeddings.word_embeddings.weight")
    return found[0].shape[0]


def _longest(config: Any, tokenizer: Any, marks: Marks, runtime: Runtime, where: str) -> int:
    """Return the most tokens of a pair: what the family says, and no more than absolute positions allow."""
    if getattr(config, "position_biased_input", True) is False:  # relative positions alone, as in DeBERTa-v3
        limit = runtime.max_length
    else:
        limit = checked_length(where, config, tokenizer, runtime)
    whole = marks.prompt_length + 2 * marks.reply_length
    return whole if limit is None else min(limit, whole)


def _check_marks(text: MarkedText, config: Any, where: str) -> None:
    """Refuse a tokenizer with other ids than the model was trained with."""
    for key, found in zip(_MARK_KEYS, text.ids, strict=True):
        known = getattr(config, key, None)
        if known is not None and known != found:
            raise ConfigError(
                f"{where}: its config says {key}={known}, its tokenizer has {found}; another tokenizer"
            )
    if max(text.ids) >= config.vocab_size:
        raise ConfigError(
            f"{where}: its embedding has {config.vocab_size} rows, its tokenizer's marks are {text.ids}:"
            " another tokenizer"
        )


def _ranker(config: Any, tensors: Tensors, where: str, attn: str) -> _Ranker:
    width, n_tasks = int(config.hidden_size), tensors["head_layer.4.weight"].shape[0]
    if tensors[_HEAD].shape != (width, 2 * width):
        raise ConfigError(
            f"{where}: {told(tensors, [_HEAD])} does not fit its encoder; expected {(width, 2 * width)}"
        )
    chosen = {} if attn == "auto" else {"attn_implementation": attn}
    auto: Any = transformers.AutoModel
    body = auto.from_config(config, dtype=torch.float32, **chosen)
    model = _Ranker(body, n_tasks)
    wanted = model.state_dict()
    if missing := [name for name in wanted if name not in tensors]:
        raise ConfigError(f"{where}: {len(missing)} weights are missing, first {missing[0]!r}")
    for name, value in wanted.items():
        if tuple(value.shape) != tensors[name].shape:
            raise ConfigError(f"{where}: {told(tensors, [name])}; its config says {tuple(value.shape)}")
    foreign = [name.removeprefix(_BODY) for name in tensors if name not in wanted]
    refuse_heads(where, body, check_foreign(where, body, foreign)[0])
    model.load_state_dict(read_tensors(tensors[name] for name in wanted))
    return model
