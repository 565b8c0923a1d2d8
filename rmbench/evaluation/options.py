"""Options of an evaluation. `rmbench eval`, `rmbench.evaluate` and studies take them from here.

A new option is a field of `EvalOptions`, its keyword in `EvalKeywords`, and the place that uses it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict
from uuid import uuid4

from rmbench.core.options import NO_OPTION, Group, OnBad, Option, Part, Texts
from rmbench.models.runtime import Dtype, Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOptions:
    """How to evaluate. Data, parameters, gold, part, limit and seed are part of a run's identity."""

    data: Annotated[
        Path | None,
        Option(
            "Read the task's data from this file or folder, or from the Hugging Face Hub:"
            " org/name[/config][:split][@commit]."
        ),
    ] = None
    params: Annotated[Texts, Option("Parameter of the task (repeat).", flags="-T")] = field(
        default_factory=dict
    )
    on_bad: OnBad = "fail"
    options: Annotated[
        Texts, Option("Option of the model (repeat); '[MODEL]key=value' with several.", flags="-M")
    ] = field(default_factory=dict)
    runtime: Annotated[Runtime, Group()] = field(default_factory=Runtime)
    gold: Annotated[
        str | None,
        Option(
            "What gives the gold in place of the data: a reward model, as --model takes it, or"
            " verifier:NAME.",
            metavar="SPEC",
        ),
    ] = None
    gold_options: Annotated[Texts, Option("Option of the gold (repeat).", flags="-G")] = field(
        default_factory=dict
    )
    self_gold: Annotated[bool, Option("Let a model be measured against its own scores. Recorded.")] = False
    part: Part = None
    limit: Annotated[
        int | None,
        Option("A seeded random sample of N items. Recorded; never on a board.", metavar="N", low=1),
    ] = None
    batch_tokens: Annotated[
        int | None,
        Option(
            "Most tokens in one forward pass. Changes speed and memory, not the numbers.",
            unset="what fits into free memory",
            env="RMBENCH_BATCH_TOKENS",
            low=1,
        ),
    ] = None
    n_workers: Annotated[
        int,
        Option(
            "Processes that score, each with a model of its own: one per GPU, or a few on a CPU's cores.",
            flags="--workers",
            metavar="N",
            low=1,
        ),
    ] = 1
    executor: Annotated[
        Literal["local", "ray"],
        Option(
            "Where the workers run: as processes of this machine, or as actors of the Ray cluster at"
            " RAY_ADDRESS (without one: of a Ray that is started here). Needs rmbench[ray]."
        ),
    ] = "local"
    convention: Annotated[
        Literal["both", "official", "clean"],
        Option(
            "Show a benchmark's own number (ties, weights and all as published), the clean estimate, or both."
        ),
    ] = "both"
    results: Annotated[Path, Option("Folder of run records.", env="RMBENCH_RESULTS", folder=True)] = Path(
        "results"
    )
    store: Annotated[
        Path | None,
        Option(
            "Folder of the score stores.", unset="the user's cache folder", env="RMBENCH_STORE", folder=True
        ),
    ] = None
    fresh: Annotated[
        bool,
        Option(
            "Compute every reward again, the gold model's too, and replace what is stored and recorded. A"
            " fresh run that is stopped starts over."
        ),
    ] = False
    keep_texts: Annotated[
        bool,
        Option(
            "Keep the items' texts in the results folder (texts/), so that pages show them where the data is"
            " gone. Mind the data's licence before you share the folder."
        ),
    ] = False
    quiet: Annotated[bool, Option("No progress bar and no remarks.", flags="-q --quiet")] = False
    command: Annotated[tuple[str, ...], NO_OPTION] = ()
    """Command line, for the record's provenance; empty for a call."""
    call: Annotated[str, NO_OPTION] = field(default_factory=lambda: uuid4().hex, compare=False, repr=False)
    """Name of this evaluation: a fresh one finds the rewards that it stored itself."""

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
    keep_texts: bool
    quiet: bool
