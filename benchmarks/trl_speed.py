"""Pairs per second of `rmbench train` against TRL's RewardTrainer: same model, same token ids, same batch.

Usage: python benchmarks/trl_speed.py BASE [--pairs N] [--batch-size N] [--micro-batch N]

    pip install -e '.[train,bench]'

Both train all weights in float32 with plain Bradley-Terry, the same learning rate and schedule, no dropout.
TRL is measured twice: as it comes (gradient checkpointing) and without that. It gets the token ids that
rmbench made, so that the text format is no difference. The runs alternate, and the median of their rates is
compared. The loss curves must agree up to the order of the pairs, which the two draw differently.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from tabulate import tabulate
from trl import RewardConfig, RewardTrainer

from rmbench.models.runtime import Runtime
from rmbench.train.base import Base, load_base
from rmbench.train.batches import EncodedPairs
from rmbench.train.fit import Job, TrainSettings, fit_all
from rmbench.train.losses import bradley_terry
from rmbench.train.pairs import TrainingData, read_training_data

RUNTIME = Runtime(device="cpu", offline=True)


def run_rmbench(
    base: Base, data: TrainingData, settings: TrainSettings, out: Path
) -> tuple[float, list[float]]:
    """Return pairs per second and the loss of every step."""
    limit = base.limit(settings.max_length)
    sets = [EncodedPairs(part, base.text_format, limit) for part in (data.train, data.held_out[:8])]
    losses: list[float] = []
    times: list[float] = []

    def note(_step: int, _total: int, told: Any) -> None:
        losses.append(told["loss"])
        times.append(time.perf_counter())

    job = Job(
        settings, base, sets[0], sets[1], bradley_terry, out / ".training", "bench", {}, RUNTIME, None, note
    )
    fit_all(job)
    return (len(times) - 1) * settings.batch_size / (times[-1] - times[0]), losses


class _Clock(transformers.TrainerCallback):
    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())


def run_trl(
    base: Base, data: TrainingData, settings: TrainSettings, out: Path, *, checkpointing: bool
) -> tuple[float, list[float]]:
    """Return pairs per second and the loss of every step."""
    pairs = EncodedPairs(data.train, base.text_format, base.limit(settings.max_length))
    rows = [pairs[k] for k in range(len(pairs))]
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
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=settings.seed,
        dataloader_pin_memory=False,
    )
    clock = _Clock()
    trainer = RewardTrainer(
        model=base.model,
        args=arguments,
        train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=base.tokenizer,
        callbacks=[clock],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return (len(clock.times) - 1) * settings.batch_size / (clock.times[-1] - clock.times[0]), losses


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="rmbench train against TRL's RewardTrainer, on the CPU.")
    parser.add_argument("base", help="folder of the model to start from")
    parser.add_argument("--data", default="preference:train")
    parser.add_argument("--pairs", type=int, default=640)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    data = read_training_data(given.data, pairs_per_prompt=20, limit=given.pairs, offline=True)
    settings = TrainSettings(
        base=given.base, method="bradley-terry", batch_size=given.batch_size, micro_batch=given.micro_batch,
        max_length=given.max_length, learning_rate=5e-5, eval_every=10**6,
    )  # fmt: skip
    rates: dict[str, list[float]] = {}
    curves: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        for name in ("rmbench", "TRL", "TRL, no gradient checkpointing"):
            transformers.set_seed(0)
            base = load_base(given.base, 0, None, RUNTIME)
            with tempfile.TemporaryDirectory() as folder:
                if name == "rmbench":
                    rate, curve = run_rmbench(base, data, settings, Path(folder) / "out")
                else:
                    rate, curve = run_trl(base, data, settings, Path(folder), checkpointing=name == "TRL")
            rates.setdefault(name, []).append(rate)
            curves[name] = curve
    ours = statistics.median(rates["rmbench"])
    rows = [
        [
            name,
            statistics.median(found),
            ours / statistics.median(found),
            statistics.mean(curves[name][:5]),
            statistics.mean(curves[name][-5:]),
        ]
        for name, found in rates.items()
    ]
    headers = [
        "trainer",
        "pairs/s",
        "rmbench is so many times as fast",
        "loss, first 5 steps",
        "loss, last 5 steps",
    ]
    print(tabulate(rows, headers=headers, floatfmt=("", ".2f", ".2f", ".3f", ".3f")))
    print(f"{len(data.train)} pairs, {torch.get_num_threads()} threads, median of {given.rounds} rounds")


if __name__ == "__main__":
    main()
