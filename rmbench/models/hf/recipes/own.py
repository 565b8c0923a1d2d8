"""A class's own forward pass (`-M forward=own`): one text at a time, whatever the class does with it.

It is for classes that no recipe reads: code that comes with a checkpoint (with --trust-remote-code), or a
class of transformers that pools in its own way. What it returns has to be exactly one number per text, or
one per label. The output is looked for under the names that such classes use: `score`, `scores`, `logits`,
`rewards`, or it is a tensor.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from rmbench.errors import ConfigError, ScoringError, first_line, is_panic
from rmbench.models.hf.checkpoint import label_names
from rmbench.models.hf.device import torch
from rmbench.models.hf.forward import Together, padded
from rmbench.models.hf.text import Encoded

_OUTPUTS = ("score", "scores", "logits", "rewards")
"""Names of outputs, the surest first: where there are several, `rewards` are parts of the `score`."""


class OwnLogits:
    """Reads texts with a model's own forward pass, each alone and without padding.

    Args:
        model: As its class made it, on its device.
        where: The checkpoint, for messages.
        pad_id: Never used: a text alone has no padding.
    """

    sharing_problem = "each text is read alone by the model's own forward pass"

    def __init__(self, model: Any, where: str, pad_id: int) -> None:
        self._model, self._where, self._pad_id = model, where, pad_id
        self.together = Together(model)
        known = inspect.signature(model.forward).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in known.values())
        self._takes = None if takes_all else set(known)
        self.output = ""
        """The name of the output that is read; empty for a tensor."""

    def identity(self, max_length: int) -> dict[str, str]:
        """Return nothing: each text was always read alone."""
        return {}

    def joint_length(self, rows: Sequence[Encoded]) -> int | None:
        """Return None: each conversation is read alone."""
        return None

    def passes(self, rows: Sequence[Encoded]) -> list[tuple[list[int], Any]]:
        """Return for each row its number, and its logits, (1, labels)."""
        return [([k], self._numbers(row)) for k, row in enumerate(rows)]

    def labels(self, short: Encoded, long: Encoded) -> list[str]:
        """Return the names of the numbers that a text gets.

        Args:
            short: A text.
            long: Another one, of more tokens.

        Raises:
            ConfigError: If their number depends on the length, or the output is none that is known.
        """
        try:
            counts = [self._numbers(row).shape[1] for row in (short, long)]
        except ScoringError as error:
            raise ConfigError(str(error)) from None
        if counts[0] != counts[1]:
            raise ConfigError(
                f"{self._where}: forward=own: {self._told} has {counts[0]} numbers for a text of"
                f" {len(short.ids)} tokens and {counts[1]} for one of {len(long.ids)}; expected one number"
                " per text. A model that rates each token is read by a recipe (`rmbench models recipes`)"
            )
        names = label_names(self._model.config)
        return names if len(names) == counts[0] else [str(k) for k in range(counts[0])]

    @property
    def _told(self) -> str:
        kind = type(self._model).__name__
        return f"{kind}'s .{self.output}" if self.output else f"what {kind} returns"

    def _numbers(self, row: Encoded) -> Any:
        inputs = padded([row], self._pad_id, self._model.device)
        if self._takes is not None:
            inputs = {name: value for name, value in inputs.items() if name in self._takes}
        with torch.inference_mode():
            try:
                found = self._chosen(self._model(**inputs))
            except Exception as error:  # foreign code fails in its own ways
                if isinstance(error, ScoringError) or is_panic(error):
                    raise
                raise ScoringError(
                    f"{self._where}: forward=own: {type(self._model).__name__} fails on a text of"
                    f" {len(row.ids)} tokens: {type(error).__name__}: {first_line(error)}"
                ) from error
        return self._one_row(found)

    def _chosen(self, output: Any) -> Any:
        """Return the tensor of an output."""
        if isinstance(output, torch.Tensor):
            return output
        for name in _OUTPUTS:
            found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
            if isinstance(found, torch.Tensor):
                self.output = name
                return found
        if isinstance(output, tuple | list) and len(output) == 1 and isinstance(output[0], torch.Tensor):
            return output[0]
        raise ScoringError(
            f"{self._where}: forward=own: {type(self._model).__name__} returns {_shape(output)}; expected a"
            f" tensor, or an output with {', '.join(_OUTPUTS)}"
        )

    def _one_row(self, found: Any) -> Any:
        """Return (1, n) of an output for one text."""
        flat = found.reshape(1, -1) if found.dim() < 2 else found
        if flat.dim() != 2 or flat.shape[0] != 1 or flat.shape[1] == 0:
            raise ScoringError(
                f"{self._where}: forward=own: {self._told} has the shape {tuple(found.shape)} for one text;"
                " expected one number, or one per label"
            )
        return flat.float()


def _shape(output: Any) -> str:
    if isinstance(output, Mapping):
        return f"{type(output).__name__} with {', '.join(map(str, output)) or 'nothing'}"
    if isinstance(output, tuple | list):
        return f"{len(output)} values ({', '.join(type(each).__name__ for each in output[:4])})"
    return type(output).__name__
