"""Pairs per second of `rmbench train` against TRL's RewardTrainer: same model, same token ids, same batch.

Usage: python benchmarks/trl_speed.py BASE [--pairs N] [--batch-size N] [--micro-batch N] [--rounds N]

    pip install -e '.[train,bench]'

Both train all weights in float32 with plain Bradley-Terry for one epoch of whole steps, with the same
learning rate and schedule and without dropout. TRL is measured twice: as it comes (gradient checkpointing)
and without that. It gets the token ids that rmbench made, so that the text format is no difference; token
types, which its collator drops, neither gets. Time runs from the first forward pass to the end of the last
optimiser step. The runs alternate, and ratios are within a round: by the clock, and by this process's CPU
time, which other programs on the machine disturb less.

Order is the one thing in which what the two learn from differs, so loss curves are compared twice: as they
come, up to the order's noise, and step by step with TRL reading the pairs in rmbench's order.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from tabulate import tabulate
from torch.optim.optimizer import register_optimizer_step_post_hook
from trl import RewardConfig, RewardTrainer

from rmbench.models.hf.text import Encoded, TextFormat
from rmbench.models.runtime import Runtime
from rmbench.train.base import Base, load_base
from rmbench.train.fit import Job, fit_all
from rmbench.train.losses import bradley_terry
from rmbench.train.pairs import EncodedPairs, StepSampler, TrainingData, read_training_data
from rmbench.train.settings import TrainSettings
from rmbench.types import Conversation

RUNTIME = Runtime(device="cpu", offline=True)
OURS, AS_IT_COMES, PLAIN = "rmbench", "TRL", "TRL, no gradient checkpointing"
STEP_TOLERANCE = 0.002
"""Of a step's loss on the same pairs: rounding, which optimiser steps carry on."""


@dataclass
class Run:
    """One training: its speed, its padding, its loss curve."""

    n_pairs: int
    losses: list[float] = field(default_factory=list)
    start: tuple[float, float] | None = None
    """Of the first forward pass: the clock, the CPU time."""
    end: tuple[float, float] = (0.0, 0.0)
    """Of the last optimiser step."""
    n_tokens: int = 0
    n_padded: int = 0
    """Tokens that the model read, padding included."""

    def rate(self, timer: int = 0) -> float:
        """Return pairs per second of the clock, or (1) of CPU time."""
        assert self.start is not None
        return self.n_pairs / (self.end[timer] - self.start[timer])

    @property
    def padded(self) -> float:
        """Tokens read per token that is not padding."""
        return self.n_padded / self.n_tokens


def now() -> tuple[float, float]:
    """Return seconds of the clock and of this process's CPU time."""
    return time.perf_counter(), time.process_time()


