"""Task kinds: one object per kind, which measures a panel, and their registry."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rmbench.core.options import NO_OPTION, Option, made_of
from rmbench.core.registry import Declared, Registry
from rmbench.errors import ConfigError
from rmbench.metrics.panel import Panel
from rmbench.stats import Statistic

Convention: TypeAlias = Literal["clean", "official"]


@dataclass(frozen=True, slots=True)
class Measured:
    """The metrics of one task kind on one panel."""

    metrics: dict[str, Statistic]
    """Metric name -> statistic, in display order."""
    counts: dict[str, int] = field(default_factory=dict)
    """Counts of tied pairs, invalid items and items left out: name -> number."""
    undefined: dict[str, str] = field(default_factory=dict)
    """Metric name -> the reason why it has no value here. Never a NaN, never a made-up 0."""
    curves: dict[str, Any] = field(default_factory=dict)
    """Tables for plots, JSON values only: reliability, margin deciles, gold against n."""
    left_out: NDArray[np.bool_] | None = None
    """Items of the panel that are left out because of the model's rewards, shape (I,); None: no item. A kind
    that leaves such items out must name them: a comparison leaves them out for the other model too."""


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters that every kind has. A kind adds its own as the fields of a subclass."""

    invalid: Annotated[
        Literal["fail", "wrong", "drop"],
        Option("what a reward that is not finite does: stop, count the item as wrong, or drop it"),
    ] = "fail"
    seed: Annotated[int, NO_OPTION] = 0
    """Seed of every random draw."""
    macro_over: Annotated[str | None, NO_OPTION] = None
    """Stratum key over which a macro mean averages."""
    short: Annotated[bool, NO_OPTION] = False
    """True: only the metrics with `in_strata` are needed."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a kind: its name, its meaning, and the places that show it."""

    name: str
    """`win_rate@max` is the one at the largest n."""
    meaning: str = ""
    """Meaning in a few words; for `name@n`, of every n."""
    headline: bool = True
    """True if tables and pages show it. All metrics are in the record."""
    in_strata: bool = False
    """True if it is reported per stratum; for `name@n`, every n."""
    compared: bool = True
    """False for a metric that describes the data alone, or is the same for all models."""
    of_data: bool = False
    """True for a metric that describes the data alone. Tables tell it once, not per model."""
    brief: bool = True
    """False for a headline that a narrow terminal leaves out before the others."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Kind(Declared):
    """A task kind: `run` measures a panel, the other fields declare its metrics. Made by `register_kind`.

    `run(panel, params)` is pure: it uses no model, no file and no clock.
    """

    name: str
    title: str
    """Heading of its columns on a board."""
    params: type[Params]
    """Dataclass of its parameters, a subclass of `Params`."""
    metrics: tuple[Metric, ...]
    """Metrics in the order of tables and pages."""
    convention: Convention
    """`official` for a kind that computes a benchmark's number by its published definition."""
    needs_scale: Callable[[Any], bool] = lambda _: False
    """True if, under some parameters, more than the order of rewards matters. Then no reward can replace an
    invalid one, and `invalid=wrong` leaves its item out."""

    def __call__(self, panel: Panel, params: Any) -> Measured:
        """Measure a panel; `params` is an instance of the dataclass, or a mapping that may hold more."""
        return self.run(panel, made_of(self.params, params))  # type: ignore[no-any-return]

    @property
    def headlines(self) -> tuple[str, ...]:
        """Names of the headline metrics."""
        return tuple(m.name for m in self.metrics if m.headline)

    @property
    def in_strata(self) -> frozenset[str]:
        """Metrics reported per stratum; for `name@n`, the part before the @."""
        return frozenset(stem(m.name) for m in self.metrics if m.in_strata)


def _adopted(name: str, thing: Any) -> Kind:
    if not isinstance(thing, Kind):
        raise ConfigError(f"task kind {name!r} is {type(thing).__name__}; expected what @register_kind makes")
    return thing


KINDS: Registry[Kind] = Registry(
    "task kind",
    group="rmbench.kinds",
    homes=("rmbench.metrics", "rmbench.benchmarks", "rmbench.benchmarks.rewardbench"),
    adopt=_adopted,
)


