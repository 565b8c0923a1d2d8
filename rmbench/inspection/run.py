"""Reads data of any layout once, counts it, and looks for what spoils numbers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from rmbench.errors import ConfigError
from rmbench.inspection.counts import Counts
from rmbench.inspection.seen import Seen, look
from rmbench.inspection.spoilers import Spoilers
from rmbench.models.resolve import LoadedModel
from rmbench.tasks.folders import splits_below
from rmbench.tasks.hub import fetch, hub_data, resolve
from rmbench.tasks.items import open_items
from rmbench.tasks.rows import BadRows, FoundItem
from rmbench.tasks.spec import TaskSpec, find_reader


@dataclass(frozen=True, slots=True)
class Split:
    """One split, read."""

    name: str
    """Empty where the data has none."""
    counts: Counts
    dropped: Mapping[str, int]
    """Reason -> rows left out."""
    remarks: tuple[str, ...]
    """How it was read."""

    @property
    def n_rows(self) -> int:
        """Rows read, with those that were left out."""
        return self.counts.n_items + sum(self.dropped.values())


@dataclass(frozen=True, slots=True)
class Overlap:
    """Prompts that two splits share."""

    first: str
    second: str
    prompts: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that is said of data."""

    source: str
    splits: tuple[Split, ...]
    overlaps: tuple[Overlap, ...]
    spoilers: Spoilers
    seen: Seen | None


def inspect_data(
    spec: TaskSpec, data: Path, *, offline: bool = False, model: LoadedModel | None = None, n_shown: int = 2
) -> Inspection:
    """Return what data holds; a folder or a data set with several splits is read split by split.

    Args:
        spec: The task whose reader and options read it.
        data: File, folder, or a data set on the Hub.
        offline: Never reach for a hub.
        model: Tokenises all of it; None: characters alone are counted.
        n_shown: How many items to show as the model reads them.

    Raises:
        ConfigError: If nothing can be read of it.
    """
    spoilers, splits = Spoilers(), list[Split]()
    seen = None if model is None else Seen(model.name)
    found, remarks = _splits(spec, data, offline)
    for name, paths in found.items():
        counts, bad = Counts(spoilers), BadRows(skip=True)
        bad.remarks.extend(remarks if not splits else ())
        items = _counted(_items(spec, paths, bad, offline), counts)
        if model is not None and seen is not None:
            look(model, seen, items, spoilers, n_shown)
        for _ in items:  # all of them without a model, or with one that does not say what it reads
            pass
        _note_dropped(bad, spoilers)
        if not counts.n_items:
            why = next(iter(bad.first.values()), f"{data}: no item is left: {dict(bad.dropped)}")
            raise ConfigError(why)
        splits.append(Split(name, counts, dict(sorted(bad.dropped.items())), tuple(bad.remarks)))
    overlaps = tuple(_overlaps(splits, spoilers))
    spoilers.finish()
    return Inspection(str(data), tuple(splits), overlaps, spoilers, seen)


def _splits(spec: TaskSpec, data: Path, offline: bool) -> tuple[dict[str, list[Path]], list[str]]:
    """Return split -> what to read, and what there is to say about it."""
    own = spec.data.files or find_reader(spec.data.reader, spec.path).whole_path
    hub = hub_data(data.as_posix())
    if hub is not None and not own:
        commit = resolve(hub, offline=offline)
        return fetch(commit, several=True), [commit.remark] if commit.remark else []
    if data.is_dir() and not own and (found := splits_below(data)):
        return found, []
    return {"": [data]}, []


def _items(spec: TaskSpec, paths: list[Path], bad: BadRows, offline: bool) -> Iterator[FoundItem]:
    if len(paths) == 1:
        yield from open_items(spec, paths[0], bad, offline=offline)[0]
        return
    reader = find_reader(spec.data.reader, spec.path)
    yield from reader(paths, spec.data.options, bad)


def _counted(found: Iterator[FoundItem], counts: Counts) -> Iterator[FoundItem]:
    for entry in found:
        counts.add(entry.item, entry.row)
        yield entry


def _note_dropped(bad: BadRows, spoilers: Spoilers) -> None:
    for reason, n in bad.dropped.items():
        if reason == "identical responses":
            spoilers.add("pairs with identical sides", bad.first.get(reason, ""), n)
        elif reason in bad.first:
            spoilers.add("rows that do not fit", bad.first[reason], n)


def _overlaps(splits: list[Split], spoilers: Spoilers) -> Iterator[Overlap]:
    for one, two in combinations(splits, 2):
        n = len(one.counts.prompts.keys() & two.counts.prompts.keys())
        if n:
            example = f"{one.name} and {two.name}"
            spoilers.add("prompts of one split that are in another", example, n)
        yield Overlap(one.name, two.name, n)
