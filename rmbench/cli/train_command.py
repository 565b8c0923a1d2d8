"""`rmbench train`: pairs in, a reward model out."""

import json
from pathlib import Path

import click

from rmbench.cli.options import (
    FiniteRange,
    device_option,
    json_option,
    key_values,
    offline_option,
    on_bad_option,
    part_option,
)
from rmbench.core.digits import Digits
from rmbench.core.options import parse_part
from rmbench.errors import ConfigError


@click.command("train")
@click.option(
    "--base",
    required=True,
    metavar="PATH|ORG/NAME",
    help="Model to start from; a head is drawn if it has none. builtin:tiny comes with the package.",
)
@click.option(
    "--data",
    required=True,
    multiple=True,
    metavar="PATH|TASK:train",
    help="Pairs, pools with gold, or a task's training split (repeat: they are joined).",
)
@click.option(
    "--method", default="confidence-margin", show_default=True, help="The loss; see `rmbench losses`."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to make."
)
@click.option("-L", "method_options", multiple=True, metavar="KEY=VALUE", help="Option of the loss (repeat).")
@click.option(
    "--reader", default="auto", show_default=True, help="Format of the data: pairs, jsonl, hh-rlhf, ..."
)
@click.option(
    "--like",
    metavar="TASK",
    help="Read the data as this task does, such as alpacaeval-bon: its format and options.",
)
@part_option
@on_bad_option
@click.option(
    "--pairs-per-prompt",
    type=click.IntRange(min=1),
    help="Out of pools: at most so many pairs.  [default: all]",
)
@click.option("--limit", type=click.IntRange(min=2), help="At most so many pairs, drawn by seed.")
@click.option(
    "--held-out",
    type=FiniteRange(0.0, 0.5, min_open=True),
    default=0.1,
    show_default=True,
    help="Share of prompts to evaluate on.",
)
@click.option(
    "--eval-limit",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="At most so many held-out pairs, drawn by seed; the others are left out and counted.",
)
@click.option("--epochs", type=FiniteRange(min=0, min_open=True), default=1.0, show_default=True)
@click.option("--max-steps", type=click.IntRange(min=1), help="Stop after so many optimiser steps.")
@click.option(
    "--learning-rate",
    type=FiniteRange(min=0, min_open=True),
    help="Peak of AdamW's rate.  [default: 2e-5; 1e-3 with --freeze-backbone]",
)
@click.option("--weight-decay", type=FiniteRange(min=0), default=0.01, show_default=True, help="Of AdamW.")
@click.option(
    "--warmup",
    type=FiniteRange(0.0, 1.0, max_open=True),
    default=0.05,
    show_default=True,
    help="Share of the steps over which the learning rate rises.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Pairs per optimiser step: what the batch margin is over.",
)
@click.option(
    "--micro-batch",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Pairs per forward pass: memory and speed, not the result.",
)
@click.option(
    "--max-length",
    type=click.IntRange(min=8),
    default=1024,
    show_default=True,
    help="Tokens per conversation; cut from the left of the prompt.",
)
@click.option(
    "--freeze-backbone",
    is_flag=True,
    help="Train the last layer alone, on representations computed once: minutes on a CPU.",
)
@click.option(
    "--lora",
    type=click.IntRange(min=1),
    metavar="RANK",
    help="Train LoRA adapters of this rank.  [default: all weights]",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Of the matrix products; weights stay float32. auto: bfloat16 on GPUs that have it. On a CPU with"
    " bfloat16 units it is about four times as fast.",
)
@click.option(
    "--eval-every",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Steps between evaluations and checkpoints.",
)
@click.option(
    "--log-dir", type=click.Path(path_type=Path, file_okay=False), help="Write TensorBoard events there."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, envvar="RMBENCH_SEED")
@device_option
@offline_option
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def command(
    base: str, data: tuple[str, ...], method: str, out: Path, method_options: tuple[str, ...], reader: str, like: str | None, part: str | None, on_bad: str,
    pairs_per_prompt: int | None, limit: int | None, held_out: float, eval_limit: int, epochs: float,
    max_steps: int | None, learning_rate: float | None, weight_decay: float, warmup: float, batch_size: int, micro_batch: int, max_length: int, freeze_backbone: bool,
    lora: int | None, precision: str,
    eval_every: int, log_dir: Path | None, seed: int, device: str, offline: bool, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Train a reward model on pairs, with the model's own confidence as the margin of the loss.

    \b
    rmbench train --base builtin:tiny --data preference:train --out runs/first --freeze-backbone
    rmbench train --base path/to/lm --data pairs.jsonl --out runs/my-rm
    rmbench train --base path/to/lm --data a.jsonl --data preference:train --method bradley-terry --out runs/bt
    accelerate launch --num_processes 4 -m rmbench train --base path/to/lm --data pairs.jsonl --out runs/my-rm
    rmbench train --base path/to/lm --data pairs.jsonl -L threshold=mean -L cap=2 --out runs/thresholded
    rmbench eval  --model runs/my-rm --task preference --task calibration --task bon

    Killed at any moment, the same command continues from the last checkpoint and ends with the same weights.
    The best checkpoint by held-out Bradley-Terry NLL is kept. The folder is an ordinary Hugging Face model.
    """
    try:
        from rmbench.train.fit import is_main_process
        from rmbench.train.losses import find_loss
        from rmbench.train.run import train
    except ImportError as error:
        missing = str(error).partition(";")[0]
        raise ConfigError(f"{missing}; training needs: pip install 'rmbench[train]'") from None
    from rmbench.core.progress import TrainingBar
    from rmbench.models.runtime import Runtime
    from rmbench.train.pairs import read_training_data
    from rmbench.train.settings import TrainSettings

    find_loss(method)  # an unknown name stops before the data is read
    settings = TrainSettings(
        base=base, method=method, method_options=key_values(method_options, "-L"), epochs=epochs,
        max_steps=max_steps, learning_rate=learning_rate, weight_decay=weight_decay, warmup=warmup, batch_size=batch_size,
        micro_batch=min(micro_batch, batch_size), max_length=max_length,
        freeze_backbone=freeze_backbone, lora=lora, precision=precision, seed=seed, eval_every=eval_every,
    )  # fmt: skip
    pairs = read_training_data(
        data, reader=reader, like=like, part=None if part is None else parse_part(part, "--part"), on_bad=on_bad, pairs_per_prompt=pairs_per_prompt, limit=limit,
        held_out=held_out, eval_limit=eval_limit, seed=seed, offline=offline,
    )  # fmt: skip
    with TrainingBar(batch_size, enabled=not quiet and is_main_process()) as bar:
        done = train(
            settings,
            pairs,
            out,
            runtime=Runtime(device=device, offline=offline),
            on_step=bar.step,
            on_text=bar.texts,
            log_dir=log_dir,
        )
    if not is_main_process():
        return
    if as_json:
        click.echo(json.dumps(done.record, indent=1, sort_keys=True))
        return
    counts, watched, write = done.record["counts"], done.record["held_out"], Digits().write
    if done.reused:
        click.echo(f"{out} was trained before; nothing done", err=True)
    click.echo(
        f"{counts['train_pairs']:,} pairs, {counts['steps']:,} steps; {counts['truncated_texts']:,} texts truncated"
    )
    for reason, n in counts["dropped"].items():
        click.echo(f"  left out: {n:,} for {reason}")
    click.echo(
        f"held out ({counts['held_out_pairs']:,} pairs): accuracy {write(watched['accuracy'])},"
        f" NLL {write(watched['nll'])}, mean margin {write(watched['margin'])}"
    )
