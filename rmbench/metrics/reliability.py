"""Reliability: binned forecasts against outcomes (ECE, Murphy's parts of the Brier score)."""

from dataclasses import dataclass, replace

import numpy as np

from rmbench.metrics.gaps import Cells, Gaps
from rmbench.metrics.temperature import sigma
from rmbench.stats import Statistic, cluster_sums, mean, ratio, shares
from rmbench.stats.clusters import Floats, Ints

_FORECASTS_PER_BIN = 10
_FEWEST_BINS = 2
_ROUNDING = 1e-12
"""Two margins with a relative difference up to this are the same number."""


@dataclass(frozen=True, slots=True)
class Forecasts:
    """P forecasts of "the first is better": `sigma(margin)`. The mirrored copy is implied everywhere.

    They hold the margin, not the probability: above 37 all probabilities are the same float, but the margins
    differ. Margins that differ only by rounding are made equal: processors differ in the last digits, and
    bins must not.
    """

    margin: Floats
    """Claimed log-odds, shape (P,), finite."""
    label: Floats
    """P(first is better) according to the data, shape (P,), in [0, 1]."""
    cluster: Ints
    """Shape (P,)."""
    n_clusters: int

    def __post_init__(self) -> None:
        """Make margins equal that differ by rounding alone."""
        object.__setattr__(self, "margin", _without_rounding(self.margin))

    @property
    def probability(self) -> Floats:
        """Return the claimed probability, shape (P,), in [0, 1]."""
        return sigma(self.margin)

    def turned(self) -> "Forecasts":
        """Return the same forecasts with each pair in the order that its margin prefers."""
        flip = self.margin < 0
        return replace(self, margin=np.abs(self.margin), label=np.where(flip, 1.0 - self.label, self.label))

    def cells(self, edges: Floats) -> Cells:
        """Return the bins of the turned forecasts; `edges` are margins."""
        size = np.abs(self.margin)
        here, mirrored = (np.searchsorted(edges, m, side="right") for m in (size, -size))
        return Cells(here, mirrored, self.cluster, len(edges) + 1)

    def table(self, edges: Floats) -> list[dict[str, float | int]]:
        """Return one row per non-empty bin for a reliability diagram, both orders counted."""
        count, forecast, happened = self._bins(edges)
        return [
            {"n": int(n), "forecast": float(p / n), "observed": float(y / n)}
            for n, p, y in zip(count, forecast, happened, strict=True)
            if n > 0
        ]

    def _bins(self, edges: Floats) -> tuple[Floats, Floats, Floats]:
        """Return per bin the sums of 1, p and y, both orders, each of shape (B,)."""
        turned, cells = self.turned(), self.cells(edges)
        behind = np.bincount(cells.mirrored, minlength=cells.n_bins)
        forecast, happened = (cells.odd_sums(v) + behind for v in (turned.probability, turned.label))
        return cells.counts(), forecast, happened

    def observed(self, edges: Floats) -> list[Statistic]:
        """Return the observed share in each bin of `table`, in its order, with its error."""
        turned, cells = self.turned(), self.cells(edges)
        found = []
        for b in np.flatnonzero(cells.counts()):
            here, mirrored = cells.here == b, cells.mirrored == b
            cluster = np.concatenate([self.cluster[here], self.cluster[mirrored]])
            happened = np.concatenate([turned.label[here], 1.0 - turned.label[mirrored]])
            # A pair and its mirror image in one bin have the share 1/2 by definition.
            both = bool(np.array_equal(here, mirrored))
            share = ratio(
                cluster_sums(happened, cluster, self.n_clusters),
                np.bincount(cluster, minlength=self.n_clusters).astype(np.float64),
                n=len(happened),
                higher_is_better=None,
                bounded=True,
            )
            found.append(replace(share, ci95=(0.5, 0.5)) if both else share)
        return found


def _without_rounding(margin: Floats) -> Floats:
    """Return the margins; each |margin| within rounding of the next smaller one is replaced by it."""
    size = np.abs(margin)
    order = np.argsort(size, kind="stable")
    ordered = size[order]
    is_new = np.diff(ordered, prepend=-np.inf) > _ROUNDING * ordered + np.finfo(float).eps
    equal = np.empty_like(ordered)
    equal[order] = ordered[np.flatnonzero(is_new)][np.cumsum(is_new) - 1]
    return np.asarray(np.copysign(equal, margin))


def number_of_bins(n_pairs: int, most: int) -> int:
    """Return the number of bins that `n_pairs` can fill: ten forecasts each, both orders counted.

    A bin of fewer than ten shows little but noise. From 75 pairs on, the number is `most` (15 by default, as
    published). Below that it is even: in the middle bin of an odd number, a pair meets its own mirror image
    and the two gaps cancel; with three bins a third of the data would not count.
    """
    fits = 2 * n_pairs // _FORECASTS_PER_BIN
    return most if fits >= most else min(most, max(_FEWEST_BINS, fits - fits % 2))


