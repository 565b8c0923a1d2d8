"""Chooses the recipe of a checkpoint: by its evidence, or as the user says.

The recipe with the most evidence applies. Two with as much as each other are refused.
"""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.models.hf.recipes.recipe import (
    HEADS,
    READ_AT,
    TOKENS,
    Head,
    Match,
    Recipe,
    Seen,
    Turns,
    named_classes,
    read_recipe,
    recipes,
)
from rmbench.models.hf.recipes.steps import Steps

OPTIONS = "options"
"""Name of a recipe that the user's options make where none fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the user says of a recipe; None and `auto` leave it to the checkpoint."""

    recipe: str = "auto"
    read_at: str | None = None
    append_eos: bool | None = None
    strip_newline: bool | None = None
    system: str | None = None
    head: str | None = None
    format: str | None = None
    step_token: str | None = None
    """Text between two steps."""
    insert: str | None = None
    """The mark that is written after each step, as tokens of its own."""

    @property
    def is_auto(self) -> bool:
        """Whether the head is left to the checkpoint."""
        return self.recipe == "auto" and self.head is None

    @property
    def changes(self) -> dict[str, Any]:
        """The options that are given, without `recipe`."""
        given = asdict(self)
        return {name: value for name, value in given.items() if name != "recipe" and value is not None}

    @property
    def told(self) -> str:
        """The options that are given, as they are typed."""
        given = {name: {True: "yes", False: "no"}.get(value, value) for name, value in self.changes.items()}
        return ", ".join(f"-M {name}={value}" for name, value in given.items()).replace("\n", "\\n")

    @property
    def given(self) -> str:
        """All options that are given, `recipe` too, as they are typed; empty for none."""
        recipe = f"-M recipe={self.recipe}" if self.recipe != "auto" else ""
        return ", ".join(filter(None, (recipe, self.told)))

    def check_template(self, chat_template: str) -> None:
        """Refuse a format beside a template that would be written in its place.

        Raises:
            ConfigError: If both are given and say different things.
        """
        is_file = chat_template not in ("auto", "plain", "pair")
        if self.format is None or chat_template == "auto" or (self.format == "template" and is_file):
            return
        raise ConfigError(
            f"options 'format' ({self.format}) and 'chat_template' ({chat_template}) both say how the text is"
            " written; leave one out"
        )


def choose_recipe(
    asked: Asked, see: Callable[[], Seen], *, rates_steps: bool = False
) -> tuple[Recipe | None, str]:
    """Return the recipe of a checkpoint and the reason for it; None where the plain classifier is read.

    Args:
        asked: The user's options.
        see: Looks at the checkpoint.
        rates_steps: Whether it is for `process:`, which reads recipes for steps, and those alone.

    Raises:
        ConfigError: If the recipe is not known, several fit, it is of the other kind, or an option fits none.
    """
    if asked.recipe == "none":
        if asked.head is not None:
            raise ConfigError(
                f"option 'recipe' is 'none', which reads the classifier's own head, and option 'head' is"
                f" {asked.head!r}; leave one out"
            )
        found, why = None, "recipe=none"
    elif asked.recipe != "auto":
        found, why = _named(asked.recipe), "-M recipe="
        if asked.head is not None and found.head is not None and found.head.layers:
            raise ConfigError(
                f"option 'recipe' is {asked.recipe!r}, which reads {', '.join(found.head.layers)}, and option"
                f" 'head' is {asked.head!r}; leave one out"
            )
    else:
        found, why = _matching(see(), rates_steps)
        if not rates_steps and found is not None and not found.steps and (steps := see().step_classes):
            raise ConfigError(
                f"{see().where}: {steps[0]} rates steps, which hf: does not read; write a small adapter"
                f" (file.py:Class), or pass -M recipe={found.name} to read its head at one token alone"
            )
    if found is not None and (found.steps is not None) != rates_steps:
        raise ConfigError(_of_other_kind(found, see()))
    if found is not None and found.refuse:
        seen = see()
        if refused := [key for key in found.refuse if getattr(seen.config, key, None)]:
            raise ConfigError(
                f"{seen.where}: its config has {refused[0]}={getattr(seen.config, refused[0])!r}, which the"
                f" recipe {found.name} does not do; write a small adapter (file.py:Class)"
            )
    if not asked.changes or (found is None and set(asked.changes) == {"step_token"}):
        return found, why
    return _changed(found, asked, rates_steps), ", ".join(filter(None, (why, asked.told)))


