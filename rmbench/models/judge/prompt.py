"""The prompts of LLM judges: templates in YAML, into which texts are put as they are."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypeAlias

from rmbench.core.identity import conversation_key, digest, pair_key
from rmbench.core.schema import parse
from rmbench.core.yaml import read_yaml
from rmbench.errors import DataError, UnknownNameError
from rmbench.types import Conversation, Pair, Turn

Form: TypeAlias = Literal["json", "line", "letter"]
"""How to answer: a JSON object, a last line such as `[[A]]`, one letter."""

Messages: TypeAlias = list[dict[str, str]]

_FOLDER = Path(str(files("rmbench"))) / "_data" / "judges"
_FIELD = re.compile(r"\{([a-z_]+)\}")
_TEXTS = {"pairwise": ("prompt", "first", "second"), "rating": ("prompt", "response")}


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

    def of_pair(self, pair: Pair, form: Form) -> Messages:
        """Return the messages that ask which of two replies is better."""
        mark = pair_key(pair.prompt, pair.first, pair.second)[:12]
        texts = {"prompt": _told(pair.prompt, mark), "first": pair.first, "second": pair.second}
        return self._filled(texts, mark, form)

    def of_reply(self, turns: Conversation, form: Form) -> Messages:
        """Return the messages that ask how good the last turn is."""
        mark = conversation_key(turns)[:12]
        return self._filled({"prompt": _told(turns[:-1], mark), "response": turns[-1]["content"]}, mark, form)

    def _filled(self, texts: Mapping[str, str], mark: str, form: Form) -> Messages:
        values = {**texts, "mark": mark, "form": self.forms[form]}
        found = []
        for role, template in (("system", self.system), ("user", self.user)):
            # One pass with a function: what is put in is never read as a template, nor as an escape.
            content = _FIELD.sub(lambda match: values[match[1]], template)
            if content:
                found.append({"role": role, "content": content})
        return found


def read_template(path: Path | None, kind: Literal["pairwise", "rating"]) -> Template:
    """Return the template in a file; without one that of the package.

    Raises:
        ConfigError: If the file cannot be read, or a key or a placeholder is missing or is no text.
        UnknownNameError: If a key or a placeholder is unknown.
    """
    path = path or _FOLDER / f"{kind}.yaml"
    without = {"letter": None} if kind == "rating" else {}
    found = parse(Template, read_yaml(path), str(path), **without)
    known = (*_TEXTS[kind], "mark", "form")
    used = set(_FIELD.findall(found.system + found.user))
    for name in sorted(used - set(known)):
        raise UnknownNameError("placeholder", name, known, str(path))
    for name in (*_TEXTS[kind], "form"):
        if name not in used:
            raise DataError(f"the prompt lacks the placeholder {{{name}}}", path=path, key="user")
    return replace(found, system=found.system.strip("\n"), user=found.user.strip("\n"))


def _told(prompt: Sequence[Turn], mark: str) -> str:
    """Return a prompt as one text: a question as it is, a longer conversation turn by turn."""
    if len(prompt) == 1 and prompt[0]["role"] == "user":
        return prompt[0]["content"]
    return "\n".join(f"<{t['role']} {mark}>\n{t['content']}\n</{t['role']} {mark}>" for t in prompt)
