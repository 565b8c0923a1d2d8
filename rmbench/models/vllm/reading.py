"""How a model behind an engine or a server is read: its recipe, text, token and label.

Engines have one head, a linear `score`, and read it at the last token of what they are given. All else of a
recipe is done here: the text, its end, and the token, since a decoder's state does not depend on what follows
it: the ids after that token are not sent. Normalisation and sign are applied to what comes back. Recipes with
another head, or a body under other names, are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError
from rmbench.models.hf.checkpoint import (
    Checkpoint,
    Readout,
    architectures,
    choose_readout,
    label_names,
)
from rmbench.models.hf.load import NoHeadError, is_decoder, transformers
from rmbench.models.hf.recipes.choose import Asked, choose_recipe
from rmbench.models.hf.recipes.heads import normalization, unread_heads
from rmbench.models.hf.recipes.pairs import refuse_pair_config, refuse_pair_head
from rmbench.models.hf.recipes.recipe import Recipe, Seen, look_at
from rmbench.models.hf.recipes.tensors import Tensor, told
from rmbench.models.hf.recipes.text import Places, RecipeFormat
from rmbench.models.hf.text import Encoded, TextFormat, decoder_format
from rmbench.models.runtime import Runtime
from rmbench.models.vllm.engine import Config

_SCORE = frozenset({"score.weight"})
_OWN_HEADS = {
    "Qwen2ForRewardModel": frozenset(
        {"score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias"}
    ),
}  # fmt: skip
"""Classes of vLLM with a head of their own -> its tensors; they give a number per token (`token_classify`).
Checked against vLLM's qwen2_rm.py and its table of token reward models."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How texts are written for a model, and how a reward is made of what comes back."""

    readout: Readout
    n_labels: int
    """Numbers that the model gives for a text."""
    text_format: TextFormat
    places: Places
    recipe: Recipe | None = None
    why: str = ""
    """The evidence for the recipe."""
    normalization: tuple[float, float] = (0.0, 1.0)
    remarks: tuple[str, ...] = ()
    pad_id: int | None = None
    """Of the config, where transformers' own forward pass skips it; None with a recipe, which says where."""
    overrides: dict[str, Any] | None = None
    """Values of the config that an engine needs and the file does not have."""

    def sent(self, row: Encoded) -> tuple[int, ...]:
        """Return the ids of a row up to the token whose state is read."""
        return row.ids if row.unreadable else row.ids[: self.places.of(row)[-1] + 1]

    def rewards(self, logits: Any) -> list[float]:
        """Return one reward per row of logits, (B, labels)."""
        found = self.readout.rewards(logits)
        if self.recipe is None:
            return found
        (mean, std), sign = self.normalization, -1.0 if self.recipe.negate else 1.0
        return [sign * (reward - mean) / std for reward in found]

    def notes(self, probe: Encoded) -> list[str]:
        """Return remarks on the recipe, its evidence, and padding that ends every text, such as a probe."""
        found = list(self.remarks)
        if self.pad_id is not None and probe.ids[-1] == self.pad_id:
            found.append(
                "the padding token ends every text; the reward is read there, but transformers' own forward"
                " pass reads the token before; if it was trained there (TRL does so where padding is EOS),"
                " pass -M read_at=before_eos"
            )
        if (recipe := self.recipe) is not None:
            found.append(f"recipe {recipe.name} ({self.why}): {recipe.about}; read at {recipe.read_at}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the user says of how a model is read; options as in `load_vllm`."""

    label: int | None = None
    weights: str | None = None
    chat_template: str = "auto"
    asked: Asked = field(default_factory=Asked)


def choose_reading(
    engine: str,
    checkpoint: Checkpoint,
    read: Config,
    runtime: Runtime,
    choice: Choice,
    *,
    task: str = "classify",
) -> Reading:
    """Return how a model is read.

    Args:
        engine: What runs it, for messages: `vLLM`.
        checkpoint: Where its config and tokenizer are.
        read: These.
        runtime: Hub access.
        choice: The user's options.
        task: `classify`, or `token_classify` for a number per token.

    Raises:
        NoHeadError: If the config names no classifier, and no recipe says otherwise.
        ConfigError: If it is an encoder, its head is another one than the engine's, or none of its labels is
            the reward.
    """
    config, where = read.config, checkpoint.location
    choice.asked.check_template(choice.chat_template)
    refuse_pair_config(where, config)
    seen, remarks = _look(engine, checkpoint, read, runtime)
    refuse_pair_head(seen)
    if not is_decoder(config):
        raise ConfigError(f"{where}: {config.model_type} is no decoder; it goes through hf:")
    recipe, why = choose_recipe(choice.asked, lambda: seen)
    used = _head_of(engine, seen, recipe, task)
    if seen.tensors and (unread := unread_heads(seen, used)):
        raise ConfigError(
            f"{where}: its files have {told(seen.tensors, unread)}, which {engine} does not read; load it"
            " with hf:"
        )
    if recipe is None:
        _check_classifier(where, config)
        readout = choose_readout(where, label_names(config), choice.label, choice.weights)
        text_format: TextFormat = decoder_format(read.tokenizer, choice.chat_template)
        places = Places(read.tokenizer, "last", None)
        pad_id = config.get_text_config().pad_token_id
        return Reading(readout, int(config.num_labels), text_format, places, remarks=remarks, pad_id=pad_id)
    has_head = recipe.head is not None
    places = Places(read.tokenizer, recipe.read_at, None)
    names = ["reward"] if has_head else label_names(config)
    return Reading(
        readout=choose_readout(where, names, choice.label, choice.weights),
        n_labels=len(names),
        text_format=RecipeFormat(read.tokenizer, recipe, choice.chat_template, config, places),
        places=places,
        recipe=recipe,
        why=why,
        normalization=normalization(recipe, config),
        remarks=remarks,
        overrides=_overrides(config, used) if has_head else None,
    )


def _check_classifier(where: str, config: Any) -> None:
    names = architectures(config)
    if not any(name.endswith(("ForSequenceClassification", "RewardModel")) for name in names):
        raise NoHeadError(
            f"{where}: its config names {', '.join(names) or 'no architecture'}; expected a classifier"
            " (...ForSequenceClassification)"
        )


def _head_of(engine: str, seen: Seen, recipe: Recipe | None, task: str) -> frozenset[str]:
    """Return the tensors of the head that the engine reads.

    Raises:
        ConfigError: If the recipe's is another one.
    """
    if recipe is None or (recipe.head is None and not recipe.body):
        return _SCORE
    head = recipe.head
    layers = () if head is None else tuple(seen.name(name) or name for name in head.layers)
    weights = frozenset(f"{layer}.weight" for layer in layers)
    biases = frozenset(name for layer in layers if (name := f"{layer}.bias") in seen.tensors)
    used = weights | biases
    if head is not None and head.gate is None and not recipe.body:
        if used == _SCORE:
            return _SCORE
        own = [name for name in seen.architectures if _OWN_HEADS.get(name) == used]
        if own and engine == "vLLM" and task == "token_classify":
            return used
        if own and engine == "vLLM":
            raise ConfigError(
                f"{seen.where}: {engine} reads the head of {own[0]} at every token: pass"
                " -M task=token_classify"
            )
    why = "its body has other names" if recipe.body else "tokens of the LM head"
    if layers:
        why = f"a head of {', '.join(layers)}" + (" and a gate" if head is not None and head.gate else "")
    raise ConfigError(
        f"{seen.where}: the recipe {recipe.name} reads {why}, and {engine} a linear `score` without a bias"
        " alone; load it with hf:"
    )


def _overrides(config: Any, used: frozenset[str]) -> dict[str, Any]:
    """Return what a config has to say for a linear `score` of one label."""
    if used != _SCORE:
        return {}
    found: dict[str, Any] = {} if config.num_labels == 1 else {"num_labels": 1}
    if not any(name.endswith("ForSequenceClassification") for name in architectures(config)):
        known: Any = transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
        found["architectures"] = [known[type(config)].__name__]
    return found


def _look(
    engine: str, checkpoint: Checkpoint, read: Config, runtime: Runtime
) -> tuple[Seen, tuple[str, ...]]:
    """Return the evidence of a checkpoint, and a remark where its weights cannot be looked at."""
    where, pin = checkpoint.location, read.pin
    if checkpoint.is_folder or read.needs_weights:  # an engine in this machine loads these very files
        seen = look_at(pin, runtime, read.config, read.tokenizer)
    else:
        seen = look_at(pin, replace(runtime, offline=True), read.config, read.tokenizer)
        if not seen.tensors and not runtime.offline:
            seen = replace(seen, tensors=_headers_on_hub(where, pin.checkpoint.revision))
    if seen.tensors:
        return seen, ()
    what = f"the weights that {engine} serves cannot be looked at"
    return seen, (f"{what}: whether their head is a plain `score` is unknown",)


def _headers_on_hub(name: str, revision: str | None) -> dict[str, Tensor]:
    """Return the tensors of a Hub repository from the headers of its safetensors files; empty without any."""
    from huggingface_hub import get_safetensors_metadata
    from huggingface_hub.errors import HfHubHTTPError, NotASafetensorsRepoError, SafetensorsParsingError

    try:
        files = get_safetensors_metadata(name, revision=revision).files_metadata
    except (HfHubHTTPError, NotASafetensorsRepoError, SafetensorsParsingError, OSError):
        return {}
    return {
        tensor: Tensor(tensor, tuple(info.shape), Path(file))
        for file, metadata in files.items()
        for tensor, info in metadata.tensors.items()
    }


def check_labels(where: str, rows: Sequence[Sequence[float]], n_labels: int) -> None:
    """Refuse answers with other than the config's number of labels.

    Raises:
        ConfigError: With both numbers.
    """
    if wrong := [len(row) for row in rows if len(row) != n_labels]:
        raise ConfigError(
            f"{where}: it gives {wrong[0]} numbers for a text, and the config has {n_labels} labels: another"
            " model, or one that is run for another task"
        )
