"""What a task holds, in the form in which training rows are looked up: memory follows the task alone."""

from array import array
from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from rmbench.canon import digest, prompt_cluster
from rmbench.contamination.grams import GramIndex, Rows, Words, distinct
from rmbench.data.training import LABELS, labels_of
from rmbench.overlap import words
from rmbench.stats.clusters import Ints
from rmbench.types import Item, Turn


class TaskIndex:
    """A task's distinct prompts and responses.

    Args:
        items: The task's items, iterated once.
        n: Words of an n-gram.
        most_common: N-grams in more of the task's prompts than that are left aside: they are how the task is
            worded, not what it asks.
    """

    def __init__(self, items: Iterable[Item], *, n: int, most_common: int) -> None:
        self.n, self.most_common = n, most_common
        self._vocabulary: dict[str, int] = {}
        self._prompts, self._replies = _Texts(), _Texts()
        prompt_of, reply_of, label_of = array("q"), array("q"), array("b")
        ends, clusters, codes = array("q", [0]), array("q"), dict[str, int]()
        for item in items:
            prompt = self._prompts.add(prompt_cluster(item.prompt), _last(item.prompt))
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
        """Return the numbers of a text's words; none where it is too short to have n-grams."""
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
        """Return the numbers of words, 0 for those that the task does not have; shape (len(texts),)."""
        return np.fromiter(map(self._vocabulary.get, texts, repeat(0)), dtype=np.uint32, count=len(texts))

    def prompt(self, turns: Sequence[Turn]) -> int | None:
        """Return which of the task's distinct prompts this is, by its identity; None: none."""
        if hash(_last(turns)) not in self._prompts.likely:
            return None
        return self._prompts.known.get(prompt_cluster(turns))

    def reply(self, text: str) -> int | None:
        """Return which of the task's distinct responses this is, to the last character; None: none."""
        if hash(text) not in self._replies.likely:
            return None
        return self._replies.known.get(digest(text, 32))


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
