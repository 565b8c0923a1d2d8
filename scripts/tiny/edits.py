"""Replies changed: shortened, listed, recased, or moved towards what a check asks for."""

import json
import random
from collections.abc import Sequence
from typing import Any

from rmbench.gold.instruction.counts import split_lines, split_sentences, split_words

BOUNDS = ("at_least", "at_most", "exactly")
COUNTED = {
    "words": split_words, "sentences": split_sentences, "lines": split_lines, "paragraphs": split_lines,
    "list_items": split_lines,
}  # fmt: skip
_LOOKS = {
    "uppercase": str.upper, "lowercase": str.lower, "title_case": str.title, "quoted": '"{}"'.format,
    "capitalized_lines": str.capitalize, "number_only": lambda text: "".join(c for c in text if c.isdigit())[:3],
}  # fmt: skip
_OPENINGS = (
    "Sure! ", "Here is my answer: ", "Certainly. ", "Here's a possible answer:\n", "Of course!\n\n",
    "Answer: ",
)  # fmt: skip


class Editor:
    """Changes replies.

    Args:
        rng: Where chance comes from; shared with the caller.
        replies: Where sentences are taken from when a reply has too few.
    """

    def __init__(self, rng: random.Random, replies: Sequence[str]) -> None:
        self._rng, self._replies = rng, replies

    def edit(self, reply: str, checks: Sequence[dict[str, Any]]) -> str:
        """Return the reply changed in one of many ways, some of them towards a check."""
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
            lambda: self.toward(reply, check),
            lambda: self.toward(reply, check),
            lambda: self.toward(reply, check),
        ))()  # fmt: skip

    def toward(self, reply: str, check: dict[str, Any]) -> str:
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
        if name in ("equals", "answer", "number"):
            return self._answer(reply, check)
        if name in ("json_keys", "json_types", "json_values"):
            return self._json(reply, check)
        if name in ("json_equals", "json_array", "json_valid", "json_only"):
            n = check.get("exactly", rng.randint(1, 5))
            return json.dumps(check.get("value", split_words(reply)[:n]))
        if name in _LOOKS:
            return _LOOKS[name](reply)
        if name in COUNTED:
            return self._cut(reply, check)
        if name == "avoids_characters":
            return "".join(c for c in reply if c not in check["characters"])
        if name == "separated":
            return check["by"].join(split_words(reply)[: rng.randint(2, 12)])
        return reply

    def _answer(self, reply: str, check: dict[str, Any]) -> str:
        rng, name = self._rng, check["name"]
        if name == "equals":
            return rng.choice(
                (check["text"], f"{rng.choice(_OPENINGS)}{check['text']}", check["text"].upper())
            )
        if name == "answer":
            return rng.choice(
                (check["accepted"][0], f"It is {check['accepted'][0]}.", f"{reply} {check['accepted'][0]}")
            )
        return rng.choice((str(check["value"]), f"The answer is {check['value']}.", str(rng.randint(0, 60))))

    def _cut(self, reply: str, check: dict[str, Any]) -> str:
        """Return about as many words, sentences, lines, items or paragraphs as are asked for."""
        rng, name = self._rng, check["name"]
        bounds = [check[key] for key in BOUNDS if key in check]
        n = max(1, rng.choice(bounds) + rng.choice((-2, -1, 0, 0, 0, 0, 1, 2)))
        if name == "words":
            return " ".join(reply.split(" ")[:n]).rstrip(" ,;:") + rng.choice(("", ".", ".", "!", "?"))
        parts = split_sentences(reply)
        while 0 < len(parts) < n:
            parts = parts + split_sentences(rng.choice(self._replies))
        parts = parts[:n]
        if name == "sentences":
            return ". ".join(parts) + "."
        if name in ("lines", "paragraphs"):
            return ("\n" if name == "lines" else "\n\n").join(parts)
        short = [" ".join(part.split()[: rng.randint(1, 6)]) for part in parts]
        if check.get("style") == "numbered" or (name == "list_items" and rng.random() < 0.3):
            return "\n".join(f"{k}. {s}" for k, s in _numbered(short))
        return "\n".join(f"{rng.choice('-*')} {s}" for s in short)

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


def _numbered(parts: Sequence[str]) -> list[tuple[int, str]]:
    return list(enumerate(parts, start=1))
