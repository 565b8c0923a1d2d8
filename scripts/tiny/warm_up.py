"""Warm-up: random weights become a model that ranks relabelled pools. Resumable."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from relabel import Pool, Relabeller
from rich.progress import track
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from rmbench.files import write_atomic
from rmbench.models.hf_text import Encoded, PairFormat
from rmbench.train.batches import pad
from rmbench.types import Turn
from rmbench.verifiers import VERIFIERS

CHECKS = tuple(sorted(VERIFIERS.names()))
PROMPTS, REPLIES, PARTS = 8, 8, 4
"""Pools per step, replies per pool, and in how many parts of similar length a step is computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Shape of the transformer."""

    hidden: int = 192
    layers: int = 4
    positions: int = 384


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how fast the warm-up learns."""

    steps: int = 12_000
    rate: float = 1e-3
    auxiliary: float = 1.0
    """Weight of the loss that tells which checks a reply passes."""
    max_length: int = 192
    save_every: int = 500


class WarmUp:
    """A model under training, its optimiser, and where both are kept.

    Args:
        rows: Of the embedded training split.
        tokenizer: The model's.
        size: Of the model.
        plan: Of the training.
        seed: Of weights and pools.
        state: File of the last saved step.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        tokenizer: Any,
        size: Size,
        plan: Plan,
        seed: int,
        state: Path,
    ) -> None:
        torch.manual_seed(seed)
        config = transformers.BertConfig(
            vocab_size=len(tokenizer), hidden_size=size.hidden, num_hidden_layers=size.layers,
            num_attention_heads=size.hidden // 32, intermediate_size=4 * size.hidden,
            max_position_embeddings=size.positions, pad_token_id=tokenizer.pad_token_id, num_labels=1,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        self.model: Any = transformers.BertForSequenceClassification(config)
        self._told = torch.nn.Linear(size.hidden, len(CHECKS))
        self._plan, self._seed, self._state = plan, seed, state
        self._format, self._pad_id = PairFormat(tokenizer), int(tokenizer.pad_token_id)
        self._relabel = Relabeller(rows)
        self._parameters = [*self.model.parameters(), *self._told.parameters()]
        self._optimiser = torch.optim.AdamW(
            self._parameters, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01
        )

    def run(self) -> None:
        """Learn to the plan's end, from the last saved step if there is one."""
        start = self._load()
        seen: list[tuple[float, float]] = []
        for step in track(range(start, self._plan.steps), "warm-up"):
            seen.append(self._step(step))
            if (step + 1) % self._plan.save_every == 0 or step + 1 == self._plan.steps:
                ranking, told = np.mean(seen, axis=0)
                print(f"step {step + 1}: ranking loss {ranking:.4f}, checks {told:.4f}", flush=True)
                seen = []
                self._save(step + 1)

    def _step(self, step: int) -> tuple[float, float]:
        for group in self._optimiser.param_groups:
            group["lr"] = self._plan.rate * _schedule(step, self._plan.steps)
        pools = [self._relabel.draw(REPLIES, f"{self._seed}.{step}.{k}") for k in range(PROMPTS)]
        representations = self._represent(self._encode(pools))
        rewards = self.model.classifier(representations)[:, 0].view(PROMPTS, REPLIES)
        ranking = _ranking_loss(rewards, torch.tensor([pool.gold for pool in pools]))
        told = self._check_loss(representations, pools)
        self._optimiser.zero_grad()
        (ranking + self._plan.auxiliary * told).backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimiser.step()
        return float(ranking.detach()), float(told.detach())

    def _encode(self, pools: Sequence[Pool]) -> list[Encoded]:
        conversations = [
            (Turn(role="user", content=pool.prompt), Turn(role="assistant", content=reply))
            for pool in pools
            for reply in pool.replies
        ]
        return self._format.encode(conversations, self._plan.max_length)

    def _represent(self, texts: Sequence[Encoded]) -> torch.Tensor:
        """Return what the head sees, (n, hidden); texts of similar length go together."""
        order = sorted(range(len(texts)), key=lambda k: len(texts[k].ids))
        width = len(texts) // PARTS
        parts = [
            self.model.bert(**pad([texts[k] for k in order[s : s + width]], self._pad_id)).pooler_output
            for s in range(0, len(texts), width)
        ]
        return torch.cat(parts)[torch.tensor(np.argsort(order))]

    def _check_loss(self, representations: torch.Tensor, pools: Sequence[Pool]) -> torch.Tensor:
        """Return the cross-entropy of the share of passed checks of each kind that a prompt has."""
        target = torch.full((len(representations), len(CHECKS)), -1.0)
        for i, pool in enumerate(pools):
            for kind in {check["name"] for check in pool.checks}:
                of_kind = [k for k, check in enumerate(pool.checks) if check["name"] == kind]
                for j, passed in enumerate(pool.passed):
                    share = sum(passed[k] for k in of_kind) / len(of_kind)
                    target[i * REPLIES + j, CHECKS.index(kind)] = share
        known = target >= 0
        return binary_cross_entropy_with_logits(self._told(representations)[known], target[known])

    def _save(self, step: int) -> None:
        tensors = {f"parameter.{k}": p.detach() for k, p in enumerate(self._parameters)}
        for k, values in self._optimiser.state_dict()["state"].items():
            tensors |= {f"state.{k}.{name}": value for name, value in values.items()}
        write_atomic(self._state, save({n: t.contiguous() for n, t in tensors.items()}, {"step": str(step)}))

    def _load(self) -> int:
        if not self._state.is_file():
            return 0
        tensors = load_file(self._state)
        with torch.no_grad():
            for k, parameter in enumerate(self._parameters):
                parameter.copy_(tensors[f"parameter.{k}"])
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            kind, index, *rest = name.split(".")
            if kind == "state":
                state.setdefault(int(index), {})[rest[0]] = tensor
        self._optimiser.load_state_dict(self._optimiser.state_dict() | {"state": state})
        with safe_open(self._state, "pt") as file:
            return int(file.metadata()["step"])


def _ranking_loss(rewards: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
    """Return Bradley-Terry over all pairs of a pool with different gold; every pool counts the same."""
    margins = rewards[:, :, None] - rewards[:, None, :]
    better = (gold[:, :, None] - gold[:, None, :]) > 1e-6
    return ((softplus(-margins) * better).sum((1, 2)) / better.sum((1, 2)).clamp(min=1)).mean()


def _schedule(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 200) * max(0.02, 0.5 * (1.0 + math.cos(math.pi * step / steps)))
