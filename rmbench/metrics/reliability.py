"""Reliability: binned forecasts against what happened (ECE, Murphy's parts of the Brier score)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rmbench.stats import Statistic, cluster_bootstrap, cluster_sums
from rmbench.stats.bootstrap import basic_interval
from rmbench.stats.estimates import Floats, Ints


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
    """Return sum over bins of share * |mean forecast - mean label|, with a bootstrap interval.

    The plug-in value is biased upwards by noise in small bins; the interval is the basic (reflected)
    bootstrap over clusters with the bins held fixed, which corrects for that bias.

    Source: Naeini et al. 2015; equal-mass bins as Nixon et al. 2019, arXiv 1904.01685.
    """
    count, forecast, happened = forecasts.bin_sums(edges)
    gap = happened - forecast

    def value_of(totals: Floats) -> Floats:
        n_bins = count.shape[1]
        return np.asarray(
            np.abs(totals[:, n_bins:]).sum(axis=1) / totals[:, :n_bins].sum(axis=1), dtype=np.float64
        )[:, None]

    sums = np.concatenate([count, gap], axis=1)
    value = float(value_of(sums.sum(axis=0, keepdims=True))[0, 0])
    total = float(count.sum())
    direction = np.sign(gap.sum(axis=0))
    influence = (gap @ direction - value * count.sum(axis=1)) / total
    return _binned(forecasts, value, influence, sums, value_of, seed, higher_is_better=False)


def _binned(
    forecasts: Forecasts,
    value: float,
    influence: Floats,
    sums: Floats,
    value_of: Callable[[Floats], Floats],
    seed: int,
    *,
    higher_is_better: bool | None,
) -> Statistic:
    present = len(np.unique(forecasts.cluster))
    interval = None
    if present >= 2:
        # Only clusters that are here: a stratum's panel keeps the numbering of the whole.
        mine = sums[np.unique(forecasts.cluster)]
        interval = basic_interval(value, cluster_bootstrap(mine, value_of, seed=seed)[:, 0], floor=0.0)
    return Statistic(
        value=value,
        influence=influence,
        n=len(forecasts.label),
        n_clusters=present,
        higher_is_better=higher_is_better,
        ci95=interval,
    )


def brier_parts(forecasts: Forecasts, edges: Floats, *, seed: int) -> dict[str, Statistic]:
    """Return Murphy's three parts of the Brier score of the binned forecasts.

    With p_b, y_b the means of bin b, w_b its share and y the overall mean (0.5, by mirroring):
    reliability = sum w_b (p_b - y_b)^2, resolution = sum w_b (y_b - y)^2, uncertainty = mean (label - y)^2.
    Brier = reliability - resolution + uncertainty holds to the digit where forecasts are constant within
    bins; otherwise the difference is the forecasts' spread within bins (Stephenson et al. 2008).

    Source: Murphy 1973, "A new vector partition of the probability score".
    """
    count, forecast, happened = forecasts.bin_sums(edges)
    n_bins = count.shape[1]
    sums = np.concatenate([count, forecast, happened], axis=1)

    def split(totals: Floats) -> tuple[Floats, Floats, Floats]:
        return totals[:, :n_bins], totals[:, n_bins : 2 * n_bins], totals[:, 2 * n_bins :]

    def squares(totals: Floats, *, against_forecast: bool) -> Floats:
        n, p, y = split(totals)
        other = p if against_forecast else 0.5 * n
        safe = np.where(n > 0, n, 1.0)
        return np.asarray((np.square(y - other) / safe).sum(axis=1) / n.sum(axis=1))[:, None]

    found = {}
    n_all, p_all, y_all = (s.sum(axis=0) for s in (count, forecast, happened))
    safe = np.where(n_all > 0, n_all, 1.0)
    for name, against, better in (("reliability", True, False), ("resolution", False, True)):
        value = float(squares(sums.sum(axis=0, keepdims=True), against_forecast=against)[0, 0])
        gap_all = (y_all - (p_all if against else 0.5 * n_all)) / safe
        gap = happened - (forecast if against else 0.5 * count)
        influence = (
            gap @ (2 * gap_all) - count @ np.square(gap_all) - value * count.sum(axis=1)
        ) / n_all.sum()
        found[f"brier_{name}"] = _binned(
            forecasts,
            value,
            influence,
            sums,
            lambda totals, against=against: squares(totals, against_forecast=against),  # type: ignore[misc]
            seed,
            higher_is_better=better,
        )
    from rmbench.stats import mean

    uncertainty = np.square(forecasts.label - 0.5)
    found["brier_uncertainty"] = mean(
        uncertainty, forecasts.cluster, forecasts.n_clusters, bounded=True, higher_is_better=None
    )
    return found
