"""Train a reward model: base and pairs in, an ordinary Hugging Face folder out."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers

from rmbench.canon import digest
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.files import write_atomic
from rmbench.models.hf_load import quiet
from rmbench.models.options import typed_options
from rmbench.models.runtime import Runtime
from rmbench.train.base import Base, identity_of_base, load_base
from rmbench.train.batches import EncodedPairs
from rmbench.train.card import model_card
from rmbench.train.losses import LOSSES
from rmbench.train.pairs import TrainingData
from rmbench.train.trainer import COMPLETE, MarginTrainer

RECORD = "rmbench.json"
"""Written last: a folder that has it holds a finished model."""
_WORK = ".training"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Everything that can change the trained weights, beside base and data."""

    base: str
    method: str = "confidence-margin"
    method_options: Mapping[str, str] = field(default_factory=dict)
    epochs: float = 1.0
    max_steps: int | None = None
    learning_rate: float = 2e-5
    weight_decay: float = 0.01
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises."""
    batch_size: int = 32
    """Pairs per optimiser step, over all micro-batches and processes."""
    micro_batch: int = 8
    """Pairs per forward pass and process. Changes memory and speed, not the result."""
    max_length: int = 1024
    """Tokens per conversation; the prompt is cut from the left."""
    lora: int | None = None
    """Rank of LoRA adapters (merged when saved); None: all weights."""
    seed: int = 0
    eval_every: int = 50
    """Steps between evaluations on the held-out prompts, and between checkpoints."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished model."""

    folder: Path
    record: Mapping[str, Any]
    reused: bool
    """True if it was there already."""


