"""The built-in trainer as a reward model that can be evaluated by name: trained at first use."""

from pathlib import Path
from typing import Any

from rmbench.models.runtime import Runtime


def confidence_margin(
    base: str,
    data: str,
    runtime: Runtime,
    method: str = "confidence-margin",
    out: str | None = None,
    epochs: float = 1.0,
    learning_rate: float | None = None,
    batch_size: int = 32,
    micro_batch: int = 8,
    max_length: int = 1024,
    freeze_backbone: bool = False,
    pairs_per_prompt: int | None = None,
    limit: int | None = None,
    threshold: str = "none",
    seed: int | None = None,
) -> Any:
    """The reward model that `rmbench train` makes of `base` and `data`, trained at first use.

    Args:
        base: Folder or `org/name[@revision]` to start from.
        data: Pairs, pools, or `TASK:train`.
        runtime: Device, offline, seed.
        method: The loss.
        out: Folder of the trained model; by default one in the cache that is named by all that can change it.
        epochs: Passes over the pairs.
        learning_rate: None: the trainer's default.
        batch_size: Pairs per optimiser step.
        micro_batch: Pairs per forward pass.
        max_length: Tokens per conversation.
        freeze_backbone: Train the last layer alone.
        pairs_per_prompt: Out of pools, at most so many.
        limit: At most so many pairs.
        threshold: Of the confidence margin (equation 5).
        seed: None: the run's.
    """
    # Here and not above: `rmbench models` lists this function, and starts without torch.
    from rmbench.canon import digest
    from rmbench.models.hf import load_hf
    from rmbench.scoring import default_store_folder
    from rmbench.train.base import identity_of_base
    from rmbench.train.fit import TrainSettings
    from rmbench.train.losses import find_loss
    from rmbench.train.pairs import read_training_data
    from rmbench.train.run import train

    find_loss(method)
    chosen_seed = runtime.seed if seed is None else seed
    options: dict[str, Any] = {"threshold": threshold} if threshold != "none" else {}
    settings = TrainSettings(
        base=base, method=method, method_options=options, epochs=epochs, learning_rate=learning_rate,
        batch_size=batch_size, micro_batch=min(micro_batch, batch_size), max_length=max_length,
        freeze_backbone=freeze_backbone, seed=chosen_seed,
    )  # fmt: skip
    pairs = read_training_data(
        data, pairs_per_prompt=pairs_per_prompt, limit=limit, seed=chosen_seed, offline=runtime.offline
    )
    if out is None:
        key = digest([identity_of_base(base, runtime)[0], pairs.data_hash, repr(settings)], 16)
        folder = default_store_folder() / "trained" / key
    else:
        folder = Path(out)
    train(settings, pairs, folder, runtime=runtime)
    model = load_hf(str(folder), runtime=runtime, max_length=max_length)
    model.display_name = method
    return model
