"""Recipes of models that compare two replies: the text of a question, and where the answer is read.

A recipe is a YAML file, of the package (`rmbench/_data/pairs`) or of the user's, and applies by the same
evidence as those of reward heads (`rmbench.models.hf.recipes.recipe`).

question   A language model answers with a letter: P(A) against P(B) of the next token.
marks      An encoder has a token before the prompt and before each reply, and a head on their states.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from rmbench.core.files import digest
from rmbench.core.options import NO_OPTION, Option
from rmbench.core.schema import parse
from rmbench.core.yaml import PACKAGE, read_yaml
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.models.hf.recipes.recipe import Match, Seen
from rmbench.models.hf.recipes.tensors import head_tensors, told

FOLDER = PACKAGE / "_data" / "pairs"
PLACEHOLDERS = ("prompt", "first", "second")
Length = Annotated[int, Option(low=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """How a prompt is written inside a question, turn by turn; {text} is what was said."""

    begin: str = ""
    user: str
    assistant: str
    end: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A text that a language model answers with a letter."""

    text: str
    """With {prompt}, {first} and {second}, each once and in this order."""
    turns: Turns | None = None
    """None: a prompt of one user turn is its text, any other a plain transcript."""
    chat: bool = False
    """The text is one user turn of the chat template, without BOS; else the tokenizer's special tokens."""
    one_line: bool = False
    """Line breaks of prompt and replies become spaces."""
    letters: tuple[str, str] = ("A", "B")
    """The answers: the first reply is better, the second is."""
    cut: Literal["begin", "end"] = "begin"
    """The side of a long prompt that goes; a reply loses its end, when no prompt is left."""
    max_length: Length | None = None
    """Most tokens of a question, where the family says so; None: as many as the model takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Tokens before the prompt and before each reply, at whose states a head reads."""

    prompt: str
    first: str
    second: str
    added: tuple[str, ...] = ()
    """Tokens that are added to a tokenizer without them, in this order."""
    prompt_length: Length
    """Most tokens of the prompt, with mark and special tokens."""
    reply_length: Length
    """Most tokens of a reply after a prompt of that length; a shorter prompt leaves more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRecipe:
    """How a family of models that compare two replies is read."""

    name: Annotated[str, NO_OPTION] = ""
    about: str
    """The family, in a line."""
    families: tuple[str, ...] = ()
    """Public models that have this layout."""
    verified: str = ""
    """What was compared: `replica`."""
    remark: str = ""
    """What a user of a model of this layout has to know, said with every run."""
    match: Match = field(default_factory=Match)
    question: Question | None = None
    marks: Marks | None = None

    @property
    def identity(self) -> str:
        """Name, and a hash of whatever can change a preference."""
        apart = ("name", "about", "families", "verified", "remark", "match")
        return f"{self.name}:{digest({k: v for k, v in asdict(self).items() if k not in apart}, 16)}"


@cache
def pair_recipes() -> Mapping[str, PairRecipe]:
    """Return name -> recipe of the package, in the order of the names."""
    return {path.stem: read_pair_recipe(path) for path in sorted(FOLDER.glob("*.yaml"))}


def read_pair_recipe(path: Path) -> PairRecipe:
    """Return the recipe of a YAML file.

    Raises:
        ConfigError: With file and line, if it is no recipe of a model of pairs.
    """
    found = parse(PairRecipe, read_yaml(path), str(path), name=path.stem)
    if (found.question is None) == (found.marks is None):
        raise ConfigError(f"{path}: expected 'question' or 'marks', one of the two")
    if (question := found.question) is not None:
        asked = tuple(re.findall(r"\{(\w+)\}", question.text))
        if asked != PLACEHOLDERS:
            raise ConfigError(
                f"{path}, key 'question': the placeholders of 'text' are {', '.join(asked) or 'none'};"
                " expected {prompt}, {first} and {second}, each once and in this order"
            )
        if question.turns and any("{text}" not in t for t in (question.turns.user, question.turns.assistant)):
            raise ConfigError(f"{path}, key 'question': 'user' and 'assistant' of 'turns' need {{text}}")
    return found


def choose_pair_recipe(asked: str, seen: Seen) -> tuple[PairRecipe, str]:
    """Return the recipe of a checkpoint, and the reason for it.

    Args:
        asked: `auto`, a name, or the path of a YAML file.
        seen: The evidence.

    Raises:
        ConfigError: If none fits, or it is not known.
    """
    if asked != "auto":
        return _named(asked), "-M recipe="
    found = [recipe for recipe in pair_recipes().values() if recipe.match.fits(seen)]
    if not found:
        heads = head_tensors(seen.tensors)
        has = f"its files have {told(seen.tensors, heads)}" if heads else "its files have no head"
        named = ", ".join(seen.architectures) or "no class"
        raise ConfigError(
            f"{seen.where}: no recipe for models that compare two replies fits: its config names {named}, and"
            f" {has}; pass -M recipe=NAME ({', '.join(pair_recipes())}) or a YAML file, or, if it scores one"
            " reply, hf:"
        )
    best = max(found, key=lambda recipe: recipe.match.size)
    classes = [name for name in seen.architectures if name in best.match.architectures][:1]
    return best, ", ".join([*best.match.tensors, *classes])


def _named(text: str) -> PairRecipe:
    if text in pair_recipes():
        return pair_recipes()[text]
    path = Path(text).expanduser()
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return read_pair_recipe(path)
    raise UnknownNameError("recipe", text, ["auto", *pair_recipes()], "option 'recipe' (or a YAML file)")
