"""Influence file: every metric of a run with the influence of each cluster; nothing is measured twice.

Intervals, paired tests, ranks and means of metrics need the influence, shares and strata of each `Statistic`,
which a record does not hold. `<run id>.influence.npz` beside the rewards holds them as float64, without
pickle. The file is a cache. A file that is damaged, or of other rewards, another run or other metrics, is
never used.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmbench.core.files import digest, parse_json, read_arrays, write_atomic
from rmbench.core.schema import parse
from rmbench.errors import ConfigError
from rmbench.metrics import METRICS_VERSION, Suite
from rmbench.results.record import Record
from rmbench.stats import Statistic
from rmbench.stats.clusters import Stratum

FORMAT = 1
_PARTS = {"head": ("uint8", 1), "float64": ("float64", 1), "int64": ("int64", 1), "checksum": ("uint8", 1)}
_SAME = 1e-6
"""Relative difference up to which a number equals the record's: processors differ in the last digits."""
_ARRAYS = ("influence", "share", "strata")
_PLAIN = tuple(f.name for f in fields(Statistic) if f.name not in _ARRAYS)


def influence_name(run: str) -> str:
    """Return the name of the influence file beside the record of `run`."""
    return f"{run}.influence.npz"


def write_influence(path: Path, record: Record, suite: Suite) -> None:
    """Write the influence file of a record, whole or not at all; the same numbers give the same bytes.

    Args:
        path: The file.
        record: Record of the run.
        suite: All metrics of the run, measured from its rewards.
    """
    pool = _Pool()
    head = {
        "key": _key(record),
        "metrics": {name: _packed(s, pool) for name, s in suite.metrics.items()},
        "undefined": suite.undefined,
        "counts": suite.counts,
        "kind_of": suite.kind_of,
        "left_out": {name: pool.put(items.astype(np.int64)) for name, items in suite.left_out.items()},
        "clusters": list(suite.clusters),
        "n_items": suite.n_items,
        "sizes": {kind: [len(a) for a in arrays] for kind, arrays in pool.arrays.items()},
    }
    parts: dict[str, NDArray[Any]] = {
        "head": np.frombuffer(json.dumps(head, default=_plain).encode("ascii"), dtype=np.uint8),
        **{kind: np.concatenate([np.zeros(0, kind), *arrays]) for kind, arrays in pool.arrays.items()},
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, checksum=checksum_of(parts), **parts)  # type: ignore[arg-type]
    write_atomic(path, buffer.getvalue())