def _of_other_kind(found: Recipe, seen: Seen) -> str:
    if found.steps is not None:
        what = [*seen.step_classes, f"the recipe {found.name}"][0]
        return f"{seen.where}: {what} rates steps, which hf: does not read; load it with process:{seen.where}"
    of_steps = ", ".join(each.name for each in recipes().values() if each.steps is not None)
    return (
        f"{seen.where}: the recipe {found.name} gives one reward of a whole reply, which process: does not"
        f" read; load it with hf:{seen.where}, or pass -M recipe= with one for steps ({of_steps})"
    )


def fitting(seen: Seen) -> list[Recipe]:
    """Return the recipes whose tensors are in the files, whatever else they ask for."""
    return [
        recipe
        for recipe in recipes().values()
        if recipe.match.tensors and all(seen.name(name) in seen.tensors for name in recipe.match.tensors)
    ]


def _named(text: str) -> Recipe:
    if text in recipes():
        return recipes()[text]
    path = Path(text).expanduser()
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return read_recipe(path)
    raise UnknownNameError("recipe", text, ["auto", "none", *recipes()], "option 'recipe' (or a YAML file)")


def _matching(seen: Seen, rates_steps: bool) -> tuple[Recipe | None, str]:
    found = [recipe for recipe in recipes().values() if recipe.match.fits(seen)]
    if rates_steps:
        found = [recipe for recipe in found if recipe.steps is not None]
    if not found:
        return None, ""
    most = max(recipe.match.size for recipe in found)
    best = [recipe for recipe in found if recipe.match.size == most]
    if len(best) > 1:
        named = ", ".join(recipe.name for recipe in best)
        raise ConfigError(f"{seen.where}: several recipes fit: {named}; choose one with -M recipe=NAME")
    return best[0], _evidence(best[0].match, seen)


def _evidence(match: Match, seen: Seen) -> str:
    """Return what spoke for a recipe."""
    parts = [seen.name(name) for name in match.tensors]
    parts += named_classes(match, seen)[:1]
    parts += [f"{key}={getattr(seen.config, key, None)}" for key in match.config]
    parts += [*match.special, *(f"tag {tag} of its card" for tag in match.tags)]
    return ", ".join([*parts, *["padding is EOS"] * match.pad_is_eos])


def _changed(found: Recipe | None, asked: Asked, rates_steps: bool) -> Recipe:
    """Return a recipe with the user's options in place of its own."""
    changes = asked.changes
    if rates_steps:
        changes["steps"] = _changed_steps(None if found is None else found.steps, changes)
    if "head" in changes:
        if re.fullmatch(TOKENS, changes["head"]) is None:
            raise ConfigError(f"option 'head' is {changes['head']!r}; expected {HEADS}")
        changes |= {"head": Head(tokens=changes["head"]), "about": f"the logit {changes['head']}"}
    if "read_at" in changes and re.fullmatch(READ_AT, changes["read_at"]) is None:
        raise ConfigError(
            f"option 'read_at' is {changes['read_at']!r}; expected last, last_eos, before_eos or"
            " appended:TOKEN"
        )
    if "format" in changes:
        changes["text"] = _format(changes.pop("format"))
    kind = "a token classifier" if rates_steps else "a sequence classifier"
    plain = Recipe(name=OPTIONS, about=kind)
    return replace(found or plain, **changes)


def _changed_steps(found: Steps | None, changes: dict[str, Any]) -> Steps:
    """Take the options of steps out of `changes`; return the steps with them in place of the recipe's."""
    split, mark = changes.pop("step_token", None), changes.pop("insert", None)
    if found is None and mark is None:
        raise ConfigError(
            f"option {next(iter(changes))!r} needs a recipe for steps (-M recipe=), or -M insert=TEXT, which"
            " is written after each step and read there"
        )
    steps = found or Steps(mark=mark)
    if mark is not None:
        steps = replace(steps, mark=mark, written="tokens", between="", one_token=False)
    return steps if split is None else replace(steps, split=split)


def _format(name: str) -> Turns | None:
    known = {each: recipe.text for each, recipe in recipes().items() if recipe.text is not None}
    if name == "template":
        return None
    if name not in known:
        raise UnknownNameError("format", name, ["template", *known], "option 'format'")
    return known[name]