def train(
    settings: TrainSettings,
    data: TrainingData,
    out: Path,
    *,
    runtime: Runtime | None = None,
    log_dir: Path | None = None,
    on_step: Callable[[int, int, Mapping[str, float]], None] | None = None,
) -> Trained:
    """Train a reward model, or continue where a killed run stopped, or return the finished one.

    Args:
        settings: What to train, and how.
        data: Pairs, split by prompt.
        out: The folder to make. A run that another configuration or other data began there is refused.
        runtime: Device, offline.
        log_dir: TensorBoard's folder; None writes none.
        on_step: Called after every optimiser step.

    Raises:
        ConfigError: If settings do not fit the data or the base; nothing is written then.
        RunError: If the loss is not finite.
    """
    runtime = runtime or Runtime()
    weights, shown = identity_of_base(settings.base, runtime)
    identity = {"settings": {**_plain(settings), "base": shown}, "base": weights, "data": data.data_hash}
    if (done := _finished(out, identity)) is not None:
        return Trained(out, done, reused=True)
    loss = _loss_of(settings, data)
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))  # set by torchrun and accelerate
    _check_sizes(settings, data, n_processes)
    transformers.set_seed(settings.seed)
    base = load_base(settings.base, settings.seed, settings.lora, runtime)
    train_set = EncodedPairs(data.train, base.text_format, base.limit(settings.max_length))
    held_out = EncodedPairs(data.held_out, base.text_format, base.limit(settings.max_length))
    work = out / _WORK
    arguments = _arguments(settings, work, n_processes, runtime, log_dir)
    with arguments.main_process_first(local=False):
        _claim(work, identity)
        resume = _last_complete(work)
    trainer = MarginTrainer(
        loss_name=settings.method,
        loss=loss,
        step_size=settings.batch_size,
        pad_id=base.pad_id,
        on_step=on_step,
        model=base.model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset=held_out,
        processing_class=base.tokenizer,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    with quiet():
        trainer.train(resume_from_checkpoint=resume)
        curve = [point for entry in trainer.state.log_history if (point := _point(entry))]
        final = trainer.evaluate()
    texts = {
        "truncated_texts": train_set.n_truncated + held_out.n_truncated,
        "steps": trainer.state.global_step,
    }
    record = _record(identity, data, texts, final, curve)
    if trainer.is_world_process_zero():
        with quiet():
            _save(base, out, record)
    return Trained(out, record, reused=False)


def _record(
    identity: Mapping[str, Any],
    data: TrainingData,
    counts: Mapping[str, int],
    final: Mapping[str, float],
    curve: Sequence[Mapping[str, float]],
) -> dict[str, Any]:
    pairs = {"train_pairs": len(data.train), "held_out_pairs": len(data.held_out)}
    return {
        "rmbench_model": 1,
        "identity": identity,
        "identity_hash": digest(dict(identity), 16),
        "source": data.source,
        "counts": {**pairs, **counts, "dropped": dict(data.dropped)},
        "held_out": {name: final[f"eval_{name}"] for name in ("nll", "accuracy", "margin")},
        "curve": list(curve),
        "versions": {name: version(name) for name in ("rmbench", "torch", "transformers")},
    }


def _loss_of(settings: TrainSettings, data: TrainingData) -> Any:
    loss = LOSSES.get(settings.method)
    reserved = frozenset({"chosen", "rejected", "batch"})
    options = typed_options(loss, settings.method_options, f"loss {settings.method!r}", reserved)
    if settings.method == "label-margin" and not data.has_strength():
        raise ConfigError(
            f"{data.source}: label-margin needs pairs with strength (or graded gold), and some have none"
        )
    return partial(loss, **options)


def _check_sizes(settings: TrainSettings, data: TrainingData, n_processes: int) -> None:
    if settings.batch_size % (settings.micro_batch * n_processes):
        raise ConfigError(
            f"batch size {settings.batch_size} is no multiple of micro-batch x processes,"
            f" {settings.micro_batch} x {n_processes}"
        )
    if settings.batch_size > len(data.train):
        raise ConfigError(
            f"batch size {settings.batch_size} is larger than the {len(data.train)} training pairs"
        )
    if settings.batch_size < 2 and settings.method in ("confidence-margin", "quantile-margin"):
        raise ConfigError(f"{settings.method} needs at least 2 pairs per optimiser step; raise --batch-size")


def _plain(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings without what cannot change the result."""
    return {k: v for k, v in asdict(settings).items() if k != "micro_batch"}


def _finished(out: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record of the finished run in `out`, if it is this very one."""
    path = out / RECORD
    if not path.is_file():
        return None
    try:
        record = dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON ({error})") from None
    if record.get("identity_hash") != digest(dict(identity), 16):
        raise ConfigError(f"{out}: it holds another trained model; give another --out")
    return record


def _claim(work: Path, identity: Mapping[str, Any]) -> None:
    """Make the working folder this run's; refuse one that another run began, or a folder of other things."""
    mark = work / "run.json"
    if mark.is_file():
        if json.loads(mark.read_text(encoding="utf-8")).get("hash") != digest(dict(identity), 16):
            raise ConfigError(f"{work.parent}: another run began here; give another --out, or remove it")
        return
    if work.parent.is_dir() and any(p.name != _WORK for p in work.parent.iterdir()):
        raise ConfigError(f"{work.parent}: the folder is not empty; give another --out")
    try:
        write_atomic(mark, json.dumps({"hash": digest(dict(identity), 16)}) + "\n")
    except OSError as error:
        raise ConfigError(f"{work.parent}: cannot be written ({error.strerror})") from None


def _last_complete(work: Path) -> str | None:
    """Return the newest checkpoint that was written to its end; remove the others that were not."""
    found = sorted(work.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    for folder in found:
        if not (folder / COMPLETE).is_file():
            shutil.rmtree(folder)
    whole = [f for f in found if f.is_dir()]
    return str(whole[-1]) if whole else None


def _arguments(
    settings: TrainSettings, work: Path, n_processes: int, runtime: Runtime, log_dir: Path | None
) -> transformers.TrainingArguments:
    on_cuda = runtime.device.startswith("cuda") or (runtime.device == "auto" and torch.cuda.is_available())
    return transformers.TrainingArguments(
        output_dir=str(work),
        seed=settings.seed,
        data_seed=settings.seed,
        per_device_train_batch_size=settings.micro_batch,
        per_device_eval_batch_size=settings.micro_batch,
        gradient_accumulation_steps=settings.batch_size // (settings.micro_batch * n_processes),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=settings.eval_every,
        save_steps=settings.eval_every,
        logging_steps=10,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_nll",
        greater_is_better=False,
        report_to=["tensorboard"] if log_dir else [],
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not on_cuda,
        bf16=on_cuda and torch.cuda.is_bf16_supported(),
        dataloader_pin_memory=on_cuda,
        log_level="error",
        ddp_backend="gloo" if n_processes > 1 and not on_cuda else None,
    )


def _point(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return what of a log entry belongs to the training curve."""
    keep = ("step", "loss", "grad_norm", "learning_rate", "eval_nll", "eval_accuracy", "eval_margin")
    found = {k: float(entry[k]) for k in keep if k in entry}
    return found if len(found) > 1 else {}


def _save(base: Base, out: Path, record: Mapping[str, Any]) -> None:
    model = base.merged()
    model.config.pad_token_id = base.pad_id
    model.save_pretrained(out)
    base.tokenizer.save_pretrained(out)
    write_atomic(out / "README.md", model_card(record))
    shutil.rmtree(out / _WORK)
    write_atomic(out / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")


def check_method(name: str) -> None:
    """Raise unless a loss of that name is registered."""
    if name not in LOSSES:
        raise UnknownNameError("loss", name, LOSSES.names())