def read_influence(path: Path, record: Record) -> Suite | None:
    """Return the metrics of a run from its influence file; None if the file is not valid.

    It is valid if its checksum is right, if it was made from the record's rewards, for this run, by this
    version of the metrics, and if its values are the record's.

    Args:
        path: The file. Its content is not trusted.
        record: Record of the run; its curves and strata join the metrics.
    """
    try:
        parts = _parts(path)
        head = parse_json(parts["head"].tobytes())
        if head["key"] != _key(record):
            return None
        parse(_Head, head, str(path))
        if not all(isinstance(name, str) for name in head["clusters"]):
            return None
        arrays = {kind: np.split(parts[kind], np.cumsum(sizes)[:-1]) for kind, sizes in head["sizes"].items()}
        clusters = tuple(head["clusters"])
        suite = Suite(
            metrics={name: _unpacked(raw, arrays, len(clusters)) for name, raw in head["metrics"].items()},
            counts={
                str(k): {str(n): int(c) for n, c in counts.items()} for k, counts in head["counts"].items()
            },
            undefined={str(name): str(why) for name, why in head["undefined"].items()},
            curves=dict(record.curves),
            strata={key: {v: dict(m) for v, m in values.items()} for key, values in record.strata.items()},
            kind_of={str(name): str(kind) for name, kind in head["kind_of"].items()},
            left_out={k: arrays["int64"][place] > 0 for k, place in head["left_out"].items()},
            clusters=clusters,
            n_items=int(head["n_items"]),
        )
    except (ConfigError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return None
    if any(len(items) != suite.n_items for items in suite.left_out.values()):
        return None
    return suite if _agrees(suite, record) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packed:
    """A statistic in the head of the file; places of arrays in place of arrays."""

    value: float
    n: int
    n_clusters: int
    n_groups: int | None
    unit: str
    higher_is_better: bool | None
    bounded: bool
    linear: bool
    limits: tuple[Any, Any] | None
    log_scale: bool
    ci95: tuple[Any, Any] | None
    paired: bool
    remark: str
    influence: int | None
    share: int | None
    strata: tuple[tuple[int, int, int, float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """The head of the file."""

    key: Mapping[str, Any]
    metrics: Mapping[str, _Packed]
    undefined: Mapping[str, str]
    counts: Mapping[str, Mapping[str, int]]
    kind_of: Mapping[str, str]
    left_out: Mapping[str, int]
    clusters: Any
    """Names, checked apart: there may be many."""
    n_items: int
    sizes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Pool:
    """Arrays without duplicates: most metrics have the same shares."""

    arrays: dict[str, list[NDArray[Any]]] = field(default_factory=lambda: {"float64": [], "int64": []})
    _places: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def put(self, values: NDArray[Any] | None) -> int | None:
        """Return the place of an array among those of its type; None for None."""
        if values is None:
            return None
        kind = "int64" if values.dtype.kind in "iu" else "float64"
        held = self.arrays[kind]
        place = self._places.setdefault((kind, values.tobytes()), len(held))
        if place == len(held):
            held.append(values.astype(kind))
        return place


def _key(record: Record) -> dict[str, Any]:
    """Return what determines the metrics: the run's identity, its rewards, and the version of the metrics."""
    return {
        "format": FORMAT,
        "metrics_version": METRICS_VERSION,
        "run": digest(dict(record.identity)),
        "rewards": record.rewards_sha256,
    }


def _packed(s: Statistic, pool: _Pool) -> dict[str, Any]:
    return {
        **{name: getattr(s, name) for name in _PLAIN},
        "influence": pool.put(s.influence),
        "share": pool.put(s.share),
        "strata": [
            [pool.put(t.index), pool.put(t.influence), pool.put(t.share), t.weight, t.value] for t in s.strata
        ],
    }


def _unpacked(raw: Mapping[str, Any], arrays: Mapping[str, Sequence[NDArray[Any]]], n: int) -> Statistic:
    floats, ints = arrays["float64"], arrays["int64"]

    def per_cluster(place: int | None) -> NDArray[np.float64] | None:
        if place is None:
            return None
        if len(floats[place]) != n:
            raise ValueError("not one value per cluster")
        return floats[place]

    strata = tuple(
        Stratum(ints[index], floats[influence], floats[share], float(weight), float(value))
        for index, influence, share, weight, value in raw["strata"]
    )
    for t in strata:
        inside = bool(((t.index >= 0) & (t.index < n)).all())
        if not (inside and len(t.index) == len(t.influence) == len(t.share)):
            raise ValueError("a stratum of other clusters")
    for pair in filter(None, (raw["limits"], raw["ci95"])):
        if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in pair):
            raise ValueError("an interval without numbers")
    # JSON has no tuples: limits and intervals are pairs.
    values: dict[str, Any] = {name: tuple(v) if isinstance(v := raw[name], list) else v for name in _PLAIN}
    values |= {name: per_cluster(raw[name]) for name in ("influence", "share")}
    return Statistic(**values, strata=strata)


def _parts(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of the file. Raises DataError unless they can be read, ValueError if they changed."""
    found = read_arrays(path, _PARTS)
    parts = {name: found[name] for name in ("head", "float64", "int64")}
    if not np.array_equal(found["checksum"], checksum_of(parts)):
        raise ValueError("damaged")
    return parts


def checksum_of(parts: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """Return the SHA-256 of the arrays of an influence file, shape (32,)."""
    total = sha256()
    for name, values in parts.items():
        total.update(f"{name} {values.dtype.str} {values.size}\n".encode())
        total.update(values.tobytes())
    return np.frombuffer(total.digest(), dtype=np.uint8)


def _agrees(suite: Suite, record: Record) -> bool:
    """Say whether the metrics equal the record's, if the same version of the metrics made both."""
    if record.identity.get("metrics_version") != METRICS_VERSION:
        return True
    return suite.metrics.keys() == record.metrics.keys() and all(
        s.n == record.metrics[name].n
        and isclose(s.value, record.metrics[name].value, rel_tol=_SAME, abs_tol=_SAME)
        for name, s in suite.metrics.items()
    )


def _plain(value: Any) -> Any:
    """Return a numpy number as a Python number, for JSON."""
    return value.item()
