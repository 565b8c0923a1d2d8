"""Reward heads made from tensors of a checkpoint, in float32: linear maps, vocabulary tokens, gates."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rmbench.errors import ConfigError
from rmbench.models.hf.device import torch
from rmbench.models.hf.recipes.recipe import Activation, Gate, Head, Pool, Recipe, Seen
from rmbench.models.hf.recipes.tensors import head_tensors, read_tensor, told

_ACTIVATIONS = {
    "relu": torch.nn.ReLU, "gelu": torch.nn.GELU, "silu": torch.nn.SiLU, "tanh": torch.nn.Tanh,
    "selu": torch.nn.SELU, "leaky_relu": torch.nn.LeakyReLU, None: torch.nn.Identity,
}  # fmt: skip
_LM_HEADS = ("lm_head", "embed_out", "output")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
_EPSILON = 1e-5
"""Of torch's batch normalisation."""
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


class Pooled(torch.nn.Module):
    """Makes one number of several outputs that stand side by side.

    Args:
        per: How many.
        pool: As in `Head`.
    """

    def __init__(self, per: int, pool: Pool) -> None:
        super().__init__()
        self._per, self._pool = per, pool

    def forward(self, outputs: Any) -> Any:
        """Return (..., k) of outputs (..., k * per)."""
        parts = outputs.unflatten(-1, (-1, self._per))
        if self._pool == "first":
            return parts[..., 0]
        if self._pool == "mean":
            return parts.mean(dim=-1)
        values = torch.linspace(0, 1, self._per, device=outputs.device)
        return (parts.softmax(dim=-1) * values).sum(dim=-1)


