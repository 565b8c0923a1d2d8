"""Reward heads made from tensors of a checkpoint, in float32: linear maps, vocabulary tokens, gates."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rmbench.errors import ConfigError
from rmbench.models.hf.device import torch
from rmbench.models.hf.recipes.recipe import Activation, Gate, Head, Recipe, Seen
from rmbench.models.hf.recipes.tensors import head_tensors, read_tensor, told

_ACTIVATIONS = {
    "relu": torch.nn.ReLU, "gelu": torch.nn.GELU, "silu": torch.nn.SiLU, "tanh": torch.nn.Tanh,
    None: torch.nn.Identity,
}  # fmt: skip
_LM_HEADS = ("lm_head", "embed_out", "output")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
_SCALES = ("logits_scaling", "logit_scale", "final_logit_softcapping")
"""Keys of configs with which a logit is not the product of a row of the LM head and a hidden state."""


@dataclass(frozen=True, slots=True)
class MadeHead:
    """A head, ready to be used."""

    module: Any
    """Maps hidden states (..., D) to (..., labels), in float32."""
    n_labels: int
    used: frozenset[str]
    """The tensors that it is made of."""
    gate: Any = None
    """`GateNetwork` where there is one."""


class GateNetwork(torch.nn.Module):
    """Weighs the outputs of a head by the hidden state at the end of the prompt.

    Args:
        network: Maps (B, D) to (B, n).
        temperature: Divides its outputs before the softmax.
        scale: Multiplies the weights.
        transform: (k, k), multiplies the outputs of the head from the right; None for none.
        stride: Every how manieth output counts.
    """

    def __init__(self, network: Any, temperature: float, scale: float, transform: Any, stride: int) -> None:
        super().__init__()
        self.network, self._temperature, self._scale, self._stride = network, temperature, scale, stride
        self.register_buffer("transform", transform, persistent=False)

    def forward(self, outputs: Any, prompt: Any) -> Any:
        """Return the reward (B, 1) of the head's outputs (B, k) and the states at the prompt's end (B, D)."""
        if self.transform is not None:
            outputs = outputs @ self.transform
        outputs = outputs[:, :: self._stride]
        weights = (self.network(prompt) / self._temperature).softmax(dim=1) * self._scale
        return (weights * outputs).sum(dim=1, keepdim=True)


def make_head(recipe: Recipe, seen: Seen) -> MadeHead | None:
    """Return the head of a recipe, made of the checkpoint's tensors; None for the classifier's own.

    Raises:
        ConfigError: If the files lack a tensor, or one has another shape than the one before it says.
    """
    if recipe.head is None:
        return None
    width = int(seen.config.get_text_config().hidden_size)
    made = (
        _of_tokens(recipe.head, seen) if recipe.head.tokens else _of_layers(recipe, recipe.head, seen, width)
    )
    return made if recipe.head.gate is None else _gated(recipe, recipe.head.gate, made, seen, width)


def unread_heads(seen: Seen, used: frozenset[str]) -> list[str]:
    """Return the head tensors in the files that are not among `used`."""
    return [name for name in head_tensors(seen.tensors) if name not in used]


def _of_layers(recipe: Recipe, head: Head, seen: Seen, width: int) -> MadeHead:
    names = [seen.name(name) or name for name in head.layers]
    module, used, n_labels = _network(recipe, names, head.activation, seen, width)
    return MadeHead(module, n_labels, used)


def _network(
    recipe: Recipe, names: Sequence[str], activation: Activation | None, seen: Seen, width: int
) -> tuple[Any, frozenset[str], int]:
    """Return linear maps with an activation between them, their tensors, and how many numbers they give."""
    parts: list[Any] = []
    used: set[str] = set()
    for name in names:
        weight = _tensor(recipe, f"{name}.weight", seen)
        if len(weight.shape) != 2 or weight.shape[1] != width:
            raise ConfigError(
                f"{seen.where}: {told(seen.tensors, [weight.name])} does not fit the recipe {recipe.name};"
                f" expected (n, {width})"
            )
        bias = seen.tensors.get(f"{name}.bias")
        linear = torch.nn.Linear(width, weight.shape[0], bias=bias is not None)
        with torch.no_grad():
            linear.weight.copy_(read_tensor(weight))
            if bias is not None:
                linear.bias.copy_(read_tensor(bias))
        used |= {weight.name} | ({bias.name} if bias is not None else set())
        parts += [*([_ACTIVATIONS[activation]()] if parts else []), linear]
        width = weight.shape[0]
    return torch.nn.Sequential(*parts), frozenset(used), width


def _of_tokens(head: Head, seen: Seen) -> MadeHead:
    """Return the logit of a token, or the difference of two, as a linear map."""
    config = seen.config.get_text_config()
    if scaled := [key for key in _SCALES if getattr(config, key, None) not in (None, 1, 1.0)]:
        raise ConfigError(f"{seen.where}: its config has {scaled[0]}; head={head.tokens} does not read such")
    ids = _token_ids(str(head.tokens), seen)
    name, bias_name = _lm_head(seen)
    rows = read_tensor(seen.tensors[name], ids)  # (1 or 2, D)
    bias = read_tensor(seen.tensors[bias_name], ids) if bias_name else None
    linear = torch.nn.Linear(rows.shape[1], 1, bias=bias is not None)
    with torch.no_grad():
        linear.weight.copy_(rows[:1] - rows[1:] if len(ids) > 1 else rows)
        if bias is not None:
            linear.bias.copy_(bias[:1] - bias[1:] if len(ids) > 1 else bias)
    return MadeHead(linear, 1, frozenset({name}))


def _token_ids(told_as: str, seen: Seen) -> list[int]:
    """Return one or two ids of the vocabulary: as given, or the last token of each text."""
    kind, _, rest = told_as.partition(":")
    if kind == "token":
        return [int(text) for text in rest.split("-")]
    texts = rest.split(",")
    found = [seen.tokenizer(text, add_special_tokens=False)["input_ids"][-1:] for text in texts]
    ids = [int(k) for row in found for k in row]
    if len(set(ids)) < len(texts):
        raise ConfigError(
            f"{seen.where}: head={told_as}: its tokenizer writes {', '.join(map(repr, texts))} as {ids};"
            " expected a token of its own for each"
        )
    return ids


def _lm_head(seen: Seen) -> tuple[str, str]:
    """Return the tensors of the LM head: weight, and bias or an empty text."""
    for name in _LM_HEADS:
        if f"{name}.weight" in seen.tensors:
            return f"{name}.weight", f"{name}.bias" if f"{name}.bias" in seen.tensors else ""
    tied = bool(getattr(seen.config.get_text_config(), "tie_word_embeddings", False))
    found = [name for name in seen.tensors if name.endswith(_EMBEDDINGS)]
    if not tied or len(found) != 1:
        raise ConfigError(f"{seen.where}: no LM head ({', '.join(_LM_HEADS)}); head=token:ID needs one")
    return found[0], ""


def _gated(recipe: Recipe, gate: Gate, made: MadeHead, seen: Seen, width: int) -> MadeHead:
    names = [each for name in gate.layers for each in _numbered(name, seen)]
    network, used, n_outputs = _network(recipe, names, "relu", seen, width)
    temperature = _number(gate.temperature, seen, f"{seen.where}: recipe {recipe.name}, temperature")
    scale, transform = 1.0, None
    if gate.scale:
        scale = float(read_tensor(_tensor(recipe, gate.scale, seen)).reshape(-1)[0])
        used |= {gate.scale}
    if gate.transform:
        transform = read_tensor(_tensor(recipe, gate.transform, seen))
        used |= {gate.transform}
    n_counted = len(range(0, made.n_labels, gate.stride))
    if n_outputs != n_counted or (transform is not None and transform.shape != (made.n_labels,) * 2):
        raise ConfigError(
            f"{seen.where}: the gate has {n_outputs} outputs and the head {made.n_labels}, which the recipe"
            f" {recipe.name} does not fit together"
        )
    network_of = GateNetwork(network, temperature, scale, transform, gate.stride)
    return MadeHead(made.module, made.n_labels, made.used | used, network_of)


def _numbered(name: str, seen: Seen) -> list[str]:
    """Return the layers that `NAME.*` stands for, by their number."""
    if not name.endswith(".*"):
        return [name]
    found = [re.fullmatch(rf"{re.escape(name[:-1])}(\d+)\.weight", each) for each in seen.tensors]
    return [f"{name[:-1]}{n}" for n in sorted(int(each[1]) for each in found if each)]


def _tensor(recipe: Recipe, name: str, seen: Seen) -> Any:
    if name in seen.tensors:
        return seen.tensors[name]
    heads = head_tensors(seen.tensors)
    has = f"it has {told(seen.tensors, heads)}" if heads else "it has no tensor of a head"
    raise ConfigError(
        f"{seen.where}: the recipe {recipe.name} reads {name!r}, which is not in its files; {has}"
    )


def _number(text: str, seen: Seen, where: str) -> float:
    value = getattr(seen.config, text, text)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: {value!r}; expected a number, or a key of the config") from None


def normalization(recipe: Recipe | None, config: Any) -> tuple[float, float]:
    """Return (mean, std) that the reward is normalised with; (0, 1) for none.

    Raises:
        ConfigError: If the config's are no numbers, or the std is not above 0.
    """
    rule: Mapping[str, str] = {} if recipe is None else recipe.normalize
    if recipe is None or not rule or ("if" in rule and not getattr(config, rule["if"], None)):
        return 0.0, 1.0
    mean = getattr(config, rule.get("mean", ""), 0.0)
    std = getattr(config, rule.get("std", ""), 1.0)
    if not all(isinstance(n, int | float) for n in (mean, std)) or not std > 0:
        raise ConfigError(
            f"recipe {recipe.name}: the config's mean is {mean!r} and its std {std!r}; expected numbers"
        )
    return float(mean), float(std)
