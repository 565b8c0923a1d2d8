"""Train a reward model: base and pairs in, an ordinary Hugging Face folder out."""

import inspect
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
import transformers

from rmbench.core.digits import Digits
from rmbench.core.escape import for_markdown
from rmbench.core.files import digest, read_json, require_writable, write_atomic
from rmbench.core.overlap import TrainingPrompts
from rmbench.core.schema import parse, typed_options
from rmbench.errors import ConfigError
from rmbench.models.hf.checkpoint import RECORD
from rmbench.models.hf.device import pick_device
from rmbench.models.hf.load import quiet
from rmbench.models.runtime import Runtime
from rmbench.scoring import default_store_folder
from rmbench.train.base import Base, identity_of_base, load_base, prompts_seen
from rmbench.train.fit import (
    WORK,
    Fitted,
    Job,
    fit_all,
    fit_head,
    is_main_process,
    n_processes,
)
from rmbench.train.losses import BatchStatistics, find_loss, summary_of
from rmbench.train.pairs import EncodedPairs, TrainingData
from rmbench.train.settings import TrainSettings


def model_card(record: Mapping[str, Any]) -> str:
    """Return the card as Markdown: how it was made, what it was seen to do, how to use it."""
    settings, counts, watched = record["identity"]["settings"], record["counts"], record["held_out"]
    options = ", ".join(f"{k} = {v}" for k, v in settings["method_options"].items()) or "defaults"
    dropped = ", ".join(f"{n:,} for {reason}" for reason, n in counts["dropped"].items()) or "nothing"
    write = Digits().write
    return f"""---
library_name: transformers
pipeline_tag: text-classification
tags: [reward-model, rmbench]
---
# Reward model

Trained by rmbench with the loss `{for_markdown(settings["method"])}` ({for_markdown(options)}) from
`{for_markdown(settings["base"], limit=200)}`. The reward is the raw logit; higher is better.

| | |
|---|---|
| pairs | {counts["train_pairs"]:,} to train on, {counts["held_out_pairs"]:,} held out (other prompts) |
| left out | {for_markdown(dropped, limit=400)} |
| truncated texts | {counts["truncated_texts"]:,} |
| optimiser steps | {counts["steps"]:,} of {settings["batch_size"]} pairs, seed {settings["seed"]} |
| held-out accuracy | {write(watched["accuracy"])} |
| held-out NLL (Bradley-Terry) | {write(watched["nll"])} |
| held-out mean margin | {write(watched["margin"])} |

```
rmbench eval --model FOLDER --task preference --task calibration --task bon
```

All settings and the training curve are in `rmbench.json`.
"""


