"""What the last layer of a frozen model sees of a text: computed once, kept on disk, shared by all runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from rmbench.canon import digest
from rmbench.errors import StoreError
from rmbench.files import write_atomic_with
from rmbench.models.hf_forward import padded
from rmbench.models.hf_text import Encoded
from rmbench.train.base import Base
from rmbench.train.batches import EncodedPairs
from rmbench.train.losses import Tensor
from rmbench.train.trainer import RepresentationTap

_TOKENS_AT_A_TIME = 8_192
_TEXTS_PER_SHARD = 512
"""What a kill can cost, at most."""

Tell = Callable[[int, int], None]
"""Told (texts done, texts in all) while representations are computed."""


@dataclass(frozen=True, slots=True)
class Representations:
    """What the last layer of a frozen model sees, for all pairs of a split."""

    chosen: Tensor
    """Shape (n, D), float32."""
    rejected: Tensor
    strength: Tensor
    """Shape (n,); NaN where unknown."""
    ids: tuple[str, ...]
    """Of the pairs, for messages."""


class RepresentationStore:
    """Representations by one frozen base: text by text in memory, in shards on disk (npz, no pickle).

    Args:
        base: The model; nothing of it changes.
        cache: Folder of all bases' stores.
        weights: What pins the base's weights.
        precision: `bfloat16` for the matrix products in it; else float32.

    Raises:
        StoreError: If a shard is damaged.
    """

    def __init__(self, base: Base, cache: Path, weights: str, precision: str = "auto") -> None:
        self._base, self._low = base, precision == "bfloat16"
        pinned = [weights, base.body_seed, base.text_format.identity, *([precision] if self._low else [])]
        self._folder = cache / digest(pinned, 24)
        self._known: dict[bytes, NDArray[np.float32]] = {}
        for path in sorted(self._folder.glob("*.npz")):
            self._known.update(_read(path))

    def of(self, texts: Sequence[Encoded], tell: Tell | None = None) -> NDArray[np.float32]:
        """Return the representations of `texts`, shape (n, D); only what is not known is computed."""
        keys = [_key(text) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        names = list(new)
        for start in range(0, len(names), _TEXTS_PER_SHARD):
            part = names[start : start + _TEXTS_PER_SHARD]
            found = _compute(self._base, [new[key] for key in part], self._low)
            self._write(part, found)
            self._known.update(zip(part, found, strict=True))
            if tell:
                tell(start + len(part), len(names))
        return np.stack([self._known[key] for key in keys])

    def of_pairs(self, pairs: EncodedPairs, tell: Tell | None = None) -> Representations:
        """Return the representations of both sides of `pairs`."""
        rows = [pairs[k] for k in range(len(pairs))]
        found = torch.from_numpy(self.of([e for row in rows for e in (row.chosen, row.rejected)], tell))
        ids = tuple(pair.id for pair in pairs.pairs)
        return Representations(found[0::2], found[1::2], torch.tensor([row.strength for row in rows]), ids)

    def _write(self, keys: Sequence[bytes], found: NDArray[np.float32]) -> None:
        named = np.array([list(key) for key in keys], dtype=np.uint8)
        path = self._folder / f"{blake2b(named.tobytes(), digest_size=12).hexdigest()}.npz"
        write_atomic_with(path, lambda file: np.savez(file, keys=named, representations=found))


def _key(text: Encoded) -> bytes:
    """Return 16 bytes that stand for what the model reads."""
    hashed = blake2b(np.array(text.ids, dtype=np.int64).tobytes(), digest_size=16)
    if text.type_ids is not None:
        hashed.update(b"types" + np.array(text.type_ids, dtype=np.int64).tobytes())
    return hashed.digest()


def _read(path: Path) -> dict[bytes, NDArray[np.float32]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            keys, found = arrays["keys"], arrays["representations"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise StoreError(f"{path}: stored representations are damaged ({error}); remove it") from None
    return {key.tobytes(): row for key, row in zip(keys, found, strict=True)}


def _compute(base: Base, texts: Sequence[Encoded], low: bool) -> NDArray[np.float32]:
    tap = RepresentationTap(base.model)
    found: dict[int, NDArray[np.float32]] = {}
    base.model.eval()
    device = str(base.model.device).partition(":")[0]
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=low):
        for group in _groups(texts):
            batch = padded([texts[k] for k in group], base.pad_id, base.model.device)
            base.model(**batch)
            seen = tap.take(batch["attention_mask"]).cpu().float().numpy()
            found |= zip(group, seen, strict=True)
    tap.close()
    return np.stack([found[k] for k in range(len(texts))])


def _groups(texts: Sequence[Encoded]) -> list[list[int]]:
    """Return batches of similar length, longest first, within a budget of padded tokens."""
    groups: list[list[int]] = []
    for k in sorted(range(len(texts)), key=lambda k: (-len(texts[k].ids), k)):
        if groups and (len(groups[-1]) + 1) * len(texts[groups[-1][0]].ids) <= _TOKENS_AT_A_TIME:
            groups[-1].append(k)
        else:
            groups.append([k])
    return groups
