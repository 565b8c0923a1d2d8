"""Reward models: the registry of names, and the schemes that load the rest.

Importing this package imports no machine-learning library: built-in names are lazy targets, and so are the
functions of schemes whose modules need one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from rmbench.core.registry import Declared, Registry, imported
from rmbench.errors import ConfigError

Factory = TypeVar("Factory", bound=Callable[..., Any])

MODELS: Registry[Callable[..., Any]] = Registry("reward model", group="rmbench.models")
"""Names that `--model NAME` knows: classes, or functions that return a model."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Scheme(Declared):
    """A prefix of `--model SCHEME:ARGUMENT`. Made by `register_scheme`.

    `run(argument, **options)` returns the model; with a parameter `runtime` it is given the run's.
    """

    name: str
    rule: str
    """Its part of the rules of `--model`, such as `scores:FILE (rewards computed elsewhere)`."""
    patterns: Mapping[str, str]
    """Rows of `rmbench models`: the way to write it, and a summary."""
    kind: Literal["reward", "pairwise", "precomputed", "pattern"] = "reward"

    def __call__(self, argument: str, **options: Any) -> Any:
        """Return the model."""
        return self.load(argument, **options)

    @property
    def load(self) -> Callable[..., Any]:
        """The function that makes the model.

        Raises:
            ConfigError: If its module cannot be imported.
        """
        what = f"model scheme {self.name!r}"
        return imported(self.run, what) if isinstance(self.run, str) else self.run  # type: ignore[no-any-return]


def _adopted(name: str, thing: Any) -> Scheme:
    if not isinstance(thing, Scheme):
        raise ConfigError(
            f"model scheme {name!r} is {type(thing).__name__}; expected what @register_scheme makes"
        )
    return thing


SCHEMES: Registry[Scheme] = Registry(
    "model scheme", group="rmbench.schemes", homes=("rmbench.models",), adopt=_adopted
)


def register_scheme(
    name: str,
    *,
    rule: str,
    patterns: Mapping[str, str],
    kind: Literal["reward", "pairwise", "precomputed", "pattern"] = "reward",
) -> Callable[[Callable[..., Any] | str], Scheme]:
    """Register a function as `--model NAME:ARGUMENT`, or `module:function`, which is imported at first use.

    In a package, an entry point in the group `rmbench.schemes` makes it known everywhere. See `Scheme` for
    the arguments.
    """

    def decorate(load: Callable[..., Any] | str) -> Scheme:
        return SCHEMES.register(name)(Scheme(run=load, name=name, rule=rule, patterns=patterns, kind=kind))

    return decorate


def register_reward_model(name: str) -> Callable[[Factory], Factory]:
    """Return a decorator that makes a class or factory function available as `--model name`.

    Raises:
        ConfigError: If somebody else has taken the name; the message names both.
    """

    def decorate(thing: Factory) -> Factory:
        MODELS.register(name)(thing)
        return thing

    return decorate


for _name, _class in {
    "constant": "Constant",
    "length": "Length",
    "markdown": "Markdown",
    "random": "Random",
    "shortest": "Shortest",
}.items():
    MODELS.register_lazily(_name, f"rmbench.models.baselines:{_class}")
