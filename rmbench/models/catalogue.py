"""What `rmbench models` lists."""

import inspect
from dataclasses import dataclass
from typing import Any

from rmbench.errors import ConfigError
from rmbench.models import MODELS, SCHEMES


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One thing that `--model` can mean."""

    name: str
    kind: str
    """`reward`, `pairwise`, `precomputed`, `factory`, `pattern`, or `broken` (its import failed)."""
    summary: str
    source: str
    """`module:attribute`."""


_PATTERNS = (
    (
        "builtin:linear",
        "reward",
        "n-grams and simple features, trained on the embedded data",
        "builtin",
    ),
    (
        "builtin:tiny",
        "reward",
        "a small transformer, trained on the embedded data (needs torch)",
        "builtin",
    ),
    (
        "scores:FILE",
        "precomputed",
        'computed elsewhere: JSON Lines {"id": ..., "rewards": [...]}',
        "scores",
    ),
    (
        "FOLDER",
        "pattern",
        "a Hugging Face sequence classifier with one label (has a config.json)",
        "hf",
    ),
    ("org/name[@revision]", "pattern", "the same, from the Hugging Face Hub", "hf"),
    ("FILE.py:CLASS", "pattern", "your own class or function in any Python file", ""),
)


def list_models() -> list[ModelRow]:
    """Return every registered model, then the patterns; a plug-in that cannot be imported says why."""
    rows = [_row(name) for name in MODELS]
    for name, kind, summary, scheme in _PATTERNS:
        source = SCHEMES.source(scheme) if scheme else "rmbench.models.resolve:load_model"
        rows.append(ModelRow(name, kind, summary, source))
    return rows


def _row(name: str) -> ModelRow:
    source = MODELS.source(name)
    try:
        thing = MODELS.get(name)
    except ConfigError as error:
        return ModelRow(name, "broken", str(error), source)
    return ModelRow(name, _kind(thing), _summary(thing), source)


def _kind(thing: Any) -> str:
    for method, kind in (("score", "reward"), ("prefer", "pairwise"), ("rewards", "precomputed")):
        if hasattr(thing, method):
            return kind
    return "factory"


def _summary(thing: Any) -> str:
    text = inspect.getdoc(thing) or ""
    return text.strip().split("\n\n")[0].replace("\n", " ")
