"""Training pairs: read from any supported format, split by prompt, encoded, ordered and batched."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rmbench.core.files import digest, identity_of, in_part
from rmbench.errors import ConfigError
from rmbench.models.hf.forward import padded
from rmbench.models.hf.text import Encoded, TextFormat
from rmbench.tasks import read_task_items
from rmbench.tasks.hub import hub_data
from rmbench.tasks.rows import BadRows, data_files, rows_of
from rmbench.tasks.spec import DataSpec, TaskSpec, apply_reader_options, load_task
from rmbench.tasks.training import training_split
from rmbench.types import Conversation, Item, Response, Turn

BEYOND_EVAL_LIMIT = "held-out pairs beyond --eval-limit"
"""Reason under which unused held-out pairs are counted."""


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """Two replies to a prompt, the better one first."""

    id: str
    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    strength: float | None
    """Difference of gold, where gold is more than a label."""
    cluster: str
    more: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})
    """What the messages of the two replies hold beside their texts."""

    def conversations(self) -> tuple[Conversation, Conversation]:
        """Return the prompt followed by the chosen reply, and by the rejected one."""
        texts = zip((self.chosen, self.rejected), self.more, strict=True)
        chosen, rejected = (Response(text, more=more).turn for text, more in texts)
        return (*self.prompt, chosen), (*self.prompt, rejected)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Training pairs and held-out pairs, on different prompts."""

    train: tuple[TrainingPair, ...]
    held_out: tuple[TrainingPair, ...]
    dropped: Mapping[str, int]
    """Reason -> number of rows, items or pairs left out."""
    data_hash: str
    """Hash of the pairs' content and of their split, 16 hex digits."""
    source: str
    """The file's name, without its folder, or `TASK:train`."""

    def has_strength(self) -> bool:
        """Say whether every pair has a strength."""
        return all(p.strength is not None for p in (*self.train, *self.held_out))


def read_training_data(
    source: str | Sequence[str],
    *,
    reader: str = "auto",
    like: str | None = None,
    params: Mapping[str, str] | None = None,
    part: tuple[float, float] | None = None,
    on_bad: str = "fail",
    pairs_per_prompt: int | None = None,
    limit: int | None = None,
    held_out: float = 0.1,
    eval_limit: int | None = None,
    seed: int = 0,
    offline: bool = False,
) -> TrainingData:
    """Return the pairs of `source`, split by prompt.

    Args:
        source: A file or folder, `org/name[/config][:split][@commit]` on the Hub, or `TASK:train` for the
            training split of a task; several are joined.
        reader: Format of the file; `auto` looks at its first row.
        like: A task whose reader and options replace `reader`.
        params: Options of the reader, as texts.
        part: Only prompts whose hash lies in [low, high), see `in_part`; None: all.
        on_bad: `fail` stops at the first row or pair that does not fit; `skip` leaves it out and counts it.
        pairs_per_prompt: Most pairs from a pool of many responses, drawn by seed; None: all.
        limit: Most pairs in all, drawn by seed.
        held_out: Share of prompts whose pairs are for evaluation.
        eval_limit: Most held-out pairs, drawn by seed, because evaluation costs time; None: all.
        seed: Seed of every draw.
        offline: Use no network.

    Raises:
        DataError: If a row does not fit.
        ConfigError: If no training pair or no held-out pair is left.
    """
    sources = [source] if isinstance(source, str) else list(source)
    items: list[Item] = []
    counts: Counter[str] = Counter()
    names = []
    for one in sources:
        found, dropped, name = _items(one, _reading(reader, like, params or {}), on_bad, offline)
        items += [item for item in found if in_part(item.cluster, part)]
        counts.update(dropped)
        names.append(name)
    shown = " + ".join(names)
    rng = np.random.default_rng(seed)
    pairs = [p for item in items for p in _pairs_of(item, pairs_per_prompt, rng, counts)]
    pairs = _distinct(pairs, counts)
    if limit is not None and limit < len(pairs):
        pairs = [pairs[k] for k in np.sort(rng.choice(len(pairs), size=limit, replace=False))]
    train, watched = _split(pairs, held_out, rng)
    if eval_limit is not None and eval_limit < len(watched):
        counts[BEYOND_EVAL_LIMIT] += len(watched) - eval_limit
        # The last draw of all: without a limit nothing else changes.
        watched = [watched[k] for k in np.sort(rng.choice(len(watched), size=eval_limit, replace=False))]
    for name, split in (("train on", train), ("hold out", watched)):
        if not split:
            raise ConfigError(f"{shown}: no pair is left to {name} ({len(pairs)} pairs in all)")
    content = [[_content(pair) for pair in split] for split in (train, watched)]
    return TrainingData(
        tuple(train), tuple(watched), dict(sorted(counts.items())), digest(content, 16), shown
    )