def register_kind(
    name: str,
    *,
    metrics: Sequence[Metric],
    params: type[Params] = Params,
    title: str = "",
    convention: Convention = "clean",
    aliases: Sequence[str] = (),
    needs_scale: Callable[[Any], bool] = lambda _: False,
) -> Callable[[Callable[[Panel, Any], Measured]], Kind]:
    """Register `measure(panel, params) -> Measured` as a task kind of your own.

    A task names a kind in a file with `kinds: ["my_metric.py:NAME"]`. A kind in a package needs an entry
    point in the group `rmbench.kinds`; then every task can name it with `kinds: [NAME]`. `aliases` are short
    names for task files; see `Kind` for the other arguments.

    Raises:
        ConfigError: If it has no headline metric.
    """
    if not any(m.headline for m in metrics):
        raise ConfigError(
            f"task kind {name!r} has no headline metric; expected metrics=[Metric(NAME, MEANING)]"
        )
    shown = title or (f"Official: {name}" if convention == "official" else name)

    def decorate(measure: Callable[[Panel, Any], Measured]) -> Kind:
        return KINDS.register(name, *aliases)(
            Kind(
                run=measure, name=name, title=shown, params=params, metrics=tuple(metrics),
                convention=convention, needs_scale=needs_scale,
            )
        )  # fmt: skip

    return decorate


def stem(metric: str) -> str:
    """Return `gold` for `gold@24`; other names as they are."""
    return metric.partition("@")[0]


_N = re.compile(r"[1-9][0-9]{0,8}")


def sizes_of(stem: str, metrics: Iterable[str]) -> list[int]:
    """Return the n of those `metrics` that are called `stem@n`, sorted; other names are left aside."""
    found = (m.removeprefix(f"{stem}@") for m in metrics if m.startswith(f"{stem}@"))
    return sorted(int(n) for n in found if _N.fullmatch(n))


def known_kind(name: str) -> Kind | None:
    """Return the kind of a record's task; None if its package or file is not available."""
    return KINDS.get(name) if name in KINDS else None


def headlines_of(kind: str) -> tuple[str, ...]:
    """Return the headline metrics of a record's kind; empty if the kind is not available."""
    return found.headlines if (found := known_kind(kind)) else ()


def kinds_of(kinds: Iterable[str], convention: str) -> tuple[str, ...]:
    """Return those of `kinds` that follow a convention: `official`, `clean` or `both` (official first)."""
    official = tuple(k for k in kinds if is_official(k))
    clean = tuple(k for k in kinds if not is_official(k))
    return {"official": official, "clean": clean}.get(convention, official + clean)


def is_official(kind: str) -> bool:
    """Say whether a kind computes a benchmark's number by its own published definition."""
    return (found := known_kind(kind)) is not None and found.convention == "official"


def meaning_of(metric: str, kinds: Iterable[str]) -> str:
    """Return the meaning of a metric of these kinds, in a few words; empty if no kind gives one."""
    told = (m for kind in kinds if (found := known_kind(kind)) for m in found.metrics)
    return next((m.meaning for m in told if m.meaning and stem(m.name) == stem(metric)), "")


def metric_of(metric: str, kinds: Iterable[str]) -> Metric | None:
    """Return the declaration of a metric of these kinds, `gold@max` for `gold@24`; None without one."""
    told = [m for kind in kinds if (found := known_kind(kind)) for m in found.metrics]
    exact = (m for m in told if m.name == metric)
    largest = (m for m in told if m.name.endswith("@max") and stem(m.name) == stem(metric))
    return next(exact, None) or next(largest, None)


def at_largest_n(metric: str, held: Sequence[Iterable[str]]) -> str:
    """Return `gold@24` for `gold@max`: the largest n among the metrics (those of one task share it)."""
    if not metric.endswith("@max"):
        return metric
    name = metric.removesuffix("@max")
    found = [n for names in held for n in sizes_of(name, names)]
    return f"{name}@{max(found)}" if found else metric
