"""Prompts with several forms: those of modes `verdict`, `logprob` and `rating`, and a user's own like them.

One prompt has up to three forms, by what the server can do and the mode: a JSON object, a last line such as
`[[A]]`, or one letter. Each form is a pack.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rmbench.core.files import digest
from rmbench.core.schema import parse
from rmbench.core.yaml import read_yaml
from rmbench.errors import DataError, UnknownNameError
from rmbench.models.judge.answer import Answer, Asks
from rmbench.models.judge.pack import FOLDER, Message, Pack, placeholders

Form: TypeAlias = Literal["json", "line", "letter"]
"""How to answer: a JSON object, a last line such as `[[A]]`, one letter."""
Kind: TypeAlias = Literal["pairwise", "rating"]

_TEXTS = {"pairwise": ("prompt", "first", "second"), "rating": ("prompt", "response")}
_ASKS: Mapping[Kind, Asks] = {"pairwise": "pair", "rating": "response"}
_MARK = r"\[\[([^\[\]]*)\]\]"
VERDICT = Answer(json=("verdict",), match=_MARK, values={"A": 1.0, "B": 0.0, "C": 0.5})
RATING = Answer(json=("rating",), match=_MARK, scale=(1, 10))
LETTER = Answer(tokens={"A": 1.0, "B": 0.0})
_SCHEMAS: Mapping[Kind, Mapping[str, Any]] = {
    "pairwise": {"type": "string", "enum": ["A", "B", "C"]},
    "rating": {"type": "integer", "enum": list(range(1, 11))},  # not every server knows minimum and maximum
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A judge's prompt: texts with `{prompt}`, `{form}`, and `{first}` and `{second}`, or `{response}`."""

    system: str = ""
    """The system message; none is sent if it is empty."""
    user: str
    """The user message. `{mark}` is a hash of the texts, so that no text can hold the tag that ends it."""
    json: str | None = None
    """The text of `{form}` that asks for a JSON object."""
    line: str | None = None
    """The text of `{form}` that asks for a last line such as `[[A]]`."""
    letter: str | None = None
    """The text of `{form}` that asks for one letter; not in a prompt that asks for a rating."""

    @property
    def forms(self) -> dict[str, str]:
        """The text of `{form}`, by form; only those that the file has."""
        said = {"json": self.json, "line": self.line, "letter": self.letter}
        return {form: text for form, text in said.items() if text is not None}

    @property
    def sha256(self) -> str:
        """Return the hash of all that a judge may read; comments and layout of the file do not matter."""
        return digest([self.system, self.user, dict(self.forms)])

    def pack(self, kind: Kind, form: Form) -> Pack:
        """Return one form as a pack."""
        answer = LETTER if form == "letter" else VERDICT if kind == "pairwise" else RATING
        return Pack(
            name=kind,
            form=self.forms[form],
            about="a prompt with several forms",
            source="rmbench",
            asks=_ASKS[kind],
            messages=(Message(role="system", text=self.system), Message(role="user", text=self.user)),
            answer=answer,
            schema=_schema(kind, answer.json[0]) if form == "json" else {},
        )


def _schema(kind: Kind, key: str) -> dict[str, Any]:
    properties = {"reasoning": {"type": "string"}, key: dict(_SCHEMAS[kind])}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def read_template(path: Path | None, kind: Kind) -> Template:
    """Return the prompt in a file; without one that of the package.

    Raises:
        ConfigError: If the file cannot be read, or a key or a placeholder is missing or is no text.
        UnknownNameError: If a key or a placeholder is unknown.
    """
    path = path or FOLDER / f"{kind}.yaml"
    without = {"letter": None} if kind == "rating" else {}
    found = parse(Template, read_yaml(path), str(path), **without)
    known = (*_TEXTS[kind], "mark", "form")
    used = set(placeholders(found.system + found.user))
    for name in sorted(used - set(known)):
        raise UnknownNameError("placeholder", name, known, str(path))
    for name in (*_TEXTS[kind], "form"):
        if name not in used:
            raise DataError(f"the prompt lacks the placeholder {{{name}}}", path=path, key="user")
    return replace(found, system=found.system.strip("\n"), user=found.user.strip("\n"))
