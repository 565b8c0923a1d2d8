"""Conversations as a model reads them: tokens, cuts, changes, and where the reward is read."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from rmbench.errors import UnwritableError
from rmbench.inspection.spoilers import Spoilers, place_of
from rmbench.models.resolve import LoadedModel
from rmbench.tasks.rows import FoundItem
from rmbench.types import Conversation, Item, NotingModel, WritingModel

_BATCH = 64
"""Items tokenised at once."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One conversation as the model reads it."""

    item: str
    response: int
    """Its place, from 1."""
    gold: float | None
    n_tokens: int
    is_cut: bool
    text: str
    """The tokens as text, special ones included."""
    read_at: str | None
    """The token at which the reward is read; None where the model does not say."""


@dataclass(slots=True)
class Seen:
    """What a model reads of the data."""

    model: str
    max_length: int | None = None
    tokens: "array[int]" = field(default_factory=lambda: array("Q"))
    n_cut: int = 0
    n_same: int = 0
    """Pairs of different replies that are the same tokens."""
    refused: Counter[str] = field(default_factory=Counter)
    shown: list[Shown] = field(default_factory=list)
    remarks: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether the model says what it reads."""
        return self.max_length is not None


def look(
    loaded: LoadedModel, seen: Seen, found: Iterable[FoundItem], spoilers: Spoilers, n_shown: int
) -> None:
    """Tokenise items with a model, and note what gets lost.

    Args:
        loaded: The model; one that does not say what it reads is not asked.
        seen: Gets what it reads.
        found: The items with their rows.
        spoilers: Gets what spoils numbers.
        n_shown: How many items to show whole.
    """
    model: Any = loaded.model
    if not (callable(getattr(model, "encode", None)) and hasattr(model, "max_length")):
        return
    seen.max_length = int(model.max_length)
    rows = iter(found)
    while batch := list(islice(rows, _BATCH)):
        for entry in batch:
            asked = [entry.item.conversation(k) for k in range(len(entry.item.responses))]
            try:
                encoded = model.encode(asked)
            except UnwritableError as error:
                seen.refused[error.reason] += 1
                spoilers.add(
                    "conversations that the model cannot write", place_of(entry.row, str(error)), len(asked)
                )
                continue
            _count(seen, entry, asked, encoded, spoilers)
            _note_changes(model, entry, asked, spoilers)
            if len({shown.item for shown in seen.shown}) < n_shown:
                seen.shown += [_shown(model, entry.item, k, asked[k], row) for k, row in enumerate(encoded)]
    seen.remarks = tuple(model.notes()) if isinstance(model, NotingModel) else ()


def _count(
    seen: Seen, entry: FoundItem, asked: Sequence[Conversation], encoded: Sequence[Any], spoilers: Spoilers
) -> None:
    seen.tokens.extend(len(row.ids) for row in encoded)
    n_cut = sum(row.truncated for row in encoded)
    seen.n_cut += n_cut
    spoilers.add("conversations that are cut", place_of(entry.row, asked[0][-1]["content"]), n_cut)
    is_pair = len(encoded) == 2 and not any(row.unreadable for row in encoded)
    if is_pair and n_cut and encoded[0].ids == encoded[1].ids:
        seen.n_same += 1
        spoilers.add("pairs that are the same after the cut", place_of(entry.row, asked[0][-1]["content"]))


def _note_changes(model: Any, entry: FoundItem, asked: Sequence[Conversation], spoilers: Spoilers) -> None:
    if not isinstance(model, WritingModel):
        return
    for turns in asked:
        reply = turns[-1]["content"].strip()
        texts = model.written(turns)
        if reply and texts and not any(reply in text for text in texts):
            spoilers.add("replies that the chat template changes", place_of(entry.row, reply))


def _shown(model: Any, item: Item, place: int, turns: Conversation, row: Any) -> Shown:
    tokenizer = getattr(model, "tokenizer", None)
    text = "" if tokenizer is None else str(tokenizer.decode(list(row.ids)))
    told: Mapping[str, Any] = {}
    if not row.unreadable and callable(getattr(model, "diagnose", None)):
        told = model.diagnose(turns)
    gold, is_cut = item.responses[place].gold, bool(row.truncated)
    return Shown(item.id, place + 1, gold, len(row.ids), is_cut, text, told.get("read_at"))
