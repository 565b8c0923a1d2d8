"""Reads preference data of any layout that is known, and says which it took."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rmbench.core.files import parse_json
from rmbench.tasks.containers import is_table_of_text
from rmbench.tasks.layouts import columns as known
from rmbench.tasks.layouts.columns import Names, renames
from rmbench.tasks.layouts.conversation import is_messages
from rmbench.tasks.layouts.reading import LayoutOptions, Reading
from rmbench.tasks.layouts.recognise import Layout, layout_of, nearest
from rmbench.tasks.layouts.row import RowReader
from rmbench.tasks.layouts.winners import sides_of
from rmbench.tasks.own import ITEM_KEYS, PAIR_KEYS, item_of, pair_of
from rmbench.tasks.rows import BadRows, FoundItem, Reader, Row, rows_of

_MOST_TOLD = 12
"""Columns that are named as not read."""


def read(files: list[Path], options: LayoutOptions, bad: BadRows) -> Iterator[FoundItem]:
    """Read items, pairs, pools: rmbench's own JSON Lines, or any layout that is known by its columns.

    Own rows are `{"id", "prompt", "responses", "gold", ...}`: one item of any number of responses per row.
    `logprobs`, one number per response: the log-probability of the whole response, in nats, under the policy
    that it was sampled from. That policy's name, `sampling.policy`, is a stratum unless `strata` has one.
    `votes`, of two responses: how many annotators are for the first, for the second, and (0 if left out) for
    neither. They do not make gold; the noise ceiling is measured on them.
    """
    renamed, sides = renames(options.columns), sides_of(options.winner)
    for path in files:
        reading = Reading(options, bad, renamed, sides)
        yield from bad.parse(rows_of(path, bad), partial(_found, reading))
        _tell(reading, path)


def _of_table(row: Row) -> Row:
    """Return a row of a table of text with the lists and messages in its cells, which are JSON there."""
    return replace(row, value={key: _cell(row, key, value) for key, value in row.value.items()})


def _cell(row: Row, key: str, text: str) -> Any:
    """Return a list where the column has lists, messages in any column, else the text: it may be a reply."""
    is_list = known.plain(key) in (*known.POOLS, *known.SCORES) and text.startswith("[")
    if not is_list and not text.startswith(("[{", "{")):
        return text
    try:
        found = parse_json(text)
    except ValueError:
        if is_list or text.startswith(("[{'role'", "[{'content'", "[{'from'", "{'role'")):
            problem = "a list as Python prints it; expected JSON (write it with json.dumps)"
            raise row.error(problem, key, "a list is no JSON") from None
        return text
    return found if is_list or is_messages(found) else text


def _found(reading: Reading, row: Row) -> FoundItem | None:
    if is_table_of_text(row.path):
        row = _of_table(row)
    keys = tuple(map(str, row.value))
    if not reading.renamed:
        if "responses" in keys and ("gold" in keys or set(keys) <= set(ITEM_KEYS)):
            return FoundItem(item_of(row), row)
        if {"p_chosen", "votes", "cluster", "strata"} & set(keys) and {"chosen", "rejected"} <= set(
            keys
        ) <= set(PAIR_KEYS):
            return FoundItem(pair_of(row), row)
    names, layout = _layout(reading, row, keys)
    item = RowReader(reading, row, names, layout).item()
    return None if item is None else FoundItem(item, row)


def _layout(reading: Reading, row: Row, keys: tuple[str, ...]) -> tuple[Names, Layout]:
    if keys not in reading.known:
        names = Names.read(keys, reading.renamed)
        reading.known[keys] = names, layout_of(names, row.value, tuple(reading.renamed.values()))
    names, layout = reading.known[keys]
    if layout is None:
        if reading.first is not None and reading.names is not None:
            lacks = [reading.names.of[name] for name in reading.first.columns() if name not in names.of]
            raise row.error("the key is missing", (lacks or [""])[0], "missing key")
        has = ", ".join(keys[:_MOST_TOLD]) or "none"
        raise row.error(
            f"no layout of preference data that is known: {nearest(names)}; its columns: {has}. Say which is"
            f" which: {reading.bad.option} columns=prompt:COLUMN,chosen:COLUMN,rejected:COLUMN",
            reason="unknown layout",
        )
    if reading.first is None:
        reading.first, reading.names, reading.told = layout, names, layout.told(names)
    elif (layout.kind, layout.replies) != (reading.first.kind, reading.first.replies):
        raise row.error(
            f"another layout ({layout.told(names)}) than before ({reading.told})", reason="another layout"
        )
    return names, layout


def _tell(reading: Reading, path: Path) -> None:
    """Say how a file was read, and what of it was not."""
    if not reading.told:
        return
    parts = [f"{path.name}: {reading.told}"]
    if reading.n_implicit:
        parts.append(
            f"{reading.n_implicit:,} rows without a prompt: it is the text that both replies begin with"
        )
    if reading.strata:
        parts.append(f"strata: {', '.join(reading.strata)}")
        reading.bad.strata.update(dict.fromkeys(reading.strata))
    if reading.unread:
        unread = list(reading.unread)
        more = f" and {n} more" if (n := len(unread) - _MOST_TOLD) > 0 else ""
        parts.append(f"not read: {', '.join(unread[:_MOST_TOLD])}{more}")
    reading.bad.remarks.append("; ".join(parts))


reader = Reader(run=read, options=LayoutOptions)
