"""Options of a training. `rmbench train`, the model `confidence-margin` and studies take them from here."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rmbench.core.options import Group, OnBad, Option, Part, Texts
from rmbench.models.runtime import Runtime

if TYPE_CHECKING:
    from rmbench.train.pairs import TrainingData


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a base is trained: the key `train` of a study file."""

    epochs: Annotated[float, Option("Passes over the pairs.", above=0)] = 1.0
    max_steps: Annotated[int | None, Option("Stop after so many optimiser steps.", low=1)] = None
    learning_rate: Annotated[
        float | None,
        Option("Peak of AdamW's rate.", unset="2e-5; 1e-3 with --freeze-backbone", above=0),
    ] = None
    weight_decay: Annotated[float, Option("Of AdamW.", low=0)] = 0.01
    warmup: Annotated[
        float, Option("Share of the steps over which the learning rate rises.", low=0, below=1)
    ] = 0.05
    batch_size: Annotated[
        int, Option("Pairs per optimiser step, over all processes: what the batch margin is over.", low=1)
    ] = 32
    micro_batch: Annotated[
        int, Option("Pairs per forward pass: memory and speed, not the result.", low=1)
    ] = 8
    max_length: Annotated[int, Option("Tokens per conversation; cut from the left of the prompt.", low=8)] = (
        1024
    )
    freeze_backbone: Annotated[
        bool, Option("Train the last layer alone, on representations computed once: minutes on a CPU.")
    ] = False
    lora: Annotated[
        int | None, Option("Train LoRA adapters of this rank.", unset="all weights", metavar="RANK", low=1)
    ] = None
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Option(
            "Of the matrix products; weights stay float32. auto: bfloat16 on GPUs that have it. On a CPU with"
            " bfloat16 units it is about four times as fast."
        ),
    ] = "auto"
    eval_every: Annotated[int, Option("Steps between evaluations and checkpoints.", low=1)] = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings(Recipe):
    """Everything that can change the trained weights, beside the data."""

    base: Annotated[
        str,
        Option(
            "Model to start from; a head is drawn if it has none. builtin:tiny comes with the package.",
            metavar="PATH|ORG/NAME",
        ),
    ]
    method: Annotated[str, Option("The loss; see `rmbench losses`.")] = "confidence-margin"
    method_options: Annotated[Texts, Option("Option of the loss (repeat).", flags="-L")] = field(
        default_factory=dict
    )
    seed: Annotated[int, Option("Seed of everything that is drawn.", env="RMBENCH_SEED", low=0)] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsOptions:
    """Pairs to train on and to hold out."""

    data: Annotated[
        tuple[str, ...],
        Option(
            "Pairs, pools with gold, a data set on the Hub, or a task's training split (repeat: they are"
            " joined).",
            metavar="PATH|TASK:train|ORG/NAME:SPLIT",
            single=True,
        ),
    ]
    reader: Annotated[str, Option("Format of the data: pairs, jsonl, hh-rlhf, ...")] = "auto"
    like: Annotated[
        str | None,
        Option(
            "Read the data as this task does, such as alpacaeval-bon: its format and options.",
            metavar="TASK",
        ),
    ] = None
    params: Annotated[
        Texts,
        Option(
            "Option of the data's reader, such as columns=prompt:ask,chosen:good,rejected:bad (repeat).",
            flags="-T",
        ),
    ] = field(default_factory=dict)
    part: Part = None
    on_bad: OnBad = "fail"
    pairs_per_prompt: Annotated[
        int | None, Option("Out of pools: at most so many pairs.", unset="all", low=1)
    ] = None
    limit: Annotated[int | None, Option("At most so many pairs, drawn by seed.", low=2)] = None
    held_out: Annotated[float, Option("Share of prompts to evaluate on.", above=0, high=0.5)] = 0.1
    eval_limit: Annotated[
        int,
        Option("At most so many held-out pairs, drawn by seed; the others are left out and counted.", low=1),
    ] = 1000

    def read(self, seed: int, *, offline: bool) -> "TrainingData":
        """Return the pairs, split by prompt; see `read_training_data`."""
        from rmbench.train.pairs import read_training_data  # here: `rmbench train --help` reads this file

        given = {one.name: getattr(self, one.name) for one in fields(self)}
        return read_training_data(given.pop("data"), seed=seed, offline=offline, **given)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """A training as `rmbench train` says it."""

    settings: Annotated[TrainSettings, Group()]
    pairs: Annotated[PairsOptions, Group()]
    out: Annotated[Path, Option("Folder to make.", folder=True)]
    log_dir: Annotated[Path | None, Option("Write TensorBoard events there.", folder=True)] = None
    runtime: Annotated[Runtime, Group("device", "offline")] = field(default_factory=Runtime)
    quiet: Annotated[bool, Option("No progress bar.", flags="-q --quiet")] = False
