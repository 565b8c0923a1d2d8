"""Environment variables that change what rmbench does. A value that may be a secret is never shown."""

import os
from difflib import get_close_matches

from rmbench.core.address import public_address
from rmbench.core.options import parameters_of
from rmbench.errors import RmbenchError
from rmbench.evaluation.options import EvalOptions
from rmbench.models.runtime import Runtime
from rmbench.tasks.spec import list_tasks

OWN = {
    "RMBENCH_TASKS_DIR",
    *(p.option.env for p in parameters_of(EvalOptions).values() if p.option.env is not None),
}
"""Variables of rmbench."""
_SHOWN = (
    "CUDA_VISIBLE_DEVICES", "HF_DATASETS_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE",
    "MKL_NUM_THREADS", "OMP_NUM_THREADS", "PYTORCH_ENABLE_MPS_FALLBACK", "TOKENIZERS_PARALLELISM",
    "TRANSFORMERS_OFFLINE",
)  # fmt: skip
_SECRET = (
    "ALL_PROXY", "HF_TOKEN", "HTTPS_PROXY", "HTTP_PROXY", "HUGGING_FACE_HUB_TOKEN", "NO_PROXY", "RAY_ADDRESS",
)  # fmt: skip
"""Variables of which only this is told: that they are set."""


def settings() -> dict[str, str]:
    """Return variable -> value of what is set; `(set)` stands for a value that may hold a secret."""
    found = {name: os.environ[name] for name in (*OWN, *_SHOWN) if os.environ.get(name)}
    if endpoint := os.environ.get("HF_ENDPOINT"):
        found["HF_ENDPOINT"] = public_address(endpoint)
    for name in _SECRET:
        if os.environ.get(name) or os.environ.get(name.lower()):
            found[name] = "(set)"
    for name in os.environ:
        if name.startswith("RMBENCH_") and name not in OWN:
            close = get_close_matches(name, OWN, n=1, cutoff=0.8)
            found[name] = f"(set; rmbench does not read it{f'; {close[0]}?' if close else ''})"
    return dict(sorted(found.items()))


def offline() -> dict[str, bool]:
    """Return who is told not to reach for a hub: rmbench itself, and the Hub's client."""
    from huggingface_hub import constants

    asked = os.environ.get("RMBENCH_OFFLINE", "").lower()
    return {"rmbench": asked in ("1", "true", "t", "yes", "y", "on"), "hub": bool(constants.HF_HUB_OFFLINE)}


def problems_of_settings() -> list[str]:
    """Return the variables of rmbench with a value that it refuses, each with what is expected."""
    told = []
    for name, field in (("RMBENCH_DEVICE", "device"), ("RMBENCH_DTYPE", "dtype")):
        if value := os.environ.get(name):
            try:
                Runtime(**{field: value})  # type: ignore[arg-type]
            except RmbenchError as error:
                told.append(f"{name}: {error}")
    try:
        list_tasks()
    except RmbenchError as error:
        told.append(str(error))
    return told
