"""Training on reward margins: a thin layer over `transformers.Trainer`.

It adds four things. The loss gets statistics of the whole optimiser-step batch. The loss's scale does not
depend on micro-batches. Evaluation is plain Bradley-Terry for every loss. A run that continues from a
checkpoint takes the same steps and logs the same values as one that was never stopped.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import transformers
from torch.nn.functional import softplus

from rmbench.core.files import read_json, write_atomic
from rmbench.errors import RunError
from rmbench.models.hf.forward import similar_length
from rmbench.train.base import head_of
from rmbench.train.losses import BatchStatistics, LossFunction, Tensor, declared
from rmbench.train.pairs import PairCollator, StepSampler

COMPLETE = "complete"
"""File that marks a complete checkpoint."""
_STATE = "trainer_state.json"
"""File of a checkpoint with the parent's state: steps done, best checkpoint, log."""

TOKENS_PER_FORWARD = 64
"""Cost of another forward and backward pass on one CPU thread, in tokens; measured 41 to 58."""


class MarginTrainer(transformers.Trainer):
    """Trains a sequence classifier with one label on pairs.

    Args:
        loss_name: Name of the loss.
        loss: Maps (chosen, rejected, statistics) to values per pair and diagnostics.
        step_size: Pairs per optimiser step over all micro-batches and processes.
        on_step: Called after every optimiser step with (step, steps in all, what to show).
        kwargs: `model`, `args`, `train_dataset`, `eval_dataset`, `processing_class`.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *,
        loss_name: str,
        loss: LossFunction,
        step_size: int,
        pad_id: int,
        on_step: Callable[[int, int, Mapping[str, float]], None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_collator=PairCollator(pad_id), **kwargs)
        self._loss_name, self._pair_loss, self._step_size, self._on_step = loss_name, loss, step_size, on_step
        self._ahead: tuple[Tensor, float | None] | None = None
        self._shown: dict[str, float] = {}
        self._since_log: list[dict[str, float]] = []
        self._n_done = 0
        self._reads_batch = declared(loss).reads_batch
        self._tap = RepresentationTap(self.model) if "distance" in declared(loss).needs else None
        self.can_return_loss = True
        self.label_names: list[str] = []

    def continue_from(self, checkpoint: Path) -> str:
        """Take from a checkpoint what the parent does not; return its path, for `train`.

        That is what was logged in part, the place of the best checkpoint if the folder was moved since, and
        the steps done: the parent takes one step too many where all are.
        """
        self._since_log = read_json(checkpoint / self._log_name, "checkpoint")
        state = read_json(checkpoint / _STATE, "checkpoint")
        self._n_done = state["global_step"]
        if (best := state["best_model_checkpoint"]) is not None and self.args.should_save:
            state["best_model_checkpoint"] = str(checkpoint.with_name(Path(best).name))
            write_atomic(checkpoint / _STATE, json.dumps(state, indent=2, sort_keys=True) + "\n")
        self.accelerator.wait_for_everyone()
        return str(checkpoint)

    def set_initial_training_values(self, *args: Any, **options: Any) -> tuple[Any, ...]:
        """Return epochs, steps and sizes as the parent does, without an epoch if all steps are done."""
        n_epochs, *others, max_steps = super().set_initial_training_values(*args, **options)
        return (0 if self._n_done >= max_steps else n_epochs, *others, max_steps)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """Take the micro-batches of one optimiser step, and scan all of them if the loss needs it."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._ahead = None
        if len(samples) > 1 and self._reads_batch:
            self._ahead = self._look_ahead(samples)
        return samples, None

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return this micro-batch's share of the step's mean loss."""
        chosen, rejected, distance = self._rewards(model, inputs)
        margins = (chosen - rejected).detach()
        if self._ahead is not None:
            all_margins, mean_distance = self._ahead
        else:
            all_margins = self.accelerator.gather(margins) if self._reads_batch else margins
            mean_distance = None if distance is None else float(self.accelerator.gather(distance).mean())
        strength = inputs["strength"]
        batch = BatchStatistics(
            margins=all_margins,
            step=self.state.global_step,
            strength=strength if bool(torch.isfinite(strength).all()) else None,
            distance=distance,
            mean_distance=mean_distance,
        )
        values, told = self._pair_loss(chosen, rejected, batch)
        if not bool(torch.isfinite(values).all()):
            self._stop_at(values, inputs["index"])
        self._note(values.detach(), margins, told)
        # Processes average their gradients: multiply by their number, so that the mean is over all pairs.
        loss = values.sum() / self._step_size * self.accelerator.num_processes
        return (loss, None) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return plain Bradley-Terry NLL, accuracy (ties half) and mean margin on the held-out pairs."""
        found = []
        model: Any = self.model
        model.eval()
        for inputs in self.get_eval_dataloader(eval_dataset):
            with torch.no_grad():
                chosen, rejected, _ = self._rewards(model, self._prepare_inputs(inputs))
            found.append(self.accelerator.gather_for_metrics(chosen - rejected).cpu())
        model.train()
        margins = torch.cat(found)
        if not bool(torch.isfinite(margins).all()):
            raise RunError(f"{self._loss_name}: rewards are not finite after step {self.state.global_step}")
        metrics = {
            f"{metric_key_prefix}_nll": float(softplus(-margins).mean()),
            f"{metric_key_prefix}_accuracy": float(((margins > 0) + 0.5 * (margins == 0)).double().mean()),
            f"{metric_key_prefix}_margin": float(margins.mean()),
        }
        metrics[f"{metric_key_prefix}_loss"] = metrics[f"{metric_key_prefix}_nll"]
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Run one micro-batch, and report the step."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            n = max(self._shown.pop("pairs", 0.0), 1.0)
            shown, self._shown = {k: v / n for k, v in self._shown.items()}, {}
            self._since_log.append(shown)
            if self._on_step:
                self._on_step(self.state.global_step + 1, self.state.max_steps, shown)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as the parent does, with the means of the steps' loss and diagnostics since the last log.

        The parent's mean of the loss is over the steps of this process alone, not those before a checkpoint.
        """
        if "loss" in logs and self._since_log:
            logs |= {k: fmean(s[k] for s in self._since_log if k in s) for k in self._since_log[-1]}
            logs["loss"] = self._mean_over_processes(logs["loss"])
            self._since_log = []
        super().log(logs, start_time)

    def whole_state(self) -> dict[str, Tensor] | None:
        """Return the weights of all processes (on the main one); None if each process has all of them.

        Every process must call it.
        """
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            return None
        return dict(self.accelerator.get_state_dict(self.model_wrapped) or {})

    def _mean_over_processes(self, value: float) -> float:
        if self.accelerator.num_processes == 1:
            return value
        mine = torch.tensor([value], dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.gather(mine).mean())

    @property
    def _log_name(self) -> str:
        """Name of the file of a checkpoint with what this process has not logged yet."""
        return f"since_log_{self.args.process_index}.json"

    def _rewards(self, model: Any, inputs: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return rewards of chosen and of rejected, float32 (n,), and their representations' distance."""
        given = {k: v for k, v in inputs.items() if k not in ("strength", "index")}
        parts = self._parts(given["attention_mask"])
        rewards, seen = [], []
        for rows in parts:
            part = given if len(parts) == 1 else _cut(given, rows)
            rewards.append(model(**part).logits.squeeze(-1).float())
            if self._tap is not None:
                seen.append(self._tap.take(part["attention_mask"]).float())
        back = torch.argsort(torch.cat(parts))
        chosen, rejected = torch.cat(rewards)[back].chunk(2)
        distance = None
        if seen:
            first, second = torch.cat(seen)[back].chunk(2)
            distance = (first - second).norm(dim=1)
        return chosen, rejected, distance

    def _parts(self, mask: Tensor) -> list[Tensor]:
        """Return groups of rows per forward pass: all rows, or on a CPU rows of similar length.

        A CPU's time grows with padded tokens, and a pair's two replies often differ in length. All groups
        stay in one graph, so rewards are the same up to rounding. Processes that train together need equally
        many forward passes, so there all rows are one group.
        """
        groups: list[list[int]] = []
        if mask.device.type == "cpu" and self.accelerator.num_processes == 1:
            cost = TOKENS_PER_FORWARD * torch.get_num_threads()
            groups = similar_length(mask.sum(dim=1).tolist(), cost)
        if len(groups) < 2:
            return [torch.arange(len(mask), device=mask.device)]
        return [torch.tensor(rows) for rows in groups]

    def _look_ahead(self, samples: list[Any]) -> tuple[Tensor, float | None]:
        margins, distances = [], []
        with torch.no_grad(), self.compute_loss_context_manager():
            for inputs in samples:
                chosen, rejected, distance = self._rewards(self.model_wrapped, self._prepare_inputs(inputs))
                margins.append(chosen - rejected)
                distances += [] if distance is None else [distance]
        mean_distance = float(self.accelerator.gather(torch.cat(distances)).mean()) if distances else None
        return self.accelerator.gather(torch.cat(margins)), mean_distance

    def _note(self, values: Tensor, margins: Tensor, told: Mapping[str, float]) -> None:
        n = float(len(margins))
        for key, value in {
            "loss": float(values.mean()),
            "margin": float(margins.mean()),
            "accuracy": float((margins > 0).float().mean()),
            **told,
        }.items():
            self._shown[key] = self._shown.get(key, 0.0) + n * value
        self._shown["pairs"] = self._shown.get("pairs", 0.0) + n

    def _stop_at(self, values: Tensor, index: Tensor) -> None:
        data: Any = self.train_dataset
        bad = index[~torch.isfinite(values)].tolist()
        names = ", ".join(repr(data.pairs[k].id) for k in bad[:3])
        raise RunError(
            f"{self._loss_name}: the loss is not finite at step {self.state.global_step + 1}, pairs {names}"
        )

    def _get_train_sampler(self, train_dataset: Any = None) -> StepSampler:
        data: Any = train_dataset if train_dataset is not None else self.train_dataset
        return StepSampler(data.lengths, self._step_size, self.args.seed)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        own = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
        write_atomic(own / self._log_name, json.dumps(self._since_log))
        self.accelerator.wait_for_everyone()  # each process has written its part
        if self.args.should_save:
            write_atomic(own / COMPLETE, "")
            # Old checkpoints go only now, mark first: a kill never leaves a marked half of one.
            best = Path(self.state.best_model_checkpoint or own).name
            for old in own.parent.glob("checkpoint-*"):
                if old.name not in (own.name, best):
                    (old / COMPLETE).unlink(missing_ok=True)
                    shutil.rmtree(old)


def _cut(inputs: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """Return `rows` of the padded batch, as wide as the longest of them."""
    width = int(inputs["attention_mask"][rows].sum(dim=1).max())
    return {name: tensor[rows, :width] for name, tensor in inputs.items()}


class RepresentationTap:
    """Records the input of a classifier's last layer: the representation of each text.

    Args:
        model: A sequence classifier with one label.
    """

    def __init__(self, model: Any) -> None:
        self._seen: Tensor | None = None
        self._hook = head_of(model).register_forward_pre_hook(self._remember)

    def take(self, mask: Tensor) -> Tensor:
        """Return the representations of the last forward pass, shape (rows, D); by mask where per token."""
        seen, self._seen = self._seen, None
        assert seen is not None  # noqa: S101  (a forward pass comes before)
        if seen.dim() == 2:
            return seen
        places = torch.arange(seen.shape[1], device=seen.device)
        last = (places * mask.to(seen.device)).argmax(dim=1)
        return seen[torch.arange(len(seen), device=seen.device), last]

    def close(self) -> None:
        """Stop recording."""
        self._hook.remove()

    def _remember(self, module: Any, inputs: tuple[Tensor, ...]) -> None:
        self._seen = inputs[0].detach()