_VERSIONS = ("rmbench", "torch", "transformers", "accelerate", "peft")


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
    features: Path | None = None,
    on_step: Callable[[int, int, Mapping[str, float]], None] | None = None,
    on_text: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train a reward model, or continue where a killed run stopped, or return the finished one.

    Args:
        settings: What to train, and how.
        data: Pairs, split by prompt.
        out: The folder to make. A run that another configuration or other data began there is refused.
        runtime: Device, offline.
        log_dir: TensorBoard's folder; None writes none.
        features: Where representations of frozen backbones are stored; None: with the score stores.
        on_step: Called after every optimiser step.
        on_text: Called with (texts done, texts in all) while a frozen backbone reads them.

    Raises:
        ConfigError: If settings do not fit the data or the base; nothing is written then.
        RunError: If the loss is not finite.
    """
    runtime = runtime or Runtime()
    settings = replace(settings, micro_batch=min(settings.micro_batch, settings.batch_size))
    _check_use(settings, runtime, log_dir)
    require_writable(out, "--out")
    identity = identity_of(settings, data, runtime)
    if (done := _finished(out, identity)) is not None:
        return Trained(out, done, reused=True)
    loss = loss_of(settings, data)
    check_sizes(settings, data, n_processes())
    seen = prompts_seen(settings.base, (p.prompt for p in data.train))
    transformers.set_seed(settings.seed)
    base = load_base(settings.base, settings.seed, settings.lora, runtime, str(identity["base"]))
    train_set = EncodedPairs(data.train, base.text_format, base.limit(settings.max_length))
    held_out = EncodedPairs(data.held_out, base.text_format, base.limit(settings.max_length))
    with ExitStack() as held:
        job = Job(
            settings, base, train_set, held_out, loss, out / WORK, str(identity["base"]), identity, runtime,
            held, log_dir, on_step, on_text,
        )  # fmt: skip
        frozen = settings.freeze_backbone
        fitted = fit_head(job, features or default_store_folder()) if frozen else fit_all(job)
        texts = {"truncated_texts": train_set.n_truncated + held_out.n_truncated, "steps": fitted.steps}
        record = _record(identity, data, texts, fitted, loss)
        if is_main_process():
            with quiet():
                _save(base, out, record, seen)
    return Trained(out, record, reused=False)


def _record(
    identity: Mapping[str, Any],
    data: TrainingData,
    counts: Mapping[str, int],
    fitted: Fitted,
    loss: Any,
) -> dict[str, Any]:
    pairs = {"train_pairs": len(data.train), "held_out_pairs": len(data.held_out)}
    return {
        "rmbench_model": 1,
        "identity": identity,
        "identity_hash": digest(dict(identity), 16),
        "source": data.source,
        "loss": _described(loss),
        "counts": {**pairs, **counts, "dropped": dict(data.dropped)},
        "held_out": dict(fitted.held_out),
        "curve": fitted.curve,
        "versions": {name: version(name) for name in _VERSIONS},
    }


def loss_of(settings: TrainSettings, data: TrainingData) -> Any:
    """Return the loss with its options, tried out once: what does not work stops before anything is written.

    Raises:
        ConfigError: If there is none, an option is wrong, or the data lacks what it needs.
    """
    loss, _ = find_loss(settings.method)
    reserved = frozenset({"chosen", "rejected", "batch"})
    options = typed_options(loss, settings.method_options, f"loss {settings.method!r}", reserved)
    if "strength" in loss.needs and not data.has_strength():
        raise ConfigError(
            f"{data.source}: {settings.method} needs pairs with strength (pools: gold_kind graded);"
            " some have none"
        )
    made = partial(loss, **options)
    _try_out(made, settings.method)
    return made


def _try_out(loss: Any, name: str) -> None:
    """Refuse a loss that does not return a value per pair and diagnostics, on two pairs made up here."""
    ones = torch.ones(2)
    batch = BatchStatistics(margins=torch.zeros(2), strength=ones, distance=ones, mean_distance=1.0)
    try:
        found = loss(torch.zeros(2), torch.zeros(2), batch)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"loss {name!r} raised {type(error).__name__}: {error}") from error
    if not (isinstance(found, tuple) and len(found) == 2 and getattr(found[0], "shape", None) == (2,)
            and isinstance(found[1], Mapping)):  # fmt: skip
        raise ConfigError(f"loss {name!r}: expected (a tensor with one value per pair, a mapping)")


def _described(loss: Any) -> dict[str, Any]:
    """Return a loss's equation and all its options, also those left at their defaults."""
    parameters = list(inspect.signature(loss.func).parameters.values())[3:]
    options = {p.name: p.default for p in parameters if p.default is not p.empty} | loss.keywords
    plain = (str, int, float, bool, type(None))
    return {
        "equation": summary_of(loss.func),
        "options": {k: v if isinstance(v, plain) else str(v) for k, v in options.items()},
    }


