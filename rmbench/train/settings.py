"""Settings of a training: every setting that can change the trained weights, except the data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from rmbench.core.schema import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a base is trained: the key `train` of a study file."""

    epochs: Annotated[float, Rule(low=0)] = 1.0
    """Passes over the pairs."""
    max_steps: Annotated[int, Rule(low=1)] | None = None
    """Optimiser steps at most; by default as many as the epochs need."""
    learning_rate: float | None = None
    """Peak rate; by default 2e-5, or 1e-3 for the last layer alone."""
    weight_decay: float = 0.01
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises."""
    batch_size: Annotated[int, Rule(low=2)] = 32
    """Pairs per optimiser step, over all micro-batches and processes."""
    micro_batch: Annotated[int, Rule(low=1)] = 8
    """Pairs per forward pass and process. Changes memory and speed, not the result."""
    max_length: Annotated[int, Rule(low=8)] = 1024
    """Tokens per conversation; the prompt is cut from the left."""
    freeze_backbone: bool = False
    """Train only the last layer, on representations that are computed once and stored."""
    lora: Annotated[int, Rule(low=1)] | None = None
    """Rank of LoRA adapters (merged when saved); by default all weights are trained."""
    precision: Annotated[str, Rule(names=lambda: ("auto", "float32", "bfloat16"))] = "auto"
    """Of matrix products: `float32`, `bfloat16` (weights stay float32), `auto` (bfloat16 on GPUs)."""
    eval_every: Annotated[int, Rule(low=1)] = 50
    """Steps between evaluations on the held-out prompts, and between checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings(Recipe):
    """A recipe with its base, its loss and its seed."""

    base: str
    method: str = "confidence-margin"
    method_options: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
