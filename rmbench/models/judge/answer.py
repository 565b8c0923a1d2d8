"""How the value of a judge's reply is read: the reader of a pack, which is data.

A reader looks at the judge's own answer, after its thinking. What does not fit it exactly has no answer:
nothing is guessed, and of two verdicts that contradict each other none is taken.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Annotated, Any, Literal, TypeAlias

from rmbench.core.files import parse_json
from rmbench.core.options import Option
from rmbench.models.judge.reply import CUT_OFF, REFUSED, UNPARSABLE, NoAnswerError, Reply

Asks: TypeAlias = Literal["pair", "response", "list"]
"""What a question is about: which of two replies is better, how good one is, or how good each of several."""

_FENCED = re.compile(r"```(?:json)?\s*(\{.*\})\s*```\s*\Z", re.DOTALL)
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{1,9})?")
_SPACES = " \t\r\n\u0120\u2581"
"""Around a letter in a token; the last two are how byte-level BPE and SentencePiece write a space."""
_MOST_BRACES = 1000
"""Opening braces of a reply that are tried as the beginning of a JSON object at its end."""

Regex = Annotated[str, Option(expected="a regular expression")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tied:
    """What decides between two replies whose scores are equal."""

    json: str
    """Path of a value in the same JSON object."""
    values: Mapping[str, float]
    """That value, as text -> P(first is better)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Where the value stands in a reply, and what it means.

    It is looked for in a JSON object (`json`), by a regular expression (`match`), or in the probabilities of
    the first token (`tokens`). It is a verdict (`values`, `best`), or a score (`scale`).
    """

    json: Annotated[tuple[str, ...], Option(single=True)] = ()
    """Paths of the values in the JSON object that the reply ends with: `a.b`; {n} counts the replies."""
    match: Regex = ""
    """Whose groups are the values; beside `json` for a reply without an object."""
    take: Literal["last_line", "end", "only", "last"] = "last_line"
    """Of `match`. last_line: the one match on the last line; end: the match that the reply ends with; only:
    all matches of the reply say the same; last: the last match, whatever was said before."""
    separator: str = ","
    """Between the scores of several replies in one group, as in \\boxed{7, 5}."""
    tokens: Mapping[str, float] = field(default_factory=dict)
    """Texts of the first token -> value; the answer is the mean of the values by their probabilities."""
    log_odds: bool = False
    """Of two `tokens`: log of the odds of the one with the larger value, for one response."""
    least_mass: Annotated[float, Option(low=0, high=1)] = 0.5
    """Least probability of all `tokens` together: below it, the judge said something else."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Verdicts -> P(first is better), or the reward of one response."""
    best: bool = False
    """The verdict is the letter of the best of several replies: it gets 1, the others 0."""
    scale: tuple[float, float] | None = None
    """The smallest and the largest score; one outside of it is no answer. Of a pair both replies have one."""
    decimals: bool = False
    """Whether a score may be 3.5."""
    tied: Tied | None = None
    """For pairs of equal scores; without it they are a tie."""

    @property
    def problem(self) -> str:
        """What contradicts itself; empty if nothing does."""
        if bool(self.tokens) == bool(self.json or self.match):
            return "expected 'json' or 'match', or else 'tokens'"
        if self.log_odds and len(self.tokens) != 2:
            return "'log_odds' needs two 'tokens'"
        if self.tokens and (self.values or self.best or self.scale):
            return "'tokens' have their own values; leave 'values', 'best' and 'scale' out"
        if not self.tokens and (bool(self.values) + self.best + bool(self.scale)) != 1:
            return "expected one of 'values', 'best' and 'scale'"
        if self.scale and not self.scale[0] < self.scale[1]:
            return "'scale' has the smallest score first"
        if self.tied and not (self.json and self.scale):
            return "'tied' goes with 'json' and 'scale'"
        if self.match:
            try:
                re.compile(self.match)
            except re.error as error:
                return f"'match' is no regular expression: {error}"
        return ""

    @property
    def expected(self) -> str:
        """An answer in words, for messages."""
        if self.tokens:
            return f"{_either(list(self.tokens))} as the first token"
        if self.values:
            return _either(list(self.values))
        if self.best:
            return "the letter of the best reply"
        low, high = self.scale or (0, 0)
        return f"{'a number' if self.decimals else 'a whole number'} from {low:g} to {high:g}"


def read(answer: Answer, asks: Asks, thinking: Sequence[str], reply: Reply, n: int) -> tuple[float, ...]:
    """Return the values of a reply.

    Args:
        answer: The reader.
        asks: What was asked.
        thinking: Names of the tags that hold thinking.
        reply: The reply.
        n: Replies that were judged.

    Returns:
        pair: P(first is better), (1,). response: its score, (1,). list: a score for each reply, (n,), in the
        order shown.

    Raises:
        NoAnswerError: If there is no answer.
    """
    if reply.refusal or reply.finish == "content_filter":
        raise NoAnswerError(REFUSED, reply.refusal or "the server's content filter")
    if answer.tokens:
        return (_of_tokens(answer, reply),)
    text = _without_thinking(reply, thinking, answer)
    n_scores = {"pair": 2, "response": 1, "list": n}[asks]
    said, value = _said(answer, text, n_scores)
    if answer.values:
        return (_one_of(answer.values, said, reply, answer),)
    if answer.best:
        letters = {letter: float(k) for k, letter in enumerate(ascii_uppercase[:n])}
        place = _one_of(letters, said, reply, answer)
        return tuple(float(k == place) for k in range(n))
    if len(said) != n_scores:
        raise _nothing(reply, f"{n_scores} times {answer.expected}" if n_scores > 1 else answer.expected)
    scores = [_score(each, answer, reply) for each in said]
    if asks != "pair":
        return tuple(scores)
    if scores[0] == scores[1] and answer.tied is not None:
        found = _at(value, answer.tied.json)
        return (_one_of(answer.tied.values, [found], reply, answer),)
    return (0.5 + 0.5 * (scores[0] > scores[1]) - 0.5 * (scores[0] < scores[1]),)


