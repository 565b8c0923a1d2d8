"""The built-in trainer as a reward model that can be evaluated by name: trained at first use."""

from pathlib import Path
from typing import Any, Literal

from rmbench.models.runtime import Runtime


def confidence_margin(
    base: str,
    data: str,
    runtime: Runtime,
    method: str = "confidence-margin",
    out: str | None = None,
    epochs: float = 1.0,
    max_steps: int | None = None,
    learning_rate: float | None = None,
    batch_size: int = 32,
    micro_batch: int = 8,
    max_length: int = 1024,
    freeze_backbone: bool = False,
    lora: int | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    eval_every: int = 50,
    eval_limit: int = 1000,
    reader: str = "auto",
    like: str | None = None,
    on_bad: Literal["fail", "skip"] = "fail",
    pairs_per_prompt: int | None = None,
    limit: int | None = None,
    held_out: float = 0.1,
    seed: int | None = None,
    **loss_options: str,
) -> Any:
    """The reward model that `rmbench train` makes of `base` and `data`, trained at first use.

    Args:
        base: Folder, `org/name[@revision]` or `builtin:tiny` to start from.
        data: Pairs, pools, or `TASK:train`.
        runtime: Device, offline, seed.
        method: The loss.
        out: Folder of the trained model; by default one in the cache that is named by all that can change it.
        epochs: Passes over the pairs.
        max_steps: Stop after so many optimiser steps.
        learning_rate: None: the trainer's default.
        batch_size: Pairs per optimiser step.
        micro_batch: Pairs per forward pass.
        max_length: Tokens per conversation.
        freeze_backbone: Train the last layer alone.
        lora: Rank of LoRA adapters.
        precision: Of the matrix products.
        eval_every: Steps between evaluations.
        eval_limit: Held-out pairs at most.
        reader: Format of the data.
        like: A task whose way of reading is used.
        on_bad: What a bad row does.
        pairs_per_prompt: Out of pools, at most so many.
        limit: At most so many pairs.
        held_out: Share of prompts to evaluate on.
        seed: None: the run's.
        loss_options: Options of the loss, as `-L` of `rmbench train`: threshold, cap, warmup, scale, ...
    """
    # Here and not above: `rmbench models` lists this function, and starts without torch.
    from rmbench.core.identity import digest
    from rmbench.models.hf.classifier import load_hf
    from rmbench.scoring import default_store_folder
    from rmbench.train.pairs import read_training_data
    from rmbench.train.run import identity_of, train
    from rmbench.train.settings import TrainSettings

    _check_loss_options(method, loss_options)
    chosen_seed = runtime.seed if seed is None else seed
    settings = TrainSettings(
        base=base, method=method, method_options=loss_options, epochs=epochs, max_steps=max_steps,
        learning_rate=learning_rate, batch_size=batch_size, micro_batch=min(micro_batch, batch_size),
        max_length=max_length, freeze_backbone=freeze_backbone, lora=lora, precision=precision,
        seed=chosen_seed, eval_every=eval_every,
    )  # fmt: skip
    pairs = read_training_data(
        data, reader=reader, like=like, on_bad=on_bad, pairs_per_prompt=pairs_per_prompt, limit=limit,
        held_out=held_out, eval_limit=eval_limit, seed=chosen_seed, offline=runtime.offline,
    )  # fmt: skip
    key = digest(identity_of(settings, pairs, runtime), 16)
    folder = default_store_folder() / "trained" / key if out is None else Path(out)
    train(settings, pairs, folder, runtime=runtime)
    model = load_hf(str(folder), runtime=runtime)
    if model.max_length > max_length:  # an upper bound here as in training: a base may have fewer positions
        model = load_hf(str(folder), runtime=runtime, max_length=max_length)
    model.display_name = method
    return model


def _check_loss_options(method: str, given: dict[str, str]) -> None:
    """Refuse what is an option neither of the trainer nor of the loss; the nearest of both is named."""
    import inspect

    from rmbench.errors import UnknownNameError
    from rmbench.train.losses import find_loss

    loss = find_loss(method)[0]
    of_loss = list(inspect.signature(loss).parameters)[3:]
    of_trainer = [
        n for n in inspect.signature(confidence_margin).parameters if n not in ("runtime", "loss_options")
    ]
    for key in given:
        if key not in of_loss:
            raise UnknownNameError(
                "option", key, [*of_loss, *of_trainer], f"confidence-margin with loss {method!r}"
            )
