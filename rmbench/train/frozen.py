"""A linear head on representations of a frozen backbone: with those at hand, a head takes seconds.

What makes hundreds of runs (losses, seeds, settings) affordable on a laptop. The head becomes the last layer
of an ordinary classifier, so the saved model is like any other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch.nn.functional import softplus

from rmbench.errors import ConfigError, RunError
from rmbench.train.base import Base, head_of
from rmbench.train.batches import StepSampler
from rmbench.train.losses import BatchStatistics, Loss, Tensor
from rmbench.train.representations import Representations


@dataclass(frozen=True, slots=True)
class Head:
    """A trained linear head in the backbone's own units."""

    weight: Tensor
    """Shape (D,)."""
    bias: float
    """Moves all rewards alike; margins do not see it."""
    curve: list[dict[str, float]]
    held_out: Mapping[str, float]
    steps: int


def train_head(
    train: Representations,
    held_out: Representations,
    loss: Loss,
    *,
    batch_size: int,
    epochs: float,
    max_steps: int | None,
    learning_rate: float,
    weight_decay: float,
    warmup: float,
    eval_every: int,
    seed: int,
    on_step: Callable[[int, int, Mapping[str, float]], None] | None = None,
) -> Head:
    """Train a linear head with AdamW on standardised representations; the best by held-out NLL is kept.

    Deterministic: the same input and seed give the same head.

    Raises:
        RunError: If the loss is not finite.
    """
    both = torch.cat([train.chosen, train.rejected])
    centre, scale = both.mean(dim=0), both.std(dim=0).clamp(min=1e-6)
    sides = [(x - centre) / scale for x in (train.chosen, train.rejected)]
    watched = (held_out.chosen - held_out.rejected) / scale
    spread = torch.cat([held_out.chosen, held_out.rejected]) / scale
    weight = torch.zeros(both.shape[1], requires_grad=True)
    optimiser = torch.optim.AdamW([weight], lr=learning_rate, weight_decay=weight_decay)
    sampler = StepSampler([1] * len(train.chosen), batch_size, seed)
    per_epoch = len(sampler) // batch_size
    total = max_steps or max(1, round(epochs * per_epoch))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: _rate(s, total, warmup))
    distances = (sides[0] - sides[1]).norm(dim=1)
    best, curve = (float("inf"), weight.detach().clone()), []
    order: list[int] = []
    for step in range(total):
        if step % per_epoch == 0:
            sampler.set_epoch(step // per_epoch)
            order = list(sampler)
        at = torch.tensor(order[step % per_epoch * batch_size :][:batch_size])
        values, told = _losses(
            loss, weight, [side[at] for side in sides], train.strength[at], distances[at], step
        )
        if not bool(torch.isfinite(values).all()):
            bad = ", ".join(repr(train.ids[k]) for k in at[~torch.isfinite(values)][:3].tolist())
            raise RunError(f"the loss is not finite at step {step + 1}, pairs {bad}")
        before = weight.detach().clone()
        optimiser.zero_grad()
        values.mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if on_step:
            margins = (sides[0][at] - sides[1][at]) @ before
            on_step(step + 1, total, {"loss": float(values.detach().mean()), **_right(margins), **told})
        if (step + 1) % eval_every == 0 or step + 1 == total:
            seen = _seen(watched @ weight.detach()) | {"scale": float((spread @ weight.detach()).std())}
            if not isfinite(seen["nll"]):
                raise RunError(f"rewards are not finite after step {step + 1}")
            curve.append({"step": float(step + 1), "loss": float(values.detach().mean()), **told,
                          **{f"eval_{k}": v for k, v in seen.items()}})  # fmt: skip
            if seen["nll"] < best[0]:
                best = (seen["nll"], weight.detach().clone())
    folded = best[1] / scale
    return Head(folded, float(-(folded * centre).sum()), curve, _seen(watched @ best[1]), total)


def _losses(
    loss: Loss, weight: Tensor, sides: Sequence[Tensor], strength: Tensor, distance: Tensor, step: int
) -> tuple[Tensor, Mapping[str, float]]:
    chosen, rejected = sides[0] @ weight, sides[1] @ weight
    batch = BatchStatistics(
        margins=(chosen - rejected).detach(),
        step=step,
        strength=strength if bool(torch.isfinite(strength).all()) else None,
        distance=distance,
        mean_distance=float(distance.mean()),
    )
    return loss(chosen, rejected, batch)


def _seen(margins: Tensor) -> dict[str, float]:
    return {"nll": float(softplus(-margins).mean()), **_right(margins)}


def _right(margins: Tensor) -> dict[str, float]:
    right = (margins > 0).double() + 0.5 * (margins == 0).double()
    return {"accuracy": float(right.mean()), "margin": float(margins.mean())}


def _rate(step: int, total: int, warmup: float) -> float:
    rising = max(1, round(warmup * total))
    return min((step + 1) / rising, max(0.0, (total - step) / max(1, total - rising)))


def put_head(base: Base, head: Head) -> None:
    """Write the head into the model's last layer.

    Raises:
        ConfigError: If the model has no linear last layer of the head's width.
    """
    layer: Any = head_of(base.model)
    if layer.in_features != len(head.weight):
        raise ConfigError(f"the last layer has {layer.in_features} inputs; the head has {len(head.weight)}")
    with torch.no_grad():
        layer.weight.copy_(head.weight[None, :])
        if layer.bias is not None:
            layer.bias.fill_(head.bias)
