"""The probe: a model's own forward pass against what rmbench reads, alone and beside other texts.

Three conversations are read when a model is loaded: the two shorter ones alone by the model's own forward
pass, and all of them as padded rows of one batch. Where these agree, nothing more is done. Where they do not,
rmbench reads each alone as well.

own differs from alone      The class reads its text in a way of its own (it pools, say): refused.
alone differs from batched  A reward depends on what else is read: the batches become texts of equal length,
                            or one text, whichever gives the rewards of one text at a time.

`LengthWatch` looks again when a text comes that is much longer than those before, or longer than a window or
a switch that the config names: it reads the text alone, and refuses rewards that are others.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from rmbench.errors import ConfigError, ScoringError, first_line
from rmbench.models.hf.device import allowed_gap
from rmbench.models.hf.forward import Together
from rmbench.models.hf.text import Encoded
from rmbench.models.hf.trust.lengths import named_window, switches
from rmbench.types import Conversation, Turn

Numbers = Callable[[Sequence[Encoded]], list[float]]
FOREIGN = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""Errors of foreign architectures."""
GROWTH = 4
"""A text that is longer by this factor than those that were compared is compared as well."""

_SHORT = [Turn(role="user", content="Hi."), Turn(role="assistant", content="No.")]
_MIDDLE = [
    Turn(role="user", content="What is two and two?"),
    Turn(role="assistant", content="It is four."),
]
_LONG = [
    Turn(role="user", content="Name a river of Europe."),
    Turn(role="assistant", content="The Rhine, which ends in the North Sea."),
]
PROBES: tuple[Conversation, ...] = (_SHORT, _MIDDLE, _LONG)


@dataclass(frozen=True, slots=True)
class Probe:
    """What is compared."""

    where: str
    """The checkpoint, for messages."""
    model: Any
    together: Together
    """Which texts are read together; a fallback is set here."""
    numbers: Numbers
    """Rewards as rmbench reads them."""
    own: Callable[[Encoded], float | None]
    """The reward of the model's own forward pass; None where it reads another token, or another text."""
    advice: str
    """What to do where they differ."""

    def run(self, rows: Sequence[Encoded]) -> list[str]:
        """Compare, and return remarks.

        Raises:
            ConfigError: If the model cannot read these texts, its own forward pass gives another reward, or
                its layers change while it reads.
        """
        before = _layers(self.model)
        own, remarks = self._own(rows)
        try:
            with self.together.in_one_pass():
                batched = self.numbers(rows)
            self._check_layers(before)
            if all(theirs is None for theirs in own):
                own = [self.numbers([row])[0] for row in rows]
            seen = [(theirs, ours) for theirs, ours in zip(own, batched, strict=True) if theirs is not None]
            if self._same(*zip(*seen, strict=True)):
                return remarks
            return [*remarks, *self._settle(rows, own, batched)]
        except FOREIGN as error:
            if type(error).__name__ == "OutOfMemoryError":
                raise
            told = f"{type(error).__name__}: {first_line(error)}"
            name = type(self.model).__name__
            raise ConfigError(f"{self.where}: {name} cannot read a text: {told}") from error

    def _own(self, rows: Sequence[Encoded]) -> tuple[list[float | None], list[str]]:
        try:
            longest = max(len(row.ids) for row in rows)  # nothing is padded beside it
            return [None if len(row.ids) == longest else self.own(row) for row in rows], []
        except FOREIGN as error:
            told = f"{type(error).__name__}: {first_line(error)}"
            return [None] * len(rows), [f"its own forward pass was not compared: {told}"]

    def _settle(
        self, rows: Sequence[Encoded], own: Sequence[float | None], batched: Sequence[float]
    ) -> list[str]:
        """Find out which of the two differs; refuse, or choose other batches and return the remark."""
        alone = [self.numbers([row])[0] for row in rows]
        for theirs, ours in zip(own, alone, strict=True):
            if theirs is not None and not self._same([theirs], [ours]):
                raise ConfigError(
                    f"{self.where}: the own forward pass of {type(self.model).__name__} gives a probe"
                    f" {theirs:.6g}, and what rmbench reads is {ours:.6g}: the class does more than its head"
                    f" at one token; {self.advice}"
                )
        if self._same(alone, batched):
            return []
        worst = max(range(len(rows)), key=lambda k: _gap(alone[k], batched[k]))
        self.together.by = "equal length" if self._equal_lengths_do(rows) else "one"
        how = "texts of equal length" if self.together.by == "equal length" else "one text at a time"
        numbers = f"{alone[worst]:.4g} alone, {batched[worst]:.4g} beside a longer text"
        return [f"its rewards depend on the other texts of a batch ({numbers}): it reads {how}, more slowly"]

    def _equal_lengths_do(self, rows: Sequence[Encoded]) -> bool:
        """Return whether a text has its reward beside others of its length."""
        for row in rows[:-1]:
            others = [_changed(row, shift) for shift in (1, 2)]
            try:
                beside = self.numbers_in_one_pass([others[0], row, others[1]])[1]
            except ScoringError:  # the changed texts lack a token that is read
                return False
            if not self._same(self.numbers([row]), [beside]):
                return False
        return True

    def numbers_in_one_pass(self, rows: Sequence[Encoded]) -> list[float]:
        """Return the rewards of rows that are read as padded rows of one batch."""
        with self.together.in_one_pass():
            return self.numbers(rows)

    def _same(self, expected: Sequence[float], found: Sequence[float]) -> bool:
        allowed = allowed_gap(self.model, 1e-4, 0.05 if self._is_encoder else 0.25)
        scale = max(1.0, *(abs(x) for x in expected if math.isfinite(x)), 0.0)
        return all(_gap(a, b) <= allowed * scale for a, b in zip(expected, found, strict=True))

    @property
    def _is_encoder(self) -> bool:
        return not hasattr(self.model, "score")

    def _check_layers(self, before: Mapping[str, str]) -> None:
        after = _layers(self.model)
        if changed := [name for name in before if after.get(name) != before[name]]:
            name = changed[0]
            kind = getattr(self.model.config, "attention_type", None)
            hint = (
                f"its config has attention_type={kind!r}; set it to 'original_full' in config.json"
                if kind is not None
                else "write a small adapter (file.py:Class)"
            )
            raise ConfigError(
                f"{self.where}: {type(self.model).__name__} changes its layers while it reads ({name} was"
                f" {before[name]} and is {after.get(name)} after a short text), so that a reward depends on"
                f" what was read before; {hint}"
            )


