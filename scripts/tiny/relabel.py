"""More examples out of the embedded training split: other instructions and replies, gold by the same checks.

160 prompts are too few to learn from scratch what "contains the word" or "at most nine words" means. So most
prompts are composed (`compose.py`), others get other words and numbers (in their text and in their checks
alike), replies are edited or taken from other prompts, and the checks say what gold is then. Nothing comes
from the test split.
"""

import copy
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compose import Composer, Draft
from edits import BOUNDS, COUNTED, Editor
from wordings import NUMBERS as _NUMBERS

from rmbench.gold.instruction.counts import passes, split_sentences

_ASKED = re.compile(r"(?<![\w.])(\d{1,3}|" + "|".join(_NUMBERS[1:]) + r")(?![\w.]*\d)(?!\w)", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]{3,12}")
_AS_IT_IS = 1 / 3
"""Share, among pools that are not composed, of those as they stand in the split."""
_FIXED = frozenset({"number", "answer", "equals", "json_equals", "json_array", "number_only"})
"""Checks of a right answer: other numbers or words in the prompt would make another answer right."""
_KIND = frozenset({"name", "style", "by", "characters", "types"})


@dataclass(frozen=True, slots=True)
class Pool:
    """A prompt, replies, and what each check says of each."""

    prompt: str
    checks: Sequence[dict[str, Any]]
    replies: list[str]
    passed: list[list[bool]]

    @property
    def gold(self) -> list[float]:
        """Fraction of the checks that each reply passes."""
        return [sum(row) / len(row) for row in self.passed]


