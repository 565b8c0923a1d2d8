"""Losses on reward margins: pure functions, registered by name, each with its equation and source.

Notation of the docstrings: `d_i = r(x_i, chosen_i) - r(x_i, rejected_i)` is the margin of pair i, `B` the
*optimiser-step* batch (all micro-batches on all processes), `sigma` the logistic function, `sg[.]` a value
without gradient. A loss returns one value per pair of the micro-batch at hand; the trainer takes their mean
over B, so that neither the size of micro-batches nor the number of processes changes anything.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, isnan, nan
from typing import Any, Literal, TypeAlias, get_args

try:
    import torch
    from torch.nn.functional import logsigmoid
except ImportError as error:
    raise ImportError(f"{error}; training needs: pip install 'rmbench[train]'") from error

from rmbench.core.registry import Declared, Registry
from rmbench.errors import ConfigError, UnknownNameError

Tensor: TypeAlias = torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatistics:
    """What a loss may know beyond its own pairs. Nothing here carries a gradient."""

    margins: Tensor
    """`d` of every pair of the optimiser-step batch, float32, shape (N,), in any order."""
    step: int = 0
    """Optimiser steps done."""
    strength: Tensor | None = None
    """How much better chosen is according to the data, shape (n,), for the pairs at hand; None: unknown."""
    distance: Tensor | None = None
    """Euclidean distance of the final representations of chosen and rejected, shape (n,)."""
    mean_distance: float | None = None
    """Its mean over the optimiser-step batch."""

    def mean_margin(self) -> Tensor:
        """Return `mu_B`, the mean margin: the model's *reward confidence* (arXiv 2404.04932).

        Raises:
            ConfigError: If the batch is a single pair: its mean is its own margin, and nothing is learned.
        """
        if len(self.margins) < 2:
            raise ConfigError("a batch margin needs at least 2 pairs per optimiser step; raise --batch-size")
        return self.margins.mean()


Diagnostics: TypeAlias = Mapping[str, float]
LossFunction: TypeAlias = Callable[..., tuple[Tensor, Diagnostics]]
"""`loss(chosen, rejected, batch, **params) -> (values (n,), diagnostics)`, rewards of shape (n,)."""

Need: TypeAlias = Literal["distance", "strength", "mean"]
"""`distance`: of representations. `strength`: of every pair. `mean`: two pairs in an optimiser step."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Loss(Declared):
    """A loss, and what it reads beyond its own pairs. Made by `register_loss`."""

    needs: tuple[Need, ...] = ()
    reads_batch: bool = True
    """False for a loss that reads neither `margins` nor `mean_distance`: it needs no pass over the
    optimiser-step batch beforehand."""

    def __call__(self, *args: Any, **options: Any) -> tuple[Tensor, Diagnostics]:
        """Return the values and diagnostics of the function."""
        return self.run(*args, **options)  # type: ignore[no-any-return]


LOSSES: Registry[Loss] = Registry(
    "loss",
    group="rmbench.losses",
    adopt=lambda _, thing: thing if isinstance(thing, Loss) else Loss(run=thing),
)


def register_loss(
    name: str, *, needs: Need | Sequence[Need] = (), reads_batch: bool = True
) -> Callable[[LossFunction], Loss]:
    """Register a loss of your own: `@register_loss("my-loss", needs="distance")`; see `Loss`.

    In a file it is `--method my_loss.py:my-loss`; in a package, an entry point in the group `rmbench.losses`
    makes it `--method my-loss` everywhere.

    Raises:
        UnknownNameError: If it needs something that no trainer has.
    """
    wanted = (needs,) if isinstance(needs, str) else tuple(needs)
    for need in wanted:
        if need not in get_args(Need):
            raise UnknownNameError("need", need, get_args(Need), f"loss {name!r}")
    return lambda run: LOSSES.register(name)(Loss(run=run, needs=wanted, reads_batch=reads_batch))


def declared(loss: LossFunction) -> Loss:
    """Return what a loss declares; a plain function, or one with its options set, included."""
    loss = getattr(loss, "func", loss)
    return loss if isinstance(loss, Loss) else Loss(run=loss)


def find_loss(name: str) -> tuple[Loss, str | None]:
    """Return the loss called `name`, or what `FILE.py:NAME` names.

    In a file NAME is a function, or what it is registered as. The second value is the file's SHA-256: it
    joins the model's identity.

    Raises:
        UnknownNameError: If there is none; with the nearest name.
        ConfigError: If the file is missing or cannot be imported.
    """
    return LOSSES.find(name, f"--method {name}")


