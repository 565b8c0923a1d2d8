"""Items of a task: found, read, and checked as a whole.

Items are read once. Above 32 MiB they are kept in a temporary file, not in memory.
"""

import json
import tempfile
import weakref
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, cast, overload

from rmbench.core.files import canonical_json, identity_of, sha256_file
from rmbench.errors import ConfigError, DataError, first_line
from rmbench.models.hub import why_no_hub
from rmbench.tasks.hub import HubData, fetch, hub_data, is_name, resolve
from rmbench.tasks.messages import SHOWN_KEYS
from rmbench.tasks.rows import BadRows, FoundItem, Reader, data_files
from rmbench.tasks.spec import HUB_DATA, TaskSpec, find_reader
from rmbench.types import Item, Response, Turn

IN_MEMORY_BYTES = 32 * 2**20
"""Size up to which a shelf stays in memory; a larger one is a temporary file."""


class ItemShelf(Sequence[Item]):
    """Items in order, each made anew whenever it is asked for.

    Up to 32 MiB of them stay in memory; more is a file in the system's folder for temporary ones (`TMPDIR`),
    which has no name and goes with the shelf.
    """

    def __init__(self, store: "_Store", index: "array[int]") -> None:
        self._store, self._index = store, index

    @classmethod
    def of(cls, items: Iterable[Item]) -> "ItemShelf":
        """Return a shelf of `items`, iterated once."""
        store = _Store(items)
        return cls(store, array("Q", range(len(store))))

    def take(self, places: Iterable[int]) -> "ItemShelf":
        """Return the items at `places`, in that order; nothing is copied."""
        return ItemShelf(self._store, array("Q", (self._index[k] for k in places)))

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> "ItemShelf": ...
    def __getitem__(self, place: int | slice) -> "Item | ItemShelf":
        if isinstance(place, slice):
            return ItemShelf(self._store, self._index[place])
        return self._store.read(self._index[place])

    def __iter__(self) -> Iterator[Item]:
        return map(self._store.read, self._index)


class _Store:
    """One line of JSON per item, one after the other."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._ends = array("Q", [0])
        for item in items:
            self._ends.append(self._ends[-1] + self._file.write(_encoded(item)))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def read(self, number: int) -> Item:
        start = self._ends[number]
        self._file.seek(start)
        return _decoded(self._file.read(self._ends[number + 1] - start))


def _encoded(item: Item) -> bytes:
    return json.dumps(
        [
            item.id,
            [identity_of(turn) for turn in item.prompt],
            [[r.text, r.gold, dict(r.tags), r.logprob, dict(r.more)] for r in item.responses],
            item.cluster,
            dict(item.strata),
            item.gold_kind,
            dict(item.expected),
            item.votes,
        ]
    ).encode("ascii")


def _decoded(raw: bytes) -> Item:
    name, prompt, responses, cluster, strata, gold_kind, expected, votes = json.loads(raw)
    return Item(
        id=name,
        prompt=tuple(map(_turn, prompt)),
        responses=tuple(Response(*response) for response in responses),
        cluster=cluster,
        strata=strata,
        gold_kind=gold_kind,
        expected=expected,
        votes=None if votes is None else tuple(votes),
    )


def _turn(kept: list[Any]) -> Turn:
    role, content, *more = kept
    return cast(Turn, {"role": role, "content": content, **(more[0] if more else {})})


PACKAGED = Path(__file__).resolve().parent.parent / "_data"


@dataclass(frozen=True, slots=True)
class ItemSet:
    """The items of a task, and what was left out on the way."""

    items: ItemShelf
    """In the order of the data."""
    dropped: Mapping[str, int]
    """Reason -> rows (or responses) left out."""
    data_hash: str
    """SHA-256 over the items' content, whatever container they came in."""
    source: str
    """Where they came from, for people."""
    votes_hash: str | None = None
    """SHA-256 over the annotators' votes of the items; None where no item has any."""
    remarks: tuple[str, ...] = ()
    """How files were read, for the user."""
    strata: tuple[str, ...] = ()
    """Strata that were found in the data and that the task does not name."""
    most_responses: int = 0
    """Responses of the item that has most."""


