"""More examples out of the embedded training split: other instructions and replies, gold by the same checks.

160 prompts are too few to learn from scratch what "contains the word" or "at most nine words" means. So a
prompt gets other words and numbers (in its text and in its checks alike), replies are edited or taken from
other prompts, and the checks say what gold is then. Nothing comes from the test split.
"""

import copy
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rmbench.verifiers.base import passes
from rmbench.verifiers.counts import split_lines, split_sentences, split_words

_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_ASKED = re.compile(r"(?<![\w.])(\d{1,3}|" + "|".join(_NUMBERS[1:]) + r")(?![\w.]*\d)(?!\w)", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]{3,12}")
_BOUNDS = ("at_least", "at_most", "exactly")
_COUNTED = {
    "words": split_words,
    "sentences": split_sentences,
    "lines": split_lines,
    "list_items": split_lines,
}
_AS_IT_IS = 0.4
"""Share of pools with a prompt and replies as they stand in the split."""
_FIXED = frozenset({"number", "answer", "equals", "json_equals", "json_array", "number_only"})
"""Checks of a right answer: other numbers or words in the prompt would make another answer right."""
_KIND = frozenset({"name", "style", "by", "characters", "types"})
_OPENINGS = (
    "Sure! ", "Here is my answer: ", "Certainly. ", "Here's a possible answer:\n", "Of course!\n\n",
    "Answer: ",
)  # fmt: skip


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
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows, self._rng = list(rows), random.Random()
        self._replies = [reply for row in rows for reply in row["responses"]]

    def draw(self, n_replies: int, seed: str) -> Pool:
        """Return the pool of `seed`; at least two of its replies differ in gold, if 20 tries find one."""
        self._rng.seed(seed)
        for _ in range(20):
            pool = self._draw(n_replies)
            if len(set(pool.gold)) > 1:
                break
        return pool

    def _draw(self, n_replies: int) -> Pool:
        row = self._rng.choice(self._rows)
        if self._rng.random() < _AS_IT_IS:
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

    def _reply(self, row: Mapping[str, Any], checks: Sequence[dict[str, Any]]) -> str:
        """Return a reply: mostly the prompt's own, some of another prompt, some of either edited."""
        kind = self._rng.random()
        reply = self._rng.choice(row["responses"] if kind < 0.85 else self._replies)
        while self._rng.random() < 0.4:
            edited = self._edit(reply, checks)
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
        old = _value(found[0].group())
        bound = [
            (c, key)
            for c in checks
            for key in _BOUNDS
            if isinstance(c.get(key), int) and abs(c[key] - old) <= 1
        ]
        if not bound:
            return prompt, checks
        count = _COUNTED.get(bound[0][0]["name"], split_sentences)
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

    def _edit(self, reply: str, checks: Sequence[dict[str, Any]]) -> str:
        rng = self._rng
        words = reply.split(" ")
        check = rng.choice(checks)
        return rng.choice((
            lambda: reply.lower(),
            lambda: reply.upper(),
            lambda: reply.title(),
            lambda: " ".join(words[: rng.randint(1, max(1, len(words)))]),
            lambda: " ".join(words[: rng.randint(1, 12)]),
            lambda: (split_sentences(reply) or [reply])[0] + rng.choice((".", "!", "?", "")),
            lambda: ". ".join(split_sentences(reply)[: rng.randint(1, 4)]) + ".",
            lambda: "\n".join(f"{k}. {s}" for k, s in _numbered(split_sentences(reply)[: rng.randint(1, 8)])),
            lambda: "\n".join(f"- {s}" for s in split_sentences(reply)[: rng.randint(1, 8)]),
            lambda: "\n".join(split_sentences(reply)),
            lambda: "\n\n".join(split_sentences(reply)[: rng.randint(1, 5)]),
            lambda: split_lines(reply)[0] if split_lines(reply) else reply,
            lambda: ", ".join(split_words(reply)[: rng.randint(2, 12)]),
            lambda: rng.choice(_OPENINGS) + reply,
            lambda: reply.rstrip(" .!?") + rng.choice((".", "!", "?", "", "...")),
            lambda: f'"{reply}"',
            lambda: json.dumps({rng.choice(split_words(reply) or ["answer"]): reply[:60]}),
            lambda: reply.replace(rng.choice(words), ""),
            lambda: self._toward(reply, check),
            lambda: self._toward(reply, check),
            lambda: self._toward(reply, check),
        ))()  # fmt: skip

    def _toward(self, reply: str, check: dict[str, Any]) -> str:
        """Return the reply changed so that it may pass a check, or what the check asks for alone."""
        rng, name = self._rng, check["name"]
        if name in ("contains", "contains_any", "avoids"):
            words = reply.split(" ")
            for word in check["words"] if name == "contains" else [rng.choice(check["words"])]:
                words.insert(rng.randint(0, len(words)), word)
            return " ".join(words)
        if name == "starts_with":
            return f"{check['text']} {reply}"
        if name == "ends_with":
            return f"{reply} {check['text']}"
        if name == "equals":
            return rng.choice(
                (check["text"], f"{rng.choice(_OPENINGS)}{check['text']}", check["text"].upper())
            )
        if name == "answer":
            return rng.choice(
                (check["accepted"][0], f"It is {check['accepted'][0]}.", f"{reply} {check['accepted'][0]}")
            )
        if name == "number":
            return rng.choice(
                (str(check["value"]), f"The answer is {check['value']}.", str(rng.randint(0, 60)))
            )
        if name in ("json_keys", "json_types", "json_values"):
            return self._json(reply, check)
        if name in ("json_equals", "json_array", "json_valid", "json_only"):
            n = check.get("exactly", rng.randint(1, 5))
            return json.dumps(check.get("value", split_words(reply)[:n]))
        if name == "avoids_characters":
            return "".join(c for c in reply if c not in check["characters"])
        if name == "separated":
            return check["by"].join(split_words(reply)[: rng.randint(2, 12)])
        return reply

    def _json(self, reply: str, check: dict[str, Any]) -> str:
        rng = self._rng
        made: dict[str, Any] = dict(check.get("values", {}))
        words = split_words(reply)[:3]
        samples = {"number": rng.randint(0, 99), "integer": rng.randint(0, 99), "boolean": rng.random() < 0.5,
                   "array": words, "object": {}, "string": " ".join(words)}  # fmt: skip
        for key in [*check.get("keys", ()), *check.get("types", {})]:
            kind = check.get("types", {}).get(key) if rng.random() < 0.6 else rng.choice(list(samples))
            made.setdefault(key, samples.get(kind or "string"))
        if made and rng.random() < 0.3:
            made.pop(rng.choice(list(made)))
        text = json.dumps(made, indent=rng.choice((None, 2)))
        return rng.choice((text, text, f"```json\n{text}\n```", rng.choice(_OPENINGS) + text, text[:-1]))


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


def _numbered(parts: Sequence[str]) -> list[tuple[int, str]]:
    return list(enumerate(parts, start=1))


def _like(old: str, new: str) -> str:
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new.capitalize() if old[:1].isupper() else new


def _value(text: str) -> int:
    return int(text) if text.isdigit() else _NUMBERS.index(text.lower())
