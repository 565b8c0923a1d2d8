"""A loss, in a module of its own: it needs torch."""

from typing import Any

from torch.nn.functional import softplus

from rmbench import register_loss


@register_loss("near-pairs", needs="distance")
def near_pairs(chosen: Any, rejected: Any, batch: Any, power: float = 1.0) -> Any:
    """Return `log(1 + exp(-d)) / (1 + distance)^power`: pairs that differ little count more."""
    weight = (1 + batch.distance.float()) ** -power
    return weight * softplus(rejected.float() - chosen.float()), {"weight": float(weight.mean())}
