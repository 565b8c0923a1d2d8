"""One pass over training data, a batch of rows at a time, past the index of a task."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rmbench.contamination.findings import Findings, Place, TaskIndex
from rmbench.contamination.grams import GramIndex, distinct
from rmbench.core.overlap import words
from rmbench.errors import ConfigError
from rmbench.stats.clusters import Ints
from rmbench.tasks.containers import estimated_rows_of
from rmbench.tasks.hub import fetch, hub_data, resolve
from rmbench.tasks.items import open_items
from rmbench.tasks.layouts.reading import LayoutOptions
from rmbench.tasks.rows import BadRows, data_files
from rmbench.tasks.spec import TaskSpec
from rmbench.tasks.training import LABELS, TrainingRow, rows_of_items, training_rows, training_split

BATCH_WORDS = 2**18
"""Words of prompts or of responses that are looked up together."""
OPTION = "--train-option"
"""How the command takes options of reading the training data, for messages."""
BATCH_ROWS = 2**14
"""Rows that are looked up together, however short their texts are."""


@dataclass(frozen=True, slots=True)
class TrainingSource:
    """One file of training data, or the training split of a task."""

    name: str
    """As the user wrote it; a file of a folder below it."""
    path: Path | None
    """The file; None for a task's split."""
    split: TaskSpec | None = None

    def rows(
        self, layout: str, bad: BadRows, options: LayoutOptions | None = None, *, offline: bool
    ) -> Iterator[tuple[str, TrainingRow]]:
        """Yield rows, each with the name of its file."""
        if self.path is not None:
            yield from ((self.name, row) for row in training_rows(self.path, layout, bad, options))
        elif self.split is not None:
            found, _ = open_items(self.split, None, bad, offline=offline)
            for row in rows_of_items(found):
                yield f"{self.name}/{row.path.name}", row


def open_training(sources: Sequence[str], *, offline: bool = False) -> list[TrainingSource]:
    """Return the files behind `sources`, in an order that only names decide.

    Args:
        sources: Files, folders, `TASK:train`, or data sets on the Hub.
        offline: Never reach for a hub.

    Raises:
        ConfigError: If a file is named twice, a task has no training split, or the Hub is needed.
        DataError: If there is nothing at a path.
    """
    found = []
    for source in sources:
        split = training_split(source, f"--train {source}")
        if split is not None:
            found.append(TrainingSource(source, None, split))
        elif (hub := hub_data(source)) is not None:
            commit = resolve(hub, offline=offline)
            (files,) = fetch(commit).values()
            found += [TrainingSource(f"{commit.data.told()}/{path.name}", path) for path in files]
        else:
            found += [TrainingSource(str(path), path) for path in data_files(Path(source))]
    first: dict[str, str] = {}
    for one in found:
        key = one.name if one.path is None else str(one.path.resolve())
        if key in first:
            raise ConfigError(f"--train: {one.name} is given twice")
        first[key] = one.name
    return sorted(found, key=lambda one: one.name)


def estimated_rows(sources: Sequence[TrainingSource]) -> int | None:
    """Return about how many rows there are, by the beginning of each file; None where nobody knows."""
    counts = [None if one.path is None else estimated_rows_of(one.path) for one in sources]
    known = [n for n in counts if n is not None]
    return sum(known) if len(known) == len(counts) else None


def scan(
    index: TaskIndex,
    sources: Sequence[TrainingSource],
    *,
    layout: str = "auto",
    options: LayoutOptions | None = None,
    on_bad: str = "fail",
    offline: bool = False,
    on_rows: Callable[[int], None] | None = None,
) -> Findings:
    """Read training data once and return what of the task is in it.

    Args:
        index: The task.
        sources: What to read.
        layout: A name in `LAYOUTS`, or `auto`.
        options: Which column is which, where their names do not say it.
        on_bad: `fail` stops at the first row that does not fit; `skip` leaves it out and counts it.
        offline: Never reach for a hub.
        on_rows: Called now and then with how many rows are done.

    Raises:
        DataError: If something cannot be read.
    """
    findings = Findings(index)
    batch = _Batch(findings)
    for source in sources:
        bad = BadRows(
            skip=on_bad == "skip", option=OPTION
        )  # one per file: each says for itself that it is empty
        for name, row in source.rows(layout, bad, options, offline=offline):
            batch.add(name, row)
            if batch.is_full:
                batch.look_up()
                if on_rows is not None:
                    on_rows(findings.n_rows)
        findings.dropped.update(bad.dropped)
    batch.look_up()
    return findings


