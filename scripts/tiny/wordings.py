"""Ways to ask for one thing: each draws a wording and the checks that follow from it.

A clause is its text, either a part of a sentence (`in at most nine words`) or a sentence (`Use at most nine
words.`), and its checks. Nothing here was written from the embedded test split.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
Checks = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Clause:
    """A wish, in words and as checks."""

    text: str
    checks: Checks = field(default_factory=list)


def spelled(n: int) -> str:
    """Return a number below 100 in words."""
    if n < len(NUMBERS):
        return NUMBERS[n]
    return TENS[n // 10] + (f"-{NUMBERS[n % 10]}" if n % 10 else "")


def say(rng: random.Random, n: int) -> str:
    """Return a number in digits or words, as people write it."""
    return spelled(n) if n < 100 and rng.random() < (0.6 if n <= 12 else 0.15) else str(n)


def listed(rng: random.Random, words: Sequence[str], last: str = "and") -> str:
    """Return `a, b and c`, sometimes with quotation marks or an Oxford comma."""
    quote = rng.choice(("", "", "'", '"'))
    shown = [f"{quote}{w}{quote}" for w in words]
    if len(shown) == 1:
        return shown[0]
    comma = "," if len(shown) > 2 and rng.random() < 0.3 else ""
    return f"{', '.join(shown[:-1])}{comma} {last} {shown[-1]}"


def _pick(rng: random.Random, text: str, **values: Any) -> str:
    """Choose one of the `|`-separated wordings and fill it."""
    return rng.choice(text.split("|")).format(**values)


_MOST = (
    "in at most {n} words|in no more than {n} words|in {n} words or fewer|in {n} words or less|in under {m} words"
    "|in fewer than {m} words|in less than {m} words|using at most {n} words|within {n} words|with a maximum of"
    " {n} words|Use at most {n} words.|Keep it under {m} words.|Keep the answer below {m} words.|Maximum {n}"
    " words.|Max {n} words.|{n} words at most.|{n} words or fewer.|No more than {n} words.|Stay below {m} words."
    "|Use no more than {n} words.|Fewer than {m} words.|Short answer, under {m} words.|Limit: {n} words.|Your"
    " reply may have {n} words at most.|Do not write more than {n} words.|Be brief: {n} words maximum.|Answer in"
    " {n} words or fewer.|Less than {m} words, please."
)
_LEAST = (
    "in at least {n} words|with at least {n} words|in {n} words or more|Use at least {n} words.|At least {n}"
    " words.|Write {n} words or more.|It should have at least {n} words.|Make it at least {n} words long."
    "|Minimum {n} words.|No fewer than {n} words."
)
_EXACT = (
    "in exactly {n} words|in {n} words|with exactly {n} words|Use exactly {n} words.|It must have exactly {n}"
    " words.|Exactly {n} words.|Your answer should be {n} words long.|{n} words, no more and no less."
)
_ONE = (
    "in one word|with one word|with a single word|One word.|One word only.|Answer with one word.|Reply with a"
    " single word.|Just one word.|Only the word.|Give one word.|Your reply must be one word.|A single word, please."
)


def words(rng: random.Random) -> Clause:
    """Ask for a number of words."""
    kind = rng.random()
    if kind < 0.5:
        n = rng.choice(
            (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 17, 19, 20, 24, 25, 29, 30, 35, 40, 50, 60)
        )
        least = {"at_least": rng.choice((1, 2, 3))} if n > 8 and rng.random() < 0.2 else {}
        return Clause(
            _pick(rng, _MOST, n=say(rng, n), m=say(rng, n + 1)), [{"name": "words", "at_most": n, **least}]
        )
    if kind < 0.65:
        n = rng.choice((8, 10, 12, 15, 20, 25, 30, 40, 50))
        return Clause(_pick(rng, _LEAST, n=say(rng, n)), [{"name": "words", "at_least": n}])
    if kind < 0.75:
        a = rng.choice((3, 5, 8, 10, 15, 20, 30))
        b = a + rng.choice((2, 5, 10, 15, 20))
        text = _pick(
            rng, "in {a} to {b} words|Use {a} to {b} words.|Between {a} and {b} words.|Use between {a} and {b}"
            " words.|at least {a} but at most {b} words", a=say(rng, a), b=say(rng, b),
        )  # fmt: skip
        return Clause(text, [{"name": "words", "at_least": a}, {"name": "words", "at_most": b}])
    if kind < 0.85:
        n = rng.choice((2, 3, 4, 5, 6, 8, 10))
        return Clause(_pick(rng, _EXACT, n=say(rng, n)), [{"name": "words", "exactly": n}])
    extra = [{"name": "words", "at_most": 10}] if rng.random() < 0.7 else []
    return Clause(_pick(rng, _ONE), [{"name": "words", "exactly": 1}, *extra])


def sentences(rng: random.Random) -> Clause:
    """Ask for a number of sentences."""
    kind = rng.random()
    if kind < 0.45:
        text = _pick(
            rng, "in one sentence|in a single sentence|in exactly one sentence|in one short sentence|One sentence."
            "|One sentence only.|Answer in a full sentence.|Use a single sentence.|Write just one sentence."
            "|Your answer must be one sentence.|as one sentence",
        )  # fmt: skip
        checks: Checks = [{"name": "sentences", "exactly": 1}]
        if rng.random() < 0.4:
            checks.append({"name": "ends_with", "text": "."})
        if rng.random() < 0.3:
            checks.append({"name": "words", "at_least": rng.choice((3, 4, 8))})
        return Clause(text, checks)
    n = rng.choice((2, 2, 2, 3, 3, 4, 5))
    if kind < 0.8:
        text = _pick(
            rng, "in {n} sentences|in exactly {n} sentences|Use {n} sentences.|Exactly {n} sentences.|Write {n}"
            " sentences.|Your reply must have exactly {n} sentences.|using {n} sentences", n=say(rng, n),
        )  # fmt: skip
        return Clause(text, [{"name": "sentences", "exactly": n}])
    text = _pick(
        rng, "in at most {n} sentences|in no more than {n} sentences|Use at most {n} sentences.|{n} sentences at most."
        "|Keep it to {n} sentences or fewer.", n=say(rng, n),
    )  # fmt: skip
    return Clause(text, [{"name": "sentences", "at_least": 1, "at_most": n}])


def blocks(rng: random.Random) -> Clause:
    """Ask for lines, paragraphs or characters."""
    kind = rng.random()
    if kind < 0.35:
        text = _pick(rng, "on one line|on a single line|Keep it to one line.|One line only.|as a single line")
        return Clause(text, [{"name": "lines", "exactly": 1}])
    n = rng.choice((2, 3, 4, 5, 6))
    if kind < 0.7:
        text = _pick(
            rng, "in {n} lines|on {n} lines|in exactly {n} lines|Write {n} lines.|Use exactly {n} lines."
            "|It must have {n} lines.|spread over {n} lines", n=say(rng, n),
        )  # fmt: skip
        return Clause(text, [{"name": "lines", "exactly": n}])
    if kind < 0.85:
        n = rng.choice((1, 2, 3))
        plural = "paragraph" if n == 1 else "paragraphs"
        text = _pick(
            rng, "in {n} {p}|in exactly {n} {p}|Write {n} {p}.|Use {n} {p}.", n=say(rng, n), p=plural
        )
        return Clause(text, [{"name": "paragraphs", "exactly": n}])
    n = rng.choice((50, 80, 100, 120, 140, 160, 200, 280))
    text = _pick(
        rng, "in under {m} characters|in at most {n} characters|Use fewer than {m} characters.|Maximum {n} characters.",
        n=n, m=n + 1,
    )  # fmt: skip
    return Clause(text, [{"name": "characters", "at_least": 1, "at_most": n}])


def case(rng: random.Random) -> Clause:
    """Ask for letter case or quotation marks."""
    kind = rng.choice(("uppercase", "uppercase", "lowercase", "lowercase", "title_case", "quoted"))
    text = {
        "uppercase": "in capital letters|in all caps|IN ALL CAPS|in uppercase|in upper case|Use only capital letters."
        "|Reply in uppercase.|Write everything in capital letters.|All letters must be capitals.|SHOUT it."
        "|Capital letters only.|Your whole reply must be in uppercase.",
        "lowercase": "in lowercase|in lower case|all lowercase|in lowercase letters|lowercase only please.|Use no capital"
        " letters.|with no capital letters|without any capital letters|Only small letters.|Write everything in"
        " lowercase.|No uppercase letters.",
        "title_case": "in Title Case|Use Title Case.|Capitalize the first letter of every word.|with every word"
        " capitalized|Start each word with a capital letter.",
        "quoted": "in double quotation marks|in double quotes|Put your whole answer in double quotation marks.|Wrap your"
        " reply in double quotes.|inside quotation marks|Your reply must be surrounded by double quotes.",
    }[kind]
    return Clause(_pick(rng, text), [{"name": kind}])


_CLOSINGS = ("That is all.", "Thank you.", "The end.", "Good night.", "Take care.", "Any questions?", "Is that clear?",
             "Have a nice day.", "Talk soon.", "Best wishes", "See you tomorrow.", "I hope this helps.")  # fmt: skip


def ends(rng: random.Random, word: str) -> Clause:
    """Ask for how the reply begins or ends."""
    kind = rng.random()
    if kind < 0.55:
        mark = rng.choice(".....???!!!")
        name = {".": ("a period", "a full stop"), "?": ("a question mark",), "!": ("an exclamation mark",)}[
            mark
        ]
        text = _pick(
            rng, "ending with {x}|End with {x}.|Finish with {x}.|End your reply with {x}.|Your reply must end with {x}."
            "|Finish your answer with {x}.|The last character must be {x}.|and end with {x}", x=rng.choice(name),
        )  # fmt: skip
        return Clause(text, [{"name": "ends_with", "text": mark}])
    closing = rng.choice((word, rng.choice(_CLOSINGS)))
    if kind < 0.75:
        text = _pick(
            rng, "End with '{x}'|Finish with the words '{x}'|End your reply with: {x}|The last words must be \"{x}\""
            "|and finish with '{x}'|Conclude with \"{x}\"", x=closing,
        )  # fmt: skip
        return Clause(text, [{"name": "ends_with", "text": closing}])
    if kind < 0.9:
        first = rng.choice(
            (word.capitalize(), "The", "Yes", "My", "Today", "First", "I", "Once", "In", "Hello")
        )
        text = _pick(
            rng, "Start your answer with '{x}'.|Begin with the word {x}.|The first word must be {x}.|Start with \"{x}\"."
            "|beginning with the word {x}|Your reply must start with {x}.", x=first,
        )  # fmt: skip
        return Clause(text, [{"name": "starts_with", "text": first}])
    letter = rng.choice("ABCDEFGHILMNOPRSTW")
    text = _pick(
        rng,
        "Start with the letter {x}.|that starts with the letter {x}|The first letter must be {x}.",
        x=letter,
    )
    return Clause(text, [{"name": "starts_with", "text": letter, "whole_word": False}])


def no_characters(rng: random.Random) -> Clause:
    """Forbid characters."""
    punctuation = ".,!?;:'\""
    what, characters = rng.choice((
        ("commas", ","), ("commas", ","), ("punctuation", punctuation), ("punctuation", punctuation),
        ("periods", "."), ("exclamation marks", "!"), ("digits", "0123456789"), ("question marks", "?"),
        ("numbers in digits", "0123456789"), ("hyphens", "-"),
    ))  # fmt: skip
    if rng.random() < 0.2:
        letter = rng.choice("aeiostrnlzxqk")
        what, characters = f"the letter {letter}", letter + letter.upper()
    text = _pick(
        rng, "without {x}|without any {x}|Use no {x}.|No {x}.|and use no {x}|Leave out all {x}.|Avoid {x}.", x=what
    ).replace("any the", "the").replace("all the", "the").replace("no the", "never the").replace("No the", "Never use the")  # fmt: skip
    return Clause(text, [{"name": "avoids_characters", "characters": characters}])


def require(rng: random.Random, draw: Callable[[], str]) -> Clause:
    """Ask for words."""
    chosen = [draw() for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4)))]
    several = "words" if len(chosen) > 1 else "word"
    text = _pick(
        rng, "that contains the {s} {x}|with the {s} {x} in it|using the {s} {x}|Include the {s} {x}.|Use the {s} {x}."
        "|It must include the {s} {x}.|Your reply has to contain {x}.|Mention {x}.|Make sure that {x} appear."
        "|and mention {x}|containing {x}|Work in the {s} {x}.|that has {x} in it", s=several, x=listed(rng, chosen),
    )  # fmt: skip
    together = rng.random() < 0.4
    checks: Checks = (
        [{"name": "contains", "words": chosen}] if together
        else [{"name": "contains", "words": [w]} for w in chosen]
    )  # fmt: skip
    return Clause(text, checks)


def forbid(rng: random.Random, draw: Callable[[], str]) -> Clause:
    """Forbid words."""
    chosen = [draw() for _ in range(rng.choice((1, 1, 2, 2, 3)))]
    several = "words" if len(chosen) > 1 else "word"
    text = _pick(
        rng, "without using the {s} {x}|without saying {x}|Do not use the {s} {x}.|Don't mention {x}.|Avoid the {s} {x}."
        "|Never say {x}.|but leave out the {s} {x}|The {s} {x} must not appear.|You may not use {x}.|with no mention of"
        " {x}|but do not say {x}", s=several, x=listed(rng, chosen, "or"),
    )  # fmt: skip
    together = rng.random() < 0.6
    checks: Checks = (
        [{"name": "avoids", "words": chosen}] if together else [{"name": "avoids", "words": [w]} for w in chosen]
    )  # fmt: skip
    return Clause(text, checks)


def often(rng: random.Random, word: str) -> Clause:
    """Ask for a word several times."""
    n = rng.choice((2, 2, 3, 3, 4))
    times = "twice" if n == 2 and rng.random() < 0.6 else f"{say(rng, n)} times"
    bound = rng.choice(("at_least", "exactly"))
    text = _pick(
        rng, "Use the word {x} {b} {t}.|Repeat the word '{x}' {b} {t}.|The word {x} must appear {b} {t}."
        "|with the word \"{x}\" in it {b} {t}", x=word, b=bound.replace("_", " "), t=times,
    )  # fmt: skip
    return Clause(text, [{"name": "word_frequency", "word": word, bound: n}])
