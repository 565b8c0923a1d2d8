"""Prompts to sample, from a file or from a task."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmbench.core.files import conversation_key, digest, require_file
from rmbench.errors import ConfigError
from rmbench.models.messages import more_of
from rmbench.sampling.policy import Prompt
from rmbench.tasks import fields, read_task_items
from rmbench.tasks.own import EXPECTED_KEYS, expected_of, prompt_of
from rmbench.tasks.rows import BadRows, Row, rows_of
from rmbench.tasks.spec import TaskSpec
from rmbench.types import Item, Turn

CARRIED = ("cluster", "strata", "tools", *EXPECTED_KEYS)
"""Keys beside the prompt's that a pool keeps, as its readers know them."""

REPEATED = "prompt stands before already"


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Distinct prompts, and counts of the rows that were left out."""

    prompts: tuple[Prompt, ...]
    """In the order of the data."""
    left_out: Mapping[str, int]
    """Reason -> prompts left out."""
    unused_keys: tuple[str, ...]
    """Keys of the rows that the pool does not keep."""


def read_prompts(path: Path, *, on_bad: str = "fail", system: str | None = None) -> PromptSet:
    """Return the prompts of a file of `{"id"?, "prompt": text or messages, ...}`.

    A prompt without an id gets its content's hash, so that its place in the file does not matter.

    Args:
        path: JSON Lines, a JSON array or Parquet.
        on_bad: `fail` stops at the first row that does not fit; `skip` leaves it out and counts it.
        system: System message of prompts that have none.

    Raises:
        DataError: With file, line and key, if something does not fit.
    """
    require_file(path)
    bad = BadRows(skip=on_bad == "skip")
    unused: set[str] = set()

    def one(row: Row) -> tuple[Prompt, Row]:
        unused.update(str(k) for k in row.value if k not in ("id", "prompt", *CARRIED))
        return _of_row(row, system), row

    found = tuple(_each_once(bad.parse(rows_of(path, bad), one), bad))
    if not found:
        raise ConfigError(f"{path}: no prompt is left to sample")
    return PromptSet(found, dict(sorted(bad.dropped.items())), tuple(sorted(unused)))


def prompts_of_task(
    spec: TaskSpec,
    data: Path | None,
    *,
    on_bad: str = "fail",
    offline: bool = False,
    system: str | None = None,
) -> PromptSet:
    """Return the prompts of a task's items; the arguments are as in `read_prompts` and `read_task_items`.

    Raises:
        DataError: If a row does not fit.
        ConfigError: If there is no data.
    """
    items = read_task_items(spec, data, on_bad=on_bad, offline=offline)
    dropped = Counter(items.dropped)
    found = tuple(_without_repeats((_of_item(item, system, items.source) for item in items.items), dropped))
    if not found:
        raise ConfigError(f"task {spec.name!r}: no prompt is left to sample")
    return PromptSet(found, dict(sorted(dropped.items())), ())


def limited(prompts: Sequence[Prompt], limit: int | None, seed: int) -> list[Prompt]:
    """Return at most `limit` prompts in order, chosen by hash: a larger limit keeps the smaller one's."""
    if limit is None or limit >= len(prompts):
        return list(prompts)
    drawn = sorted(prompts, key=lambda p: digest(["limit", seed, p.key], 32))[:limit]
    chosen = {p.key for p in drawn}
    return [p for p in prompts if p.key in chosen]


def _of_row(row: Row, system: str | None) -> Prompt:
    turns = prompt_of(row)
    # Checked here, so that no pool holds what its reader refuses.
    fields.strata(row)
    fields.cluster_of(row, turns)
    expected_of(row)
    carried = {key: row.value[key] for key in CARRIED if row.value.get(key) is not None}
    name = fields.identifier(row) if row.value.get("id") is not None else conversation_key(turns)[:16]
    return _prompt(name, row.value["prompt"], turns, system, carried, f"{row.path}, line {row.line}")


def _of_item(item: Item, system: str | None, source: str) -> Prompt:
    is_text = len(item.prompt) == 1 and item.prompt[0]["role"] == "user" and not more_of(item.prompt[0])
    given = item.prompt[0]["content"] if is_text else [dict(turn) for turn in item.prompt]
    carried = (
        {"cluster": item.cluster}
        | ({"strata": dict(item.strata)} if item.strata else {})
        | dict(item.expected)
    )
    return _prompt(item.id, given, item.prompt, system, carried, f"{source}, item {item.id}")


def _prompt(
    name: str, given: Any, turns: tuple[Turn, ...], system: str | None, carried: Mapping[str, Any], place: str
) -> Prompt:
    if system is not None and all(turn["role"] != "system" for turn in turns):
        turns = (Turn(role="system", content=system), *turns)
    return Prompt(name, given, turns, conversation_key(turns), carried, place)


def _each_once(found: Iterable[tuple[Prompt, Row]], bad: BadRows) -> Iterator[Prompt]:
    first: dict[str, int] = {}

    def named() -> Iterator[Prompt]:
        for prompt, row in found:
            before = first.setdefault(prompt.id, row.line)
            if before == row.line or row.value.get("id") is None:
                yield prompt
            else:
                problem = f"{prompt.id!r} is the id of line {before} already"
                bad.add(row.error(problem, "id", "duplicate id"))

    yield from _without_repeats(named(), bad.dropped)


def _without_repeats(prompts: Iterable[Prompt], dropped: Counter[str]) -> Iterator[Prompt]:
    """Yield distinct prompts: a repeated prompt would get the same responses."""
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.key in seen:
            dropped[REPEATED] += 1
        else:
            seen.add(prompt.key)
            yield prompt
