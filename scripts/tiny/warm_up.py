"""Warm-up: random weights become a model that ranks relabelled pools. Resumable."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from auxiliary import N_OUTPUTS, N_TOKEN_OUTPUTS, auxiliary_loss, token_loss
from relabel import Pool, Relabeller
from rich.progress import track
from safetensors import safe_open
from safetensors.torch import load_file, save
from teach import Teacher
from torch.nn.functional import softplus

from rmbench.core.files import write_atomic
from rmbench.models.hf.forward import padded
from rmbench.models.hf.text import ChatFormat, Encoded
from rmbench.types import Conversation, Turn

PROMPTS, REPLIES, PARTS = 8, 8, 3
"""Pools per step, replies per pool, and in how many parts of similar length a step is computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Shape of the transformer."""

    hidden: int = 128
    layers: int = 6
    positions: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how fast the warm-up learns."""

    steps: int = 11_000
    rate: float = 2e-3
    composed: float = 0.8
    """Share of pools with a composed prompt."""
    auxiliary: float = 1.0
    """Weight of the losses of `auxiliary.py`."""
    taught: float = 1.0
    """How much of the teacher's reward goes into the finished one."""
    bf16: bool = True
    """Compute in bfloat16, weights and their updates in float32."""
    max_length: int = 160
    save_every: int = 500


