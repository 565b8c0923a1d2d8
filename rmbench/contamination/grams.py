"""N-grams of a task's texts as sorted arrays: what other texts share with them, without false alarms.

Texts are word numbers from 1, each text followed by a 0, which no n-gram holds. The 64-bit hash of an n-gram
(a polynomial over a random number per word) finds candidates; the words themselves decide.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rmbench.errors import RunError
from rmbench.stats.clusters import Floats, Ints

Words: TypeAlias = NDArray[np.uint32]
Hashes: TypeAlias = NDArray[np.uint64]

MULTIPLIER = 0x9E3779B97F4A7C15
"""Odd, so that multiplication modulo 2**64 loses nothing."""
_SEEDS = 4
_SLOTS_PER_GRAM = 8
_MOST_SLOTS_LOG2 = 28


@dataclass(frozen=True, slots=True)
class Rows:
    """Lists of numbers of different length: row k is `values[offsets[k] : offsets[k + 1]]`."""

    offsets: Ints
    values: Ints

    @classmethod
    def of(cls, row: Ints, value: Ints, n_rows: int) -> "Rows":
        """Return rows made of pairs that are sorted by `row`."""
        return cls(np.concatenate(([0], np.cumsum(np.bincount(row, minlength=n_rows)))), value)

    def expand(self, wanted: Ints) -> tuple[Ints, Ints]:
        """Return the values of the rows `wanted` in a row, and to which place in `wanted` each belongs."""
        starts = self.offsets[wanted]
        sizes = self.offsets[wanted + 1] - starts
        place = np.repeat(np.arange(len(wanted)), sizes)
        within = np.arange(len(place)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.values[starts[place] + within], place


class GramIndex:
    """The n-grams of T texts.

    Args:
        words: Word numbers of all texts, each text followed by a 0, shape (W,).
        text: Text of each word, 0 to T - 1, shape (W,).
        asked: For each text, the distinct prompts that it belongs to.
        n: Words of an n-gram.
        most_common: N-grams that belong to more prompts than that are left aside.
        n_words: Words that there are; the numbers go from 1 to `n_words`.
    """

    def __init__(
        self, words: Words, text: Ints, asked: Rows, *, n: int, most_common: int, n_words: int
    ) -> None:
        self._n, self._words = n, words
        n_texts = len(asked.offsets) - 1
        at = windows(words, n)
        hashes, place, gram = self._distinct(at, n_words)
        window_text = text[at]
        sharing = _unique_pairs(gram, window_text, n_texts)
        prompts, pair = asked.expand(sharing[1])
        per_prompt = _unique_pairs(sharing[0][pair], prompts, int(prompts.max(initial=0)) + 1)
        tells = np.bincount(per_prompt[0], minlength=len(hashes)) <= most_common
        number = np.where(tells, np.cumsum(tells) - 1, -1)
        self.n_common = int(np.count_nonzero(~tells))
        """Distinct n-grams left aside."""
        self.n_grams = int(np.count_nonzero(tells))
        """Distinct n-grams that are looked for."""
        self._hashes, self._place = hashes[tells], place[tells]
        kept = tells[sharing[0]]
        self.texts_of = Rows.of(number[sharing[0][kept]], sharing[1][kept], self.n_grams)
        """Gram -> texts that hold it."""
        self._window_gram, self._window_text = number[gram], window_text
        self.n_windows = np.bincount(window_text, minlength=n_texts)
        """N-grams of each text, repeated ones too, shape (T,)."""
        telling = self._window_gram >= 0
        self.n_telling = np.bincount(window_text[telling], minlength=n_texts)
        """Those of them that are not left aside, shape (T,)."""
        self._filter, self._shift = _filter(self._hashes)

    def _distinct(self, at: Ints, n_words: int) -> tuple[Hashes, Ints, Ints]:
        """Return the distinct n-grams' hashes, sorted, a place of each, and the number of each window's."""
        for seed in range(_SEEDS):
            self._numbers = word_hashes(n_words, seed)
            hashes, first, gram = np.unique(
                window_hashes(self._numbers[self._words], self._n)[at], return_index=True, return_inverse=True
            )
            place, gram = at[first], gram.reshape(-1)
            if self._same(self._words, at, place[gram]).all():
                return hashes, place, gram
        raise RunError(f"{_SEEDS} hashes in a row could not tell this task's n-grams apart")

    def _same(self, words: Words, at: Ints, place: Ints) -> NDArray[np.bool_]:
        """Say which windows of `words` hold the very words of the task's windows at `place`."""
        same = np.ones(len(at), dtype=bool)
        for k in range(self._n):
            same &= words[at + k] == self._words[place + k]
        return same

    def find(self, words: Words) -> tuple[Ints, Ints]:
        """Return where in `words` an n-gram of the task begins, and its number.

        Args:
            words: Word numbers, 0 for a word that the task does not have and between texts, shape (W,).
        """
        at = windows(words, self._n)
        if not len(at) or not self.n_grams:
            return at[:0], at[:0]
        hashes = window_hashes(self._numbers[words], self._n)[at]
        likely = self._filter[hashes >> self._shift]
        at, hashes = at[likely], hashes[likely]
        gram = np.minimum(np.searchsorted(self._hashes, hashes), self.n_grams - 1)
        equal = self._hashes[gram] == hashes
        at, gram = at[equal], gram[equal]
        same = self._same(words, at, self._place[gram])
        return at[same], gram[same]

    def shares(self, found: NDArray[np.bool_]) -> Floats:
        """Return, per text, the share of its n-grams that were found; NaN where it has none, shape (T,).

        Args:
            found: Whether each n-gram was found, shape (n_grams,).
        """
        telling = self._window_gram >= 0
        hit = found[self._window_gram[telling]].astype(np.float64)
        hits = np.bincount(self._window_text[telling], weights=hit, minlength=len(self.n_telling))
        share: Floats = np.full(len(hits), np.nan)
        np.divide(hits, self.n_telling, out=share, where=self.n_telling > 0)
        return share


