"""Root-mean-square norms in one pass: torch's own kernel in place of a model's seven small operations.

transformers writes the norm out: to float32, square, mean, root, product, back, weight. On a CPU each is a
pass over the tokens, a tenth of a small decoder's time in bfloat16. Models differ in where they round, so
each norm is compared with torch's on made-up states first, and stays as it is where a number differs by more
than rounding.
"""

from typing import Any

from rmbench.models.hf_load import torch

_NAMES_OF_EPSILON = ("variance_epsilon", "eps", "epsilon")
_SCALES = (-12, 12)
"""States are tried from 2 to the first power to 2 to the second, a row for each power: embeddings are so small
that epsilon counts, and a few channels of last layers are in the thousands."""
_ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}
"""One step of the dtype, relative."""


def fuse_norms(model: Any) -> int:
    """Let those norms of `model` that are torch's use its kernel, and return how many they are."""
    fused = 0
    for module in model.modules():
        epsilon = _epsilon(module)
        if epsilon is not None and _is_torchs(module, epsilon):
            module.forward = _Fused(module, epsilon)
            fused += 1
    return fused


class _Fused:
    """The forward of one norm."""

    def __init__(self, module: Any, epsilon: float) -> None:
        self._module, self._epsilon = module, epsilon

    def __call__(self, hidden_states: Any) -> Any:
        weight = self._module.weight  # whichever it has by now
        return torch.nn.functional.rms_norm(hidden_states, weight.shape, weight, self._epsilon)


def _epsilon(module: Any) -> float | None:
    """Return the epsilon of a module that by its name and its parts is such a norm, else None."""
    if not type(module).__name__.endswith("RMSNorm") or [n for n, _ in module.named_parameters()] != [
        "weight"
    ]:
        return None
    found = [getattr(module, name, None) for name in _NAMES_OF_EPSILON]
    return next((float(e) for e in found if isinstance(e, float)), None)


def _is_torchs(module: Any, epsilon: float) -> bool:
    weight = module.weight
    if weight.dim() != 1 or weight.dtype not in _ROUNDING:
        return False
    scale = torch.arange(_SCALES[0], _SCALES[1] + 1.0).exp2()[:, None]
    rng = torch.Generator().manual_seed(0)
    states = torch.randn(len(scale), weight.shape[0], generator=rng) * scale
    states = states.to(weight.device, weight.dtype)
    with torch.inference_mode():
        own, fused = module(states), _Fused(module, epsilon)(states)
    if own.dtype != fused.dtype:
        return False
    gap = (own.double() - fused.double()).abs()
    return bool((gap <= _ROUNDING[weight.dtype] * own.double().abs()).all())