def read_task_items(
    spec: TaskSpec, data: Path | None, *, on_bad: str | None = None, offline: bool = False
) -> ItemSet:
    """Read the items of a task: from `data` if given, else the packaged file, else the hub.

    Args:
        spec: The task.
        data: File or folder, or `org/name[/config][:split][@commit]` of a data set on the hub.
        on_bad: `fail` stops at the first row that does not fit; `skip` leaves it out and counts it. None is
            `fail` where the user has no such option: the message does not name it.
        offline: Never reach for a hub.

    Raises:
        DataError: With file, line and key, if something does not fit.
        ConfigError: If there is no data.
    """
    bad = BadRows(skip=on_bad == "skip")
    found, source = open_items(spec, data, bad, offline=offline)
    content, votes, sizes = _DataHash(), _VotesHash(), Counter[int]()
    try:
        items = ItemShelf.of(votes.watch(content.watch(_counted(_unique(found, bad), sizes))))
    except DataError as error:
        if on_bad != "fail" or error.line is None:
            raise
        error.args = (f"{error}; --on-bad skip leaves such rows out, and counts them",)
        raise
    new = tuple(name for name in bad.strata if name not in spec.strata)
    return ItemSet(
        items, dict(sorted(bad.dropped.items())), content.hexdigest(), source, votes.hexdigest(),
        tuple(bad.remarks), new, max(sizes, default=0),
    )  # fmt: skip


def _counted(items: Iterable[Item], sizes: Counter[int]) -> Iterator[Item]:
    for item in items:
        sizes[len(item.responses)] += 1
        yield item


def open_items(
    spec: TaskSpec, data: Path | None, bad: BadRows, *, offline: bool = False
) -> tuple[Iterator[FoundItem], str]:
    """Return the items of a task as they are read, ids unchecked, and where they come from.

    Raises:
        DataError: If there is nothing to read; while it is read, with file, line and key.
        ConfigError: If there is no data.
    """
    reader = find_reader(spec.data.reader, spec.path)
    hub = None if data is None else hub_data(data.as_posix())
    if hub is not None and not (HUB_DATA.fullmatch(hub.told()) and _own_files(spec, reader)):
        commit = resolve(hub, offline=offline)
        bad.remarks.extend(filter(None, [commit.remark]))
        if not _own_files(spec, reader):
            (files,) = fetch(commit).values()
            return reader(files, spec.data.options, bad), f"hub: {commit.data.told()}"
        data = Path(_whole(spec, commit.data))
    paths, source = _locate(spec, data, offline)
    files = []
    for path in paths:
        pattern = spec.data.files if path.is_dir() else None
        files += [path] if reader.whole_path and path.is_dir() else data_files(path, pattern)
    return reader(files, spec.data.options, bad), source


def _whole(spec: TaskSpec, hub: HubData) -> str:
    """Return the name of a whole data set, of which a task takes its own files."""
    if hub.config or hub.split:
        raise ConfigError(
            f"task {spec.name!r} reads its own files of a data set; expected --data org/name[@commit], found"
            f" {hub.told()}"
        )
    return hub.told()


def _own_files(spec: TaskSpec, reader: Reader) -> bool:
    """Say whether a task knows which files of a data set it reads."""
    return bool(spec.data.files or reader.whole_path)


def hash_items(items: Iterable[Item]) -> str:
    """Return the SHA-256 over everything of the items that a number can depend on, the votes aside."""
    data = _DataHash()
    for _ in data.watch(items):
        pass
    return data.hexdigest()


def export_items(items: Iterable[Item]) -> Iterator[dict[str, Any]]:
    """Yield `{"id", "prompt", "responses"}` per item: the input of a scorer, without gold.

    A response that holds more than its text is a message; `reference`, `rubric` and `principle` stand beside.
    """
    for item in items:
        yield {
            "id": item.id,
            "prompt": [dict(turn) for turn in item.prompt],
            "responses": [dict(r.turn) if r.more else r.text for r in item.responses],
            **{key: item.expected[key] for key in SHOWN_KEYS if key in item.expected},
        }