def bin_edges(forecasts: Forecasts, n_bins: int, *, equal_mass: bool) -> Floats:
    """Return the inner edges, as margins, of at most `n_bins` bins on the mirrored forecasts, increasing.

    Bins of equal mass are cut on the margin, so saturated forecasts stay distinct. Equal margins always share
    a bin, so quantised scores may fill fewer bins. Bins of equal width are equal on the scale of probability,
    as they are defined, and only written as margins. Few pairs get fewer bins: see `number_of_bins`.
    """
    n_bins = number_of_bins(len(forecasts.margin), n_bins)
    if not equal_mass:
        k = np.arange(1, n_bins)
        return np.asarray(np.log(k) - np.log(n_bins - k))
    both = np.concatenate([forecasts.margin, -forecasts.margin])
    return np.unique(np.quantile(both, np.arange(1, n_bins) / n_bins, method="higher"))


def calibration_error(forecasts: Forecasts, edges: Floats, *, seed: int) -> tuple[Statistic, Statistic]:
    """Return the ECE, sum over bins of share * |mean forecast - mean label|, plain and debiased.

    Noise in small bins biases the plain value upwards. The debiased one subtracts the bias of each bin of gap
    g with standard error s, `E|N(g, s^2)| - |g|`; it is at least 0. This removes less than half of the bias
    if the truth is 0, and nearly all of it if gaps are large. Both have the interval of the true value, with
    fixed bins; it holds 0 if noise alone could explain the gaps.

    Args:
        forecasts: P forecasts.
        edges: From `bin_edges`.
        seed: Seeds the simulation of noise.

    Source: Naeini et al. 2015; equal-mass bins as Nixon et al. 2019, arXiv 1904.01685. Debiased: Kumar, Liang
    & Ma 2019, arXiv 1909.10155, the correction for L1; s is clustered by prompt.
    """
    turned, cells = forecasts.turned(), forecasts.cells(edges)
    gaps = Gaps(turned.probability, turned.label, cells)
    value, side = gaps.size(1), np.sign(gaps.gap)
    influence = (gaps.residual * (side[cells.here] - side[cells.mirrored]) / 2 - value) / len(turned.label)
    plain = _statistic(forecasts, gaps, influence, seed, power=1, higher_is_better=False)
    debiased = max(0.0, value - gaps.noise_in_size())
    interval = plain.ci95 and (min(plain.ci95[0], debiased), plain.ci95[1])
    return plain, replace(plain, value=debiased, ci95=interval)


def brier_parts(forecasts: Forecasts, edges: Floats, *, seed: int) -> dict[str, Statistic]:
    """Return Murphy's three parts of the Brier score of the binned forecasts.

    With p_b, y_b the means of bin b, w_b its share and y the overall mean (0.5, by mirroring):
    reliability = sum w_b (p_b - y_b)^2, resolution = sum w_b (y_b - y)^2, uncertainty = mean (label - y)^2.
    Brier = reliability - resolution + uncertainty holds exactly if forecasts are constant within bins;
    otherwise the difference is the forecasts' spread within bins (Stephenson et al. 2008).

    Source: Murphy 1973, "A new vector partition of the probability score".
    """
    turned, cells = forecasts.turned(), forecasts.cells(edges)

    def part(claimed: Floats, *, higher_is_better: bool) -> Statistic:
        gaps = Gaps(claimed, turned.label, cells)
        mean_gap = gaps.mean_gap
        influence = gaps.residual * (mean_gap[cells.here] - mean_gap[cells.mirrored])
        influence -= cells.average(np.square(mean_gap)) + gaps.size(2)
        return _statistic(
            forecasts, gaps, influence / len(claimed), seed, power=2, higher_is_better=higher_is_better
        )

    found = {
        "brier_reliability": part(turned.probability, higher_is_better=False),
        "brier_resolution": part(np.full(len(turned.label), 0.5), higher_is_better=True),
    }
    uncertainty = np.square(forecasts.label - 0.5)
    found["brier_uncertainty"] = mean(
        uncertainty, forecasts.cluster, forecasts.n_clusters, higher_is_better=None
    )
    # It is 1/4 by definition if labels are 0 and 1, and never more.
    found["brier_uncertainty"] = replace(found["brier_uncertainty"], limits=(0.0, 0.25))
    return found


def _statistic(
    forecasts: Forecasts, gaps: Gaps, influence: Floats, seed: int, *, power: int, higher_is_better: bool
) -> Statistic:
    """Return the size of gaps with its interval; `influence` is the influence of each pair, shape (P,)."""
    return Statistic(
        value=gaps.size(power),
        influence=cluster_sums(influence, forecasts.cluster, forecasts.n_clusters),
        share=shares(forecasts.cluster, forecasts.n_clusters),
        n=len(forecasts.label),
        # Only clusters of this panel: a stratum's panel keeps the numbering of the whole.
        n_clusters=len(np.unique(forecasts.cluster)),
        higher_is_better=higher_is_better,
        ci95=gaps.interval(power, seed=seed),
    )
