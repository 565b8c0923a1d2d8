"""Whether vLLM returns logits: two texts, asked with the switch for raw logits on and off.

Reward models come out of a pooler that applies a sigmoid (one label) or a softmax (several) unless told not
to. The parameter that tells it was renamed twice, and what does not know a name may ignore it in silence.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from rmbench.errors import ConfigError, ScoringError

Rows: TypeAlias = Sequence[Sequence[int]]
"""Token ids of texts."""
Switch: TypeAlias = Mapping[str, bool]
"""A parameter of a request, by its name; empty for none."""

NAMES = ("use_activation", "activation", "softmax")
"""What the parameter has been called, the latest first."""
_TOLERANCE = 0.01
"""Two passes over one text differ by less, in any dtype; a sigmoid moves a logit by more, but near 0.66."""


def find_switch(classify: Callable[[Rows, Switch], list[list[float]]], rows: Rows, where: str) -> Switch:
    """Return the parameter with which logits are returned.

    It is found where the outputs with it on are the sigmoid or the softmax of those with it off. Where
    nothing changes them, outputs are logits still if one is outside [0, 1]: no probability is.

    Args:
        classify: Returns a number per label and row; raises ScoringError for a parameter it does not know.
        rows: Two texts.
        where: The model, for messages.

    Raises:
        ConfigError: If logits cannot be had, or not be told from probabilities.
    """
    refused, seen = list[str](), list[list[float]]()
    for name in NAMES:
        try:
            off, on = (classify(rows, {name: value}) for value in (False, True))
        except ScoringError as error:
            refused.append(f"{name}: {error}")
            continue
        if any(_close(on, squashed(off)) and not _close(on, off) for squashed in (_sigmoid, _softmax)):
            return {name: False}
        seen = off
    if not seen:
        raise ConfigError(f"{where}: vLLM refuses every name of the switch for logits: {refused[0]}")
    if any(not 0 <= value <= 1 for row in seen for value in row):
        return {}
    told = "; ".join(", ".join(f"{value:.4g}" for value in row) for row in seen)
    raise ConfigError(
        f"{where}: vLLM returns {told} for two probes, whatever it is told: these may be probabilities, whose"
        " differences are no margins. Give its config problem_type regression, or take them as they are with"
        " -M output=any"
    )


def _close(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> bool:
    pairs = [(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)]
    return all(abs(a - b) <= _TOLERANCE for a, b in pairs)


def _sigmoid(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[0.5 * (1 + math.tanh(value / 2)) for value in row] for row in rows]


def _softmax(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    shifted = [[math.exp(value - max(row)) for value in row] for row in rows]
    return [[value / sum(row) for value in row] for row in shifted]
