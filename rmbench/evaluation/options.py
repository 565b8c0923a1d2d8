"""Options of an evaluation. `rmbench eval`, `rmbench.evaluate` and studies take them from here.

A new option is a field of `EvalOptions`, its keyword in `EvalKeywords`, and the place that uses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict
from uuid import uuid4

from rmbench.core.option_fields import group, option
from rmbench.models.runtime import Dtype, Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOptions:
    """How to evaluate. Data, parameters, gold, part, limit and seed are part of a run's identity."""

    data: Path | None = option(
        None,
        "Read the task's data from this file or folder, in the same schema, or from"
        " org/name@COMMIT on the Hugging Face Hub (40 hex digits).",
    )
    params: Mapping[str, str] = option(dict, "Parameter of the task (repeat).", "-T")
    on_bad: Literal["fail", "skip"] = option(
        "fail", "A row that does not fit: stop, or leave it out and count it."
    )
    options: Mapping[str, str] = option(dict, "Option of the model (repeat).", "-M")
    runtime: Runtime = group(Runtime)
    gold: str | None = option(
        None,
        "What gives the gold in place of the data: a reward model, as --model takes it, or verifier:NAME.",
        metavar="SPEC",
    )
    gold_options: Mapping[str, str] = option(dict, "Option of the gold (repeat).", "-G")
    self_gold: bool = option(False, "Let a model be measured against its own scores. Recorded.")
    part: tuple[float, float] | None = option(
        None, "Only prompts whose hash lies in this share: train on 0:0.5, evaluate on 0.5:1."
    )
    limit: int | None = option(
        None, "A seeded random sample of N items. Recorded; never on a board.", metavar="N", min=1
    )
    batch_tokens: int | None = option(
        None,
        "Most tokens in one forward pass. Changes speed and memory, not the numbers.",
        unset="what fits into free memory",
        env="RMBENCH_BATCH_TOKENS",
        min=1,
    )
    n_workers: int = option(
        1,
        "Processes that score, each with a model of its own: one per GPU, or a few on a CPU's cores.",
        "--workers",
        metavar="N",
        min=1,
    )
    executor: Literal["local", "ray"] = option(
        "local",
        "Where the workers run: as processes of this machine, or as actors of the Ray cluster at RAY_ADDRESS"
        " (without one: of a Ray that is started here). Needs rmbench[ray].",
    )
    convention: Literal["both", "official", "clean"] = option(
        "both",
        "Show a benchmark's own number (ties, weights and all as published), the clean estimate, or both.",
    )
    results: Path = option(Path("results"), "Folder of run records.", env="RMBENCH_RESULTS", path="folder")
    store: Path | None = option(
        None,
        "Folder of the score stores.",
        unset="the user's cache folder",
        env="RMBENCH_STORE",
        path="folder",
    )
    fresh: bool = option(
        False,
        "Compute every reward again, the gold model's too, and replace what is stored and recorded. A fresh"
        " run that is stopped starts over.",
    )
    quiet: bool = option(False, "No progress bar and no remarks.", "-q", "--quiet")
    command: tuple[str, ...] = ()
    """Command line, for the record's provenance; empty for a call. No option."""
    call: str = field(default_factory=lambda: uuid4().hex, compare=False, repr=False)
    """Name of this evaluation: a fresh one finds the rewards that it stored itself. No option."""

    @property
    def store_folder(self) -> Path:
        """Folder of the score stores: the one asked for, else the user's."""
        from rmbench.scoring import default_store_folder  # here: `rmbench eval --help` reads this file

        return self.store or default_store_folder()

    @property
    def fresh_name(self) -> str:
        """Name of a fresh evaluation, as score stores take it; empty where stored rewards are reused."""
        return self.call if self.fresh else ""


class EvalKeywords(TypedDict, total=False):
    """Keywords of `rmbench.evaluate`, for editors and type checkers. A test compares both classes."""

    data: str | PathLike[str] | None
    params: Mapping[str, Any] | None
    on_bad: Literal["fail", "skip"]
    options: Mapping[str, Any] | None
    device: str
    dtype: Dtype
    offline: bool
    trust_remote_code: bool
    seed: int
    gold: str | None
    gold_options: Mapping[str, Any] | None
    self_gold: bool
    part: tuple[float, float] | None
    limit: int | None
    batch_tokens: int | None
    n_workers: int
    executor: Literal["local", "ray"]
    convention: Literal["both", "official", "clean"]
    results: str | PathLike[str] | None
    store: str | PathLike[str] | None
    fresh: bool
    quiet: bool