class Relabeller:
    """Draws pools out of rows of the embedded data.

    Args:
        rows: `prompt`, `checks`, `responses`.
        composed: Share of pools with a composed prompt.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], composed: float = 0.7) -> None:
        self._composed = composed
        self._rows, self._rng = list(rows), random.Random()
        self._replies = [reply for row in rows for reply in row["responses"]]
        self._of_family: dict[str, list[str]] = {}
        for row in rows:
            self._of_family.setdefault(row["strata"]["family"], []).extend(row["responses"])
        seen = Counter(w.lower() for reply in self._replies for w in set(_WORD.findall(reply)) if w.isascii())
        self._editor = Editor(self._rng, self._replies)
        self._composer = Composer(sorted(w for w, n in seen.items() if n > 1 and len(w) > 3), self._rng)

    def draw(self, n_replies: int, seed: str) -> Pool:
        """Return the pool of `seed`; at least two of its replies differ in gold, if 20 tries find one."""
        self._rng.seed(seed)
        for _ in range(20):
            pool = self._draw(n_replies)
            if len(set(pool.gold)) > 1:
                break
        return pool

    def _draw(self, n_replies: int) -> Pool:
        kind, row = self._rng.random(), self._rng.choice(self._rows)
        if kind < self._composed:
            draft = self._composer.draw()
            edits = self._rng.choice((0.05, 0.6))  # replies as they come, and replies that may well be right
            replies = [self._reply_to(draft, edits) for _ in range(n_replies)]
            return Pool(draft.prompt, draft.checks, replies, [passes(r, draft.checks) for r in replies])
        if kind < self._composed + _AS_IT_IS * (1 - self._composed):
            replies = self._rng.sample(row["responses"], n_replies)
            return Pool(
                row["prompt"], row["checks"], replies, [passes(reply, row["checks"]) for reply in replies]
            )
        prompt, checks = row["prompt"], copy.deepcopy(row["checks"])
        if self._rng.random() < 0.7:
            prompt, checks = self._other_words(prompt, checks, row["responses"])
        if self._rng.random() < 0.7:
            prompt, checks = self._other_numbers(prompt, checks, row["responses"])
        replies = [self._reply(row, checks) for _ in range(n_replies)]
        return Pool(prompt, checks, replies, [passes(reply, checks) for reply in replies])

    def _reply_to(self, draft: Draft, edits: float) -> str:
        """Return a reply to a composed prompt: one of its family's, or one that does the task, maybe edited."""
        kind = self._rng.random()
        if kind < edits / 3 and draft.right:
            reply = self._rng.choice(draft.right)
        else:
            own = self._of_family.get(draft.family, self._replies)
            reply = self._rng.choice(own if kind < 0.9 else self._replies)
        while self._rng.random() < edits:
            change = self._rng.random()
            edited = (
                self._editor.toward(reply, self._rng.choice(draft.checks))
                if change < 0.7
                else self._editor.edit(reply, draft.checks)
            )
            reply = edited if edited.strip() else reply
        return reply

    def _reply(self, row: Mapping[str, Any], checks: Sequence[dict[str, Any]]) -> str:
        """Return a reply: mostly the prompt's own, some of another prompt, some of either edited."""
        kind = self._rng.random()
        reply = self._rng.choice(row["responses"] if kind < 0.85 else self._replies)
        while self._rng.random() < 0.4:
            edited = self._editor.edit(reply, checks)
            reply = edited if edited.strip() else reply
        return reply

    def _other_words(self, prompt: str, checks: Any, replies: Sequence[str]) -> tuple[str, Any]:
        """Replace words that both the prompt and a check name, mostly by words of the replies."""
        named = sorted({w.lower() for check in checks for w in _WORD.findall(_looked_for(check))})
        if any(check["name"] in _FIXED for check in checks):
            return prompt, checks
        for word in named:
            pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
            if not pattern.search(prompt) or self._rng.random() < 0.3:
                continue
            source = self._rng.choice(replies if self._rng.random() < 0.7 else self._replies)
            known = [w for w in _WORD.findall(source) if w.lower() not in named]
            if not known:
                continue
            new = self._rng.choice(known).lower()
            prompt = pattern.sub(lambda m, new=new: _like(m.group(), new), prompt)
            checks = _replaced(checks, pattern, new)
        return prompt, checks

    def _other_numbers(self, prompt: str, checks: Any, replies: Sequence[str]) -> tuple[str, Any]:
        """Move the one number of the prompt, and the bounds that follow from it, near what replies have."""
        found = list(_ASKED.finditer(prompt))
        if len(found) != 1 or any(check["name"] in _FIXED for check in checks):
            return prompt, checks
        old = number_in(found[0].group())
        bound = [
            (c, key)
            for c in checks
            for key in BOUNDS
            if isinstance(c.get(key), int) and abs(c[key] - old) <= 1
        ]
        if not bound:
            return prompt, checks
        count = COUNTED.get(bound[0][0]["name"], split_sentences)
        n = (
            len(count(self._rng.choice(replies)))
            if self._rng.random() < 0.6
            else self._rng.randint(1, 2 * old + 1)
        )
        new = min(max(2, n + self._rng.randint(-1, 2)), 120)
        for check, key in bound:
            check[key] = max(1, check[key] + new - old)
        text = str(new) if found[0].group().isdigit() or new >= len(_NUMBERS) else _NUMBERS[new]
        return prompt[: found[0].start()] + _like(found[0].group(), text) + prompt[found[0].end() :], checks


def _looked_for(value: Any) -> str:
    """Return the texts of a check that a reply is searched for, joined."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return " ".join(_looked_for(v) for v in value)
    if not isinstance(value, dict):
        return ""
    parts = [v for k, v in value.items() if k not in _KIND]
    parts += [list(value.get("types", ())), list(value.get("values", ()))]
    return " ".join(
        _looked_for(v) if not isinstance(v, dict) else _looked_for(list(v.values())) for v in parts
    )


def _replaced(value: Any, pattern: re.Pattern[str], new: str) -> Any:
    """Return checks with a word replaced in what they look for, but not in what kind of check they are."""
    if isinstance(value, str):
        return pattern.sub(lambda m: _like(m.group(), new), value)
    if isinstance(value, list):
        return [_replaced(v, pattern, new) for v in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, inner in value.items():
        if key in ("types", "values"):  # their keys are what the reply's JSON is asked for
            renamed = {_replaced(k, pattern, new): v for k, v in inner.items()}
            found[key] = (
                renamed if key == "types" else {k: _replaced(v, pattern, new) for k, v in renamed.items()}
            )
        else:
            found[key] = inner if key in _KIND else _replaced(inner, pattern, new)
    return found


def _like(old: str, new: str) -> str:
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new.capitalize() if old[:1].isupper() else new


def number_in(text: str) -> int:
    """Return the number that `text` writes, in digits or as an English word."""
    return int(text) if text.isdigit() else _NUMBERS.index(text.lower())