def windows(words: Words, n: int) -> Ints:
    """Return where `n` words in a row begin that hold no 0."""
    if len(words) < n:
        return np.empty(0, dtype=np.int64)
    zeros = np.concatenate(([0], np.cumsum(words == 0)))
    return np.flatnonzero(zeros[n:] == zeros[:-n])


def window_hashes(numbers: Hashes, n: int) -> Hashes:
    """Return the hash of every `n` numbers in a row, modulo 2**64; shape (W,) gives (max(0, W - n + 1),)."""
    size = max(0, len(numbers) - n + 1)
    total = numbers[:size].copy()
    for k in range(1, n):
        total *= np.uint64(MULTIPLIER)
        total += numbers[k : k + size]
    return total


def word_hashes(n_words: int, seed: int) -> Hashes:
    """Return a random number per word, shape (n_words + 1,)."""
    return np.random.default_rng(seed).integers(0, 2**64, size=n_words + 1, dtype=np.uint64)


def _filter(hashes: Hashes) -> tuple[NDArray[np.bool_], np.uint64]:
    """Return a table by the leading bits of a hash: false where there is none; cheaper than a search."""
    bits = min(_MOST_SLOTS_LOG2, max(8, (_SLOTS_PER_GRAM * len(hashes)).bit_length()))
    shift = np.uint64(64 - bits)
    table = np.zeros(2**bits, dtype=bool)
    table[hashes >> shift] = True
    return table, shift


def _unique_pairs(first: Ints, second: Ints, n_second: int) -> tuple[Ints, Ints]:
    """Return the distinct pairs, sorted; `second` holds numbers below `n_second`."""
    both = distinct(first * n_second + second)
    return both // max(1, n_second), both % max(1, n_second)


def distinct(values: Ints) -> Ints:
    """Return the distinct values, sorted."""
    ordered = np.sort(values)  # np.unique takes a hash table in some versions, several times as slow
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]
