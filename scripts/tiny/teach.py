"""A teacher for the small transformer: the lexical model, fitted on the same rows.

What goes with good replies whatever is asked (their length, their openings, their words) is in 160 pools of
real replies, and a transformer that has them by heart gives it no more thought. The lexical model cannot keep
them by heart, and any text can be put to it: composed pools too.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmbench.models.builtin import featurize
from rmbench.types import Turn

# Last on the path: both folders have a `make.py`.
sys.path.append(str(Path(__file__).resolve().parents[1] / "embedded"))
from train_linear import fit, make_pairs

Teacher = Callable[[str, Sequence[str]], NDArray[np.float64]]
"""From a prompt and its replies to their rewards, of mean 0."""


def lexical_teacher(rows: Sequence[Mapping[str, Any]], seed: int) -> Teacher:
    """Return the lexical model of `scripts/embedded/train_linear.py`, fitted on `rows`."""
    weights = fit(make_pairs([dict(row) for row in rows], seed)).weights

    def rewards(prompt: str, replies: Sequence[str]) -> NDArray[np.float64]:
        told = []
        for reply in replies:
            turns = (Turn(role="user", content=prompt), Turn(role="assistant", content=reply))
            indices, values = featurize(turns)
            told.append(float(weights[indices] @ values))
        return np.array(told) - np.mean(told)

    return rewards
