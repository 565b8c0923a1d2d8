"""`rmbench contamination`: find a task's texts in training data."""

import json
from pathlib import Path

import click

from rmbench.cli.options import FiniteRange, eval_options, key_values, output_options
from rmbench.errors import ConfigError

FORMATS = ("auto", "pairs", "items", "messages", "instruction", "completion", "text")


@click.command("contamination")
@click.option(
    "--train",
    "train",
    required=True,
    multiple=True,
    metavar="PATH|TASK:train|ORG/NAME:SPLIT",
    help="Training data: files, folders, tasks' training splits, data sets on the Hub (repeat: one set).",
)
@click.option("-t", "--task", required=True, help="Task whose items are looked for.")
@eval_options("data", "params", "on_bad")
@click.option(
    "--format",
    "layout",
    type=click.Choice(FORMATS),
    default="auto",
    show_default=True,
    help="Columns of the training files; auto: by the first row of each.",
)
@click.option(
    "--train-option",
    "train_options",
    multiple=True,
    metavar="KEY=VALUE",
    callback=lambda _context, _option, given: key_values(given, "--train-option"),
    help="How the training files are read: columns=prompt:ask,chosen:good, winner=1:first (repeat).",
)
@click.option(
    "--ngram",
    type=click.IntRange(min=1),
    default=13,
    show_default=True,
    help="Length of an n-gram in words.",
)
@click.option(
    "--common",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Ignore n-grams that stand in more of the task's own prompts (or in responses to more of them).",
)
@click.option(
    "--share",
    type=FiniteRange(0.0, 1.0, min_open=True),
    default=0.5,
    show_default=True,
    help="An item counts as contaminated from this share of a text's n-grams on.",
)
@click.option(
    "--examples",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Number of the worst items to show.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write the contaminated items to, a line of JSON each.",
)
@eval_options("offline")
@output_options
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def command(
    train: tuple[str, ...],
    task: str,
    data: Path | None,
    params: dict[str, str],
    on_bad: str,
    layout: str,
    train_options: dict[str, str],
    ngram: int,
    common: int,
    share: float,
    examples: int,
    out: Path | None,
    offline: bool,
    output: str,
    quiet: bool,
) -> None:
    """Look for a task's prompts and responses in training data, whole and by words in a row.

    \b
    rmbench contamination --train pairs.jsonl --task rm-bench --data path/to/rm-bench
    rmbench contamination --train sft/ --train preference:train --task bon -o contaminated.jsonl
    rmbench contamination --train web.parquet --format text --task judgebench --data FILE --ngram 8

    \b
    Training files are JSON Lines, JSON arrays (.gz and .xz too) or Parquet. The keys that are read:
      pairs        chosen, rejected, prompt: texts, messages, or transcripts "\\n\\nHuman: ..."
      items        responses, gold, prompt: the highest gold is the chosen response
      messages     messages (role, content) or conversations (from, value): every assistant turn is a reply
      instruction  instruction, input, and output or response
      completion   prompt, and completion or response
      text         text: compared with prompts and with responses
    They are read once, row by row: memory grows with the task, not with the training data.

    A prompt is seen whole if its turns are equal to the last character; a system message makes it another
    prompt. A response is seen whole if it answers any prompt, or "to its prompt" if it answers the same one:
    short responses ("Yes.") recur by chance. A label leak is a chosen response that is also chosen in the
    training data. N-grams are compared in lower case, without punctuation, prompts with prompts and responses
    with responses. Texts with fewer than --ngram words have no n-grams: they are counted, and no share
    includes them. N-grams in many of the task's own prompts are its wording, not its content: see --common.

    An item is contaminated if its prompt is seen whole, or one of its responses is seen whole to its prompt,
    or at least --share of the n-grams of one of these texts is seen. Every line of --out has the item's `id`.
    """
    from rmbench.cli.options import print_tables
    from rmbench.contamination import TaskIndex, estimated_rows, measure, open_training, scan
    from rmbench.contamination.tables import as_json_values, blocks_of, values_of
    from rmbench.core.files import write_atomic_with
    from rmbench.core.progress import Bar
    from rmbench.tasks import read_task_items
    from rmbench.tasks.layouts.reading import reading_of
    from rmbench.tasks.spec import apply_params, load_task

    spec = apply_params(load_task(task), params)
    reading = reading_of(train_options, "--train-option")
    sources = open_training(train, offline=offline)
    found = read_task_items(spec, data, on_bad=on_bad, offline=offline)
    if not found.items:
        raise ConfigError(f"task {spec.name!r}: no item is left to look for")
    index = TaskIndex(found.items, n=ngram, most_common=common)
    with Bar("reading", "rows", enabled=not quiet) as bar:
        if bar.is_shown:
            bar.start(estimated_rows(sources))
        findings = scan(
            index, sources, layout=layout, options=reading, on_bad=on_bad, offline=offline,
            on_rows=bar.advance_to,
        )  # fmt: skip
    measures = measure(findings, found.items, strata=spec.strata, share=share)
    if out is not None:
        lines = (json.dumps(f.values) for f in measures.findings)
        write_atomic_with(out, lambda file: file.writelines(f"{line}\n".encode() for line in lines))
    if output == "json":
        told = as_json_values(spec, found, index, findings, measures, examples)
        click.echo(json.dumps(told, indent=1))
    else:
        print_tables(
            output,
            lambda: blocks_of(spec, found, index, findings, measures, examples),
            lambda: values_of(measures),
        )
    if out is not None:
        click.echo(f"{len(measures.findings):,} contaminated items in {out}", err=True)
