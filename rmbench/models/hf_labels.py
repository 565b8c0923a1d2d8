"""From the logits of a classifier to one number: one label, or several weighed against each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rmbench.errors import ConfigError, UnknownNameError


@dataclass(frozen=True, slots=True)
class Readout:
    """Which logits are the reward."""

    label: int
    """The logit that is the reward, where there are no weights."""
    weights: tuple[float, ...] | None = None
    """Of each logit, by label."""

    @property
    def identity(self) -> str:
        """What a fingerprint says of it."""
        return str(self.label) if self.weights is None else "weights:" + ",".join(map(repr, self.weights))

    def rewards(self, logits: Any) -> list[float]:
        """Return one number per row of logits (B, labels): a logit as it is, or their weighted sum."""
        if self.weights is None:
            return [float(x) for x in logits[:, self.label].float().cpu()]
        rows = logits.double().cpu()
        return [float(x) for x in rows @ rows.new_tensor(self.weights)]


def choose_readout(
    where: str, names: Sequence[str], label: int | None, weights: str | None, *, weighable: bool = True
) -> Readout:
    """Return what the reward of a classifier is.

    Args:
        where: The checkpoint, for messages.
        names: Of its labels, in order.
        label: Index of one; None where there is only one, or weights are given.
        weights: A number per label, `0.2,0.3,0.5`, or per named one, `helpfulness:1,verbosity:-0.5`; labels
            that are not named weigh nothing.
        weighable: Whether the model has an option `weights`, for messages.

    Raises:
        ConfigError: If it is neither one label nor weights that fit.
    """
    named = ", ".join(f"{k}={name}" for k, name in enumerate(names[:8])) + (", ..." if len(names) > 8 else "")
    if weights is not None:
        if label is not None:
            raise ConfigError(f"{where}: options 'label' and 'weights' are both given; leave one out")
        return Readout(0, _weights(f"{where}: option 'weights'", weights, names, named))
    if label is None and len(names) == 1:
        return Readout(0)
    if label is None:
        more = " or -M weights=..." if weighable else ""
        told = f"{len(names)} labels ({named}); a reward is one number: pass -M label=K{more}"
        raise ConfigError(f"{where}: {told}")
    if not 0 <= label < len(names):
        raise ConfigError(f"{where}: option 'label' is {label}; the checkpoint has {named}")
    return Readout(label)


def _weights(where: str, text: str, names: Sequence[str], named: str) -> tuple[float, ...]:
    parts = [part.strip() for part in text.split(",")]
    if any(":" in part for part in parts):
        found = _by_name(where, parts, names)
    else:
        found = [_number(where, part) for part in parts]
        if len(found) != len(names):
            raise ConfigError(
                f"{where} has {len(found)} numbers; the checkpoint has {len(names)} labels ({named})"
            )
    if not any(found):
        raise ConfigError(f"{where} is {text!r}: every reward would be 0")
    return tuple(found)


def _by_name(where: str, parts: Sequence[str], names: Sequence[str]) -> list[float]:
    found: dict[str, float] = {}
    for part in parts:
        name, colon, number = part.rpartition(":")
        if not colon:
            raise ConfigError(f"{where} has {part!r}; expected NAME:NUMBER for each, or a number per label")
        if name not in names:
            raise UnknownNameError("label", name, names, where)
        if name in found:
            raise ConfigError(f"{where} has {name!r} twice")
        found[name] = _number(where, number)
    return [found.get(name, 0.0) for name in names]


def _number(where: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{where} has {text!r}; expected a number")
    return number
