"""Recipes: where a reward model's head is, where it is read, how the text is written, what the number means.

A recipe is a YAML file, of the package (`rmbench/_data/recipes`) or of the user's. It applies to checkpoints
that show its evidence: names of tensors, classes and keys of the config, special tokens; never a hub name.
Nothing in it is code.

Which one applies is chosen in `rmbench.models.hf.recipes.choose`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

from rmbench.core.files import digest
from rmbench.core.options import NO_OPTION, Option, Texts, changed_from_default
from rmbench.core.schema import parse
from rmbench.core.yaml import PACKAGE, read_yaml
from rmbench.errors import ConfigError
from rmbench.models.hf.identity import Pin
from rmbench.models.hf.recipes.steps import Steps
from rmbench.models.hf.recipes.tensors import Tensors, card_tags, tensors_of
from rmbench.models.runtime import Runtime
from rmbench.types import Turn

_KEY = re.compile(r"\{(\w+)(?:\|(\w+))?\}")
FOLDER = PACKAGE / "_data" / "recipes"
Activation = Literal["relu", "gelu", "silu", "tanh", "selu", "leaky_relu"]
Pool = Literal["mean", "first", "expected"]
READ_AT = r"last|last_eos|before_eos|appended:.+"
TOKENS = r"token:\d+(-\d+)?|text:[^,]+(,[^,]+)?"
HEADS = "token:ID or token:ID-ID, ids of the vocabulary, or text:GOOD,BAD"
ReadAt = Annotated[str, Option(pattern=READ_AT, expected="last, last_eos, before_eos, or appended:TOKEN")]
TokenHead = Annotated[str, Option(pattern=TOKENS, expected=HEADS)]


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
            and (not self.architectures or bool(named_classes(self, seen)))
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
        parts = {key: value for key, value in changed_from_default(self).items() if key not in told}
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
        """Return the name of a tensor, with values of the config for {key} or {key|otherwise}.

        It is empty if the config lacks one that has no `otherwise`.
        """
        found = [(m, getattr(self.config, m[1], None) or m[2]) for m in _KEY.finditer(text)]
        if any(value is None for _, value in found):
            return ""
        for match, value in found:
            text = text.replace(match[0], str(value))
        return text


def look_at(pin: Pin, runtime: Runtime, config: Any, tokenizer: Any) -> Seen:
    """Return the evidence of a checkpoint; its weights are not loaded.

    Raises:
        ConfigError: If a file of its weights is no safetensors file.
    """
    tensors = tensors_of(pin, runtime)
    return Seen(pin.checkpoint.location, config, tensors, tokenizer, partial(card_tags, pin, runtime))


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
    if found.head is not None and (problem := _problem_of_head(found.head)):
        raise ConfigError(f"{path}, key 'head': {problem}")
    if found.text is not None and (problem := _problem_of_text(found.text)):
        raise ConfigError(f"{path}, key 'text': {problem}")
    if found.before_eos and not found.append_eos:
        raise ConfigError(f"{path}, key 'before_eos': nothing is written without 'append_eos: true'")
    if unknown := set(found.normalize) - {"mean", "std", "if"}:
        raise ConfigError(f"{path}, key 'normalize': {min(unknown)!r}; expected mean, std and if")
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


def _problem_of_head(head: Head) -> str:
    """Return what of a head contradicts itself or would have no effect; empty if nothing does."""
    if bool(head.layers) == bool(head.tokens):
        return "expected 'layers' or 'tokens', one of the two"
    if head.tokens and (head.activation or head.per != "1" or head.pool != "mean"):
        return "'activation', 'per' and 'pool' go with 'layers', not with 'tokens'"
    if head.pool != "mean" and head.per == "1":
        return "'pool' needs 'per', how many outputs make one number"
    if head.gate is not None and not head.gate.softmax and head.gate.temperature != "1":
        return "'temperature' of 'gate' divides before the softmax, and 'softmax' is false"
    return ""


def _problem_of_text(text: Turns) -> str:
    """Return which text of a turn has not what it needs; empty if all are right."""
    wanted = {"user": True, "assistant": True, "system": bool(text.system), "begin": False, "between": False}
    for key, needs_text in wanted.items():
        written = getattr(text, key)
        if written.count("{text}") != needs_text:
            return f"{key!r} has {{text}} {written.count('{text}')} times; expected {int(needs_text)}"
        other = "{eos}" if key == "begin" else "{bos}"
        if other in written:
            return f"{key!r} has {other}, which stands for nothing there; {{bos}} goes into 'begin' alone"
    return ""


def named_classes(match: Match, seen: Seen) -> list[str]:
    """Return the classes that a config names, of those that are evidence."""
    return [name for name in seen.architectures if any(fnmatchcase(name, p) for p in match.architectures)]


def _fits(wanted: Sequence[int], shape: Sequence[int]) -> bool:
    return len(wanted) == len(shape) and all(w in (0, n) for w, n in zip(wanted, shape, strict=True))


def _has(config: Any, key: str, wanted: str) -> bool:
    value = getattr(config, key, None)
    if wanted == "*":
        return bool(value)
    return str(value).lower() in wanted.lower().split("|")
