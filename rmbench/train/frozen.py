"""Linear heads on stored representations of a frozen backbone.

Representations are computed once, kept on disk and shared by all runs, so a head takes seconds and hundreds
of runs (losses, seeds, settings) fit on a laptop. The head becomes the last layer of an ordinary classifier.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import softplus

from rmbench.core.files import digest, read_arrays, write_atomic_with
from rmbench.errors import ConfigError, DataError, RunError, StoreError
from rmbench.models.hf.forward import padded
from rmbench.models.hf.text import Encoded
from rmbench.train.base import Base, head_of
from rmbench.train.losses import BatchStatistics, LossFunction, Tensor
from rmbench.train.pairs import EncodedPairs, StepSampler
from rmbench.train.trainer import RepresentationTap

_TOKENS_AT_A_TIME = 8_192
_TEXTS_PER_SHARD = 512
"""Texts per shard: the most that a kill costs."""

Tell = Callable[[int, int], None]
"""Called with (texts done, texts in all) while representations are computed."""


@dataclass(frozen=True, slots=True)
class Representations:
    """Inputs of the last layer, for all pairs of a split."""

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
        base: The model; it does not change.
        cache: Folder of all bases' stores.
        weights: Identity of the base's weights.
        precision: `bfloat16` for bfloat16 matrix products; else float32.

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
        """Return the representations of `texts`, shape (n, D); only new ones are computed."""
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
    """Return the 16-byte key of the model's input."""
    hashed = blake2b(np.array(text.ids, dtype=np.int64).tobytes(), digest_size=16)
    if text.type_ids is not None:
        hashed.update(b"types" + np.array(text.type_ids, dtype=np.int64).tobytes())
    return hashed.digest()


def _read(path: Path) -> dict[bytes, NDArray[np.float32]]:
    try:
        found = read_arrays(path, {"keys": ("uint8", 2), "representations": ("float32", 2)}, most=1 << 30)
    except DataError as error:
        raise StoreError(f"{error}; stored representations: remove the file") from None
    keys, rows = found["keys"], found["representations"]
    if len(keys) != len(rows):
        raise StoreError(f"{path}: {len(keys)} keys of {len(rows)} stored representations; remove the file")
    return {key.tobytes(): row for key, row in zip(keys, rows, strict=True)}


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


@dataclass(frozen=True, slots=True)
class Head:
    """A trained linear head, in the units of the backbone."""

    weight: Tensor
    """Shape (D,)."""
    bias: float
    """Shifts all rewards alike; margins do not depend on it."""
    curve: list[dict[str, float]]
    held_out: Mapping[str, float]
    steps: int


def train_head(
    train: Representations,
    held_out: Representations,
    loss: LossFunction,
    *,
    batch_size: int,
    epochs: float,
    max_steps: int | None,
    learning_rate: float,
    weight_decay: float,
    warmup: float,
    eval_every: int,
    seed: int,
    on_step: Callable[[int, int, Mapping[str, float]], None] | None = None,
) -> Head:
    """Train a linear head with AdamW on standardised representations; keep the best by held-out NLL.

    Deterministic: the same input and seed give the same head.

    Raises:
        RunError: If the loss is not finite.
    """
    both = torch.cat([train.chosen, train.rejected])
    centre, scale = both.mean(dim=0), both.std(dim=0).clamp(min=1e-6)
    sides = [(x - centre) / scale for x in (train.chosen, train.rejected)]
    watched = (held_out.chosen - held_out.rejected) / scale
    spread = torch.cat([held_out.chosen, held_out.rejected]) / scale
    weight = torch.zeros(both.shape[1], requires_grad=True)
    optimiser = torch.optim.AdamW([weight], lr=learning_rate, weight_decay=weight_decay)
    sampler = StepSampler([1] * len(train.chosen), batch_size, seed)
    per_epoch = len(sampler) // batch_size
    total = max_steps or max(1, round(epochs * per_epoch))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: _rate(s, total, warmup))
    distances = (sides[0] - sides[1]).norm(dim=1)
    best, curve = (float("inf"), weight.detach().clone()), []
    order: list[int] = []
    for step in range(total):
        if step % per_epoch == 0:
            sampler.set_epoch(step // per_epoch)
            order = list(sampler)
        at = torch.tensor(order[step % per_epoch * batch_size :][:batch_size])
        values, told = _losses(
            loss, weight, [side[at] for side in sides], train.strength[at], distances[at], step
        )
        if not bool(torch.isfinite(values).all()):
            bad = ", ".join(repr(train.ids[k]) for k in at[~torch.isfinite(values)][:3].tolist())
            raise RunError(f"the loss is not finite at step {step + 1}, pairs {bad}")
        before = weight.detach().clone()
        optimiser.zero_grad()
        values.mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if on_step:
            margins = (sides[0][at] - sides[1][at]) @ before
            on_step(step + 1, total, {"loss": float(values.detach().mean()), **_right(margins), **told})
        if (step + 1) % eval_every == 0 or step + 1 == total:
            seen = _seen(watched @ weight.detach()) | {"scale": float((spread @ weight.detach()).std())}
            if not isfinite(seen["nll"]):
                raise RunError(f"rewards are not finite after step {step + 1}")
            curve.append({"step": float(step + 1), "loss": float(values.detach().mean()), **told,
                          **{f"eval_{k}": v for k, v in seen.items()}})  # fmt: skip
            if seen["nll"] < best[0]:
                best = (seen["nll"], weight.detach().clone())
    folded = best[1] / scale
    return Head(folded, float(-(folded * centre).sum()), curve, _seen(watched @ best[1]), total)


def _losses(
    loss: LossFunction, weight: Tensor, sides: Sequence[Tensor], strength: Tensor, distance: Tensor, step: int
) -> tuple[Tensor, Mapping[str, float]]:
    chosen, rejected = sides[0] @ weight, sides[1] @ weight
    batch = BatchStatistics(
        margins=(chosen - rejected).detach(),
        step=step,
        strength=strength if bool(torch.isfinite(strength).all()) else None,
        distance=distance,
        mean_distance=float(distance.mean()),
    )
    return loss(chosen, rejected, batch)


def _seen(margins: Tensor) -> dict[str, float]:
    return {"nll": float(softplus(-margins).mean()), **_right(margins)}


def _right(margins: Tensor) -> dict[str, float]:
    right = (margins > 0).double() + 0.5 * (margins == 0).double()
    return {"accuracy": float(right.mean()), "margin": float(margins.mean())}


def _rate(step: int, total: int, warmup: float) -> float:
    rising = max(1, round(warmup * total))
    return min((step + 1) / rising, max(0.0, (total - step) / max(1, total - rising)))


def put_head(base: Base, head: Head) -> None:
    """Write the head into the model's last layer.

    Raises:
        ConfigError: If the model has no linear last layer of the head's width.
    """
    layer: Any = head_of(base.model)
    if layer.in_features != len(head.weight):
        raise ConfigError(f"the last layer has {layer.in_features} inputs; the head has {len(head.weight)}")
    with torch.no_grad():
        layer.weight.copy_(head.weight[None, :])
        if layer.bias is not None:
            layer.bias.fill_(head.bias)
