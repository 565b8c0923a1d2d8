"""Reliability: binned forecasts against what happened (ECE, Murphy's parts of the Brier score)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rmbench.stats import Statistic, cluster_bootstrap, cluster_sums, mean, ratio
from rmbench.stats.bootstrap import least_compatible_effect
from rmbench.stats.clusters import Floats, Ints


@dataclass(frozen=True, slots=True)
class Forecasts:
    """P forecasts of "the first is better"; the mirrored copy (1 - p, 1 - y) is implied everywhere."""

    probability: Floats
    """Shape (P,), in [0, 1]."""
    label: Floats
    """P(first is better) according to the data, shape (P,), in [0, 1]."""
    cluster: Ints
    """Shape (P,)."""
    n_clusters: int

    def mirrored(self) -> tuple[Floats, Floats, Ints]:
        """Return probability, label and cluster of both orders, shape (2 P,)."""
        return (
            np.concatenate([self.probability, 1.0 - self.probability]),
            np.concatenate([self.label, 1.0 - self.label]),
            np.concatenate([self.cluster, self.cluster]),
        )

    def bin_sums(self, edges: Floats) -> tuple[Floats, Floats, Floats]:
        """Return per cluster and bin the sums of 1, p and y, each of shape (C, B)."""
        probability, label, cluster = self.mirrored()
        n_bins = len(edges) + 1
        cell = cluster * n_bins + np.searchsorted(edges, probability, side="right")
        shape = (self.n_clusters, n_bins)
        return tuple(  # type: ignore[return-value]
            cluster_sums(values, cell, self.n_clusters * n_bins).reshape(shape)
            for values in (np.ones_like(probability), probability, label)
        )

    def table(self, edges: Floats) -> list[dict[str, float | int]]:
        """Return one row per non-empty bin for a reliability diagram, both orders counted."""
        count, forecast, happened = (s.sum(axis=0) for s in self.bin_sums(edges))
        return [
            {"n": int(n), "forecast": float(p / n), "observed": float(y / n)}
            for n, p, y in zip(count, forecast, happened, strict=True)
            if n > 0
        ]

    def observed(self, edges: Floats) -> list[Statistic]:
        """Return what happened in each bin of `table`, in its order, as a share with its error."""
        count, _, happened = self.bin_sums(edges)
        return [
            ratio(happened[:, b], count[:, b], n=int(count[:, b].sum()), higher_is_better=None, bounded=True)
            for b in np.flatnonzero(count.any(axis=0))
        ]


def bin_edges(forecasts: Forecasts, n_bins: int, *, equal_mass: bool) -> Floats:
    """Return the inner edges of at most `n_bins` bins on the mirrored forecasts, increasing.

    Equal forecasts always share a bin, so quantised scores may fill fewer bins.
    """
    if not equal_mass:
        return np.linspace(0.0, 1.0, n_bins + 1)[1:-1]
    probability, _, _ = forecasts.mirrored()
    quantiles = np.quantile(probability, np.arange(1, n_bins) / n_bins, method="higher")
    return np.unique(quantiles)


def expected_calibration_error(forecasts: Forecasts, edges: Floats, *, seed: int) -> Statistic:
    """Return sum over bins of share * |mean forecast - mean label|.

    The plug-in value is biased upwards by noise in small bins; its interval, with the bins held fixed, is
    not, and holds 0 where the gaps may be noise alone.

    Source: Naeini et al. 2015; equal-mass bins as Nixon et al. 2019, arXiv 1904.01685.
    """
    count, forecast, happened = forecasts.bin_sums(edges)
    # In place: with a million clusters each of these arrays is 120 MB.
    gap = np.subtract(happened, forecast, out=forecast)
    del forecast, happened

    def ece(n: Floats, g: Floats) -> Floats:
        return np.asarray(np.abs(g).sum(axis=-1) / n.sum(axis=-1))

    value = float(ece(count.sum(axis=0), gap.sum(axis=0)))
    direction = np.sign(gap.sum(axis=0))
    influence = (gap @ direction - value * count.sum(axis=1)) / float(count.sum())
    return _binned(forecasts, value, influence, (count, gap), ece, seed, power=1, higher_is_better=False)


def brier_parts(forecasts: Forecasts, edges: Floats, *, seed: int) -> dict[str, Statistic]:
    """Return Murphy's three parts of the Brier score of the binned forecasts.

    With p_b, y_b the means of bin b, w_b its share and y the overall mean (0.5, by mirroring):
    reliability = sum w_b (p_b - y_b)^2, resolution = sum w_b (y_b - y)^2, uncertainty = mean (label - y)^2.
    Brier = reliability - resolution + uncertainty holds to the digit where forecasts are constant within
    bins; otherwise the difference is the forecasts' spread within bins (Stephenson et al. 2008).

    Source: Murphy 1973, "A new vector partition of the probability score".
    """
    count, forecast, happened = forecasts.bin_sums(edges)

    def mean_square(n: Floats, g: Floats) -> Floats:
        return np.asarray((np.square(g) / np.where(n > 0, n, 1.0)).sum(axis=-1) / n.sum(axis=-1))

    def part(gap: Floats, *, higher_is_better: bool) -> Statistic:
        n_all, gap_all = count.sum(axis=0), gap.sum(axis=0)
        value = float(mean_square(n_all, gap_all))
        mean_gap = gap_all / np.where(n_all > 0, n_all, 1.0)
        influence = (
            gap @ (2 * mean_gap) - count @ np.square(mean_gap) - value * count.sum(axis=1)
        ) / n_all.sum()
        return _binned(
            forecasts, value, influence, (count, gap), mean_square, seed,
            power=2, higher_is_better=higher_is_better,
        )  # fmt: skip

    # In place: with a million clusters each of these arrays is 120 MB.
    gap = np.subtract(happened, forecast, out=forecast)
    found = {"brier_reliability": part(gap, higher_is_better=False)}
    gap = np.subtract(happened, np.multiply(count, 0.5, out=gap), out=gap)
    found["brier_resolution"] = part(gap, higher_is_better=True)
    uncertainty = np.square(forecasts.label - 0.5)
    found["brier_uncertainty"] = mean(
        uncertainty, forecasts.cluster, forecasts.n_clusters, bounded=True, higher_is_better=None
    )
    return found


def _binned(
    forecasts: Forecasts,
    value: float,
    influence: Floats,
    sums: tuple[Floats, Floats],
    value_of: Callable[[Floats, Floats], Floats],
    seed: int,
    *,
    power: int,
    higher_is_better: bool | None,
) -> Statistic:
    """Return the statistic of binned gaps with its interval.

    Noise pushes the value up, so the lower end comes from inverting the test of a smaller effect; the upper
    end is that of the linearised error, which is safe on that side.

    Args:
        forecasts: What was binned.
        value: The statistic.
        influence: Shape (C,).
        sums: Observations, and sums of gaps, per cluster and bin, each (C, B).
        value_of: The statistic of totals (..., B) of the two.
        seed: Of the bootstrap.
        power: The statistic of gaps t times as large is t ** power times as large.
        higher_is_better: Direction.
    """
    # Only clusters that are here: a stratum's panel keeps the numbering of the whole.
    present = np.unique(forecasts.cluster)
    statistic = Statistic(
        value=value,
        influence=influence,
        n=len(forecasts.label),
        n_clusters=len(present),
        higher_is_better=higher_is_better,
    )
    interval = None
    if len(present) >= 2:
        n_bins = sums[0].shape[1]
        here = sums if len(present) == len(sums[0]) else [s[present] for s in sums]
        totals = cluster_bootstrap(here, lambda resampled: resampled, seed=seed)
        n, gap = totals[:, :n_bins], totals[:, n_bins:]
        n_all, gap_all = (s.sum(axis=0) for s in sums)
        mean_gap = gap_all / np.where(n_all > 0, n_all, 1.0)
        shrunk = least_compatible_effect(value, lambda t: value_of(n, gap - (1.0 - t) * mean_gap * n))
        interval = shrunk**power * value, min(1.0, (statistic.estimate().ci95 or (0.0, 1.0))[1])
    return replace(statistic, ci95=interval)
