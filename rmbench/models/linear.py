"""`builtin:linear`: a small linear reward over lexical features, trained by `python -m rmbench.train.linear`.

It exists so that every task can be run at once by a model that learned something, without a download. It
reads words and shapes, not meaning; scoring needs numpy alone.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rmbench.errors import ConfigError
from rmbench.files import sha256_file
from rmbench.models.linear_features import FEATURES_VERSION, N_FEATURES, featurize
from rmbench.types import Conversation


class LinearReward:
    """Dot product of hashed features and learned weights.

    Args:
        path: A `.npz` with `weights` (N_FEATURES,) float32 and `metadata` (JSON text); read without pickle.

    Raises:
        ConfigError: If the file is not there, or was trained with other features.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ConfigError(
                f"there is no {path.name} in this installation: run python -m rmbench.train.linear"
            )
        with np.load(path, allow_pickle=False) as arrays:
            self._weights: NDArray[np.float64] = arrays["weights"].astype(np.float64)
            self.metadata: Mapping[str, object] = json.loads(str(arrays["metadata"]))
        version = self.metadata.get("features_version")
        if version != FEATURES_VERSION or self._weights.shape != (N_FEATURES,):
            raise ConfigError(
                f"{path}: trained with features {version!r}, this version computes {FEATURES_VERSION!r}:"
                " run python -m rmbench.train.linear"
            )
        self._sha256 = sha256_file(path)

    def fingerprint(self) -> Mapping[str, str]:
        """Return a hash of the weights and the version of the features."""
        return {"kind": "linear", "features": FEATURES_VERSION, "weights": f"sha256:{self._sha256}"}

    def n_parameters(self) -> int:
        """Return the number of weights."""
        return len(self._weights)

    def score(self, batch: Sequence[Conversation]) -> list[float]:
        """Return one reward per conversation, in log-odds of being preferred on the training split."""
        return [self._reward(turns) for turns in batch]

    def _reward(self, turns: Conversation) -> float:
        indices, values = featurize(turns)
        return float(self._weights[indices] @ values)
