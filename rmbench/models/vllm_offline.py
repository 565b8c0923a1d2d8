"""vLLM in this machine, as a classifier."""

from collections.abc import Mapping
from typing import Any

from rmbench.errors import ScoringError
from rmbench.models.hf_checkpoint import Checkpoint, weights_identity
from rmbench.models.runtime import Runtime
from rmbench.models.vllm_engine import (
    Config,
    EngineOptions,
    dtype_of,
    engine_failed,
    start_engine,
    version,
)
from rmbench.models.vllm_probe import Rows, Switch


class Offline:
    """An engine with a pooling runner, started at once.

    Args:
        checkpoint: Where the classifier is.
        read: Its config.
        runtime: Device, dtype, length.
        options: How it uses the machine.

    Raises:
        ConfigError: If it cannot start.
    """

    batch_tokens = 65_536

    def __init__(
        self, checkpoint: Checkpoint, read: Config, runtime: Runtime, options: EngineOptions
    ) -> None:
        self._checkpoint, self._config = checkpoint, read.config
        self.max_length = read.max_length
        self._engine: Any = start_engine(checkpoint, read, runtime, "pooling", options)
        self._weights: Mapping[str, str] | None = None

    def identity(self) -> Mapping[str, str]:
        """Return weights, dtype and version; hashes the weights of a folder once."""
        if self._weights is None:
            self._weights = weights_identity(self._checkpoint, self._config)
        return {**self._weights, "dtype": dtype_of(self._engine), "vllm": version()}

    def notes(self) -> list[str]:
        """Return nothing."""
        return []

    def classify(self, rows: Rows, switch: Switch) -> list[list[float]]:
        """Return a number per label for each row of token ids.

        Raises:
            ScoringError: If the engine fails, or does not know the switch.
        """
        import vllm

        try:
            params = vllm.PoolingParams(**switch)
        except TypeError as error:
            raise ScoringError(str(error)) from None
        try:
            found = self._engine.classify(
                [{"prompt_token_ids": list(row)} for row in rows], pooling_params=params, use_tqdm=False
            )
        except Exception as error:  # whatever happened in the engine's own process
            raise engine_failed(error) from error
        return [[float(value) for value in output.outputs.probs] for output in found]
