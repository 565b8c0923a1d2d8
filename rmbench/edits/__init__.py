"""Edits of replies with a known effect: seeded, and without a language model. And their registry.

An edit takes a reply and returns the same reply changed in one way: longer without saying more, with
Markdown, with a claim of authority, with an injected verdict. `rmbench check --bias` compares a reply with
its edited self.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from rmbench.core.registry import Declared, Registry
from rmbench.errors import ConfigError

BIASES = ("length", "markdown", "authority", "verdict")
"""Biases that the package's own edits test, in the order of tables."""
Letter: TypeAlias = Literal["A", "B"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What an edit may read beside the reply."""

    prompt: str
    """Text of the last user turn."""
    random: Random
    """The edit's only source of chance: seeded by the run, the item and the name of the edit."""
    letter: Letter | None = None
    """Letter of the reply in a question about two replies: A if it is shown first. None: it is read alone."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Edit(Declared):
    """An edit: `run(text, setting)` returns the edited text. Made by `register_edit`.

    It returns the text as it was where it cannot be applied. Such a reply is counted, and never measured.
    """

    name: str
    bias: str
    """The bias that it tests: one of `BIASES`, or one of your own."""
    placed: bool = False
    """True if the edited text depends on the letter of the reply."""

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (self.__doc__ or "").strip().partition("\n")[0]

    def apply(self, text: str, prompt: str, *, seed: str = "", letter: Letter | None = None) -> str | None:
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


def find_edits(names: Sequence[str] = ()) -> list[Edit]:
    """Return edits by name, or all that are registered; those of one bias stand together.

    Args:
        names: Registered names, or `FILE.py:NAME`; a bias stands for all edits that test it. Empty: all.

    Raises:
        UnknownNameError: If a name is unknown.
        ConfigError: If a file or another package's edit cannot be imported.
    """
    known = [EDITS.get(name) for name in EDITS.names()]
    found: dict[str, Edit] = {}
    for name in names or (edit.name for edit in known):
        of_bias = [edit for edit in known if edit.bias == name]
        found |= {edit.name: edit for edit in of_bias or [EDITS.find(name, "--edit")[0]]}
    order = dict.fromkeys([*BIASES, *(edit.bias for edit in found.values())])
    return [edit for bias in order for edit in found.values() if edit.bias == bias]


def register_edit(
    name: str, *, bias: str, placed: bool = False
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
