"""Heads on a frozen backbone that all cells of a study share: every text goes through it once.

Hundreds of models share one forward pass over each text and one copy of the weights. A cell keeps only its
head. `rmbench train --freeze-backbone` with the same settings makes an ordinary folder with the same rewards,
up to rounding.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rmbench.core.files import digest, sha256_bytes, write_atomic
from rmbench.core.overlap import TrainingPrompts
from rmbench.models.hf.checkpoint import RECORD
from rmbench.models.runtime import Runtime
from rmbench.train.base import identity_of_base, load_base, prompts_seen
from rmbench.train.fit import head_for
from rmbench.train.frozen import Head, Representations, RepresentationStore, Tell
from rmbench.train.losses import find_loss
from rmbench.train.pairs import EncodedPairs, TrainingData
from rmbench.train.run import check_sizes, finished_record, loss_of
from rmbench.train.settings import TrainSettings
from rmbench.types import Item, Turn

_HEAD = "head.safetensors"


@dataclass(frozen=True, slots=True)
class Parts:
    """Both splits of a data set."""

    train: Representations
    held_out: Representations
    n_truncated: int


class FrozenBase:
    """A backbone, with its last layer's representation of every text so far.

    Args:
        path: Folder or `org/name` of the base.
        max_length: Tokens per conversation.
        precision: As `TrainSettings.precision`.
        cache: Folder of stored representations.
        runtime: Device, offline.
    """

    tell: Tell | None = None
    """Called with (texts done, texts in all) while representations are computed."""

    def __init__(self, path: str, max_length: int, precision: str, cache: Path, runtime: Runtime) -> None:
        self._weights, self.name = identity_of_base(path, runtime)
        self._base = load_base(path, 0, None, runtime, self._weights)
        if runtime.device.startswith("cuda") or (runtime.device == "auto" and torch.cuda.is_available()):
            self._base.model.to("cuda" if runtime.device == "auto" else runtime.device)
        self._known = RepresentationStore(self._base, cache, self._weights, precision)
        self._precision = precision
        self._max_length = self._base.limit(max_length)
        self._parts: dict[str, Parts] = {}
        self._items: dict[int, tuple[Sequence[Item], torch.Tensor]] = {}

    def identity(self) -> dict[str, str]:
        """Return the identity of the representations."""
        return {
            "base": self._weights,
            "format": self._base.text_format.identity,
            "max_length": str(self._max_length),
            "precision": self._precision,
        }

    def of_pairs(self, data: TrainingData) -> Parts:
        """Return the representations of both splits; kept for the next method on the same data."""
        if data.data_hash not in self._parts:
            sets = [
                EncodedPairs(p, self._base.text_format, self._max_length) for p in (data.train, data.held_out)
            ]
            seen = [self._known.of_pairs(s, self.tell) for s in sets]
            self._parts[data.data_hash] = Parts(seen[0], seen[1], sum(s.n_truncated for s in sets))
        return self._parts[data.data_hash]

    def of_items(self, items: Sequence[Item]) -> torch.Tensor:
        """Return the representations of all responses, shape (n, D), double; kept for the next head."""
        if id(items) not in self._items:
            conversations = [item.conversation(k) for item in items for k in range(len(item.responses))]
            encoded = self._base.text_format.encode(conversations, self._max_length)
            found = self._known.of(encoded, self.tell)
            # The items are kept too: Python may reuse an id.
            self._items[id(items)] = (items, torch.from_numpy(found))
        return self._items[id(items)][1].double()


def fit_head_of(
    base: FrozenBase,
    data: TrainingData,
    settings: TrainSettings,
    on_step: Callable[[int, int, Mapping[str, float]], None] | None = None,
) -> Head:
    """Return the head trained on `data` with `settings`; arguments as in `rmbench.train.run.train`."""
    loss = loss_of(settings, data)
    check_sizes(replace(settings, micro_batch=1), data, 1)  # there are no micro-batches here
    parts = base.of_pairs(data)
    return head_for(settings, parts.train, parts.held_out, loss, on_step)


def train_cell(base: FrozenBase, data: TrainingData, settings: TrainSettings, out: Path) -> Mapping[str, Any]:
    """Train a head into `out`, or return the record of the finished one.

    Raises:
        ConfigError: If `out` holds a head of other settings or other data.
        RunError: If the loss is not finite.
    """
    from safetensors.torch import save

    shown = replace(settings, base=base.name)
    options = {k: v for k, v in vars_of(shown).items() if k not in ("micro_batch", "lora")}
    identity = {"settings": options, "representations": base.identity(), "data": data.data_hash}
    if (source := find_loss(settings.method)[1]) is not None:
        identity["loss_source"] = source
    path = out / RECORD
    if (record := finished_record(path, identity, "give another --models-dir")) is not None:
        return record
    head = fit_head_of(base, data, settings)
    weights = {"weight": head.weight.contiguous(), "bias": torch.tensor([head.bias])}
    write_atomic(out / _HEAD, save(weights))
    prompts_seen(settings.base, (p.prompt for p in data.train)).save(out)
    made = {
        "identity": identity,
        "identity_hash": digest(identity, 16),
        "source": data.source,
        "counts": {
            "train_pairs": len(data.train),
            "held_out_pairs": len(data.held_out),
            "truncated_texts": base.of_pairs(data).n_truncated,
            "dropped": dict(data.dropped),
            "steps": head.steps,
        },
        "held_out": dict(head.held_out),
        "curve": head.curve,
    }
    write_atomic(path, json.dumps(made, indent=1, sort_keys=True) + "\n")
    return made


def vars_of(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings as plain JSON."""
    return {
        name: dict(v) if isinstance(v := getattr(settings, name), Mapping) else v
        for name in settings.__dataclass_fields__
    }


class FrozenHead:
    """A trained head on a shared backbone: a model with precomputed rewards.

    Args:
        base: The backbone.
        folder: Output of `train_cell`.
    """

    def __init__(self, base: FrozenBase, folder: Path) -> None:
        from safetensors.torch import load

        self._base, self._folder = base, folder
        raw = (folder / _HEAD).read_bytes()  # the very bytes that are hashed
        self._sha256, state = sha256_bytes(raw), load(raw)
        self._weight, self._bias = state["weight"].double(), float(state["bias"][0])

    def fingerprint(self) -> Mapping[str, str]:
        """Return the identity of the rewards: backbone, format, length, precision and head."""
        return {
            "kind": "frozen-head",
            **self._base.identity(),
            "weights": f"sha256:{self._sha256}",
        }

    def overlap(self, prompts: Iterable[Sequence[Turn]]) -> Mapping[str, int] | None:
        """Return how many of `prompts` the head was trained on."""
        seen = TrainingPrompts.load(self._folder)
        return None if seen is None else seen.count(prompts)

    def rewards(self, items: Sequence[Item]) -> list[list[float]]:
        """Return one reward per response of each item."""
        flat = iter((self._base.of_items(items) @ self._weight + self._bias).tolist())
        return [[next(flat) for _ in item.responses] for item in items]
