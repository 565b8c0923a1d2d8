"""Fitting a reward model to pairs: all weights, adapters, or only the last layer."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tensorboardX import SummaryWriter
from transformers.integrations.integration_utils import TensorBoardCallback

from rmbench.core.files import digest, locked, write_atomic
from rmbench.errors import ConfigError
from rmbench.models.hf.device import pick_device
from rmbench.models.hf.load import quiet
from rmbench.models.runtime import Runtime
from rmbench.train.base import Base, load_base
from rmbench.train.frozen import Head, Representations, RepresentationStore, put_head, train_head
from rmbench.train.losses import LossFunction
from rmbench.train.pairs import EncodedPairs
from rmbench.train.settings import TrainSettings
from rmbench.train.trainer import COMPLETE, MarginTrainer

WORK = ".training"
"""Folder inside `--out` that holds checkpoints until the model is finished."""


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that a fit needs."""

    settings: TrainSettings
    base: Base
    train_set: EncodedPairs
    held_out: EncodedPairs
    loss: LossFunction
    work: Path
    weights: str
    """Identity of the base's weights."""
    identity: Mapping[str, Any]
    runtime: Runtime
    held: ExitStack
    """Lock of the working folder, closed when the model is finished."""
    log_dir: Path | None
    on_step: Callable[[int, int, Mapping[str, float]], None] | None
    on_text: Callable[[int, int], None] | None = None
    """Called while representations of a frozen backbone are computed."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Results of a fit; the weights are in the job's model."""

    held_out: Mapping[str, float]
    """`nll`, `accuracy`, `margin` of the best checkpoint on the held-out prompts."""
    curve: list[dict[str, float]]
    steps: int


def n_processes() -> int:
    """Return how many processes train together, from the environment of torchrun or accelerate."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Say whether this is the process that writes files and prints."""
    return os.environ.get("RANK", "0") == "0"


