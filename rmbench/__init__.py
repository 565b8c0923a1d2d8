"""rmbench: the benchmark and evaluation harness for reward models.

    records = rmbench.evaluate("builtin:linear", ["preference", "bon"])
    rmbench.leaderboard(records)
    rmbench.plot.reliability(records[0])

These names are imported at their first use, so that `import rmbench` and the command line start at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rmbench import plot
    from rmbench.api.calls import compare, evaluate, leaderboard, load_records
    from rmbench.api.records import Records
    from rmbench.boards import BoardSpec, Leaderboard, load_board
    from rmbench.core.options import Option
    from rmbench.errors import RmbenchError
    from rmbench.gold.verifier import Verdict, register_verifier
    from rmbench.metrics.kinds import Measured, Metric, Params, register_kind
    from rmbench.models import register_reward_model, register_scheme
    from rmbench.tasks.rows import register_reader
    from rmbench.tasks.spec import list_tasks
    from rmbench.train.losses import register_loss as register_loss
    from rmbench.types import Conversation, Estimate, Item, Pair, PairwiseModel, Response, RewardModel, Scored

_PLACES = {
    "api.calls": ("compare", "evaluate", "leaderboard", "load_records"),
    "api.records": ("Records",),
    "boards": ("BoardSpec", "Leaderboard", "load_board"),
    "tasks.rows": ("register_reader",),
    "core.options": ("Option",),
    "errors": ("RmbenchError",),
    "metrics.kinds": ("Measured", "Metric", "Params", "register_kind"),
    "models": ("register_reward_model", "register_scheme"),
    "tasks.spec": ("list_tasks",),
    "train.losses": ("register_loss",),
    "types": (
        "Conversation", "Estimate", "Item", "Pair", "PairwiseModel", "Response", "RewardModel", "Scored",
    ),
    "gold.verifier": ("Verdict", "register_verifier"),
}  # fmt: skip
"""Module below `rmbench` -> its names that are reachable from here."""

_MODULES = ("plot",)
"""Modules that `import rmbench` makes reachable."""

_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}

# Without `register_loss`, which needs torch: `from rmbench import *` does not.
__all__ = [
    "BoardSpec",
    "Conversation",
    "Estimate",
    "Item",
    "Leaderboard",
    "Measured",
    "Metric",
    "Option",
    "Pair",
    "PairwiseModel",
    "Params",
    "Records",
    "Response",
    "RewardModel",
    "RmbenchError",
    "Scored",
    "Verdict",
    "__version__",
    "compare",
    "evaluate",
    "leaderboard",
    "list_tasks",
    "load_board",
    "load_records",
    "plot",
    "register_kind",
    "register_reader",
    "register_reward_model",
    "register_scheme",
    "register_verifier",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"rmbench.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'rmbench' has no attribute {name!r}")
    value = getattr(import_module(f"rmbench.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, *_MODULES})
