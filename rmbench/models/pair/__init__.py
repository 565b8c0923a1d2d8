"""Local models that compare two replies. The scheme is declared here, so that listing it is light."""

import json
from pathlib import Path

from rmbench.models import register_scheme

register_scheme(
    "pair",
    rule="pair:FOLDER or pair:org/name@revision (a model that compares two replies)",
    kind="pairwise",
    patterns={
        "pair:FOLDER": "a model that compares two replies, such as PairRM or SteamSHP; both orders are asked",
    },
)("rmbench.models.pair.load:load_pair")


def says_pair(folder: Path) -> bool:
    """Say whether the config of a folder names a class that compares two replies; no library is needed."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(config, dict):
        return False
    named = config.get("architectures")
    classes = [str(name) for name in named] if isinstance(named, list) else []
    return any("PairRM" in name for name in classes) or config.get("ranker_type") == "pairranker"
