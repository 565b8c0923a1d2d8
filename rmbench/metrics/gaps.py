"""Gaps between what bins claim and what happened in them: their size, its bias by noise, its interval."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtr

from rmbench.metrics.binned_noise import Cells, dependence_of, draw_noise, noise_covariance
from rmbench.stats.bootstrap import least_compatible_effect
from rmbench.stats.clusters import Floats

_PSEUDO_PROMPTS = 4
"""Prompts, half of them right, that are added before labels are simulated from what was seen: where all of
ten are right, the next one need not be. Source: Agresti & Coull 1998, The American Statistician 52."""


@dataclass(frozen=True)
class Gaps:
    """P pairs, turned so that the margin is >= 0, in B bins that hold both orders."""

    claimed: Floats
    """Shape (P,): the forecast, or 1/2 for gaps from knowing nothing."""
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
        """Return how much noise adds to the mean |gap|: the mean of `E|N(g, s^2)| - |g|` over bins.

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

        Noise pushes the size up, so each end inverts a test. The lower end: the gaps that were seen are
        shrunk by t, noise is added, and t is compatible if the size seen does not exceed 97.5% of the sizes
        drawn. The noise is that of labels drawn from `claimed` at t = 0 (an exact test of no gap), from what
        was seen at t = 1, and between them the two in the proportion of t. The upper end: the size seen is at
        least the true one plus the noise along the true gaps (the triangle inequality), whatever their
        signs, so 97.5% of that noise is added. For squares the same holds for their root. Both hold the
        chance that forecasts fall into bins of larger gaps.

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
        """Return what the noise of the bins (B,) is multiplied with to give its part along the gaps."""
        gap = self.mean_gap
        if not gap.any():  # as good as any direction
            gap = np.where(np.arange(len(gap)) < len(gap) / 2, -1.0, 1.0)
        if power == 1:
            return np.asarray(np.sign(gap) / self.count.sum())
        length = np.sqrt(np.square(gap) @ self.count / self.count.sum())
        return np.asarray(gap / length / self.count.sum())

    def _spread(self, power: int) -> float:
        """Return the standard error of the size that is due to which bins forecasts fall into."""
        sizes = self.cells.average(np.abs(self.mean_gap) ** power) - self.size(power)
        sums = np.bincount(self.cells.cluster, sizes) / len(sizes)
        c = self._n_clusters
        return float(np.sqrt(c / (c - 1) * np.square(sums).sum()))