class LengthWatch:
    """Compares the first text of a new order of length with what it is alone.

    Args:
        model: A model of transformers.
        n_tokens: Tokens of the longest text that was compared.
    """

    def __init__(self, model: Any, n_tokens: int) -> None:
        self._model, self._verified, self._lock = model, n_tokens, Lock()
        window = named_window(model.config)
        self._named = [*switches(model.config), *([] if window is None else [window])]

    def look(self, rows: Sequence[Encoded], found: Sequence[float], numbers: Numbers) -> None:
        """Compare the longest of the rows of a batch, if it is due.

        Args:
            rows: The batch.
            found: The numbers of these rows.
            numbers: Returns the numbers of other rows, as padded rows of one forward pass.

        Raises:
            ScoringError: If it has another number alone.
        """
        longest = max(range(len(rows)), key=lambda k: len(rows[k].ids))
        n = len(rows[longest].ids)
        if len(rows) == 1 or rows[longest].unreadable or not self._due(n):
            return
        alone = numbers([rows[longest]])[0]
        allowed = allowed_gap(self._model, 1e-3, 0.25) * max(1.0, abs(alone))
        if math.isfinite(alone) and not _gap(alone, found[longest]) <= allowed:
            raise ScoringError(
                f"a text of {n} tokens gets {found[longest]:.6g} in its batch and {alone:.6g} alone:"
                f" {type(self._model).__name__} reads long texts in a way that rmbench does not know; pass"
                " -M share_prompts=no, and if that is not enough --batch-tokens 1"
            )
        with self._lock:
            self._verified = max(self._verified, n)

    def _due(self, n: int) -> bool:
        known = self._verified
        return n > GROWTH * known or any(known <= named < n for named in self._named)


def _gap(one: float, other: float) -> float:
    """Return how far two numbers are apart; 0 for two that are not finite: that is counted elsewhere."""
    if not math.isfinite(one) and not math.isfinite(other):
        return 0.0
    return abs(one - other) if math.isfinite(one) and math.isfinite(other) else math.inf


def _changed(row: Encoded, shift: int) -> Encoded:
    """Return a row of the same length with other tokens in its middle."""
    ids, middle = list(row.ids), len(row.ids) // 2
    ids[middle] = ids[max(1, middle - shift)]
    ids[middle - 1] = ids[min(len(ids) - 2, middle + shift)]
    return replace(row, ids=tuple(ids))


def _layers(model: Any) -> dict[str, str]:
    """Return the class of each module by its name."""
    return {name: type(module).__name__ for name, module in model.named_modules()}