class Watch:
    """Watches a model being trained, whoever trains it.

    Args:
        model: What is trained.
        run: What is filled.
    """

    def __init__(self, model: Any, run: Run) -> None:
        self._run = run
        self._hooks = [
            model.register_forward_pre_hook(self._forward, with_kwargs=True),
            register_optimizer_step_post_hook(self._step),
        ]

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()

    def _forward(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if torch.is_grad_enabled():
            self._run.start = self._run.start or now()
            self._run.n_padded += kwargs["attention_mask"].numel()
            self._run.n_tokens += int(kwargs["attention_mask"].sum())

    def _step(self, *_: Any) -> None:
        self._run.end = now()


@dataclass
class WithoutTypes:
    """A text format that leaves token types out."""

    inner: TextFormat

    def encode(self, batch: Sequence[Conversation], max_length: int) -> list[Encoded]:
        """Return the same ids."""
        return [replace(row, type_ids=None) for row in self.inner.encode(batch, max_length)]


def encoded(base: Base, pairs: Any, settings: TrainSettings) -> EncodedPairs:
    """Return what both trainers read."""
    text_format: Any = WithoutTypes(base.text_format)
    return EncodedPairs(pairs, text_format, base.limit(settings.max_length))


def run_rmbench(base: Base, data: TrainingData, settings: TrainSettings, out: Path) -> Run:
    """Train with rmbench."""
    run = Run(len(data.train))
    sets = [encoded(base, part, settings) for part in (data.train, data.held_out[:8])]
    with ExitStack() as held, Watch(base.model, run):
        job = Job(
            settings, base, sets[0], sets[1], bradley_terry, out / ".training", "bench", {}, RUNTIME, held,
            None, lambda _step, _total, told: run.losses.append(told["loss"]),
        )  # fmt: skip
        fit_all(job)
    return run


def run_trl(
    base: Base,
    data: TrainingData,
    settings: TrainSettings,
    out: Path,
    *,
    checkpointing: bool,
    our_order: bool,
) -> Run:
    """Train with TRL, in an order of its own or in rmbench's."""
    run = Run(len(data.train))
    pairs = encoded(base, data.train, settings)
    order = StepSampler(pairs.lengths, settings.batch_size, settings.seed) if our_order else range(len(pairs))
    rows = [pairs[k] for k in order]
    columns = {
        "chosen_ids": [list(r.chosen.ids) for r in rows],
        "rejected_ids": [list(r.rejected.ids) for r in rows],
    }
    arguments = RewardConfig(
        output_dir=str(out),
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=settings.batch_size // settings.micro_batch,
        learning_rate=settings.learning_rate or 2e-5,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup,
        num_train_epochs=settings.epochs,
        max_length=settings.max_length,
        gradient_checkpointing=checkpointing,
        train_sampling_strategy="sequential" if our_order else "random",
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=settings.seed,
        dataloader_pin_memory=False,
    )
    trainer = RewardTrainer(
        model=base.model,
        args=arguments,
        train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=base.tokenizer,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    with Watch(base.model, run):
        trainer.train()
    run.losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return run


def train_once(name: str, data: TrainingData, settings: TrainSettings, *, our_order: bool = False) -> Run:
    """Train the base with one of the trainers; the head's first weights are always the same."""
    transformers.set_seed(0)
    base = load_base(settings.base, 0, None, RUNTIME)
    with tempfile.TemporaryDirectory() as folder:
        if name == OURS:
            return run_rmbench(base, data, settings, Path(folder) / "out")
        return run_trl(
            base, data, settings, Path(folder), checkpointing=name == AS_IT_COMES, our_order=our_order
        )


def speed_table(runs: dict[str, list[Run]]) -> str:
    """Return rates, and how many times as fast rmbench is: the median round, the least and the greatest."""
    rows = []
    for name, found in runs.items():
        row: list[Any] = [name, statistics.median(run.rate() for run in found)]
        for timer in (0, 1):
            ratios = [a.rate(timer) / b.rate(timer) for a, b in zip(runs[OURS], found, strict=True)]
            shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            row.append("1" if name == OURS else shown)
        rows.append([*row, statistics.mean(run.padded for run in found)])
    headers = ["trainer", "pairs/s", "rmbench: times as fast", "by CPU time", "tokens read per real token"]
    return tabulate(rows, headers, floatfmt=".2f", disable_numparse=[2, 3])


def loss_table(runs: dict[str, list[Run]]) -> str:
    """Return mean losses of the first and last third of steps, and whether they agree within the noise."""
    third = max(2, len(runs[OURS][0].losses) // 3)
    rows = []
    for label, part in (("first", slice(0, third)), ("last", slice(-third, None))):
        ours, other = ([x for run in runs[name] for x in run.losses[part]] for name in (OURS, PLAIN))
        apart = statistics.mean(ours) - statistics.mean(other)
        noise = 2 * sqrt(statistics.variance(ours) / len(ours) + statistics.variance(other) / len(other))
        means = [statistics.mean(ours), statistics.mean(other), apart, noise]
        rows.append([f"{label} {third} steps", *means, "yes" if abs(apart) <= noise else "NO"])
    headers = ["mean loss", OURS, PLAIN, "difference", "tolerance (2 standard errors)", "equal"]
    return tabulate(rows, headers=headers, floatfmt=".4f")


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description="rmbench train against TRL's RewardTrainer, on the CPU.")
    parser.add_argument("base", help="folder of the model to start from")
    parser.add_argument("--data", default="preference:train")
    parser.add_argument("--pairs", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    data = read_training_data(given.data, pairs_per_prompt=20, limit=given.pairs, offline=True)
    data = replace(data, train=data.train[: len(data.train) // given.batch_size * given.batch_size])
    settings = TrainSettings(
        base=given.base, method="bradley-terry", batch_size=given.batch_size, micro_batch=given.micro_batch,
        max_length=given.max_length, learning_rate=given.learning_rate, eval_every=10**6,
    )  # fmt: skip
    runs: dict[str, list[Run]] = {OURS: [], AS_IT_COMES: [], PLAIN: []}
    for seed in range(given.rounds):
        for name, found in runs.items():
            found.append(train_once(name, data, replace(settings, seed=seed)))
    same_pairs = train_once(PLAIN, data, settings, our_order=True)
    apart = max(abs(a - b) for a, b in zip(runs[OURS][0].losses, same_pairs.losses, strict=True))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    verdict = "equal" if apart <= STEP_TOLERANCE else "NOT equal"
    print(
        f"{len(data.train)} pairs, {given.batch_size} per step, {given.micro_batch} per micro-batch; "
        f"{torch.get_num_threads()} of {cores} cores, {given.rounds} rounds\n\n{speed_table(runs)}\n\n"
        f"{loss_table(runs)}\n\nTRL reading the pairs in rmbench's order: no step's loss differs by more "
        f"than {apart:.4f} (tolerance {STEP_TOLERANCE}: {verdict})"
    )


if __name__ == "__main__":
    main()
