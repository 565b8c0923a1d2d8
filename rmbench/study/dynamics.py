"""What the batch margin does while a head is trained, at several batch sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rmbench.models.runtime import Runtime
from rmbench.study.frozen_model import fit_head_of
from rmbench.study.run import pairs_of, settings_of, shared_base
from rmbench.study.spec import Method, StudySpec


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One run with `confidence-margin` at one batch size."""

    base: str
    data: str
    batch_size: int
    steps: int
    mu: float
    """Mean of `mu_B` over the second half of the steps."""
    mu_deviation: float
    """Its standard deviation from step to step."""
    nll: float
    accuracy: float
    margin: float
    """At the last evaluation on the held-out prompts."""
    curve: tuple[float, ...]
    """`mu_B` of every step."""


def batch_rows(spec: StudySpec, store: Path, runtime: Runtime) -> list[BatchRow]:
    """Return a row per base, data set and batch size of the study, first seed; none unless it asks for them.

    Only heads on frozen backbones: each row is one more training.
    """
    method = Method("confidence-margin", "confidence-margin", {})
    rows = []
    for name, kind in spec.bases.items():
        for data in spec.data if spec.batch_sizes and kind.train["freeze_backbone"] else ():
            settings = settings_of(spec, name, method, spec.seeds[0])
            pairs = pairs_of(data, spec.seeds[0], runtime.offline)
            base = shared_base(
                settings.base, settings.max_length, settings.precision, store / "features", runtime
            )
            for size in spec.batch_sizes:
                seen: list[float] = []

                def note(
                    _step: int, _total: int, told: Mapping[str, float], seen: list[float] = seen
                ) -> None:
                    seen.append(told["mu_batch"])

                every = max(1, settings.eval_every * settings.batch_size // size)
                head = fit_head_of(
                    base, pairs, replace(settings, batch_size=size, eval_every=every), on_step=note
                )
                late, last = seen[len(seen) // 2 :], head.curve[-1]
                rows.append(
                    BatchRow(
                        name, data.name, size, head.steps, float(np.mean(late)), float(np.std(late)),
                        last["eval_nll"], last["eval_accuracy"], last["eval_margin"], tuple(seen),
                    )
                )  # fmt: skip
    return rows
