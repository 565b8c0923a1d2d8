"""Recipes: where a reward model's head is, where it is read, how the text is written, what the number means.

A recipe is a YAML file, of the package (`rmbench/_data/recipes`) or of the user's. It applies to checkpoints
that show its evidence: names of tensors, classes and keys of the config, special tokens; never a hub name.
Nothing in it is code.

The recipe with the most evidence applies. Two with as much as each other are refused.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

from rmbench.core.files import digest
from rmbench.core.options import NO_OPTION, Option, Texts
from rmbench.core.schema import parse
from rmbench.core.yaml import PACKAGE, read_yaml
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.models.hf.identity import Pin
from rmbench.models.hf.recipes.steps import Steps
from rmbench.models.hf.recipes.tensors import Tensors, card_tags, tensors_of
from rmbench.models.runtime import Runtime
from rmbench.types import Turn

FOLDER = PACKAGE / "_data" / "recipes"
Activation = Literal["relu", "gelu", "silu", "tanh", "selu", "leaky_relu"]
Pool = Literal["mean", "first", "expected"]
_READ_AT = r"last|last_eos|before_eos|appended:.+"
_TOKENS = r"token:\d+(-\d+)?|text:[^,]+(,[^,]+)?"
_HEADS = "token:ID or token:ID-ID, ids of the vocabulary, or text:GOOD,BAD"
ReadAt = Annotated[str, Option(pattern=_READ_AT, expected="last, last_eos, before_eos, or appended:TOKEN")]
TokenHead = Annotated[str, Option(pattern=_TOKENS, expected=_HEADS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Evidence that a checkpoint has to show; none: the recipe applies only where `-M recipe=` names it."""

    tensors: tuple[str, ...] = ()
    """Tensors that the files have, all of them; {key} stands for a value of the config."""
    without: tuple[str, ...] = ()
    """Tensors that the files do not have."""
    shape: tuple[int, ...] = ()
    """Shape of the first of `tensors`; 0 fits any number."""
    architectures: tuple[str, ...] = ()
    """Classes of which the config names one; `*` is any text."""
    config: Texts = field(default_factory=dict)
    """Values of the config; `*` is any but false or none. `a|b` is one of two."""
    special: tuple[str, ...] = ()
    """Special tokens that the tokenizer has, such as cls_token."""
    tags: tuple[str, ...] = ()
    """Tags of the model card (README.md), all of them."""
    pad_is_eos: bool = False
    """The config's padding token is the tokenizer's EOS."""

    @property
    def size(self) -> int:
        """How much evidence that is."""
        parts = self.tensors, self.without, self.shape, self.architectures[:1], self.config, self.special
        return sum(map(len, parts)) + len(self.tags) + self.pad_is_eos

    @property
    def told(self) -> str:
        """The evidence in words."""
        parts = [*self.tensors, *(f"no {name}" for name in self.without), *self.architectures]
        parts += [f"{key}={value}" for key, value in self.config.items()]
        parts += [*self.special, *(f"tag {tag}" for tag in self.tags), *["pad == eos"] * self.pad_is_eos]
        return ", ".join(parts) or "-M recipe= alone"

    def fits(self, seen: "Seen") -> bool:
        """Say whether a checkpoint shows all of it."""
        names = [seen.name(name) for name in self.tensors]
        shapes = [seen.tensors[name].shape for name in names if name in seen.tensors]
        return (
            self.size > 0
            and len(shapes) == len(names)
            and not any(seen.name(name) in seen.tensors for name in self.without)
            and (not self.shape or _fits(self.shape, shapes[0]))
            and (not self.architectures or bool(_named_classes(self, seen)))
            and all(_has(seen.config, key, value) for key, value in self.config.items())
            and all(getattr(seen.tokenizer, name, None) is not None for name in self.special)
            and (not self.pad_is_eos or seen.pad_is_eos)
            and (not self.tags or seen.tags() >= set(self.tags))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A network that weighs the numbers of the head, by the hidden state at the end of the prompt."""

    layers: tuple[str, ...]
    """As of `Head`. A batch normalisation among them (NAME.running_mean) follows the activation."""
    activation: Activation = "relu"
    """Between the linear maps."""
    before: str = ""
    """The text at whose last occurrence the gate is read, at its first token. Empty: where the head is."""
    softmax: bool = True
    """Whether the weights are the softmax of the outputs, or the outputs themselves."""
    temperature: Annotated[str, Option(as_text=True)] = "1"
    """What the outputs are divided by before the softmax: a number, a key of the config, or `KEY|NUMBER`, for
    a config without that key."""
    scale: str = ""
    """Tensor (1,) that multiplies the weights."""
    transform: str = ""
    """Tensor (k, k) that the head's k numbers are multiplied by, from the right, where the files have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How hidden states become numbers."""

    layers: tuple[str, ...] = ()
    """Linear maps, first to last: each NAME.weight, and NAME.bias where the files have it. `NAME.*` stands
    for NAME.0, NAME.1 and so on."""
    activation: Activation | None = None
    """Between the linear maps."""
    tokens: TokenHead | None = None
    """Logit of a token of the vocabulary, or the difference of two, in place of `layers`: `token:ID-ID`, or
    `text:+,-`, the last token of each text."""
    per: Annotated[str, Option(as_text=True)] = "1"
    """How many outputs of the last layer make one number, side by side: as `Gate.temperature` is written."""
    pool: Pool = "mean"
    """How they do: their mean; the first; or the expectation of their softmax, a distribution over 0 to 1 in
    equal steps."""
    gate: Gate | None = None
    """Weighs those numbers; without it they are labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """A format: the text of each turn, {text} is what was said."""

    begin: str = ""
    """Before the first turn; {bos} is the tokenizer's BOS."""
    user: str
    assistant: str
    """Of the last turn; of an earlier one with `between` after it."""
    system: str = ""
    """Empty: a system message goes before the first user turn."""
    between: str = ""
    """After a reply that is not the last; {eos} is the tokenizer's EOS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A prompt, replies, and the rewards that a card states: only the model of that card gives them."""

    prompt: str
    replies: tuple[str, ...]
    rewards: tuple[float, ...]
    source: str
    """Where they are stated: `card of org/name`, and how that code differs where it does."""
    system: str | None = None
    """A system message before the prompt."""

    def conversations(self) -> list[list[Turn]]:
        """Return a conversation per reply."""
        asked = [] if self.system is None else [Turn(role="system", content=self.system)]
        asked.append(Turn(role="user", content=self.prompt))
        return [[*asked, Turn(role="assistant", content=reply)] for reply in self.replies]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a family of reward models is read."""

    name: Annotated[str, NO_OPTION] = ""
    about: str
    """The family, in a line."""
    families: tuple[str, ...] = ()
    """Public models that have this layout."""
    verified: str = ""
    """What was compared: `replica`."""
    example: Example | None = None
    """What a card expects; `rmbench check` prints it beside the model's own."""
    match: Match = field(default_factory=Match)
    head: Head | None = None
    """None: the classifier's own `score`."""
    read_at: ReadAt = "last"
    """`last` token; `last_eos`; `before_eos`: the last one that is not EOS; `appended:TOKEN`, a token (or
    cls_token, or {key}, an id in the config) that is written after the text."""
    text: Turns | None = None
    """None: the chat template, or the plain transcript."""
    system: str | None = None
    """A system message for conversations that have none; it may be empty, which
    keeps the default of a template out."""
    strip_newline: bool = False
    """Take line breaks from the end of the text."""
    append_eos: bool = False
    """Write EOS where the text does not end with it."""
    before_eos: str = ""
    """What stands before an EOS that is written so."""
    steps: Steps | None = None
    """The steps of a reply are rated, in place of the whole: `process:` reads it, not `hf:`."""
    normalize: Texts = field(default_factory=dict)
    """`mean` and `std`, keys of the config, and `if`, the key that switches them on: (r - mean) / std."""
    negate: bool = False
    """The head gives a cost."""
    refuse: tuple[str, ...] = ()
    """Keys of the config that mean something which the recipe does not do."""
    body: str = ""
    """What the names of the body's tensors begin with, where that is not what transformers expects."""

    @property
    def identity(self) -> str:
        """Name, and a hash of whatever can change a reward."""
        told = ("name", "about", "families", "verified", "match", "example")
        parts = {key: value for key, value in _changed_from_default(self).items() if key not in told}
        return f"{self.name}:{digest(parts, 16)}"


@dataclass(frozen=True, slots=True)
class Seen:
    """The evidence of a checkpoint."""

    where: str
    config: Any
    tensors: Tensors
    tokenizer: Any
    tags: Callable[[], set[str]] = set
    """Reads the tags of the model card."""

    @property
    def pad_is_eos(self) -> bool:
        """Whether transformers' own forward pass skips the EOS at the end of a text."""
        pad, eos = self.config.get_text_config().pad_token_id, self.tokenizer.eos_token_id
        return pad is not None and pad == eos

    @property
    def architectures(self) -> list[str]:
        """The classes that the config names, for itself and for remote code."""
        remote = getattr(self.config, "auto_map", None) or {}
        named = [str(text).rpartition(".")[2] for text in remote.values() if isinstance(text, str)]
        return [*map(str, getattr(self.config, "architectures", None) or ()), *named]

    @property
    def step_classes(self) -> list[str]:
        """Those of `architectures` that rate the steps of a reply, as process reward models do."""
        return [name for name in self.architectures if re.search(r"Process|Prm|PRM|TokenClass", name)]

    def number(self, text: str, what: str) -> float:
        """Return a number that a recipe writes as itself, as a key of the config, or as `KEY|NUMBER`.

        Raises:
            ConfigError: If the config has no number there.
        """
        key, _, otherwise = text.partition("|")
        value = getattr(self.config, key, None)
        value = (otherwise or key) if value is None else value
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ConfigError(
                f"{self.where}: {what}: {value!r}; expected a number, or a key of the config"
            ) from None

    def name(self, text: str) -> str:
        """Return the name of a tensor, with values of the config for {key}; empty if it lacks one."""
        missing = [key for key in re.findall(r"\{(\w+)\}", text) if not getattr(self.config, key, None)]
        return "" if missing else re.sub(r"\{(\w+)\}", lambda m: str(getattr(self.config, m[1])), text)


def look_at(pin: Pin, runtime: Runtime, config: Any, tokenizer: Any) -> Seen:
    """Return the evidence of a checkpoint; its weights are not loaded.

    Raises:
        ConfigError: If a file of its weights is no safetensors file.
    """
    tensors = tensors_of(pin, runtime)
    return Seen(pin.checkpoint.location, config, tensors, tokenizer, partial(card_tags, pin, runtime))


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


@cache
def recipes() -> Mapping[str, Recipe]:
    """Return name -> recipe of the package, in the order of the names."""
    return {path.stem: read_recipe(path) for path in sorted(FOLDER.glob("*.yaml"))}


def read_recipe(path: Path) -> Recipe:
    """Return the recipe of a YAML file.

    Raises:
        ConfigError: With file and line, if it is no recipe.
    """
    found = parse(Recipe, read_yaml(path), str(path), name=path.stem)
    if found.head is not None and bool(found.head.layers) == bool(found.head.tokens):
        raise ConfigError(f"{path}, key 'head': expected 'layers' or 'tokens', one of the two")
    if found.steps is not None:
        if not found.steps.mark:
            raise ConfigError(f"{path}, key 'steps': 'mark' is empty; expected the text that ends a step")
        not_of_steps = ("read_at", "strip_newline", "append_eos", "before_eos", "normalize", "negate")
        plain = Recipe(about="")
        if other := [key for key in not_of_steps if getattr(found, key) != getattr(plain, key)]:
            raise ConfigError(f"{path}, key {other[0]!r}: it does not go with 'steps'; leave it out")
    if found.example is not None and len(found.example.replies) != len(found.example.rewards):
        raise ConfigError(f"{path}, key 'example': expected a reward per reply")
    return found


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
        found, why = None, "recipe=none"
    elif asked.recipe != "auto":
        found, why = _named(asked.recipe), "-M recipe="
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
    return _changed(found, asked, rates_steps), why or "options"


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


def _named_classes(match: Match, seen: Seen) -> list[str]:
    return [name for name in seen.architectures if any(fnmatchcase(name, p) for p in match.architectures)]


def _evidence(match: Match, seen: Seen) -> str:
    """Return what spoke for a recipe."""
    parts = [seen.name(name) for name in match.tensors]
    parts += _named_classes(match, seen)[:1]
    parts += [f"{key}={getattr(seen.config, key, None)}" for key in match.config]
    parts += [*match.special, *(f"tag {tag} of its card" for tag in match.tags)]
    return ", ".join([*parts, *["padding is EOS"] * match.pad_is_eos])


def _changed(found: Recipe | None, asked: Asked, rates_steps: bool) -> Recipe:
    """Return a recipe with the user's options in place of its own."""
    changes = asked.changes
    if rates_steps:
        changes["steps"] = _changed_steps(None if found is None else found.steps, changes)
    if "head" in changes:
        if re.fullmatch(_TOKENS, changes["head"]) is None:
            raise ConfigError(f"option 'head' is {changes['head']!r}; expected {_HEADS}")
        changes["head"] = Head(tokens=changes["head"])
    if "read_at" in changes and re.fullmatch(_READ_AT, changes["read_at"]) is None:
        raise ConfigError(
            f"option 'read_at' is {changes['read_at']!r}; expected last, last_eos, before_eos or"
            " appended:TOKEN"
        )
    if "format" in changes:
        changes["text"] = _format(changes.pop("format"))
    kind = "a token classifier" if rates_steps else "a sequence classifier"
    plain = Recipe(name="options", about=f"{kind}, read by options")
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


def _changed_from_default(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults: a new field changes no identity."""
    found = {}
    for each in fields(value):
        own = getattr(value, each.name)
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        if own != default:
            found[each.name] = _changed_from_default(own) if is_dataclass(own) else own
    return found


def _fits(wanted: Sequence[int], shape: Sequence[int]) -> bool:
    return len(wanted) == len(shape) and all(w in (0, n) for w, n in zip(wanted, shape, strict=True))


def _has(config: Any, key: str, wanted: str) -> bool:
    value = getattr(config, key, None)
    if wanted == "*":
        return bool(value)
    return str(value).lower() in wanted.lower().split("|")