def _content(item: Item) -> list[Any]:
    return [
        item.id,
        [identity_of(turn) for turn in item.prompt],
        [_content_of(response) for response in item.responses],
        item.cluster,
        dict(item.strata),
        item.gold_kind,
    ]


def _content_of(response: Response) -> list[Any]:
    # What is not there leaves no trace: data that never had log-probabilities or tools keeps its hash.
    if response.more:
        return [response.text, response.gold, response.logprob, dict(response.more)]
    return [response.text, response.gold] + ([] if response.logprob is None else [response.logprob])


class _DataHash:
    """The hash of items that pass by."""

    def __init__(self) -> None:
        self._total = sha256()

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            self._total.update(canonical_json(_content(item)).encode("utf-8", "surrogatepass"))
            self._total.update(b"\n")
            yield item

    def hexdigest(self) -> str:
        return self._total.hexdigest()


class _VotesHash:
    """The hash of the votes of items that pass by: apart from the data's, which older records hold too."""

    def __init__(self) -> None:
        self._total, self._n = sha256(), 0

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            if item.votes is not None:
                self._n += 1
                self._total.update(canonical_json([item.id, item.votes]).encode("utf-8", "surrogatepass"))
                self._total.update(b"\n")
            yield item

    def hexdigest(self) -> str | None:
        return self._total.hexdigest() if self._n else None


def _unique(found: Iterable[FoundItem], bad: BadRows) -> Iterator[Item]:
    first: dict[str, tuple[str, int]] = {}
    for entry in found:
        before = first.get(entry.item.id)
        if before is None:
            first[entry.item.id] = (entry.row.path.name, entry.row.line)
            yield entry.item
        else:
            where = f"{before[0]}, line {before[1]}"
            bad.add(entry.row.error(f"{entry.item.id!r} is the id of {where} already", "id", "duplicate id"))


def _locate(spec: TaskSpec, data: Path | None, offline: bool) -> tuple[list[Path], str]:
    if data is not None and (data.exists() or not HUB_DATA.fullmatch(data.as_posix())):
        if not data.exists() and is_name(data.as_posix()):
            raise DataError(
                f"there is no such file or folder; a data set on the Hub is --data hf:{data.as_posix()}",
                path=data,
            )
        return [data], str(data)
    if data is None and spec.data.path is not None:
        path = (PACKAGED / spec.data.path).resolve()
        if not path.is_relative_to(PACKAGED) or not path.is_file():
            raise ConfigError(f"task {spec.name!r}: the package has no data file {spec.data.path!r}")
        if spec.data.sha256 is not None and sha256_file(path) != spec.data.sha256:
            raise ConfigError(
                f"task {spec.name!r}: {spec.data.path} is not the file that the task was made for"
            )
        return [path], f"embedded: {spec.data.path}"
    hub = [data.as_posix()] if data is not None else spec.data.hub
    if not hub:
        clone = f"; {spec.data.to_get}, then --data the folder" if spec.data.github else ""
        raise ConfigError(
            f"task {spec.name!r} has no data of its own; give --data PATH, or --data org/name@COMMIT with the"
            f" 40 hex digits of a commit on the hub (its source: {spec.source}{clone})"
        )
    if offline:
        raise ConfigError(
            f"task {spec.name!r}: its data is on the hub and --offline is set; give --data PATH"
        )
    return [_download(spec, name) for name in hub], f"hub: {', '.join(hub)}"


def _download(spec: TaskSpec, hub: str) -> Path:
    from huggingface_hub import snapshot_download

    name, _, commit = hub.partition("@")
    wanted = spec.data.hub_files or spec.data.files
    why = why_no_hub()
    try:
        folder = snapshot_download(
            name, repo_type="dataset", revision=commit, allow_patterns=wanted, local_files_only=bool(why)
        )
    except Exception as error:
        # The hub client raises whatever its transport does; all of it means: the data is not to be had now.
        told = f"it is not in the local cache, and {why}" if why else first_line(error)
        raise ConfigError(f"task {spec.name!r}: {hub} cannot be fetched ({told}); give --data PATH") from None
    return Path(folder)