def mass(answer: Answer, reply: Reply) -> float:
    """Return the probability of all `tokens` of a reader together, as far as the server tells it."""
    return sum(_masses(answer, reply).values())


def _masses(answer: Answer, reply: Reply) -> dict[str, float]:
    found = dict.fromkeys(answer.tokens, 0.0)
    for token, logprob in reply.first_token:
        word = token.strip(_SPACES)
        if word in found:
            found[word] += math.exp(min(0.0, logprob))
    return found


def _of_tokens(answer: Answer, reply: Reply) -> float:
    masses = _masses(answer, reply)
    total = sum(masses.values())
    if not total >= max(answer.least_mass, 1e-12):
        held = f", which hold {total:.2f} of its probability; at least {answer.least_mass:g} are needed"
        raise _nothing(reply, answer.expected + held)
    if not answer.log_odds:
        return sum(masses[word] * answer.tokens[word] for word in masses) / total
    good, bad = sorted(masses, key=lambda word: -answer.tokens[word])
    # A token that the server does not list is at most as likely as the last one that it lists.
    least = math.exp(min(logprob for _, logprob in reply.first_token))
    return math.log(max(masses[good], least, 1e-300)) - math.log(max(masses[bad], least, 1e-300))


def _without_thinking(reply: Reply, thinking: Sequence[str], answer: Answer) -> str:
    """Return what a judge says after its thinking; thinking that has no end was cut off."""
    text = reply.text
    for tag in thinking:
        text = text.rpartition(f"</{tag}>")[2].strip()
        if text.startswith(f"<{tag}>"):
            raise NoAnswerError(
                CUT_OFF, f"its thinking has no end, expected {answer.expected}: {text[-80:]!r}"
            )
    return text.strip()


def _said(answer: Answer, text: str, n_scores: int) -> tuple[list[Any], Any]:
    """Return what stands where the value is, empty for nothing, and the JSON object that it stands in."""
    if answer.json:
        value = _object(text)
        if value is not None:
            paths = [
                path.replace("{n}", str(k + 1))
                for path in answer.json
                for k in range(n_scores if "{n}" in path else 1)
            ]
            return [_at(value, path) for path in paths], value
        if not answer.match:
            return [], None
    groups = _groups(answer, text)
    if len(groups) == 1 and n_scores > 1 and answer.scale:
        groups = groups[0].split(answer.separator)
    return list(groups), None


def _groups(answer: Answer, text: str) -> list[str]:
    pattern = re.compile(answer.match)
    if answer.take == "end":
        found = re.compile(rf"(?:{answer.match})\s*\Z").search(text)
        matches = [found] if found else []
    else:
        where = (text.splitlines() or [""])[-1] if answer.take == "last_line" else text
        matches = list(pattern.finditer(where))
    said = [tuple(g for g in m.groups() if g is not None) if pattern.groups else (m[0],) for m in matches]
    if answer.take == "last":
        said = said[-1:]
    elif answer.take == "only":
        said = list(dict.fromkeys(said))
    return list(said[0]) if len(said) == 1 else []


def _object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text is, or ends with; None if it ends otherwise."""
    for candidate in _candidates(text):
        try:
            value = parse_json(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
        return None
    return None


def _candidates(text: str) -> Iterator[str]:
    fenced = _FENCED.search(text)
    yield fenced[1] if fenced else text
    text = text.removesuffix("```").rstrip() if fenced else text
    if text.endswith("}"):
        for n, brace in enumerate(re.finditer(r"\{", text)):
            if n >= _MOST_BRACES:
                return
            yield text[brace.start() :]


def _at(value: Any, path: str) -> Any:
    """Return what stands at a path of a JSON object; None where nothing does."""
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _one_of(values: Mapping[str, float], said: Sequence[Any], reply: Reply, answer: Answer) -> float:
    word = said[0] if len(said) == 1 else None
    if isinstance(word, int | float) and not isinstance(word, bool):
        word = f"{word:g}"
    if isinstance(word, str) and word.strip() in values:
        return values[word.strip()]
    raise _nothing(reply, answer.expected)


def _score(said: Any, answer: Answer, reply: Reply) -> float:
    """Return a score of the scale."""
    low, high = answer.scale or (0.0, 0.0)
    if isinstance(said, str) and (number := _NUMBER.fullmatch(said.strip())):
        said = float(number[0]) if number[1] is None or answer.decimals else None
    is_number = isinstance(said, int | float) and not isinstance(said, bool)
    if is_number and low <= said <= high and (answer.decimals or said == int(said)):
        return float(said)
    raise _nothing(reply, answer.expected)


def _nothing(reply: Reply, expected: str) -> NoAnswerError:
    if reply.finish == "length" and not reply.first_token:
        return NoAnswerError(
            CUT_OFF, f"cut off at max_tokens before it said {expected}: {reply.text[-80:]!r}"
        )
    return NoAnswerError(UNPARSABLE, f"expected {expected}, it said {reply.text[-80:]!r}")


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