class GateNetwork(torch.nn.Module):
    """Weighs the numbers of a head by a hidden state.

    Args:
        gate: As the recipe says.
        network: Maps (B, D) to (B, k).
        temperature: Divides its outputs before the softmax.
        scale: Multiplies the weights.
        transform: (k, k), multiplies the numbers of the head from the right; None for none.
    """

    def __init__(self, gate: Gate, network: Any, temperature: float, scale: float, transform: Any) -> None:
        super().__init__()
        self.network, self._temperature, self._scale = network, temperature, scale
        self._softmax, self.reads_prompt = gate.softmax, bool(gate.before)
        self.register_buffer("transform", transform, persistent=False)

    def forward(self, numbers: Any, states: Any) -> Any:
        """Return the reward (B, 1) of the head's numbers (B, k) and the states that the gate reads (B, D)."""
        if self.transform is not None:
            numbers = numbers @ self.transform
        weights = self.network(states)
        if self._softmax:
            weights = (weights / self._temperature).softmax(dim=1)
        return (weights * self._scale * numbers).sum(dim=1, keepdim=True)


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
    module, used, n_outputs = _network(recipe, head.layers, head.activation, seen, width)
    per = int(seen.number(head.per, f"recipe {recipe.name}, key 'per'"))
    if per < 1 or n_outputs % per:
        raise ConfigError(
            f"{seen.where}: the head has {n_outputs} outputs, and the recipe {recipe.name} makes a number of"
            f" each {per} (per={head.per})"
        )
    if per > 1:
        module.append(Pooled(per, head.pool))
    return MadeHead(module, n_outputs // per, used)


def _network(
    recipe: Recipe, layers: Sequence[str], activation: Activation | None, seen: Seen, width: int
) -> tuple[Any, frozenset[str], int]:
    """Return linear maps with an activation between them, their tensors, and how many numbers they give.

    A batch normalisation follows the activation, as it does in training: it is a product and a sum here.
    """
    parts: list[Any] = []
    used: set[str] = set()
    for name in [each for layer in layers for each in _numbered(seen.name(layer) or layer, seen)]:
        if f"{name}.running_mean" in seen.tensors:
            parts += [_ACTIVATIONS[activation](), _Normalised(seen, name)]
            used |= {each for each in seen.tensors if each.startswith(f"{name}.")}
            continue
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
        # By the name in `seen`: an adapter's file has another one.
        used |= {f"{name}.weight"} | ({f"{name}.bias"} if bias is not None else set())
        follows = bool(parts) and not isinstance(parts[-1], _Normalised)
        if follows and activation is None:
            raise ConfigError(
                f"{seen.where}: the recipe {recipe.name} has several linear maps and no 'activation' between"
                " them"
            )
        parts += [*([_ACTIVATIONS[activation]()] if follows else []), linear]
        width = weight.shape[0]
    return torch.nn.Sequential(*parts), frozenset(used), width


class _Normalised(torch.nn.Module):
    """The batch normalisation of a name, as it is after training: with the means that it has seen."""

    def __init__(self, seen: Seen, name: str) -> None:
        super().__init__()
        parts = ("running_mean", "running_var", "weight", "bias")
        if missing := [part for part in parts if f"{name}.{part}" not in seen.tensors]:
            raise ConfigError(f"{seen.where}: {name!r} is a batch normalisation without its {missing[0]}")
        mean, variance, weight, bias = (read_tensor(seen.tensors[f"{name}.{part}"]) for part in parts)
        factor = weight / (variance + _EPSILON).sqrt()
        self.register_buffer("factor", factor, persistent=False)
        self.register_buffer("shift", bias - mean * factor, persistent=False)

    def forward(self, x: Any) -> Any:
        """Return (..., n) normalised."""
        return x * self.factor + self.shift


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
        named = [int(text) for text in rest.split("-")]
        if len(set(named)) < len(named):
            raise ConfigError(f"{seen.where}: head={told_as} is 0 for every text; expected two different ids")
        return named
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
    network, used, n_outputs = _network(recipe, gate.layers, gate.activation, seen, width)
    temperature = seen.number(gate.temperature, f"recipe {recipe.name}, key 'temperature'")
    scale, transform = 1.0, None
    if gate.scale:
        scale = float(read_tensor(_tensor(recipe, gate.scale, seen)).reshape(-1)[0])
        used |= {gate.scale}
    if gate.transform in seen.tensors:
        transform = read_tensor(seen.tensors[gate.transform])
        used |= {gate.transform}
    if n_outputs != made.n_labels or (transform is not None and transform.shape != (made.n_labels,) * 2):
        raise ConfigError(
            f"{seen.where}: the gate has {n_outputs} outputs and the head {made.n_labels} numbers, which the"
            f" recipe {recipe.name} does not fit together"
        )
    network_of = GateNetwork(gate, network, temperature, scale, transform)
    return MadeHead(made.module, made.n_labels, made.used | used, network_of)


def _numbered(name: str, seen: Seen) -> list[str]:
    """Return the layers that `NAME.*` stands for, by their number."""
    if not name.endswith(".*"):
        return [name]
    found = [re.fullmatch(rf"{re.escape(name[:-1])}(\d+)\.weight", each) for each in seen.tensors]
    return [f"{name[:-1]}{n}" for n in sorted(int(each[1]) for each in found if each)] or [f"{name[:-1]}0"]


def _tensor(recipe: Recipe, name: str, seen: Seen) -> Any:
    if name in seen.tensors:
        return seen.tensors[name]
    heads = head_tensors(seen.tensors)
    has = f"it has {told(seen.tensors, heads)}" if heads else "it has no tensor of a head"
    raise ConfigError(
        f"{seen.where}: the recipe {recipe.name} reads {name!r}, which is not in its files; {has}"
    )


def normalization(recipe: Recipe | None, config: Any) -> tuple[float, float]:
    """Return (mean, std) that the reward is normalised with; (0, 1) for none.

    Raises:
        ConfigError: If the config's are no numbers, or the std is not above 0.
    """
    rule: Mapping[str, str] = {} if recipe is None else recipe.normalize
    if recipe is None or not rule or ("if" in rule and not getattr(config, rule["if"], None)):
        return 0.0, 1.0
    keys = [rule[part] for part in ("mean", "std") if part in rule]
    if "if" not in rule and (lacking := [key for key in keys if not hasattr(config, key)]):
        raise ConfigError(f"recipe {recipe.name}: key 'normalize': the config has no {lacking[0]!r}")
    mean = getattr(config, rule.get("mean", ""), 0.0)
    std = getattr(config, rule.get("std", ""), 1.0)
    if not all(isinstance(n, int | float) for n in (mean, std)) or not std > 0:
        raise ConfigError(
            f"recipe {recipe.name}: the config's mean is {mean!r} and its std {std!r}; expected numbers"
        )
    return float(mean), float(std)