def _content(pair: TrainingPair) -> list[Any]:
    turns = [identity_of(turn) for turn in pair.prompt]
    content = [pair.id, turns, pair.chosen, pair.rejected, pair.strength]
    return [*content, *map(dict, pair.more)] if any(pair.more) else content


@dataclass(frozen=True, slots=True)
class _Reading:
    """How files are read."""

    spec: TaskSpec | None
    """A task with the reader; None: by the first row."""
    params: Mapping[str, str]


def _reading(reader: str, like: str | None, params: Mapping[str, str]) -> _Reading:
    if like is not None:
        spec = load_task(like)
        return _Reading(
            replace(spec, data=DataSpec(reader=spec.data.reader, options=spec.data.options)), params
        )
    if reader == "auto" and not params:
        return _Reading(None, params)
    return _Reading(_with_reader("jsonl" if reader == "auto" else reader), params)


def _with_reader(reader: str) -> TaskSpec:
    return replace(load_task("preference"), data=DataSpec(reader=reader))


def _items(
    source: str, reading: _Reading, on_bad: str, offline: bool
) -> tuple[Sequence[Item], Mapping[str, int], str]:
    of_task = training_split(source, f"--data {source}")
    if of_task is not None:
        if reading.params:
            raise ConfigError(f"--data {source}: -T is for files; a task's split is read as the task says")
        found = read_task_items(of_task, None, on_bad=on_bad, offline=offline)
        return found.items, found.dropped, source
    path, hub = Path(source), hub_data(source)
    spec = reading.spec or _with_reader("jsonl" if hub else _guess_reader(path, on_bad))
    spec = apply_reader_options(spec, reading.params)
    found = read_task_items(spec, path, on_bad=on_bad, offline=offline)
    return found.items, found.dropped, found.source.removeprefix("hub: ") if hub else path.name


def _guess_reader(path: Path, on_bad: str) -> str:
    first = next(iter(rows_of(data_files(path)[0], BadRows(skip=on_bad == "skip"))), None)
    keys = set(first.value) if first else set()
    if first is None:
        raise ConfigError(f"{path}: no row is a JSON object")
    if keys == {"chosen", "rejected"} and str(first.value["chosen"]).startswith("\n\nHuman:"):
        return "hh-rlhf"
    return "jsonl"


def _pairs_of(
    item: Item, most: int | None, rng: np.random.Generator, counts: Counter[str]
) -> list[TrainingPair]:
    gold = [r.gold for r in item.responses]
    found = [
        (i, j, a - b)
        for i, a in enumerate(gold)
        for j, b in enumerate(gold)
        if a is not None and b is not None and a > b
    ]
    if not found:
        counts["items without two responses of different gold"] += 1
    if most is not None and most < len(found):
        found = [found[k] for k in np.sort(rng.choice(len(found), size=most, replace=False))]
    pairs = []
    for i, j, difference in found:
        chosen, rejected = item.responses[i], item.responses[j]
        if chosen.content == rejected.content:
            counts["identical responses"] += 1
            continue
        strength = None if item.gold_kind == "label" else difference
        name = item.id if len(gold) == 2 else f"{item.id}#{i}>{j}"
        pairs.append(
            TrainingPair(
                name, item.prompt, chosen.text, rejected.text, strength, item.cluster,
                (chosen.more, rejected.more),
            )
        )  # fmt: skip
    return pairs


