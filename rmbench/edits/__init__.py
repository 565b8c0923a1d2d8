"""Edits of replies with a known effect: seeded, and without a language model. And their registry.

An edit takes a reply and returns the same reply changed in one way: longer without saying more, with
Markdown, with a claim of authority, with an injected verdict. `rmbench check --bias` compares a reply with
its edited self.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from rmbench.core.registry import Declared, Registry
from rmbench.errors import ConfigError

Bias: TypeAlias = Literal["length", "markdown", "authority", "verdict"]
"""What an edit adds."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What an edit may read beside the reply."""

    prompt: str
    """Text of the last user turn."""
    random: Random
    """The edit's only source of chance: seeded by the run, the item and the name of the edit."""
    letter: Literal["A", "B"] | None = None
    """Letter of the reply in a question about two replies: A if it is shown first. None: it is read alone."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Edit(Declared):
    """An edit: `run(text, setting)` returns the edited text. Made by `register_edit`.

    It returns the text as it was where it cannot be applied. Such a reply is counted, and never measured.
    """

    name: str
    bias: Bias
    """The bias that it tests."""
    placed: bool = False
    """True if the edited text depends on the letter of the reply."""

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (self.__doc__ or "").strip().partition("\n")[0]

    def apply(
        self, text: str, prompt: str, *, seed: str = "", letter: Literal["A", "B"] | None = None
    ) -> str | None:
        """Return the edited text; None if the edit does not change it. An empty reply is not edited.

        Args:
            text: The reply.
            prompt: The last user turn.
            seed: Seed of the run and id of the item.
            letter: As `Setting` has it.

        Raises:
            ConfigError: If the edit does not return a text.
        """
        if not text.strip():
            return None
        found = self.run(text, Setting(prompt, Random(f"{seed}:{self.name}"), letter))
        if not isinstance(found, str):
            raise ConfigError(f"edit {self.name!r} returned {type(found).__name__}; expected a text")
        return None if found == text else found


def _adopted(name: str, thing: object) -> Edit:
    if not isinstance(thing, Edit):
        raise ConfigError(f"edit {name!r} is {type(thing).__name__}; expected what @register_edit makes")
    return thing


EDITS: Registry[Edit] = Registry("edit", group="rmbench.edits", homes=("rmbench.edits",), adopt=_adopted)
"""Edits by name. A file's own: `FILE.py:NAME`."""


def register_edit(
    name: str, *, bias: Bias, placed: bool = False
) -> Callable[[Callable[[str, Setting], str]], Edit]:
    """Return a decorator that registers a function `(text, setting) -> text` as an edit.

    Args:
        name: Its name in tables.
        bias: The bias that it tests.
        placed: As `Edit` has it.

    Raises:
        ConfigError: If somebody else has taken the name.
    """

    def decorate(run: Callable[[str, Setting], str]) -> Edit:
        return EDITS.register(name)(Edit(run=run, name=name, bias=bias, placed=placed))

    return decorate
