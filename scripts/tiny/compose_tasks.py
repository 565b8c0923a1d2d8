"""The tasks of composed prompts: what is asked for, whatever the wishes about the reply."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import wordings as say
from things import ABOUT, ANSWERS, LISTS, THINGS
from wordings import Checks, Clause, listed, spelled


@dataclass(slots=True)
class Task:
    """A task in words and as checks."""

    text: str
    checks: Checks
    family: str
    right: list[str] = field(default_factory=list)
    clauses: list[Clause] = field(default_factory=list)
    n_wishes: Sequence[int] = (1, 1, 2)


class Tasks:
    """Draws tasks.

    Args:
        vocabulary: Words that they are about.
        rng: Where chance comes from; shared with the caller.
    """

    def __init__(self, vocabulary: Sequence[str], rng: random.Random) -> None:
        self._vocabulary, self._rng = list(vocabulary), rng
        self._kinds: Mapping[Callable[[], Task], int] = {
            self._about: 34, self._fact: 12, self._sum: 12, self._list: 16, self._json: 12, self._transform: 14,
        }  # fmt: skip

    def draw(self) -> Task:
        """Return a task."""
        return self._rng.choices(list(self._kinds), list(self._kinds.values()))[0]()

    def word(self) -> str:
        """Return a word that a prompt may be about."""
        return self._rng.choice(THINGS if self._rng.random() < 0.3 else self._vocabulary)

    def _about(self) -> Task:
        rng, word = self._rng, self.word()
        text, short = rng.choice(ABOUT)
        checks: Checks = []
        if rng.random() < 0.65:
            kind = rng.choice(("contains", "contains_any"))
            others = [word + "s", self.word()] if kind == "contains_any" else []
            checks.append({"name": kind, "words": [word, *others]})
        if "sentence" in text:
            checks.append({"name": "sentences", "exactly": 1})
        family = rng.choice(("length", "words", "casing") if not short else ("casing", "length"))
        return Task(text.format(x=word), checks, family, n_wishes=(1, 1, 1, 2, 2, 3))

    def _fact(self) -> Task:
        rng = self._rng
        question, accepted = rng.choice(ANSWERS)
        checks: Checks = [{"name": "answer", "accepted": list(accepted)}]
        clauses = []
        if rng.random() < 0.25:
            wish = rng.choice(
                ("Don't explain.", "No explanation.", "Short answer.", "Just the answer.", "Be brief.")
            )
            clauses.append(Clause(wish, [{"name": "words", "at_most": rng.choice((6, 8, 10))}]))
        right = [
            f"{accepted[0]}",
            f"{accepted[0]}.",
            f"It is {accepted[0]}.",
            f"The answer is {accepted[0]}.",
        ]
        return Task(question, checks, "facts", right, clauses)

    def _sum(self) -> Task:
        rng = self._rng
        a, b, thing = rng.randint(2, 60), rng.randint(2, 30), self.word()
        question, value = rng.choice((
            (f"What is {a} + {b}?", a + b), (f"Calculate {a} times {b}", a * b), (f"{a} - {b} is?", a - b),
            (f"Add {a} and {b}", a + b), (f"Take {a} and subtract {b}", a - b), (f"Double {a}", 2 * a),
            (f"I have {a} {thing}s and buy {b} more. How many do I have?", a + b),
            (f"There were {a} {thing}s and {b} are gone. How many remain?", a - b),
            (f"One {thing} costs {a} dollars. How much do {b} cost?", a * b),
            (f"What is half of {2 * a}?", a), (f"Which number comes after {a}?", a + 1), (f"{a} x {b} = ?", a * b),
            (f"How many {thing}s are in {b} boxes of {a}?", a * b), (f"Work out {a} plus {b} plus 1", a + b + 1),
        ))  # fmt: skip
        named = [str(value)] + ([spelled(value)] if 0 <= value < 100 else [])
        checks: Checks = [
            {"name": "number", "value": value},
            {"name": "contains_any", "words": named},
        ]
        clauses = []
        if rng.random() < 0.55:
            text = rng.choice((
                "Give just the number.", "Just the number.", "Only digits.", "Answer with the number only.",
                "Write only the result.", "Just give the number.", "No words, just digits.", "Number only, no text.",
                "Reply with a number and nothing else.", "Digits only please.", "Only the number.",
            ))  # fmt: skip
            clauses.append(
                Clause(text, [{"name": "number_only"}, {"name": "words", "at_most": rng.choice((1, 10, 10))}])
            )
        right = [
            str(value), f"{value}.", f"The answer is {value}.", str(value + rng.randint(-5, 5)), f"{a} + {b} = {value}",
            str(rng.randint(0, 99)), f"It is {value + rng.randint(1, 9)}.",
        ]  # fmt: skip
        return Task(question, checks, "arithmetic", right, clauses, (0, 1) if clauses else (1, 1, 2))

    def _list(self) -> Task:
        rng = self._rng
        n = rng.choice((2, 3, 3, 4, 4, 5, 5, 6, 7, 8, 10))
        things, shown = rng.choice(LISTS), say.say(rng, n)
        verb = rng.choice((
            "Name {n} {x}", "List {n} {x}", "Give me {n} {x}", "What are {n} {x}?", "Write down {n} {x}", "Tell me {n} {x}",
            "Come up with {n} {x}", "Suggest {n} {x}", "I need {n} {x}", "Give a list of {n} {x}", "Brainstorm {n} {x}",
        ))  # fmt: skip
        text = verb.format(n=shown, x=things)
        kind = rng.choice(
            ("bullet", "bullet", "numbered", "numbered", "separated", "separated", "lines", "any")
        )
        clauses, checks = [self._list_form(kind, n)], []
        if rng.random() < 0.5:
            checks.append({"name": "distinct_items"})
        if rng.random() < 0.3 and kind in ("bullet", "numbered", "any"):
            k = rng.choice((2, 3, 4, 5, 8, 12))
            wording = rng.choice(
                ("At most {k} words each.", "Every item may have at most {k} words.", "each in {k} words or fewer")
            ).format(k=say.say(rng, k))  # fmt: skip
            clauses.append(Clause(wording, [{"name": "item_words", "at_least": 1, "at_most": k}]))
        if rng.random() < 0.15:
            clauses.append(
                Clause(
                    rng.choice(("in alphabetical order", "Sort them alphabetically.")),
                    [{"name": "alphabetical"}],
                )
            )
        if rng.random() < 0.25:
            wording = rng.choice(("Nothing else.", "No introduction.", "Only the list.", "and nothing else"))
            clauses.append(Clause(wording, [{"name": "no_preamble"}]))
        entries = [self.word() for _ in range(max(1, n + rng.choice((0, 0, 0, -1, 1))))]
        right = [
            "\n".join(f"- {e}" for e in entries), "\n".join(f"{k}. {e}" for k, e in enumerate(entries, 1)),
            ", ".join(entries), "\n".join(entries), "\n".join(f"* {e}" for e in sorted(entries)), "/".join(entries),
        ]  # fmt: skip
        return Task(text, checks, "lists", right, clauses, (0, 0, 0, 1))

    def _list_form(self, kind: str, n: int) -> Clause:
        rng = self._rng
        if kind == "bullet":
            text = rng.choice(("as bullet points", "Use bullets.", "in a bulleted list", "Bullets.", "as a bullet list",
                               "Start each with a dash.", "with a bullet for each", "as a list with dashes"))  # fmt: skip
            return Clause(text, [{"name": "list_items", "exactly": n, "style": "bullet"}])
        if kind == "numbered":
            text = rng.choice(("as a numbered list", "Number them.", f"numbered 1 to {n}", "in a numbered list",
                               "with a number before each", "Use a numbered list."))  # fmt: skip
            more: Checks = [{"name": "starts_with", "text": "1"}] if rng.random() < 0.5 else []
            return Clause(text, [{"name": "list_items", "exactly": n, "style": "numbered"}, *more])
        if kind == "separated":
            name, by = rng.choice(
                (("commas", ","), ("commas", ","), ("commas", ","), ("slashes", "/"), ("semicolons", ";"))
            )
            text = f"separated by {name}"
            if by == ",":
                text = rng.choice((text, "comma separated", "as a comma-separated line", "with commas between them"))  # fmt: skip
            return Clause(
                text, [{"name": "separated", "by": by, "exactly": n}, {"name": "lines", "exactly": 1}]
            )
        if kind == "lines":
            text = rng.choice(
                ("each on its own line", "one per line", "Put each on a separate line.", "on separate lines")
            )
            return Clause(text, [{"name": "lines", "exactly": n}])
        return Clause(rng.choice(("as a list", "in a list", "Make it a list.")), [{"name": "list_items", "exactly": n}])  # fmt: skip

    def _json(self) -> Task:
        rng = self._rng
        keys = list(dict.fromkeys(self.word() for _ in range(rng.choice((1, 2, 2, 3, 3, 4)))))
        made: dict[str, Any] = {}
        types, values, told = {}, {}, []
        for key in keys:
            kind = rng.choice(("string", "number", "boolean", "array", "integer"))
            value: Any = {"string": self.word(), "number": rng.randint(0, 99) / 2, "integer": rng.randint(0, 99),
                          "boolean": rng.random() < 0.5, "array": [self.word(), self.word()]}[kind]  # fmt: skip
            made[key] = value
            if rng.random() < 0.4:
                types[key] = kind
                told.append(
                    rng.choice((f"{key} is a {kind}", f'"{key}" ({kind})', f"{key} must be a {kind}"))
                )
            elif rng.random() < 0.25 and kind in ("string", "integer", "boolean"):
                values[key] = value
                told.append(f"{key} is {json.dumps(value)}")
        text = rng.choice((
            "Write a JSON object with the keys {k}", "Give me JSON with the {s} {k}", "Reply in JSON. Keys: {k}",
            "Describe a {w} in JSON with {k}", "Return a JSON object that has {k}", "Answer in valid JSON with {s} {k}",
            "I need a JSON object for a {w}: {s} {k}", "Format as JSON with the {s} {k}", "Make JSON: {k}",
            "Create a JSON record of a {w}, with the {s} {k}",
        )).format(k=listed(rng, keys), s="key" if len(keys) == 1 else "keys", w=self.word())  # fmt: skip
        text += ("; " + ", ".join(told)) if told else ""
        exact = rng.random() < 0.25
        checks: Checks = [{"name": "json_valid"}, {"name": "json_keys", "keys": keys, "exact": exact}]
        checks += [{"name": "json_types", "types": types}] if types else []
        checks += [{"name": "json_values", "values": values}] if values else []
        clauses = [Clause("No other keys.")] if exact else []
        if rng.random() < 0.6:
            clauses.append(
                Clause(
                    rng.choice(
                        ("JSON only.", "No text outside the JSON.", "Only JSON.", "No explanation.", "Nothing else.")
                    ),
                    [{"name": "json_only"}],
                )
            )  # fmt: skip
        shown = json.dumps(made)
        right = [
            shown, json.dumps(made, indent=2), f"```json\n{shown}\n```", f"Here it is: {shown}", shown[:-1],
            json.dumps(dict(list(made.items())[:1])), json.dumps(keys), shown.replace('"', ""),
        ]  # fmt: skip
        return Task(text, checks, "json", right, clauses, (0,))

    def _transform(self) -> Task:
        rng = self._rng
        some = list(dict.fromkeys(self.word() for _ in range(rng.choice((2, 3, 3, 4)))))
        a, b, phrase, commas = some[0], some[-1], " ".join(some), ", ".join(some)
        n = rng.choice((2, 3, 4))
        text, done = rng.choice((
            (f"Sort these words alphabetically: {commas}", ", ".join(sorted(some))),
            (f"Put these words in reverse order: {commas}", ", ".join(reversed(some))),
            (f"Repeat the word {a} {say.say(rng, n)} times, separated by spaces", " ".join([a] * n)),
            (f"Copy this exactly: {phrase}", phrase), (f"Write '{phrase}' in capital letters", phrase.upper()),
            (f"Change to lowercase: {phrase.upper()}", phrase), (f"Remove the commas: {commas}", phrase),
            (f"Join these words with hyphens: {phrase}", "-".join(some)), (f"Write the word {a} backwards", a[::-1]),
            (f"Replace {a} with {b}: I saw the {a} today.", f"I saw the {b} today."),
            (f"Put commas between these words: {phrase}", commas), (f"Spell {a} with spaces between the letters", " ".join(a)),
            (f"Delete the word {a} from this: the {a} {b}", f"the {b}"), (f"Put quotation marks around this: {phrase}", f'"{phrase}"'),
            (f"Write these words on separate lines: {phrase}", "\n".join(some)), (f"Echo this: {phrase}", phrase),
            (f"Swap the two words: {a} {b}", f"{b} {a}"), (f"Remove the duplicates: {a}, {b}, {a}", f"{a}, {b}"),
        ))  # fmt: skip
        checks: Checks = [{"name": "equals", "text": done}]
        checks.append({"name": "words", "exactly": max(1, len(done.split()))})
        if rng.random() < 0.7:
            checks.append({"name": "contains", "words": [w for w in done.split() if w.isalpha()] or [done]})
        if rng.random() < 0.3:
            checks.append({"name": "starts_with", "text": done.split()[0], "whole_word": False})
        right = [
            done,
            done,
            f"{done}.",
            f"The answer is: {done}",
            phrase,
            commas,
            text.partition(": ")[2] or a,
        ]
        return Task(text, checks, "transform", right, n_wishes=(0, 0, 0, 1))
