"""Judge packs: how a judge is asked, and how its answer is read.

A pack is a YAML file, of the package (`rmbench/_data/judges`) or of the user's. Nothing in it is code. Its
texts have placeholders, which are filled in one pass: what is put in is never read as a template.

{prompt}               the conversation; {prompt|json}, as every placeholder: as a text in JSON
{first} {second}       the two replies of a pair
{response}             the reply of a question about one; in `each`, beside {n} and {letter}, one of several
{responses}            all of them, each written as `each`
{reference} {rubric} {principle}   what the data holds beside the replies
{mark}                 a hash of the texts, so that no text can hold a tag that ends it
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from functools import cache
from pathlib import Path
from string import ascii_uppercase
from typing import Annotated, Any, Literal

from rmbench.core.files import digest
from rmbench.core.options import NO_OPTION, Option, changed_from_default
from rmbench.core.schema import parse
from rmbench.core.yaml import PACKAGE, read_yaml
from rmbench.errors import ConfigError, DataError, UnknownNameError
from rmbench.models.judge.answer import Answer, Asks
from rmbench.models.judge.reply import REASONS

FOLDER = PACKAGE / "_data" / "judges"
SHOWN = ("reference", "rubric", "principle")
"""What a judge may be shown of an item beside its replies."""
PLAIN = ("pairwise", "rating")
"""Files of the folder that are prompts with several forms, not packs: see `rmbench.models.judge.template`."""
TURNS = "turns"
"""Role of a message that stands for the turns of the conversation, each with its own role."""
_FIELD = re.compile(r"\{([a-z_]+)(\|json)?\}")
_TEXTS: Mapping[Asks, tuple[str, ...]] = {
    "pair": ("first", "second"),
    "response": ("response",),
    "list": ("responses",),
}
_LARGEST_LIST = len(ascii_uppercase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of a request. One whose text becomes empty is not sent."""

    role: str
    """`system`, `user`, `response_1`, ...; `turns` stands for the conversation's own turns."""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How answers are sampled, unless `-M` says otherwise."""

    temperature: Annotated[float, Option(low=0)] | None = 0.0
    """None leaves it to the server."""
    top_p: Annotated[float, Option(above=0, high=1)] | None = None
    max_tokens: Annotated[int, Option(low=1)] = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A recorded answer, and what is read in it."""

    says: str = ""
    tokens: Mapping[str, float] = field(default_factory=dict)
    """First tokens with their probabilities, for a reader of these."""
    finish: Literal["stop", "length", "content_filter"] = "stop"
    n: Annotated[int, Option(low=1)] = 2
    """Replies that were judged, of a pack that is shown several."""
    reads: Annotated[tuple[float, ...], Option(single=True)] | None = None
    """The values; left out for a case without an answer."""
    why: str = ""
    """Why there is no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """How a family of judges is asked and read."""

    name: Annotated[str, NO_OPTION] = ""
    form: Annotated[str, NO_OPTION] = ""
    """The text of {form}, for prompts with several forms."""
    about: str
    """The family, in a line."""
    families: tuple[str, ...] = ()
    """Public judges that are asked so."""
    source: str
    """Where the texts are from."""
    licence: str = ""
    """Of the texts."""
    verified: str = ""
    """What was compared with what."""
    asks: Asks
    most: Annotated[int, Option(low=2, high=_LARGEST_LIST)] = 8
    """Most replies of a question, of a pack that asks for a list."""
    shows: Mapping[str, str | None] = field(default_factory=dict)
    """What else the judge is shown -> the text for items that do not have it; null: each item needs it."""
    messages: tuple[Message, ...] = ()
    """Empty where the licence of the texts does not let them be repeated: see `source`."""
    each: str = ""
    """How each reply of a list is written."""
    between: str = "\n"
    """Between them."""
    answer: Answer
    thinking: tuple[str, ...] = ("think",)
    """Tags that hold thinking, which is not read."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """JSON schema that the server is asked to keep to; empty for none."""
    sampling: Sampling = field(default_factory=Sampling)
    cases: tuple[Case, ...] = ()
    """Recorded answers of the real format."""

    @property
    def identity(self) -> str:
        """Name, and a hash of what is asked and how it is read."""
        told = ("name", "about", "families", "source", "licence", "verified", "cases", "sampling")
        parts = {key: value for key, value in changed_from_default(self).items() if key not in told}
        return f"{self.name}:{digest(_plain(parts), 16)}"

    def fill(self, texts: Mapping[str, str], turns: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """Return the messages of a question.

        Args:
            texts: Placeholder -> text.
            turns: The conversation's own turns, for a message of the role `turns`.
        """
        found = []
        for message in self.messages:
            if message.role == TURNS:
                found += [dict(turn) for turn in turns]
            elif content := filled(message.text, {**texts, "form": self.form}):
                found.append({"role": message.role, "content": content})
        return found

    def listed(self, replies: Sequence[str]) -> str:
        """Return the text of {responses}."""
        written = (
            filled(self.each, {"response": text, "n": str(k + 1), "letter": ascii_uppercase[k]})
            for k, text in enumerate(replies)
        )
        return self.between.join(written)


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return a template with its placeholders filled in, in one pass."""

    def value(match: re.Match[str]) -> str:
        text = values[match[1]]
        return json.dumps(text, ensure_ascii=False) if match[2] else text

    # A function: what is put in is never read as a template, nor as an escape.
    return _FIELD.sub(value, template)


