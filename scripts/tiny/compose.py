"""Prompts of our own: a task, and wishes about the reply, with the checks that follow from both.

160 prompts teach a transformer their wording by heart. Here tasks, wordings, words and numbers are drawn
independently, so that only reading them helps. Nothing here was written from the embedded test split.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import wordings as say
from compose_tasks import Tasks
from wordings import Checks, Clause


@dataclass(frozen=True, slots=True)
class Draft:
    """A composed prompt."""

    prompt: str
    checks: Checks
    family: str
    """Of the embedded data: whose replies are like those to this prompt."""
    right: Sequence[str] = ()
    """Replies that do the task, whatever the wishes."""


class Composer:
    """Draws prompts.

    Args:
        vocabulary: Words to ask for.
        rng: Where chance comes from; shared with the caller.
    """

    def __init__(self, vocabulary: Sequence[str], rng: random.Random) -> None:
        self._rng, self._tasks = rng, Tasks(vocabulary, rng)

    def draw(self) -> Draft:
        """Return one prompt."""
        rng = self._rng
        task = self._tasks.draw()
        clauses = list(task.clauses)
        names = {c["name"] for clause in clauses for c in clause.checks} | {c["name"] for c in task.checks}
        for _ in range(rng.choice(task.n_wishes)):
            clause = self._wish(task.family)
            asked = {c["name"] for c in clause.checks}
            if not names & asked:  # two bounds on one thing may exclude each other
                clauses.append(clause)
                names |= asked
        checks = [*task.checks, *(c for clause in clauses for c in clause.checks)]
        for check, share in self._unsaid(task.family):
            if rng.random() < share and check["name"] not in names:
                checks.append(check)
                names.add(check["name"])
        rng.shuffle(checks)
        return Draft(self._join(task.text, clauses), checks[:6], task.family, task.right)

    def _wish(self, family: str) -> Clause:
        rng = self._rng
        kinds: list[tuple[Callable[[], Clause], int]] = [
            (lambda: say.words(rng), 30), (lambda: say.sentences(rng), 16), (lambda: say.blocks(rng), 9),
            (lambda: say.case(rng), 13), (lambda: say.ends(rng, self._tasks.word()), 14),
            (lambda: say.no_characters(rng), 7), (lambda: say.require(rng, self._tasks.word), 16),
            (lambda: say.forbid(rng, self._tasks.word), 12), (lambda: say.often(rng, self._tasks.word()), 3),
        ]  # fmt: skip
        if family not in ("length", "words", "casing"):
            kinds = [kinds[k] for k in (0, 0, 1, 2, 3, 4, 5)]
        return rng.choices([k for k, _ in kinds], [w for _, w in kinds])[0]()

    def _unsaid(self, family: str) -> Sequence[tuple[dict[str, Any], float]]:
        """Return checks that go without saying, as the embedded data has them, and how often."""
        rng = self._rng
        line: dict[str, Any] = {"name": "lines", "exactly": 1}
        if family in ("arithmetic", "facts"):
            return (
                ({"name": "words", "at_most": rng.choice((6, 10, 10, 10, 15, 15, 20, 25))}, 0.9),
                ({"name": "ends_with", "text": "."}, 0.1), (line, 0.1),
                ({"name": "sentences", "at_least": 1, "at_most": rng.choice((1, 2, 4))}, 0.1),
            )  # fmt: skip
        if family == "transform":
            return ((line, 0.25), ({"name": "sentences", "exactly": 1}, 0.15))
        if family == "lists":
            words = {
                "name": "words",
                "at_least": rng.choice((1, 3)),
                "at_most": rng.choice((12, 60, 60, 80, 90)),
            }
            return ((words, 0.4), ({"name": "no_preamble"}, 0.2))
        if family == "json":
            return (({"name": "json_only"}, 0.3), ({"name": "words", "at_most": 80}, 0.05))
        few = rng.choice((
            {"at_least": rng.choice((2, 3, 4, 5)), "at_most": rng.choice((15, 20, 25, 25, 30, 40, 50))},
            {"at_least": rng.choice((5, 8, 8, 10, 12, 20))}, {"at_most": rng.choice((15, 20, 25, 30, 40, 60))},
        ))  # fmt: skip
        return (
            ({"name": "words", **few}, 0.6), (line, 0.12), ({"name": "ends_with", "text": "."}, 0.12),
            ({"name": "sentences", "exactly": 1}, 0.12), ({"name": "paragraphs", "exactly": 1}, 0.05),
            ({"name": "sentences", "at_least": 1, "at_most": rng.choice((2, 3, 5, 6))}, 0.25),
        )  # fmt: skip

    def _join(self, task: str, clauses: Sequence[Clause]) -> str:
        """Put the wishes after the task, or before it."""
        rng = self._rng
        inline = [c.text for c in clauses if not c.text[0].isupper() or c.text.startswith("IN ")]
        apart = [c.text for c in clauses if c.text not in inline]
        end = "?" if task.endswith("?") else rng.choice(("." if task[-1].isalnum() else "",) * 3 + ("",))
        body = task.rstrip("?")
        if inline and end == "?":
            apart = [
                rng.choice(("Answer {}.", "Reply {}.", "Please answer {}.")).format(t) for t in inline
            ] + apart
        elif inline:
            body += " " + (", ".join(inline) if rng.random() < 0.5 else " ".join(inline))
        text = body + end
        if apart:
            wishes = " ".join(apart)
            text = f"{wishes} {text}" if rng.random() < 0.2 else f"{text} {wishes}"
        style = rng.random()
        if style < 0.06:
            text = text.lower() if not any(c.isupper() for c in text[1:]) else text
        elif style < 0.12:
            text = rng.choice(("Please ", "Can you ", "I want you to ", "Now ")) + text[0].lower() + text[1:]
        return text
