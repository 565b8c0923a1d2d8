"""Readers of RewardBench 1 (arXiv 2403.13787) and 2 (arXiv 2506.01937), as their data sets are published."""

import re
from collections.abc import Iterator
from pathlib import Path

from rmbench.benchmarks.rewardbench.official import (
    IGNORED_SETS,
    PRIOR_SETS,
    SECTIONS,
    SUBSETS,
    TIES,
    section_of,
)
from rmbench.core.files import prompt_cluster
from rmbench.tasks import fields
from rmbench.tasks.rows import BadRows, FoundItem, Row, items_of, register_reader
from rmbench.types import Item, Response

KNOWN_SUBSETS = (*(subset for section in SECTIONS.values() for subset in section), *PRIOR_SETS)
"""The 23 subsets, and the prior sets, whose rows have the same keys."""


_OTHER_SPLITS = ("raw-", "train-")


def item_id(subset: str, identifier: str) -> str:
    """Return the id of an item, with its subset: published ids are unique only within a subset."""
    return f"{subset}:{identifier}"


@register_reader("rewardbench")
def read(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"id", "subset", "prompt", "chosen", "rejected", ...}`; sets that do not count are left out.

    A folder may hold the benchmark's `filtered` split and files of the prior sets. These are named after
    their set, and their rows have neither set nor id. Other splits are left out.
    """
    wanted = [path for path in files if not path.name.startswith(_OTHER_SPLITS)]
    if wanted and len(wanted) < len(files):
        bad.leave_out("files of other splits", len(files) - len(wanted))
    return items_of(wanted or files, bad, lambda r: _pair(r, bad))


@register_reader("rewardbench2")
def read_v2(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"id", "subset", "prompt", "chosen": [...], "rejected": [...], "num_correct", ...}`."""
    return items_of(files, bad, _item)


def tie_name(identifier: str) -> str:
    """Return the id of a row of Ties, `ref:5` or `tied:5`, in one spelling.

    Raises:
        ValueError: If it is not such an id.
    """
    kind, _, number = identifier.partition(":")
    if kind not in ("ref", "tied") or not number.isdecimal():
        raise ValueError(f"{identifier!r}; expected ref:N or tied:N in the subset Ties")
    return f"{kind}:{int(number)}"


def tie_cluster(name: str) -> str:
    """Return the common cluster of the two rows of a prompt of Ties, which are scored together."""
    return f"ties:{name.partition(':')[2]}"


def _set_of_file(path: Path) -> str | None:
    """Return the prior set that a file is named after, as `shp-00000-of-00001.parquet`."""
    return next((s for s in (*PRIOR_SETS, *IGNORED_SETS) if re.match(rf"{s}[-.]", path.name)), None)


def _pair(row: Row, bad: BadRows) -> Item | None:
    named = _set_of_file(row.path)
    subset = named or fields.known_name(
        row, "subset", fields.text(row, "subset"), (*KNOWN_SUBSETS, *IGNORED_SETS)
    )
    if subset in IGNORED_SETS:
        bad.leave_out("rows of sets that count for no number")
        return None
    prompt = fields.prompt(row, "prompt", fields.required(row, "prompt"))
    # All published items are kept, empty replies included: leaving one out would change the number.
    texts = [fields.reply(row, key) for key in ("chosen", "rejected")]
    return Item(
        id=item_id(subset, str(row.line) if named else fields.identifier(row)),
        prompt=prompt,
        responses=(Response(texts[0], 1.0), Response(texts[1], 0.0)),
        cluster=prompt_cluster(prompt),
        strata={"section": section_of(subset) or "", "subset": subset},
    )


def _item(row: Row) -> Item:
    subset = fields.known_name(row, "subset", fields.text(row, "subset"), SUBSETS)
    prompt = fields.prompt(row, "prompt", fields.required(row, "prompt"))
    responses = []
    for key, gold in (("chosen", 1.0), ("rejected", 0.0)):
        texts = fields.required(row, key)
        if not isinstance(texts, list) or not texts:
            raise row.error("expected a list of at least one response", key, "responses do not fit")
        responses += [
            Response(fields.reply(row, f"{key}[{k}]", value), gold) for k, value in enumerate(texts)
        ]
    n_right = sum(r.gold == 1.0 for r in responses)
    _check_count(row, "num_correct", n_right)
    _check_count(row, "total_completions", len(responses))
    identifier, strata, cluster = fields.identifier(row), {"subset": subset}, prompt_cluster(prompt)
    if subset == TIES:
        try:
            strata["ties"] = tie_name(identifier)
        except ValueError as error:
            raise row.error(str(error), "id", "id does not fit") from None
        cluster = tie_cluster(strata["ties"])
    elif n_right != 1:
        raise row.error(f"{n_right} right responses; expected 1", "chosen", "responses do not fit")
    if strata.get("ties", "").startswith("tied:") and n_right < 2:
        raise row.error("1 right response; a tied row has several", "chosen", "responses do not fit")
    return Item(
        id=item_id(subset, identifier),
        prompt=prompt,
        responses=tuple(responses),
        cluster=cluster,
        strata=strata,
    )


def _check_count(row: Row, key: str, count: int) -> None:
    value = row.value.get(key)
    if value is not None and (isinstance(value, bool) or value != count):
        raise row.error(f"{value!r}, but there are {count}", key, "counts do not fit")
