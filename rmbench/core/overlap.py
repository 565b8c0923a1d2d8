"""Has a model been trained on what it is evaluated on? Prompts in common, exactly or by 13-grams.

A trained model's folder keeps hashes of its training prompts, never their text.
"""

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rmbench.core.files import prompt_cluster, read_arrays, write_atomic_with
from rmbench.errors import DataError, StoreError
from rmbench.types import Turn

PROMPTS_FILE = "training_prompts.npz"
N_WORDS = 13
"""Words in a row that two texts rarely share by chance (arXiv 2005.14165, appendix C)."""

_WORD = re.compile(r"\w+")
_ASCII_WORDS = "".join(chr(c) if _WORD.match(chr(c)) else " " for c in range(128))


def words(text: str) -> list[str]:
    """Return what counts as the words of `text`: letters, digits and underscores in a row, in lower case."""
    if text.isascii():
        return text.lower().translate(_ASCII_WORDS).split()  # the same words, in a third of the time
    return _WORD.findall(text.lower())


class TrainingPrompts:
    """Hashes of the prompts that a model was trained on.

    Args:
        exact: Sorted hashes of whole prompts, shape (n,).
        grams: Sorted hashes of their 13-grams, shape (m,).
    """

    def __init__(self, exact: NDArray[np.uint64], grams: NDArray[np.uint64]) -> None:
        self._exact, self._grams = exact, grams

    @classmethod
    def of(cls, prompts: Iterable[Sequence[Turn]]) -> "TrainingPrompts":
        """Return the hashes of `prompts`."""
        listed = list(prompts)
        exact = np.unique(np.array([_whole(p) for p in listed], dtype=np.uint64))
        grams = np.unique(np.array([g for p in listed for g in _grams(p)], dtype=np.uint64))
        return cls(exact, grams)

    @classmethod
    def load(cls, folder: Path) -> "TrainingPrompts | None":
        """Return those of a model's folder; None if it does not say.

        Raises:
            StoreError: If the file is damaged.
        """
        path = folder / PROMPTS_FILE
        if not path.is_file():
            return None
        try:
            found = read_arrays(path, {"exact": ("uint64", 1), "grams": ("uint64", 1)})
        except DataError as error:
            raise StoreError(str(error)) from None
        return cls(found["exact"], found["grams"])

    def joined(self, other: "TrainingPrompts") -> "TrainingPrompts":
        """Return the hashes of both."""
        return TrainingPrompts(np.union1d(self._exact, other._exact), np.union1d(self._grams, other._grams))

    def save(self, folder: Path) -> None:
        """Write the hashes into a model's folder."""
        write_atomic_with(
            folder / PROMPTS_FILE,
            lambda file: np.savez_compressed(file, exact=self._exact, grams=self._grams),
        )

    def count(self, prompts: Iterable[Sequence[Turn]]) -> dict[str, int]:
        """Return how many of `prompts` are among them: `exact`, and `ngram` for those that share 13 words."""
        exact = shared = 0
        for prompt in prompts:
            if _found(self._exact, [_whole(prompt)]):
                exact += 1
            elif _found(self._grams, _grams(prompt)):
                shared += 1
        return {"exact": exact, "ngram": shared}


def _whole(prompt: Sequence[Turn]) -> int:
    return _hash(prompt_cluster(prompt))


def _grams(prompt: Sequence[Turn]) -> list[int]:
    found = [w for turn in prompt for w in words(turn["content"])]
    return [_hash(" ".join(found[k : k + N_WORDS])) for k in range(len(found) - N_WORDS + 1)]


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _found(among: NDArray[np.uint64], values: Sequence[int]) -> bool:
    if not len(among) or not values:
        return False
    wanted = np.array(values, dtype=np.uint64)
    at = np.minimum(np.searchsorted(among, wanted), len(among) - 1)
    return bool((among[at] == wanted).any())
