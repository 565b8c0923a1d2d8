"""The built-in trainer as a reward model that can be evaluated by name: trained at first use.

It imports no torch: `rmbench models` lists it.
"""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rmbench.core.options import parameters_of, takes_options
from rmbench.core.schema import from_values
from rmbench.errors import UnknownNameError
from rmbench.models.runtime import Runtime
from rmbench.train.settings import PairsOptions, TrainSettings

_OF_COMMAND = ("warmup", "method_options")
"""Options of `rmbench train` alone. Here `warmup` is the loss's, and every option of the loss is one."""


@takes_options(TrainSettings, PairsOptions, without=(*_OF_COMMAND, "part", "params"))
def confidence_margin(
    base: str,
    data: str,
    runtime: Runtime,
    out: str | None = None,
    seed: int | None = None,
    **options: Any,
) -> Any:
    """The reward model that `rmbench train` makes of `base` and `data`, trained at first use.

    Args:
        base: Folder, `org/name[@revision]` or `builtin:tiny` to start from.
        data: Pairs, pools, or `TASK:train`.
        runtime: Device, offline, seed.
        out: Folder of the trained model; by default one in the cache that is named by all that can change it.
        seed: None: the run's.
        options: Options of the loss, as `-L` of `rmbench train`: threshold, cap, warmup, scale, ...
    """
    # Here and not above: `rmbench models` lists this function, and starts without torch.
    from rmbench.core.files import digest
    from rmbench.models.hf.classifier import load_hf
    from rmbench.scoring import default_store_folder
    from rmbench.train.run import identity_of, train

    given = {**options, "base": base, "data": data, "seed": runtime.seed if seed is None else seed}
    of_trainer = inspect.signature(confidence_margin).parameters
    loss_options = {name: text for name, text in options.items() if name not in of_trainer}
    own, of_pairs = (
        {name: given[name] for name in parameters_of(cls) if name in given and name in of_trainer}
        for cls in (TrainSettings, PairsOptions)
    )
    settings = from_values(TrainSettings, own, "confidence-margin")
    source = from_values(PairsOptions, of_pairs, "confidence-margin")
    _check_loss_options(settings.method, loss_options)
    settings = replace(settings, method_options=loss_options)
    pairs = source.read(settings.seed, offline=runtime.offline)
    key = digest(identity_of(settings, pairs, runtime), 16)
    folder = default_store_folder() / "trained" / key if out is None else Path(out)
    train(settings, pairs, folder, runtime=runtime)
    model = load_hf(str(folder), runtime=runtime)
    # An upper bound here as in training: a base may have fewer positions.
    if model.max_length > settings.max_length:
        model = load_hf(str(folder), runtime=runtime, max_length=settings.max_length)
    model.display_name = settings.method
    return model


def _check_loss_options(method: str, given: Mapping[str, str]) -> None:
    """Refuse an option that neither the trainer nor the loss has; the nearest of both is named."""
    from rmbench.train.losses import find_loss

    of_loss = list(inspect.signature(find_loss(method)[0]).parameters)[3:]
    own = [n for n in inspect.signature(confidence_margin).parameters if n not in ("runtime", "options")]
    for key in given:
        if key not in of_loss:
            raise UnknownNameError("option", key, [*of_loss, *own], f"confidence-margin with loss {method!r}")