def placeholders(text: str) -> list[str]:
    """Return the names of the placeholders of a text, in order."""
    return [match[1] for match in _FIELD.finditer(text)]


@cache
def packs() -> Mapping[str, Pack]:
    """Return name -> pack of the package, in the order of the names."""
    found = (path for path in sorted(FOLDER.glob("*.yaml")) if path.stem not in PLAIN)
    return {path.stem: read_pack(path) for path in found}


def pack_named(name: str) -> Pack:
    """Return a pack of the package.

    Raises:
        UnknownNameError: If there is none of this name.
    """
    if name not in packs():
        raise UnknownNameError("judge pack", name, packs(), "-M pack=")
    return packs()[name]


def read_pack(path: Path) -> Pack:
    """Return the pack of a YAML file.

    Raises:
        ConfigError: With file and line, if it is no pack.
        UnknownNameError: If a key or a placeholder is unknown.
    """
    found = parse(Pack, read_yaml(path), str(path), name=path.stem)
    for key, problem in _problems(found):
        raise ConfigError(f"{path}, key {key!r}: {problem}")
    for name in found.shows:
        if name not in SHOWN:
            raise UnknownNameError("part of an item", name, SHOWN, f"{path}, key 'shows'")
    if not found.messages:
        return found
    used = [name for message in found.messages for name in placeholders(message.text)]
    allowed = ("prompt", "mark", *_TEXTS[found.asks], *found.shows)
    for name in used:
        if name not in allowed:
            raise UnknownNameError("placeholder", name, allowed, f"{path}, key 'messages'")
    prompt = () if any(m.role == TURNS for m in found.messages) else ("prompt",)
    for name in (*prompt, *_TEXTS[found.asks], *found.shows):
        if name not in used:
            raise DataError(f"the prompt lacks the placeholder {{{name}}}", path=path, key="messages")
    return found


def _problems(pack: Pack) -> list[tuple[str, str]]:
    """Return (key, problem) of what contradicts itself."""
    answer, found = pack.answer, []
    if answer.problem:
        found.append(("answer", answer.problem))
    if (answer.best or bool(pack.each)) and pack.asks != "list":
        found.append(("asks", "'each' and 'best' go with a list of replies"))
    if pack.asks == "list":
        if "response" not in placeholders(pack.each):
            found.append(("each", "expected the text of each reply, with {response}"))
        if unknown := set(placeholders(pack.each)) - {"response", "n", "letter"}:
            found.append(("each", f"unknown placeholder {min(unknown)!r}; known: letter, n, response"))
        if answer.values or answer.tokens:
            found.append(("answer", "a list needs 'scale' or 'best'"))
    if pack.asks == "pair":
        bad = [v for v in [*answer.values.values(), *answer.tokens.values()] if not 0 <= v <= 1]
        if bad or answer.log_odds:
            found.append(("answer", "the value of a pair is P(first is better), from 0 to 1"))
    for k, case in enumerate(pack.cases, 1):
        if (case.reads is None) != (case.why in REASONS):
            found.append(("cases", f"entry {k}: expected 'reads', or 'why' of {', '.join(REASONS)}"))
    return found


def _plain(value: Any) -> Any:
    """Return a value of JSON: dataclasses as mappings."""
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return _plain(changed_from_default(value)) if is_dataclass(value) else value