def _distinct(pairs: Sequence[TrainingPair], counts: Counter[str]) -> list[TrainingPair]:
    seen: set[str] = set()
    kept = []
    for pair in pairs:
        key = digest([*_content(pair)[1:4], *map(dict, pair.more)])
        if key in seen:
            counts["duplicate pairs"] += 1
        else:
            seen.add(key)
            kept.append(pair)
    return kept


def _split(
    pairs: Sequence[TrainingPair], share: float, rng: np.random.Generator
) -> tuple[list[TrainingPair], list[TrainingPair]]:
    clusters = sorted({p.cluster for p in pairs})
    n_held_out = max(1, round(share * len(clusters))) if len(clusters) > 1 else 0
    held_out = {clusters[k] for k in rng.permutation(len(clusters))[:n_held_out]}
    return [p for p in pairs if p.cluster not in held_out], [p for p in pairs if p.cluster in held_out]


_STEPS_PER_GROUP = 50


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """One encoded pair."""

    index: int
    """Position in the data, for messages."""
    chosen: Encoded
    rejected: Encoded
    strength: float
    """NaN where unknown."""

    @property
    def length(self) -> int:
        """Tokens of the longer one."""
        return max(len(self.chosen.ids), len(self.rejected.ids))


class EncodedPairs(torch.utils.data.Dataset[EncodedPair]):
    """All pairs of a split, encoded once.

    Args:
        pairs: The split.
        text_format: The model's text format.
        max_length: Tokens per conversation.
    """

    def __init__(self, pairs: Sequence[TrainingPair], text_format: TextFormat, max_length: int) -> None:
        self.pairs = pairs
        conversations = [turns for pair in pairs for turns in pair.conversations()]
        encoded = text_format.encode(conversations, max_length) if conversations else []
        self.n_truncated = sum(e.truncated for e in encoded)
        self._rows = [
            EncodedPair(
                k, encoded[2 * k], encoded[2 * k + 1], float("nan") if p.strength is None else p.strength
            )
            for k, p in enumerate(pairs)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> EncodedPair:
        return self._rows[index]

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longer reply of each pair."""
        return [row.length for row in self._rows]


class StepSampler(torch.utils.data.Sampler[int]):
    """Whole optimiser steps of pairs of similar length, in an order given by seed and epoch.

    Every step has exactly `step_size` pairs, for any micro-batch size and number of processes. Each epoch
    leaves out the pairs that do not fill a step, other ones each time.

    Args:
        lengths: Tokens of each pair.
        step_size: Pairs per optimiser step, at most len(lengths).
        seed: Seed of the order.
    """

    def __init__(self, lengths: Sequence[int], step_size: int, seed: int) -> None:
        self._lengths = np.array(lengths)
        self._step_size, self._seed, self._epoch = step_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next order; the data loader calls this, also after a resume."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths) // self._step_size * self._step_size

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self._seed, self._epoch))
        order = rng.permutation(len(self._lengths))[: len(self)]
        group = self._step_size * _STEPS_PER_GROUP
        parts = [order[k : k + group] for k in range(0, len(order), group)]
        sorted_parts = [part[np.argsort(-self._lengths[part], kind="stable")] for part in parts]
        steps = np.concatenate(sorted_parts).reshape(-1, self._step_size)
        yield from (int(k) for k in steps[rng.permutation(len(steps))].ravel())


class PairCollator:
    """Pads pairs on the right: the chosen ones first, then the rejected ones, in one batch of 2 n rows.

    Args:
        pad_id: Padding id of masked positions.
    """

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, pairs: Sequence[EncodedPair]) -> dict[str, Any]:
        """Return `input_ids`, `attention_mask`, `token_type_ids` if known, (2 n, T); `strength`, `index`."""
        rows = [p.chosen for p in pairs] + [p.rejected for p in pairs]
        batch = padded(rows, self._pad_id, torch.device("cpu"))
        return batch | {
            "strength": torch.tensor([p.strength for p in pairs], dtype=torch.float32),
            "index": torch.tensor([p.index for p in pairs]),
        }