def _check_use(settings: TrainSettings, runtime: Runtime, log_dir: Path | None) -> None:
    """Refuse what cannot work before anything is read, with a ConfigError."""
    pick_device(runtime.device)
    used = {"accelerate": not settings.freeze_backbone, "peft": settings.lora is not None}
    for package in (name for name, is_used in used.items() if is_used):
        if find_spec(package) is None:
            raise ConfigError(f"{package} is not installed; training needs: pip install 'rmbench[train]'")
    if settings.freeze_backbone and settings.lora is not None:
        raise ConfigError("a frozen backbone has no adapters; give --lora or --freeze-backbone, not both")
    if settings.freeze_backbone and n_processes() > 1:
        raise ConfigError("--freeze-backbone trains in one process; start it without a launcher")
    if log_dir is not None:
        there = next(p for p in (log_dir, *log_dir.resolve().parents) if p.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise ConfigError(f"{log_dir}: --log-dir cannot be written")


def check_sizes(settings: TrainSettings, data: TrainingData, n_processes: int) -> None:
    """Refuse batch sizes that do not fit the data, the processes or the loss, with a ConfigError."""
    if settings.batch_size % (settings.micro_batch * n_processes):
        raise ConfigError(
            f"batch size {settings.batch_size} is no multiple of micro-batch x processes,"
            f" {settings.micro_batch} x {n_processes}"
        )
    if settings.batch_size > len(data.train):
        raise ConfigError(
            f"batch size {settings.batch_size} is larger than the {len(data.train)} training pairs"
        )
    if settings.batch_size < 2 and "mean" in find_loss(settings.method)[0].needs:
        raise ConfigError(f"{settings.method} needs at least 2 pairs per optimiser step; raise --batch-size")


def identity_of(settings: TrainSettings, data: TrainingData, runtime: Runtime) -> dict[str, Any]:
    """Return all that can change the trained weights."""
    weights, shown = identity_of_base(settings.base, runtime)
    identity = {"settings": {**_plain(settings), "base": shown}, "base": weights, "data": data.data_hash}
    if (source := find_loss(settings.method)[1]) is not None:
        identity["loss_source"] = source
    return identity


def _plain(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings without what cannot change the result."""
    kept = {k: v for k, v in asdict(settings).items() if k != "micro_batch"}
    return {**kept, "method": Path(settings.method).name}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedCounts:
    """Counts of a training run."""

    MORE_KEYS: ClassVar[bool] = True
    train_pairs: int
    held_out_pairs: int
    truncated_texts: int
    steps: int
    dropped: Mapping[str, int]
    """Reason -> pairs left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Measures of a trained model on the held-out pairs."""

    MORE_KEYS: ClassVar[bool] = True
    accuracy: float
    nll: float
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedFile:
    """The keys of the record of a training run that are read again."""

    MORE_KEYS: ClassVar[bool] = True
    identity: Mapping[str, Any]
    identity_hash: str
    counts: TrainedCounts
    held_out: HeldOut


def finished_record(path: Path, identity: Mapping[str, Any], advice: str) -> dict[str, Any] | None:
    """Return the record of a finished training run with this identity; None if there is none.

    Args:
        path: The record.
        identity: Everything that can change the trained weights.
        advice: What to type where the record is of another run.

    Raises:
        ConfigError: If the record is damaged, or of another run.
    """
    if not path.exists():
        return None
    record = read_json(path)
    parse(TrainedFile, record, f"{path}: not the record of a training run")
    if record["identity_hash"] != digest(dict(identity), 16):
        raise ConfigError(f"{path.parent}: it holds another trained model; {advice}")
    return dict(record)


def _finished(out: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        record = finished_record(out / RECORD, identity, "give another --out")
    except OSError as error:
        raise ConfigError(f"{out}: cannot be read ({error.strerror})") from None
    if record is not None:
        shutil.rmtree(out / WORK, ignore_errors=True)  # left where a kill hit between record and removal
    return record


def _save(base: Base, out: Path, record: Mapping[str, Any], seen: TrainingPrompts) -> None:
    model = base.merged()
    model.config.pad_token_id = base.pad_id
    model.save_pretrained(out)
    base.tokenizer.save_pretrained(out)
    seen.save(out)
    write_atomic(out / "README.md", model_card(record))
    # First the record, then the checkpoints: a kill between them leaves a finished model, never a folder that
    # neither is one nor says whose it is.
    write_atomic(out / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")
    shutil.rmtree(out / WORK)
