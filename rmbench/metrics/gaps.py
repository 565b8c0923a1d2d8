"""Gaps between claimed and observed probabilities of bins: size, bias by noise, interval.

Resampled prompts do not show the noise of few items: with ten items the resampled gaps hardly move, and if
every label is 1 they do not move at all. So labels are *simulated* from the forecasts: pair i is right with a
given probability, and pairs of one prompt are right together as often as observed. Errors estimated from
prompts of unequal size have fewer degrees of freedom.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from rmbench.stats.bootstrap import least_compatible_effect
from rmbench.stats.clusters import Floats, Ints


def freedom_of(cluster: Ints) -> float:
    """Return the degrees of freedom of a variance between clusters: their effective number minus 1.

    That is `(sum of sizes)^2 / (sum of squared sizes) - 1`: C - 1 for C clusters of one size, fewer if a few
    large ones decide. It is at least 1.

    Args:
        cluster: Cluster of each observation, shape (n,), n >= 1.

    Source: Kish 1965, "Survey sampling", section 8.2.
    """
    sizes = np.bincount(cluster).astype(np.float64)
    return max(1.0, float(sizes.sum() ** 2 / np.square(sizes).sum()) - 1.0)


N_DRAWS = 2000
_MOST_SIMULATED = 300
"""With more pairs than this, the noise of bins is drawn as a normal vector of the same covariance: a bin then
holds about forty forecasts or more."""
_DRAWS_AT_ONCE = 200
_CLUSTERS_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True)
class Cells:
    """The bins of P pairs; each pair counts in both orders. Pairs are turned so that the margin is >= 0."""

    here: Ints
    """Bin of each forecast, shape (P,)."""
    mirrored: Ints
    """Bin of the forecast in the other order, shape (P,)."""
    cluster: Ints
    """Shape (P,)."""
    n_bins: int

    def odd_sums(self, values: Floats) -> Floats:
        """Return per bin the sum of values (P,) that change sign with the order, shape (B,)."""
        n = self.n_bins
        return np.asarray(
            np.bincount(self.here, values, minlength=n) - np.bincount(self.mirrored, values, minlength=n)
        )

    def counts(self) -> Floats:
        """Return the forecasts per bin, both orders, shape (B,)."""
        both = (np.bincount(bins, minlength=self.n_bins) for bins in (self.here, self.mirrored))
        return np.asarray(sum(both), dtype=np.float64)

    def average(self, per_bin: Floats) -> Floats:
        """Return for each pair the mean of a number (B,) over its two bins, shape (P,)."""
        return np.asarray((per_bin[self.here] + per_bin[self.mirrored]) / 2)


@dataclass(frozen=True, slots=True)
class Dependence:
    """Scatter of labels around their probability."""

    within: float
    """Correlation of the labels of one prompt, in [0, 1]."""
    scale: float
    """Standard deviation of labels, as a multiple of that of labels 0 or 1; below 1 for soft labels."""
    degrees: float | None
    """Degrees of freedom of the estimate of the two; None if neither had to be estimated."""


def dependence_of(label: Floats, probability: Floats, cells: Cells) -> Dependence:
    """Return the scatter of labels (P,) around probabilities (P,) that were fitted to them bin by bin.

    `within` is the moment estimator of the intra-cluster correlation: the products of residuals of one
    prompt, over their value at a correlation of 1. It is raised by the part of the design effect that the fit
    removes, and clipped.

    Source: Ridout et al. 1999, Biometrics 55, "Estimating intraclass correlation for binary data".
    """
    residual, variance = label - probability, probability * (1.0 - probability)
    scale = 1.0
    soft = bool(((label > 0.0) & (label < 1.0)).any())
    if soft:
        fitted = (np.bincount(cells.here) > 0).sum()
        lost = len(label) / max(1.0, len(label) - float(fitted))
        expected = float(variance.sum())
        scale = np.sqrt(lost * float(np.square(residual).sum()) / expected) if expected > 0.0 else 1.0
    degrees, deviation = freedom_of(cells.cluster), np.sqrt(variance)

    def products(values: Floats) -> float:
        return float(np.square(np.bincount(cells.cluster, values)).sum() - np.square(values).sum())

    if len(np.unique(cells.cluster)) == len(label):
        return Dependence(0.0, min(scale, 1.0), degrees if soft else None)
    possible = scale**2 * products(deviation)
    within = products(residual) / possible if possible > 0.0 else 0.0
    size = float(np.square(np.bincount(cells.cluster)).sum()) / len(label)
    within += (1.0 + (size - 1.0) * max(within, 0.0)) / len(label)
    return Dependence(min(max(within, 0.0), 1.0), min(scale, 1.0), degrees)


def noise_covariance(cells: Cells, probability: Floats, dependence: Dependence) -> Floats:
    """Return the covariance of the sums of `label - probability` per bin, shape (B, B).

    Args:
        cells: The bins.
        probability: P(label is 1), shape (P,).
        dependence: Scatter of the labels.
    """
    n = cells.n_bins
    variance = probability * (1.0 - probability) * dependence.scale**2
    # A pair adds its variance at both of its bins and subtracts it across them.
    across = np.bincount(cells.here * n + cells.mirrored, variance, minlength=n * n).reshape(n, n)
    own = np.diag(across.sum(axis=0) + across.sum(axis=1)) - across - across.T
    if dependence.within == 0.0:
        return np.asarray(own)
    order = np.argsort(cells.cluster, kind="stable")
    _, owner = np.unique(cells.cluster[order], return_inverse=True)
    owner, deviation = owner.reshape(-1), np.sqrt(variance)[order]
    here, mirrored = cells.here[order], cells.mirrored[order]
    common = np.zeros((n, n))
    for first in range(0, int(owner[-1]) + 1, _CLUSTERS_AT_ONCE):
        begin, end = np.searchsorted(owner, [first, first + _CLUSTERS_AT_ONCE])
        row = (owner[begin:end] - first) * n
        length = (int(owner[end - 1]) - first + 1) * n
        sums = np.bincount(row + here[begin:end], deviation[begin:end], minlength=length)
        sums -= np.bincount(row + mirrored[begin:end], deviation[begin:end], minlength=length)
        common += sums.reshape(-1, n).T @ sums.reshape(-1, n)
    return np.asarray((1.0 - dependence.within) * own + dependence.within * common)


def draw_noise(cells: Cells, probability: Floats, dependence: Dependence, *, seed: tuple[int, int]) -> Floats:
    """Draw the sums of `label - probability` per bin, shape (N_DRAWS, B).

    Up to 300 pairs, labels are drawn from a Gaussian copula with one factor per prompt; its correlation gives
    `within` to labels of probability 1/2. Beyond, a normal vector is drawn. If the scatter itself is an
    estimate, each draw is divided by a random estimate with its degrees of freedom, as in Student's t.

    Args:
        cells: The bins.
        probability: P(label is 1), shape (P,).
        dependence: Scatter of the labels.
        seed: Two models on the same pairs get the same draws.

    Source: Emrich & Piedmonte 1991, "A method for generating high-dimensional multivariate binary variates".
    """
    rng = np.random.default_rng(seed)
    if len(probability) <= _MOST_SIMULATED:
        noise = dependence.scale * _simulated(rng, cells, probability, dependence.within)
    else:
        values, vectors = np.linalg.eigh(noise_covariance(cells, probability, dependence))
        root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        noise = rng.standard_normal((N_DRAWS, cells.n_bins)) @ root
    if dependence.degrees is not None:
        spread = rng.chisquare(dependence.degrees, N_DRAWS) / dependence.degrees
        noise /= np.sqrt(spread)[:, None]
    return np.asarray(noise)


def _simulated(rng: np.random.Generator, cells: Cells, probability: Floats, within: float) -> Floats:
    n = cells.n_bins
    # Pairs are sorted, so that the items' order in the data does not matter.
    order = np.lexsort((cells.cluster, cells.mirrored, cells.here, probability.round(12)))
    probability, cluster = probability[order], cells.cluster[order]
    place = np.zeros((len(probability), n), dtype=np.float32)
    rows = np.arange(len(probability))
    np.add.at(place, (rows, cells.here[order]), 1.0)
    np.add.at(place, (rows, cells.mirrored[order]), -1.0)
    mean = probability @ place.astype(np.float64)
    latent = float(np.sin(np.pi / 2 * within))
    limit = ndtri(probability).astype(np.float32)
    parts = []
    for start in range(0, N_DRAWS, _DRAWS_AT_ONCE):
        shape = (min(_DRAWS_AT_ONCE, N_DRAWS - start), len(probability))
        right = _right(rng, shape, cluster, latent, limit, probability)
        parts.append(right.astype(np.float32) @ place - mean)
    return np.concatenate(parts)


def _right(
    rng: np.random.Generator,
    shape: tuple[int, int],
    cluster: Ints,
    latent: float,
    limit: NDArray[np.float32],
    probability: Floats,
) -> NDArray[np.bool_]:
    if latent == 0.0:
        return np.asarray(rng.random(shape, dtype=np.float32) < probability)
    present, owner = np.unique(cluster, return_inverse=True)
    own = rng.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(1.0 - latent))
    common = rng.standard_normal((shape[0], len(present)), dtype=np.float32) * np.float32(np.sqrt(latent))
    return np.asarray(own + common[:, owner.reshape(-1)] < limit)


_ROUNDING = 1e-12
"""Largest gap that rounding alone can cause."""
_PSEUDO_PROMPTS = 4
"""Pseudo-prompts, half of them right, that are added before labels are simulated from observed shares: if all
of ten are right, the next one need not be. Source: Agresti & Coull 1998, The American Statistician 52."""


@dataclass(frozen=True)
class Gaps:
    """P pairs, turned so that the margin is >= 0, in B bins that hold both orders."""

    claimed: Floats
    """Shape (P,): the forecast, or 1/2 for gaps from an uninformed forecast."""
    label: Floats
    """Shape (P,), in [0, 1]."""
    cells: Cells

    @cached_property
    def residual(self) -> Floats:
        """Return label minus claimed, shape (P,)."""
        return np.asarray(self.label - self.claimed)

    @cached_property
    def gap(self) -> Floats:
        """Return the sum of `label - claimed` per bin, shape (B,)."""
        return self.cells.odd_sums(self.residual)

    @cached_property
    def count(self) -> Floats:
        """Return the forecasts per bin, shape (B,)."""
        return self.cells.counts()

    @cached_property
    def mean_gap(self) -> Floats:
        """Return the mean gap per bin, shape (B,); 0 in an empty one."""
        return np.asarray(self.gap / self._filled)

    @property
    def _filled(self) -> Floats:
        return np.where(self.count > 0, self.count, 1.0)

    def size(self, power: int) -> float:
        """Return the mean over forecasts of |mean gap of their bin| ** power."""
        return float(self._sizes(self.gap, power))

    def _sizes(self, gap: Floats, power: int) -> Floats:
        """Return the size of each row of gaps (..., B)."""
        return np.asarray((np.abs(gap / self._filled) ** power) @ self.count / self.count.sum())

    @cached_property
    def _seen(self) -> tuple[Floats, Floats]:
        """Return the mean label of each pair's bin, as it is and with pseudo-prompts, each (P,)."""
        cells = self.cells
        behind = np.bincount(cells.mirrored, minlength=cells.n_bins)
        seen = ((cells.odd_sums(self.label) + behind) / self._filled)[cells.here]
        weight = _PSEUDO_PROMPTS / (_PSEUDO_PROMPTS + self._n_clusters)
        return seen, (1.0 - weight) * seen + weight * 0.5

    @cached_property
    def _n_clusters(self) -> int:
        return len(np.unique(self.cells.cluster))

    def noise_in_size(self) -> float:
        """Return the bias that noise adds to the mean |gap|: the mean of `E|N(g, s^2)| - |g|` over bins.

        Source: Kumar, Liang & Ma 2019, arXiv 1909.10155.
        """
        seen, likely = self._seen
        covariance = noise_covariance(self.cells, likely, dependence_of(self.label, seen, self.cells))
        s = np.sqrt(np.diag(covariance))
        g = np.abs(self.gap)
        z = g / np.where(s > 0.0, s, 1.0)
        added = s * np.sqrt(2 / np.pi) * np.exp(-0.5 * z * z) - 2.0 * g * ndtr(-z)
        return float(added[s > 0.0].sum() / self.count.sum())

    def interval(self, power: int, *, seed: int) -> tuple[float, float] | None:
        """Return the 95% interval of the true size in these bins; None below two prompts.

        Noise raises the size, so each end inverts a test. The lower end: the observed gaps are shrunk by t,
        noise is added, and t is compatible if the observed size does not exceed 97.5% of the drawn sizes. At
        t = 0 the noise is that of labels drawn from `claimed` (an exact test of no gap), at t = 1 of labels
        drawn from the observed shares, and between them a mixture in proportion to t. The upper end: the
        observed size is at least the true one plus the noise along the true gaps (the triangle inequality),
        whatever their signs, so 97.5% of that noise is added. For squares the same holds for their root.
        Both ends include the chance that forecasts fall into bins of larger gaps.

        Args:
            power: 1 for ECE, 2 for Murphy's parts.
            seed: Two models on the same pairs get the same draws.
        """
        if self._n_clusters < 2:
            return None
        seen, likely = self._seen
        dependence = dependence_of(self.label, seen, self.cells)
        null = draw_noise(self.cells, self.claimed, dependence, seed=(seed, 0))
        noise = draw_noise(self.cells, likely, dependence, seed=(seed, 1))
        mixed = self._spread(power) * np.random.default_rng((seed, 2)).standard_normal(len(noise))
        value = self.size(power)

        def drawn(t: float) -> Floats:
            gap = t * self.gap + np.sqrt(1.0 - t) * null + np.sqrt(t) * noise
            return self._sizes(gap, power) + t**power * mixed

        low = least_compatible_effect(value, drawn) ** power * value
        root = value ** (1 / power)
        along = noise @ self._direction(power)
        mixed = mixed / power / max(root, np.sqrt(np.finfo(float).tiny)) ** (power - 1)
        high = (root + float(np.quantile(mixed - along, 0.975))) ** power
        return low, float(np.clip(high, value, 1.0))

    def _direction(self, power: int) -> Floats:
        """Return the factors on the noise of the bins (B,) that give its part along the gaps."""
        # A gap from rounding alone has no direction: its sign differs between processors.
        gap = np.where(np.abs(self.mean_gap) > _ROUNDING, self.mean_gap, 0.0)
        if not gap.any():  # all directions are equivalent
            gap = np.where(np.arange(len(gap)) < len(gap) / 2, -1.0, 1.0)
        if power == 1:
            return np.asarray(np.sign(gap) / self.count.sum())
        length = np.sqrt(np.square(gap) @ self.count / self.count.sum())
        return np.asarray(gap / length / self.count.sum())

    def _spread(self, power: int) -> float:
        """Return the standard error of the size from the random assignment of forecasts to bins."""
        sizes = self.cells.average(np.abs(self.mean_gap) ** power) - self.size(power)
        sums = np.bincount(self.cells.cluster, sizes) / len(sizes)
        c = self._n_clusters
        return float(np.sqrt(c / (c - 1) * np.square(sums).sum()))