def margin_of(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return `d`, shape (n,), float32 whatever the model's type: bfloat16 differences tie."""
    if chosen.dim() != 1 or chosen.shape != rejected.shape:
        # (n, 1) against (n,) would broadcast to every pair against every other, silently.
        raise ConfigError(
            f"rewards have shapes {tuple(chosen.shape)} and {tuple(rejected.shape)}; expected (n,)"
        )
    return chosen.float() - rejected.float()


@register_loss("bradley-terry", reads_batch=False)
def bradley_terry(chosen: Tensor, rejected: Tensor, batch: BatchStatistics) -> tuple[Tensor, Diagnostics]:
    """Return `-log sigma(d_i)`. Source: Bradley & Terry 1952; arXiv 2404.04932, eq. 2."""
    del batch
    return -logsigmoid(margin_of(chosen, rejected)), {}


@register_loss("label-margin", needs="strength", reads_batch=False)
def label_margin(
    chosen: Tensor, rejected: Tensor, batch: BatchStatistics, scale: float = 1.0
) -> tuple[Tensor, Diagnostics]:
    """Return `-log sigma(d_i - scale * strength_i)`. Source: Llama 2, arXiv 2307.09288; 2404.04932, eq. 3.

    Raises:
        ConfigError: If a pair has no strength, or `scale` is not finite.
    """
    _bounded("scale", scale)
    if batch.strength is None or not bool(torch.isfinite(batch.strength).all()):
        raise ConfigError("label-margin needs pairs with strength, and some have none")
    margin = scale * batch.strength.float()
    return -logsigmoid(margin_of(chosen, rejected) - margin), {"margin_used": float(margin.mean())}


@register_loss("fixed-margin", reads_batch=False)
def fixed_margin(
    chosen: Tensor, rejected: Tensor, batch: BatchStatistics, margin: float = 1.0
) -> tuple[Tensor, Diagnostics]:
    """Return `-log sigma(d_i - margin)`, one constant for all pairs: an ablation of the adaptive ones.

    Raises:
        ConfigError: If `margin` is not finite.
    """
    del batch
    _bounded("margin", margin)
    return -logsigmoid(margin_of(chosen, rejected) - margin), {"margin_used": margin}


@register_loss("confidence-margin", needs="mean")
def confidence_margin(
    chosen: Tensor,
    rejected: Tensor,
    batch: BatchStatistics,
    threshold: str = "none",
    cap: float | None = None,
    warmup: int = 0,
) -> tuple[Tensor, Diagnostics]:
    """Return `-log sigma(d_i - m_i)` with the model's own mean margin `mu_B = sg[mean_B d]` as `m_i`.

    Detached: with a gradient, a margin equal to the batch mean cancels the mean gradient. Clamped at 0 from
    below: early on it can be negative, and would reward inverted pairs.

    Args:
        chosen: Shape (n,).
        rejected: Shape (n,).
        batch: Its margins make `mu_B`.
        threshold: `none`: all pairs (eq. 4). `mean`: only pairs with `d_i < mu_B`, the others have margin 0;
            a number: only pairs with `d_i` below it (eq. 5). That the paper's tau is `mu_B` is our reading.
        cap: Largest margin: one that grows with the gap inflates the rewards' scale without bound.
        warmup: Optimiser steps over which the margin grows from 0 to its full size.

    Raises:
        ConfigError: If an option is out of its range.

    Source: Qin, Feng & Yang 2024, arXiv 2404.04932, eq. 4 and 5.
    """
    _bounded("cap", cap, 0.0)
    _bounded("warmup", warmup, 0.0)
    d = margin_of(chosen, rejected)
    mean = batch.mean_margin()
    margin = mean.clamp(min=0.0, max=cap) * _warm(batch.step, warmup)
    if threshold == "none":
        used = margin.expand_as(d)
    else:
        tau = mean if threshold == "mean" else torch.tensor(_number(threshold))
        used = torch.where(d.detach() < tau, margin, torch.zeros_like(d))
    return -logsigmoid(d - used.detach()), {"mu_batch": float(mean), "margin_used": float(used.mean())}


@register_loss("quantile-margin", needs="mean")
def quantile_margin(
    chosen: Tensor,
    rejected: Tensor,
    batch: BatchStatistics,
    quantile: float = 0.75,
    warmup: int = 0,
) -> tuple[Tensor, Diagnostics]:
    """Return `-log sigma(d_i - m_i)`, `m_i = sg[min(max(d_i, 0), Q)]`, Q the quantile of the batch's margins.

    Each pair's own margin, capped: whatever is between 0 and Q is pushed with the gradient of an undecided
    pair, beyond Q the push fades as in Bradley-Terry, and inverted pairs are Bradley-Terry's.

    Raises:
        ConfigError: If `quantile` is outside (0, 1), or `warmup` below 0.
    """
    _bounded("warmup", warmup, 0.0)
    if not 0.0 < quantile < 1.0:
        raise ConfigError(f"option 'quantile' is {quantile:g}; expected a number between 0 and 1")
    batch.mean_margin()
    d = margin_of(chosen, rejected)
    top = torch.quantile(batch.margins.float(), quantile).clamp(min=0.0)
    used = torch.minimum(d.detach().clamp(min=0.0), top) * _warm(batch.step, warmup)
    return -logsigmoid(d - used), {"margin_cap": float(top), "margin_used": float(used.mean())}


@register_loss("conservative", reads_batch=False)
def conservative(
    chosen: Tensor, rejected: Tensor, batch: BatchStatistics, smoothing: float = 0.1
) -> tuple[Tensor, Diagnostics]:
    """Return `-(1 - e) log sigma(d_i) - e log sigma(-d_i)`: a share `e` of labels is taken to be wrong.

    Source: label smoothing for preferences, Mitchell 2023, "A note on DPO with noisy preferences".

    Raises:
        ConfigError: If `smoothing` is outside [0, 0.5).
    """
    del batch
    if not 0.0 <= smoothing < 0.5:
        raise ConfigError(f"option 'smoothing' is {smoothing:g}; expected a number from 0 to below 0.5")
    d = margin_of(chosen, rejected)
    return -(1.0 - smoothing) * logsigmoid(d) - smoothing * logsigmoid(-d), {}


@register_loss("centred", reads_batch=False)
def centred(
    chosen: Tensor, rejected: Tensor, batch: BatchStatistics, weight: float = 0.01
) -> tuple[Tensor, Diagnostics]:
    """Return `-log sigma(d_i) + weight * (r_chosen + r_rejected)^2`: rewards stay around 0.

    Source: Eisenstein et al. 2023, arXiv 2312.09244, eq. 2.

    Raises:
        ConfigError: If `weight` is negative.
    """
    _bounded("weight", weight, 0.0)
    values, _ = bradley_terry(chosen, rejected, batch)
    centre = torch.square(chosen.float() + rejected.float())
    return values + weight * centre, {"centre": float(centre.detach().mean())}


@register_loss("distance-normalised", needs="distance")
def distance_normalised(
    chosen: Tensor, rejected: Tensor, batch: BatchStatistics, largest: float = 10.0
) -> tuple[Tensor, Diagnostics]:
    """Return `-w_i log sigma(d_i)`, `w_i = sg[min(mean_B distance / distance_i, largest)]`.

    Under Bradley-Terry the gradient of a pair grows with the distance of its two representations, so pairs
    that differ little are drowned; the weight takes the distance out and keeps the batch's scale. The
    weight's exact form (batch mean, a bound) is our reading of the paper's description.

    Raises:
        ConfigError: If distances are not known, or `largest` is below 0.

    Source: Xie et al. 2025, "When distance distracts", NormBT, arXiv 2512.06343.
    """
    _bounded("largest", largest, 0.0)
    if batch.distance is None or batch.mean_distance is None:
        raise ConfigError("distance-normalised needs the distances of representations")
    weight = (batch.mean_distance / batch.distance.float().clamp(min=1e-12)).clamp(max=largest).detach()
    values = -weight * logsigmoid(margin_of(chosen, rejected))
    return values, {"weight_max": float(weight.max())}


def _warm(step: int, warmup: int) -> float:
    return 1.0 if warmup <= 0 else min(1.0, step / warmup)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = nan
    if isnan(value):
        raise ConfigError(f"option 'threshold' is {text!r}; expected none, mean or a number")
    return value


def _bounded(name: str, value: float | None, low: float = -inf) -> None:
    """Refuse an option that is not a finite number from `low` on; None is fine."""
    if value is not None and not (isfinite(value) and value >= low):
        wanted = "a finite number" + (f" from {low:g} on" if isfinite(low) else "")
        raise ConfigError(f"option {name!r} is {value:g}; expected {wanted}")


def summary_of(loss: Any) -> str:
    """Return the first line of a loss's docstring: its equation."""
    first = (loss.__doc__ or "").strip().splitlines()[:1]
    return first[0].removeprefix("Return ") if first else ""