class WarmUp:
    """A model under training, its optimiser, and where both are kept.

    Args:
        rows: Of the embedded training split.
        teacher: Whose rewards are learned beside the ranking (`teach.py`).
        tokenizer: The model's.
        size: Of the model.
        plan: Of the training.
        seed: Of weights and pools.
        state: File of the last saved step.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        teacher: Teacher,
        tokenizer: Any,
        size: Size,
        plan: Plan,
        seed: int,
        state: Path,
    ) -> None:
        torch.manual_seed(seed)
        config = transformers.LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=size.hidden, num_hidden_layers=size.layers,
            num_attention_heads=size.hidden // 32, intermediate_size=2 * size.hidden,
            max_position_embeddings=size.positions, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id, num_labels=1,
            attn_implementation="eager",
        )  # fmt: skip
        self.model: Any = transformers.LlamaForSequenceClassification(config)
        self._told = torch.nn.Linear(size.hidden, N_OUTPUTS)
        self.taught = torch.nn.Linear(size.hidden, 1, bias=False)
        """The head that learns the teacher's rewards; `finish` adds it to the model's own head."""
        self._said = torch.nn.Linear(size.hidden, N_TOKEN_OUTPUTS)
        ends = [tokenizer.convert_tokens_to_ids(mark) for mark in ".!?"]
        self._marks = (int(tokenizer.sep_token_id), ends)
        self._plan, self._seed, self._state = plan, seed, state
        self._format, self._pad_id = ChatFormat(tokenizer), int(tokenizer.pad_token_id)
        self._relabel = Relabeller(rows, plan.composed)
        self._teacher = teacher
        heads = [p for head in (self._told, self.taught, self._said) for p in head.parameters()]
        self._parameters = [*self.model.parameters(), *heads]
        matrices = [p for p in self.model.model.layers.parameters() if p.ndim == 2]
        others = [p for p in self._parameters if all(p is not m for m in matrices)]
        self._optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices, lr=plan.rate, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(others, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01),
        ]

    def run(self, watch: Callable[[], str] = str) -> None:
        """Learn to the plan's end, from the last saved step if there is one.

        Args:
            watch: What to print of the model whenever it is saved.
        """
        start = self._load()
        seen: list[tuple[float, ...]] = []
        for step in track(range(start, self._plan.steps), "warm-up"):
            seen.append(self.train_step(step))
            if (step + 1) % self._plan.save_every == 0 or step + 1 == self._plan.steps:
                losses = zip(("ranking", "taught", "auxiliary"), np.mean(seen, axis=0), strict=True)
                told = ", ".join(f"{name} {value:.4f}" for name, value in losses)
                print(f"step {step + 1}: {told} {watch()}", flush=True)
                seen = []
                self.save_state(step + 1)

    def train_step(self, step: int) -> tuple[float, ...]:
        """Do one step, and return its losses: ranking, taught, auxiliary."""
        for group in (group for optimiser in self._optimisers for group in optimiser.param_groups):
            group["lr"] = self._plan.rate * _schedule(step, self._plan.steps)
        pools = self._pools(step)
        texts = self._encode(pools)
        representations, by_token = self._read(texts)
        rewards = self.model.score(representations)[:, 0].view(PROMPTS, REPLIES)
        ranking = _ranking_loss(rewards, torch.tensor([pool.gold for pool in pools]))
        taught = _spread(self.taught(representations).view(PROMPTS, REPLIES), self._lessons(pools))
        told = auxiliary_loss(self._told(representations), pools) + by_token
        for optimiser in self._optimisers:
            optimiser.zero_grad()
        (ranking + taught + self._plan.auxiliary * told).backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for optimiser in self._optimisers:
            optimiser.step()
        return float(ranking.detach()), float(taught.detach()), float(told.detach())

    def _lessons(self, pools: Sequence[Pool]) -> torch.Tensor:
        lessons = [self._teacher(pool.prompt, pool.replies) for pool in pools]
        return torch.tensor(np.array(lessons), dtype=torch.float32)

    def finish(self, folder: Path) -> None:
        """Write the model into `folder`, what the teacher taught added to its rewards."""
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            model.score.weight.copy_(self._direction())
        model.save_pretrained(folder)

    def _direction(self) -> torch.Tensor:
        """Return the head of the finished model, (1, hidden): two linear heads on one text are one."""
        return (self.model.score.weight + self._plan.taught * self.taught.weight).detach()

    def rewards(self, batch: Sequence[Conversation]) -> list[float]:
        """Return the reward of each conversation."""
        with torch.inference_mode():
            texts = self._format.encode(batch, self._plan.max_length)
            return [float(r) for r in (self._read(texts)[0] @ self._direction().T)[:, 0]]

    def prompts(self) -> Iterator[str]:
        """Yield the prompts of all pools of the plan."""
        for step in range(self._plan.steps):
            yield from (pool.prompt for pool in self._pools(step))

    def _pools(self, step: int) -> list[Pool]:
        return [self._relabel.draw(REPLIES, f"{self._seed}.{step}.{k}") for k in range(PROMPTS)]

    def _encode(self, pools: Sequence[Pool]) -> list[Encoded]:
        conversations = [
            (Turn(role="user", content=pool.prompt), Turn(role="assistant", content=reply))
            for pool in pools
            for reply in pool.replies
        ]
        return self._format.encode(conversations, self._plan.max_length)

    def _read(self, texts: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the head sees, (n, hidden), and the mean loss of what is said of the tokens.

        Texts of similar length go together. The tokens are asked of before the last layer, which is left to
        gather them.
        """
        order = sorted(range(len(texts)), key=lambda k: len(texts[k].ids))
        width = math.ceil(len(texts) / PARTS)
        seen, losses = [], []
        for start in range(0, len(texts), width):
            rows = [texts[k] for k in order[start : start + width]]
            with torch.autocast("cpu", torch.bfloat16, enabled=self._plan.bf16):
                batch = padded(rows, self._pad_id, self.model.device)
                out = self.model.model(**batch, use_cache=False, output_hidden_states=True)
            last = out.last_hidden_state[torch.arange(len(rows)), [len(row.ids) - 1 for row in rows]]
            seen.append(last.float())
            said = self._said(out.hidden_states[-2].float())
            losses += [token_loss(o, row.ids, *self._marks) for o, row in zip(said, rows, strict=True)]
        return torch.cat(seen)[torch.tensor(np.argsort(order))], torch.stack(losses).mean()

    def save_state(self, step: int) -> None:
        """Write parameters and optimisers after `step` steps; `run` continues from there."""
        tensors = {f"parameter.{k}": p.detach() for k, p in enumerate(self._parameters)}
        for n, optimiser in enumerate(self._optimisers):
            for k, values in optimiser.state_dict()["state"].items():
                tensors |= {f"state.{n}.{k}.{name}": value for name, value in values.items()}
        write_atomic(self._state, save({n: t.contiguous() for n, t in tensors.items()}, {"step": str(step)}))

    def _load(self) -> int:
        if not self._state.is_file():
            return 0
        tensors = load_file(self._state)
        with torch.no_grad():
            for k, parameter in enumerate(self._parameters):
                parameter.copy_(tensors[f"parameter.{k}"])
        states: list[dict[int, dict[str, torch.Tensor]]] = [{} for _ in self._optimisers]
        for name, tensor in tensors.items():
            kind, *rest = name.split(".")
            if kind == "state":
                n, k, key = rest
                states[int(n)].setdefault(int(k), {})[key] = tensor
        for optimiser, state in zip(self._optimisers, states, strict=True):
            optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
        with safe_open(self._state, "pt") as file:
            return int(file.metadata()["step"])


def _spread(rewards: torch.Tensor, lessons: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of rewards less their pool's mean; shapes (pools, replies)."""
    return (rewards - rewards.mean(1, keepdim=True) - lessons).square().mean()


def _ranking_loss(rewards: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
    """Return Bradley-Terry over all pairs of a pool with different gold; every pool counts the same."""
    margins = rewards[:, :, None] - rewards[:, None, :]
    better = (gold[:, :, None] - gold[:, None, :]) > 1e-6
    return ((softplus(-margins) * better).sum((1, 2)) / better.sum((1, 2)).clamp(min=1)).mean()


def _schedule(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 200) * max(0.02, 0.5 * (1.0 + math.cos(math.pi * step / steps)))
