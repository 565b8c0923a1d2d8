"""Prompts in, a pool out: what is missing in the file is drawn and appended."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError
from rmbench.sampling.engine import Decoding, Engine, Prompt
from rmbench.sampling.pool import Pool
from rmbench.scoring import Progress

UNFIT = "prompt does not fit the policy"


@dataclass(frozen=True, slots=True)
class Sampled:
    """A finished pool."""

    settings: Mapping[str, Any]
    """What every row says under `sampling`."""
    counts: Mapping[str, int]
    """Of the whole file: `prompts`, `responses`, `tokens`, `empty`, `prompts_with_empty`, `cut`."""
    n_new: int
    """Prompts sampled now."""
    n_before: int
    """Of the prompts given, those that were in the file already."""
    n_others: int
    """Prompts in the file that were not given."""
    torn_bytes: int
    """Length of the unfinished last line of a killed run, cut off and drawn again."""
    left_out: Mapping[str, int]
    """Reason -> prompts left out here."""


def sample_pool(
    engine: Engine,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    out: Path,
    *,
    system: str | None = None,
    on_bad: str = "fail",
    bar: Progress | None = None,
) -> Sampled:
    """Draw what is missing in `out` and append it, a line per prompt. The caller holds the file's lock.

    Args:
        engine: The policy.
        prompts: Each once.
        decoding: How to draw.
        out: The pool; a file that was drawn otherwise is refused.
        system: The system message that was added to prompts, if any.
        on_bad: What to do with a prompt that the policy cannot read: `fail`, or `skip` and count.
        bar: Told how many responses there are to draw, and what is on disk.

    Raises:
        ConfigError: If the file or a prompt does not fit; nothing is drawn then.
        RunError: If the policy fails. What is in the file by then stays.
    """
    settings = {**engine.identity(), **decoding.settings(), **({} if system is None else {"system": system})}
    pool = Pool(out, settings, prompts)
    missing = pool.remaining(prompts)
    n_before = len(prompts) - len(missing)
    n_others = len(pool.done) - n_before
    fit, left_out = [], Counter[str]()
    for prompt in missing:
        problem = engine.problem(prompt.turns, decoding)
        if problem is None:
            fit.append(prompt)
        elif on_bad == "fail":
            raise ConfigError(f"{prompt.place}: {problem}")
        else:
            left_out[UNFIT] += 1
    if bar is not None:
        bar.start(len(fit) * decoding.n)
    for prompt, samples in zip(fit, engine.sample(fit, decoding), strict=True):
        pool.add(prompt, samples)
        if bar is not None:
            bar.advance(len(samples), sum(s.n_tokens for s in samples))
    return Sampled(settings, dict(pool.counts), len(fit), n_before, n_others, pool.torn_bytes, dict(left_out))
