"""`rmbench sample`: sample responses of a policy, as a pool for best-of-N."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli.options import eval_options, json_option, options_of
from rmbench.core.escape import one_line
from rmbench.errors import ConfigError
from rmbench.models.runtime import Runtime
from rmbench.sampling.policy import Decoding

if TYPE_CHECKING:
    from rmbench.sampling.policy import Engine
    from rmbench.sampling.pool import Sampled
    from rmbench.sampling.prompts import PromptSet


@click.command("sample")
@click.option(
    "--policy",
    required=True,
    metavar="PATH|ORG/NAME",
    help="Language model to sample: a folder, or org/name[@revision] on the Hub.",
)
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help='Prompts, a line each: {"id", "prompt": text or messages}. Without an id it is the content\'s hash.',
)
@click.option("-t", "--task", metavar="TASK", help="Task whose prompts to take in place of --prompts.")
@eval_options("data", "params", "on_bad")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.jsonl",
    help="Pool to write; the same command continues it.",
)
@options_of(Decoding)
@click.option(
    "--engine", "engine_name", type=click.Choice(["transformers", "vllm"]), default="transformers",
    show_default=True, help="Library that draws. vllm: many prompts at a time; needs rmbench[vllm].",
)  # fmt: skip
@click.option("--system", metavar="TEXT", help="System message of prompts that have none.")
@click.option(
    "--chat-template",
    default="auto",
    show_default=True,
    metavar="auto|plain|FILE",
    help="The tokenizer's (else plain), a 'Human: ... Assistant: ...' transcript, or a Jinja file.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Most prompts to sample, chosen by hash."
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="ROWS",
    help="Responses side by side, of --engine transformers.  [default: what fits into free memory]",
)
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    metavar="N",
    help="GPUs over which --engine vllm splits each layer.  [default: 1]",
)
@eval_options("device", "dtype", "offline", "trust_remote_code")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no remarks.")
def command(
    options: Decoding, policy: str, prompts: Path | None, task: str | None, data: Path | None,
    params: dict[str, str], on_bad: str, out: Path, engine_name: str, system: str | None, chat_template: str,
    limit: int | None, batch_size: int | None, gpus: int | None, as_json: bool, quiet: bool, **runtime: Any,
) -> None:  # fmt: skip
    """Sample N responses per prompt from a policy: the pool that best-of-N is measured on.

    \b
    rmbench sample --policy path/to/lm --prompts prompts.jsonl -n 64 --out pool.jsonl
    rmbench sample --policy org/name@revision --task bon -n 16 --temperature 0.7 --out pool.jsonl
    rmbench eval --model path/to/my-rm --task bon --data pool.jsonl         # once every row has "gold"

    \b
    A line of the pool is a prompt:
      id, prompt     as given; so are cluster, strata and what verifiers need (answer, checks, pattern,
                     schema, tests); other keys of a row are left out
      responses      texts without special tokens
      logprobs       ln P(response) under the sampled distribution, its end token included, as KL needs it
                     (with --stop: of all drawn tokens, those that hold the stop text included)
      tags           finish: stop, or length if cut at --max-tokens; tokens, without the end token
      sampling       policy, hash of its weights, all settings; untempered_logprobs: at temperature 1
    Add "gold", a number per response, and the pool is data for `rmbench eval`.

    After a kill, the same command continues: an unfinished last line is cut off and sampled again. Settings
    other than the file's are refused. So are prompts of the file with another answer, or another of the
    first two lines' keys. More prompts are accepted.

    The random numbers of each response follow from --seed, the prompt's content and the response's number. So
    a response depends neither on the order of the prompts nor on -n, --limit or --batch-size, and a prompt
    that occurs twice is sampled once. One exception: another batch size or device changes logits in their
    last bits, and rarely a text. Padding would too, so prompts never share a batch: an -n of one or two is
    slow.

    With --engine vllm, responses to many prompts are sampled together, each from its own seed, in batches
    that vary: a text may differ where two tokens are within rounding of each other. A pool belongs to its
    engine and version; another one does not continue it.

    Only the settings above are applied: a generation_config.json gives its end tokens and nothing else.
    """
    if (prompts is None) == (task is None):
        raise click.UsageError("give --prompts FILE or --task TASK, one of them")
    if prompts is not None and (data is not None or params):
        raise click.UsageError("--data and -T belong to --task")
    if engine_name == "vllm" and batch_size is not None:
        raise click.UsageError("--batch-size belongs to --engine transformers; vLLM makes its own batches")
    if engine_name != "vllm" and gpus is not None:
        raise click.UsageError("--gpus belongs to --engine vllm")
    if not all(options.stop):
        raise ConfigError("--stop '': expected the text that a response ends before")
    stop = tuple(sorted({text.replace("\\n", "\n") for text in options.stop}))
    decoding = replace(options, stop=stop)
    from rmbench.sampling.prompts import limited, prompts_of_task, read_prompts

    machine = Runtime(**runtime)
    if prompts is not None:
        found = read_prompts(prompts, on_bad=on_bad, system=system)
    else:
        from rmbench.tasks.spec import apply_params, load_task

        spec = apply_params(load_task(str(task)), params)
        found = prompts_of_task(spec, data, on_bad=on_bad, offline=machine.offline, system=system)
    from rmbench.core.progress import Bar
    from rmbench.sampling.pool import sample_pool, writing

    with writing(out):
        engine = _start(engine_name, policy, machine, decoding, chat_template, batch_size, gpus)
        with Bar("sampling", "texts", enabled=not quiet) as bar:
            done = sample_pool(
                engine, limited(found.prompts, limit, decoding.seed), decoding, out,
                system=system, on_bad=on_bad, bar=bar,
            )  # fmt: skip
    notes = [*_notes_on(found, decoding.temperature, decoding.n), *engine.notes()]
    if not quiet:
        for note in notes:
            click.echo(f"note: {one_line(note)}", err=True)
    left_out = {**found.left_out, **done.left_out}
    if as_json:
        click.echo(json.dumps(_summary(out, done, left_out, notes), indent=1))
    else:
        _show(out, done, left_out)


def _start(
    name: str, policy: str, runtime: Runtime, decoding: Decoding, chat_template: str, rows: int | None,
    gpus: int | None,
) -> "Engine":  # fmt: skip
    try:
        if name == "transformers":
            from rmbench.sampling.hf import TransformersEngine

            return TransformersEngine(policy, runtime, chat_template=chat_template, rows=rows)
        from rmbench.models.vllm.engine import EngineOptions
        from rmbench.sampling.vllm import VLLMEngine
    except ImportError as error:
        raise ConfigError(str(error)) from None
    options = EngineOptions(gpus=gpus or 1)
    return VLLMEngine(policy, runtime, decoding, chat_template=chat_template, options=options)


def _notes_on(found: "PromptSet", temperature: float, n: int) -> list[str]:
    notes = []
    if found.unused_keys:
        notes.append(f"keys of the prompts' rows that are not in the pool: {', '.join(found.unused_keys)}")
    if temperature == 0 and n > 1:
        notes.append("temperature 0: all responses of a prompt are the same")
    return notes


def _summary(out: Path, done: "Sampled", left_out: Mapping[str, int], notes: list[str]) -> dict[str, Any]:
    return {
        "out": str(out),
        "pool": done.counts,
        "sampled_now": done.n_new,
        "finished_before": done.n_before,
        "not_among_the_prompts": done.n_others,
        "torn_bytes": done.torn_bytes,
        "left_out": left_out,
        "notes": notes,
        "sampling": done.settings,
    }


def _show(out: Path, done: "Sampled", left_out: Mapping[str, int]) -> None:
    counts = done.counts
    n_prompts, n_responses = counts.get("prompts", 0), counts.get("responses", 0)
    mean = f", {counts['tokens'] / n_responses:,.1f} tokens each" if n_responses else ""
    lines = [f"{one_line(str(out))}: {n_prompts:,} prompts, {n_responses:,} responses{mean}"]
    if done.torn_bytes:
        lines.append(
            f"  1 unfinished line ({done.torn_bytes:,} bytes) of a killed run was cut off and drawn again"
        )
    if done.n_before:
        lines.append(f"  {done.n_before:,} prompts were finished before, {done.n_new:,} sampled now")
    if done.n_others:
        lines.append(f"  {done.n_others:,} prompts in the file are not among those given")
    lines += [f"  left out: {n:,} for {reason}" for reason, n in left_out.items()]
    if cut := counts.get("cut", 0):
        lines.append(f"  {cut:,} of {n_responses:,} responses were cut at --max-tokens")
    if empty := counts.get("empty", 0):
        lines.append(
            f"  {empty:,} responses are empty, in {counts['prompts_with_empty']:,} prompts; `rmbench eval`"
            " measures them like any other"
        )
    click.echo("\n".join(lines))
