"""`rmbench train`: train a reward model on pairs."""

import json

import click

from rmbench.cli.options import json_option, options_of
from rmbench.core.digits import Digits
from rmbench.core.files import require_writable
from rmbench.core.progress import Bar
from rmbench.errors import ConfigError
from rmbench.train.settings import TrainOptions


@click.command("train")
@options_of(TrainOptions, json_option, first=("method", "method_options"))
def command(options: TrainOptions, as_json: bool) -> None:
    """Train a reward model on pairs, with the model's own confidence as the margin of the loss.

    \b
    rmbench train --base builtin:tiny --data preference:train --out runs/first --freeze-backbone
    rmbench train --base path/to/lm --data pairs.jsonl --out runs/my-rm
    rmbench train --base path/to/lm --data a.jsonl --data preference:train --method bradley-terry --out runs/b
    accelerate launch --num_processes 4 -m rmbench train --base path/to/lm --data pairs.jsonl --out runs/my-rm
    rmbench train --base path/to/lm --data pairs.jsonl -L threshold=mean -L cap=2 --out runs/thresholded
    rmbench eval  --model runs/my-rm --task preference --task calibration --task bon

    After a kill, the same command continues from the last checkpoint and ends with the same weights. The best
    checkpoint by held-out Bradley-Terry NLL is kept. The folder is an ordinary Hugging Face model.
    """
    try:
        from rmbench.train.fit import is_main_process
        from rmbench.train.losses import find_loss
        from rmbench.train.run import train
    except ImportError as error:
        missing = str(error).partition(";")[0]
        raise ConfigError(f"{missing}; training needs: pip install 'rmbench[train]'") from None

    settings, runtime = options.settings, options.runtime
    find_loss(settings.method)  # an unknown name stops before the data is read, and so does a full disk
    require_writable(options.out, "--out")
    pairs = options.pairs.read(settings.seed, offline=runtime.offline)
    shown = not options.quiet and is_main_process()
    with Bar("training", "steps", pairs_per_step=settings.batch_size, enabled=shown) as bar:
        done = train(
            settings, pairs, options.out, runtime=runtime, log_dir=options.log_dir, on_step=bar.step,
            on_text=bar.texts,
        )  # fmt: skip
    if not is_main_process():
        return
    if as_json:
        click.echo(json.dumps(done.record, indent=1, sort_keys=True))
        return
    counts, watched, write = done.record["counts"], done.record["held_out"], Digits().write
    if done.reused:
        click.echo(f"{options.out} was trained before; nothing done", err=True)
    click.echo(
        f"{counts['train_pairs']:,} pairs, {counts['steps']:,} steps;"
        f" {counts['truncated_texts']:,} texts truncated"
    )
    for reason, n in counts["dropped"].items():
        click.echo(f"  left out: {n:,} for {reason}")
    click.echo(
        f"held out ({counts['held_out_pairs']:,} pairs): accuracy {write(watched['accuracy'])},"
        f" NLL {write(watched['nll'])}, mean margin {write(watched['margin'])}"
    )
