"""Index of a task's texts, and what training data contains of them, text by text and item by item.

Memory depends on the task only, not on the training data.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rmbench.contamination.grams import GramIndex, Rows, Words, distinct
from rmbench.core.files import digest, prompt_cluster
from rmbench.core.overlap import words
from rmbench.stats.clusters import Floats, Ints
from rmbench.tasks.training import LABELS, labels_of
from rmbench.types import Item, Turn


class TaskIndex:
    """A task's distinct prompts and responses.

    Args:
        items: The task's items, iterated once.
        n: Words of an n-gram.
        most_common: N-grams in more prompts than this are ignored: they are the task's wording, not its
            content.
    """

    def __init__(self, items: Iterable[Item], *, n: int, most_common: int) -> None:
        self.n, self.most_common = n, most_common
        self._vocabulary: dict[str, int] = {}
        self._prompts, self._replies = _Texts(), _Texts()
        prompt_of, reply_of, label_of = array("q"), array("q"), array("b")
        ends, clusters, codes = array("q", [0]), array("q"), dict[str, int]()
        for item in items:
            prompt = self._prompts.add(_identity(item.prompt), _last(item.prompt))
            if prompt == len(self._prompts.words):
                self._prompts.words.append(self._numbered(item.prompt))
            prompt_of.append(prompt)
            for response, label in zip(item.responses, labels_of(item.responses), strict=True):
                reply = self._replies.add(digest(response.text, 32), response.text)
                if reply == len(self._replies.words):
                    self._replies.words.append(self._numbered([Turn(role="", content=response.text)]))
                reply_of.append(reply)
                label_of.append(LABELS.index(label))
            ends.append(len(reply_of))
            clusters.append(codes.setdefault(item.cluster, len(codes)))
        self.prompt_of: Ints = np.array(prompt_of, dtype=np.int64)
        """Distinct prompt of each item, shape (I,)."""
        self.reply_of: Ints = np.array(reply_of, dtype=np.int64)
        """Distinct response of each of the items' responses, one item after the other, shape (R,)."""
        self.label_of: NDArray[np.int8] = np.array(label_of, dtype=np.int8)
        """Index into `LABELS` of each response, shape (R,)."""
        self.item_of: Ints = np.repeat(np.arange(len(clusters)), np.diff(ends))
        """Item of each response, shape (R,)."""
        self.cluster: Ints = np.array(clusters, dtype=np.int64)
        """Cluster of each item as a number, shape (I,)."""
        self.n_prompts, self.n_replies = len(self._prompts.words), len(self._replies.words)
        asked = distinct(self.reply_of * max(1, self.n_prompts) + self.prompt_of[self.item_of])
        each = np.arange(self.n_prompts)
        self.prompt_grams = self._grams(self._prompts, Rows.of(each, each, self.n_prompts))
        self.reply_grams = self._grams(
            self._replies,
            Rows.of(asked // max(1, self.n_prompts), asked % max(1, self.n_prompts), self.n_replies),
        )

    def __len__(self) -> int:
        return len(self.prompt_of)

    def _numbered(self, turns: Sequence[Turn]) -> "array[int]":
        """Return the numbers of a text's words; empty if it is too short for an n-gram."""
        found = [w for turn in turns for w in words(turn["content"])]
        known = self._vocabulary
        return array(
            "I", [known.setdefault(w, len(known) + 1) for w in found] if len(found) >= self.n else []
        )

    def _grams(self, texts: "_Texts", asked: Rows) -> GramIndex:
        n_words = [len(w) for w in texts.words]
        flat = array("I")
        for one in texts.words:
            flat.extend(one)
            flat.append(0)
        texts.words = []  # the index has them
        text = np.repeat(np.arange(len(n_words)), np.array(n_words, dtype=np.int64) + 1)
        return GramIndex(
            np.array(flat, dtype=np.uint32), text, asked,
            n=self.n, most_common=self.most_common, n_words=len(self._vocabulary),
        )  # fmt: skip

    def numbers_of(self, texts: Sequence[str]) -> Words:
        """Return the numbers of words, 0 for words outside the task; shape (len(texts),)."""
        return np.fromiter(map(self._vocabulary.get, texts, repeat(0)), dtype=np.uint32, count=len(texts))

    def prompt(self, turns: Sequence[Turn]) -> int | None:
        """Return the index of this prompt among the task's distinct prompts; None if it is not one."""
        if hash(_last(turns)) not in self._prompts.likely:
            return None
        return self._prompts.known.get(_identity(turns))

    def reply(self, text: str) -> int | None:
        """Return the index of this response, compared exactly; None if it is not one."""
        if hash(text) not in self._replies.likely:
            return None
        return self._replies.known.get(digest(text, 32))


def _identity(turns: Sequence[Turn]) -> str:
    """Return what a prompt is known by: roles and texts, whatever tools are declared beside them."""
    return prompt_cluster([Turn(role=turn["role"], content=turn["content"]) for turn in turns])


def _last(turns: Sequence[Turn]) -> str:
    return turns[-1]["content"] if turns else ""


class _Texts:
    """Distinct texts by identity, with a filter that costs less than an identity."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.likely: set[int] = set()
        self.words: list[array[int]] = []

    def add(self, identity: str, text: str) -> int:
        """Return the number of a text, a new one if it has none."""
        self.likely.add(hash(text))
        return self.known.setdefault(identity, len(self.known))


Place: TypeAlias = tuple[str, int]
"""File and line (or row) of a training row."""
Bools: TypeAlias = NDArray[np.bool_]


class Marks:
    """N-grams seen on one side, prompts or responses.

    Args:
        n_grams: Distinct n-grams.
        n_texts: Distinct texts.
    """

    def __init__(self, n_grams: int, n_texts: int) -> None:
        self.found: Bools = np.zeros(n_grams, dtype=bool)
        self.n_shared: Ints = np.zeros(n_texts, dtype=np.int64)
        """Most n-grams that each text shares with one training row, shape (T,)."""
        self.nearest: dict[int, Place] = {}
        """Text -> the first training row with that many shared n-grams."""


@dataclass(frozen=True, slots=True)
class Side:
    """Prompts, or the responses of some label, one entry per item; all arrays have shape (I,)."""

    has: Bools
    """Whether the item has such a text."""
    exact: Bools
    """Whether a text is in the training data exactly."""
    seen_as: NDArray[np.uint8]
    """Labels under which it was seen, a bit each: 1 << index."""
    seen_in_place: NDArray[np.uint8]
    """The same, for training rows that have the item's own prompt."""
    share: Floats
    """Largest share of a text's n-grams that are in the training data; NaN where none can be compared."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Findings of one item, for looking at it or leaving it out."""

    item: int
    """Number of the item."""
    weight: tuple[bool, bool, float]
    """Sort key: chosen response seen as such under its prompt; prompt seen; largest share."""
    values: dict[str, Any]
    """For JSON."""


class Findings:
    """Marks on the texts of a task; training rows are counted and not kept."""

    def __init__(self, index: TaskIndex) -> None:
        self.index = index
        self.n_rows = self.n_without_prompt = 0
        self.dropped: Counter[str] = Counter()
        self.prompts = Marks(index.prompt_grams.n_grams, index.n_prompts)
        self.replies = Marks(index.reply_grams.n_grams, index.n_replies)
        self._prompt_at: dict[int, Place] = {}
        self._reply_at: dict[int, Place] = {}
        self._seen_as: NDArray[np.uint8] = np.zeros(index.n_replies, dtype=np.uint8)
        self._seen_in_place: dict[tuple[int, int], int] = {}
        self._in_place_at: dict[tuple[int, int], Place] = {}

    def saw_prompt(self, prompt: int, place: Place) -> None:
        """Mark a prompt as seen whole."""
        self._prompt_at.setdefault(prompt, place)

    def saw_reply(self, reply: int, label: int, asked: list[int], place: Place) -> None:
        """Mark a response as seen whole, under a label, as an answer to these prompts of the task."""
        self._reply_at.setdefault(reply, place)
        self._seen_as[reply] |= np.uint8(1 << label)
        for prompt in asked:
            self._in_place_at.setdefault((prompt, reply), place)
            self._seen_in_place[prompt, reply] = self._seen_in_place.get((prompt, reply), 0) | 1 << label

    def prompt_side(self) -> Side:
        """Return the findings of the items' prompts."""
        index = self.index
        seen = np.zeros(index.n_prompts, dtype=bool)
        seen[list(self._prompt_at)] = True
        none = np.zeros(len(index), dtype=np.uint8)
        share = index.prompt_grams.shares(self.prompts.found)[index.prompt_of]
        return Side(np.ones(len(index), dtype=bool), seen[index.prompt_of], none, none, share)

    def reply_side(self, label: str | None = None) -> Side:
        """Return the findings of the items' responses with this label; None for all."""
        index = self.index
        wanted = np.ones(len(index.reply_of), dtype=bool)
        if label is not None:
            wanted = index.label_of == LABELS.index(label)
        item, reply = index.item_of[wanted], index.reply_of[wanted]
        has = np.zeros(len(index), dtype=bool)
        has[item] = True
        seen_as, in_place = (np.zeros(len(index), dtype=np.uint8) for _ in range(2))
        np.bitwise_or.at(seen_as, item, self._seen_as[reply])
        np.bitwise_or.at(in_place, item, self._in_place()[wanted])
        share = np.full(len(index), np.nan)
        np.fmax.at(share, item, self.reply_shares()[reply])
        return Side(has, seen_as > 0, seen_as, in_place, share)

    def reply_shares(self) -> Floats:
        """Return the share of each distinct response's n-grams that was found; NaN without n-grams."""
        return self.index.reply_grams.shares(self.replies.found)

    def _in_place(self) -> NDArray[np.uint8]:
        """Return, for each response of each item, the labels under which its own prompt has it."""
        index = self.index
        if not self._seen_in_place:
            return np.zeros(len(index.reply_of), dtype=np.uint8)
        pairs = zip(index.prompt_of[index.item_of].tolist(), index.reply_of.tolist(), strict=True)
        return np.array([self._seen_in_place.get(pair, 0) for pair in pairs], dtype=np.uint8)

    def worst_replies(self) -> dict[int, int]:
        """Return item -> its most-seen response: under its prompt, whole, or by its share."""
        index = self.index
        weight = np.nan_to_num(self.reply_shares())[index.reply_of]
        weight += 2.0 * (self._seen_as[index.reply_of] > 0) + 4.0 * (self._in_place() > 0)
        order = np.lexsort((-weight, index.item_of))
        items, first = np.unique(index.item_of[order], return_index=True)
        worst = order[first]
        seen = weight[worst] > 0
        return dict(zip(items[seen].tolist(), index.reply_of[worst[seen]].tolist(), strict=True))

    def place_of_prompt(self, item: int) -> Place | None:
        """Return where the training data has the item's prompt: whole, else the most similar row."""
        prompt = int(self.index.prompt_of[item])
        return self._prompt_at.get(prompt, self.prompts.nearest.get(prompt))

    def place_of_reply(self, item: int, reply: int) -> Place | None:
        """Return where the training data has a response: under its prompt, whole, or the most similar row."""
        in_place = self._in_place_at.get((int(self.index.prompt_of[item]), reply))
        return in_place or self._reply_at.get(reply, self.replies.nearest.get(reply))