class _Batch:
    """Rows whose n-grams are looked up together; whole texts are looked up at once."""

    def __init__(self, findings: Findings) -> None:
        self._findings, self._index = findings, findings.index
        self._places: list[Place] = []
        self._prompts, self._replies = _Words(), _Words()

    @property
    def is_full(self) -> bool:
        n_words = max(len(self._prompts.words), len(self._replies.words))
        return n_words >= BATCH_WORDS or len(self._places) >= BATCH_ROWS

    def add(self, name: str, row: TrainingRow) -> None:
        """Take one row in."""
        findings, place = self._findings, (name, row.line)
        findings.n_rows += 1
        findings.n_without_prompt += not row.prompts
        prompts = [self._index.prompt(turns) for turns in row.prompts]
        for prompt in prompts:
            if prompt is not None:
                findings.saw_prompt(prompt, place)
        number = len(self._places)
        self._places.append(place)
        for turns in row.contexts:
            self._prompts.add([w for turn in turns for w in words(turn["content"])], number, self._index.n)
        for reply in row.replies:
            found = self._index.reply(reply.text)
            if found is not None:
                asked = [p for p in (prompts[k] for k in reply.asked) if p is not None]
                findings.saw_reply(found, LABELS.index(reply.label), asked, place)
            self._replies.add(words(reply.text), number, self._index.n)

    def look_up(self) -> None:
        """Look the n-grams of all rows up, and forget the rows."""
        for texts, grams, marks in (
            (self._prompts, self._index.prompt_grams, self._findings.prompts),
            (self._replies, self._index.reply_grams, self._findings.replies),
        ):
            at, gram = grams.find(self._index.numbers_of(texts.words))
            if len(at):
                marks.found[gram] = True
                text, n_shared, row = _most_shared(grams, gram, texts.rows_at(at))
                better = n_shared > marks.n_shared[text]
                for t, n, r in zip(text[better], n_shared[better], row[better], strict=True):
                    marks.n_shared[t], marks.nearest[int(t)] = n, self._places[r]
        self._places, self._prompts, self._replies = [], _Words(), _Words()


@dataclass(slots=True)
class _Words:
    """Texts, one after the other, with an empty word between them."""

    words: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def add(self, text: list[str], row: int, n: int) -> None:
        """Add a text of the row numbered `row`, unless it is too short to have n-grams."""
        if len(text) >= n:
            self.starts.append(len(self.words))
            self.rows.append(row)
            self.words += text
            self.words.append("")

    def rows_at(self, at: Ints) -> Ints:
        """Return the row of each word number in `at`."""
        return np.array(self.rows)[np.searchsorted(np.array(self.starts), at, side="right") - 1]


def _most_shared(grams: GramIndex, gram: Ints, row: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the task texts that share n-grams with rows, how many at most with one, and the first such."""
    both = distinct(row * grams.n_grams + gram)  # an n-gram counts once per row
    row, gram = both // grams.n_grams, both % grams.n_grams
    text, pair = grams.texts_of.expand(gram)
    n_texts = len(grams.n_windows)
    seen, n_shared = np.unique(row[pair] * n_texts + text, return_counts=True)
    row, text = seen // n_texts, seen % n_texts
    order = np.lexsort((row, -n_shared, text))
    first = order[np.unique(text[order], return_index=True)[1]]
    return text[first], n_shared[first], row[first]
