"""Reward models: the registry of names, and the schemes that load the rest.

Importing this package imports no machine-learning library: built-in names are lazy targets.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from rmbench.core.registry import Registry

Factory = TypeVar("Factory", bound=Callable[..., Any])

MODELS: Registry[Callable[..., Any]] = Registry("reward model", group="rmbench.models")
"""Names that `--model NAME` knows: classes, or functions that return a model."""

SCHEMES: Registry[Callable[..., Any]] = Registry("model scheme")
"""Prefixes of `--model SCHEME:ARGUMENT`: called with the argument, the typed options and the runtime."""


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

for _name, _target in {
    "builtin": "rmbench.models.builtin:load_builtin",
    "dpo": "rmbench.models.hf.dpo:load_dpo",
    "ensemble": "rmbench.models.ensemble:load_ensemble",
    "hf": "rmbench.models.hf.classifier:load_hf",
    "judge": "rmbench.models.judge.judge:load_judge",
    "process": "rmbench.models.hf.process:load_process",
    "scores": "rmbench.models.scores:ScoresFile",
    "vllm": "rmbench.models.vllm.load:load_vllm",
}.items():
    SCHEMES.register_lazily(_name, _target)