def fit_all(job: Job) -> Fitted:
    """Train all weights, or LoRA adapters, from the last complete checkpoint if there is one."""
    arguments = _arguments(job)
    with arguments.main_process_first(local=False):
        _claim(job)
        resume = last_complete_checkpoint(job.work)
    writer = None if job.log_dir is None or not is_main_process() else _writer(job.log_dir)
    trainer = MarginTrainer(
        loss_name=job.settings.method,
        loss=job.loss,
        step_size=job.settings.batch_size,
        pad_id=job.base.pad_id,
        on_step=_telling(job, writer),
        model=job.base.model,
        args=arguments,
        train_dataset=job.train_set,
        eval_dataset=job.held_out,
        processing_class=job.base.tokenizer,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    if writer is not None:
        trainer.add_callback(TensorBoardCallback(writer))  # type: ignore[no-untyped-call]
    with quiet():
        trainer.train(resume_from_checkpoint=None if resume is None else trainer.continue_from(resume))
        curve = [point for entry in trainer.state.log_history if (point := _point(entry))]
        final = trainer.evaluate()
        if (state := trainer.whole_state()) is not None:
            job.base.model = _unsharded(job, state)
    seen = {name: final[f"eval_{name}"] for name in ("nll", "accuracy", "margin")}
    return Fitted(seen, curve, trainer.state.global_step)


def fit_head(job: Job, store: Path) -> Fitted:
    """Train only the last layer; all runs on the same texts share the representations."""
    _claim(job)
    job.base.model.to(pick_device(job.runtime.device))
    known = RepresentationStore(job.base, store / "features", job.weights, job.settings.precision)
    train, held_out = (known.of_pairs(part, job.on_text) for part in (job.train_set, job.held_out))
    head = head_for(job.settings, train, held_out, job.loss, job.on_step)
    job.base.model.cpu()
    put_head(job.base, head)
    if job.log_dir is not None:
        with _writer(job.log_dir) as writer:
            for point in head.curve:
                for key, value in point.items():
                    writer.add_scalar(key, value, int(point["step"]))
    return Fitted(head.held_out, head.curve, head.steps)


def _writer(folder: Path) -> SummaryWriter:
    try:
        return SummaryWriter(str(folder))
    except OSError as error:
        raise ConfigError(f"{folder}: --log-dir cannot be written ({error.strerror})") from None


def _telling(job: Job, writer: Any) -> Callable[[int, int, Mapping[str, float]], None]:
    """Return the callback after each step, which logs margins that move with training."""

    def tell(step: int, total: int, shown: Mapping[str, float]) -> None:
        for key, value in shown.items() if writer is not None else ():
            writer.add_scalar(f"step/{key}", value, step)
        if job.on_step:
            job.on_step(step, total, shown)

    return tell


def _unsharded(job: Job, state: Mapping[str, Any]) -> Any:
    """Return an ordinary model with the weights of all processes (on the main process only)."""
    if not is_main_process():
        return job.base.model
    settings = job.settings
    twin = load_base(settings.base, settings.seed, settings.lora, job.runtime, job.weights).model
    twin.load_state_dict(state)
    return twin


def head_for(
    settings: TrainSettings,
    train: Representations,
    held_out: Representations,
    loss: LossFunction,
    on_step: Callable[[int, int, Mapping[str, float]], None] | None,
) -> Head:
    """Train a head on representations with `settings`; see `train_head`."""
    return train_head(
        train,
        held_out,
        loss,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        max_steps=settings.max_steps,
        learning_rate=settings.learning_rate or 1e-3,
        weight_decay=settings.weight_decay,
        warmup=settings.warmup,
        eval_every=settings.eval_every,
        seed=settings.seed,
        on_step=on_step,
    )


def _claim(job: Job) -> None:
    """Make the working folder this run's, and this process's until `job.held` is closed.

    It refuses a folder of another run, of another running process, and of other things. Workers that outlive
    a killed launcher would write into the folder of the next run; the lock stops that.
    """
    work, identity = job.work, job.identity
    mark, ours = work / "run.json", json.dumps({"hash": digest(dict(identity), 16)}) + "\n"
    try:
        if mark.is_file():
            if mark.read_bytes() != ours.encode():
                raise ConfigError(f"{work.parent}: another run began here; give another --out, or remove it")
        elif work.parent.is_dir() and any(p.name != WORK for p in work.parent.iterdir()):
            raise ConfigError(f"{work.parent}: the folder is not empty; give another --out")
        else:
            write_atomic(mark, ours)
        if is_main_process():
            job.held.enter_context(locked(work / "lock", work.parent, "training in"))
    except OSError as error:
        raise ConfigError(f"{work.parent}: cannot be written ({error.strerror})") from None


def last_complete_checkpoint(work: Path) -> Path | None:
    """Return the newest complete checkpoint; remove incomplete ones."""
    found = sorted(work.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    for folder in found:
        if not (folder / COMPLETE).is_file():
            shutil.rmtree(folder)
    whole = [f for f in found if f.is_dir()]
    return whole[-1] if whole else None


def _arguments(job: Job) -> transformers.TrainingArguments:
    settings, runtime, processes = job.settings, job.runtime, n_processes()
    on_cuda = runtime.device.startswith("cuda") or (runtime.device == "auto" and torch.cuda.is_available())
    arguments = transformers.TrainingArguments(
        output_dir=str(job.work),
        seed=settings.seed,
        data_seed=settings.seed,
        per_device_train_batch_size=settings.micro_batch,
        per_device_eval_batch_size=settings.micro_batch,
        gradient_accumulation_steps=settings.batch_size // (settings.micro_batch * processes),
        learning_rate=settings.learning_rate or 2e-5,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=settings.eval_every,
        save_steps=settings.eval_every,
        logging_steps=10,
        load_best_model_at_end=True,
        metric_for_best_model="eval_nll",
        greater_is_better=False,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not on_cuda,
        bf16=settings.precision == "bfloat16"
        or (settings.precision == "auto" and on_cuda and torch.cuda.is_bf16_supported()),
        dataloader_pin_memory=on_cuda,
        log_level="error",
        ddp_backend="gloo" if processes > 1 and not on_cuda else None,
    )
    if arguments.n_gpu > 1:
        # Without a launcher the trainer would spread each micro-batch over all GPUs and change the step size.
        arguments._n_gpu = 1
    return arguments


def _point(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return the values of a log entry that belong to the training curve."""
    if "loss" not in entry and "eval_nll" not in entry:
        return {}
    return {k: float(v) for k, v in entry.items() if k not in ("epoch", "eval_loss")}
