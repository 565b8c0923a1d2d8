"""Options of a training. `rmbench train`, the model `confidence-margin` and studies take them from here."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rmbench.core.option_fields import group, option
from rmbench.core.schema import Rule
from rmbench.models.runtime import Runtime

if TYPE_CHECKING:
    from rmbench.train.pairs import TrainingData


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a base is trained: the key `train` of a study file."""

    epochs: float = option(1.0, "Passes over the pairs.", min=0, min_open=True)
    max_steps: int | None = option(None, "Stop after so many optimiser steps.", min=1)
    learning_rate: float | None = option(
        None, "Peak of AdamW's rate.", unset="2e-5; 1e-3 with --freeze-backbone", min=0, min_open=True
    )
    weight_decay: float = option(0.01, "Of AdamW.", min=0)
    warmup: float = option(
        0.05, "Share of the steps over which the learning rate rises.", min=0, max=1, max_open=True
    )
    batch_size: Annotated[int, Rule(low=2)] = option(
        32, "Pairs per optimiser step, over all processes: what the batch margin is over.", min=1
    )
    micro_batch: int = option(8, "Pairs per forward pass: memory and speed, not the result.", min=1)
    max_length: int = option(1024, "Tokens per conversation; cut from the left of the prompt.", min=8)
    freeze_backbone: bool = option(
        False, "Train the last layer alone, on representations computed once: minutes on a CPU."
    )
    lora: int | None = option(
        None, "Train LoRA adapters of this rank.", unset="all weights", metavar="RANK", min=1
    )
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto",
        "Of the matrix products; weights stay float32. auto: bfloat16 on GPUs that have it. On a CPU with"
        " bfloat16 units it is about four times as fast.",
    )
    eval_every: int = option(50, "Steps between evaluations and checkpoints.", min=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings(Recipe):
    """Everything that can change the trained weights, beside the data."""

    base: str = option(
        MISSING,
        "Model to start from; a head is drawn if it has none. builtin:tiny comes with the package.",
        metavar="PATH|ORG/NAME",
    )
    method: str = option("confidence-margin", "The loss; see `rmbench losses`.")
    method_options: Mapping[str, str] = option(dict, "Option of the loss (repeat).", "-L")
    seed: int = option(0, "Seed of everything that is drawn.", env="RMBENCH_SEED", min=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsOptions:
    """Pairs to train on and to hold out."""

    data: tuple[str, ...] = option(
        MISSING,
        "Pairs, pools with gold, or a task's training split (repeat: they are joined).",
        metavar="PATH|TASK:train",
    )
    reader: str = option("auto", "Format of the data: pairs, jsonl, hh-rlhf, ...")
    like: str | None = option(
        None,
        "Read the data as this task does, such as alpacaeval-bon: its format and options.",
        metavar="TASK",
    )
    part: tuple[float, float] | None = option(
        None, "Only prompts whose hash lies in this share: train on 0:0.5, evaluate on 0.5:1."
    )
    on_bad: Literal["fail", "skip"] = option(
        "fail", "A row that does not fit: stop, or leave it out and count it."
    )
    pairs_per_prompt: int | None = option(None, "Out of pools: at most so many pairs.", unset="all", min=1)
    limit: int | None = option(None, "At most so many pairs, drawn by seed.", min=2)
    held_out: float = option(0.1, "Share of prompts to evaluate on.", min=0, max=0.5, min_open=True)
    eval_limit: int = option(
        1000, "At most so many held-out pairs, drawn by seed; the others are left out and counted.", min=1
    )

    def read(self, seed: int, *, offline: bool) -> "TrainingData":
        """Return the pairs, split by prompt; see `read_training_data`."""
        from rmbench.train.pairs import read_training_data  # here: `rmbench train --help` reads this file

        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return read_training_data(given.pop("data"), seed=seed, offline=offline, **given)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """A training as `rmbench train` says it."""

    settings: TrainSettings = group(MISSING)
    pairs: PairsOptions = group(MISSING)
    out: Path = option(MISSING, "Folder to make.", path="folder")
    log_dir: Path | None = option(None, "Write TensorBoard events there.", path="folder")
    runtime: Runtime = group(Runtime, "device", "offline")
    quiet: bool = option(False, "No progress bar.", "-q", "--quiet")
