"""Train `builtin:linear`: pairwise logistic regression on feature differences.

    python scripts/embedded/train_linear.py [--rows FILE] [--output FILE] [--seed N]

reads the embedded training split, chooses the regularisation by cross-validation over prompts, prints both
accuracies and writes one npz. Seeded: the same rows and seed give the same file. Needs the extra `dev`
(scikit-learn).
"""

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from rmbench.core.files import canonical_json, iter_jsonl, sha256_file, write_atomic
from rmbench.errors import DataError
from rmbench.models.builtin import FEATURES_VERSION, LINEAR_FILE, N_FEATURES, featurize
from rmbench.types import Turn

TRAIN_ROWS = LINEAR_FILE.parent.parent / "embedded" / "train.jsonl.xz"
PAIRS_PER_PROMPT = 80
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Candidates for C, the inverse strength of the L2 penalty."""
N_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of responses to one prompt with different gold."""

    differences: Any
    """Sparse, shape (n_pairs, N_FEATURES): features of the better minus those of the worse."""
    groups: NDArray[np.int64]
    """Index of the prompt, shape (n_pairs,)."""
    weights: NDArray[np.float64]
    """Difference in gold, in (0, 1], shape (n_pairs,)."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A trained model and how well it does."""

    weights: NDArray[np.float32]
    """Shape (N_FEATURES,)."""
    penalty: float
    n_prompts: int
    n_pairs: int
    accuracy_train: float
    """Fraction of pairs ranked right, on the rows that it was fitted on."""
    accuracy_cv: float
    """The same on prompts that it was not fitted on, mean over folds."""


def make_pairs(rows: Sequence[dict[str, Any]], seed: int) -> Pairs:
    """Return at most PAIRS_PER_PROMPT random pairs with different gold for each row.

    Args:
        rows: `{"prompt": text or messages, "responses": [texts], "gold": [numbers]}`.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    blocks, groups, weights = [], [], []
    for group, row in enumerate(rows):
        features = _features(row)
        gold = np.asarray(row["gold"], dtype=np.float64)
        better, worse = np.nonzero(gold[:, None] > gold[None, :])
        chosen = np.sort(rng.permutation(len(better))[:PAIRS_PER_PROMPT])
        if not len(chosen):
            continue
        better, worse = better[chosen], worse[chosen]
        blocks.append(features[better] - features[worse])
        groups.append(np.full(len(chosen), group))
        weights.append(gold[better] - gold[worse])
    return Pairs(sparse.vstack(blocks, format="csr"), np.concatenate(groups), np.concatenate(weights))


def fit(pairs: Pairs) -> Fit:
    """Return the model whose penalty has the best cross-validated accuracy (the stronger one on a tie)."""
    scored = [(_cross_validate(pairs, penalty), penalty) for penalty in PENALTIES]
    accuracy_cv, penalty = max(scored, key=lambda pair: (round(pair[0], 6), -pair[1]))
    weights = _fit_one(pairs, np.arange(len(pairs.groups)), penalty)
    return Fit(
        weights=weights.astype(np.float32),
        penalty=penalty,
        n_prompts=len(np.unique(pairs.groups)),
        n_pairs=len(pairs.groups),
        accuracy_train=_accuracy(pairs, np.arange(len(pairs.groups)), weights),
        accuracy_cv=accuracy_cv,
    )


def to_npz(fitted: Fit, rows_sha256: str, seed: int) -> bytes:
    """Return the file: `weights` and, as JSON, `metadata`; no pickle, no time."""
    metadata = {
        "accuracy_cv": round(fitted.accuracy_cv, 4),
        "accuracy_train": round(fitted.accuracy_train, 4),
        "features_version": FEATURES_VERSION,
        "n_pairs": fitted.n_pairs,
        "n_prompts": fitted.n_prompts,
        "penalty_c": fitted.penalty,
        "rows_sha256": rows_sha256,
        "seed": seed,
    }
    buffer = io.BytesIO()
    np.savez(buffer, weights=fitted.weights, metadata=np.array(canonical_json(metadata)))
    return buffer.getvalue()


def _features(row: dict[str, Any]) -> Any:
    prompt = row["prompt"]
    turns = [Turn(role="user", content=prompt)] if isinstance(prompt, str) else list(prompt)
    found = [featurize([*turns, Turn(role="assistant", content=text)]) for text in row["responses"]]
    starts = np.cumsum([0, *(len(indices) for indices, _ in found)])
    columns = np.concatenate([indices for indices, _ in found])
    values = np.concatenate([values for _, values in found])
    return sparse.csr_matrix((values, columns, starts), shape=(len(found), N_FEATURES))


def _fit_one(pairs: Pairs, rows: NDArray[np.int64], penalty: float) -> NDArray[np.float64]:
    # Half of the pairs are turned round: the classifier needs two classes, and there is no intercept.
    signs = np.where(np.arange(len(rows)) % 2 == 0, 1.0, -1.0)
    differences = pairs.differences[rows]
    used = np.unique(differences.indices)  # the other features keep the weight 0
    x = (sparse.diags(signs) @ differences).tocsc()[:, used].tocsr()
    # Every prompt counts the same, whatever the number of its pairs.
    share = 1.0 / np.bincount(pairs.groups)[pairs.groups[rows]]
    weights = pairs.weights[rows] * share * PAIRS_PER_PROMPT
    model = LogisticRegression(C=penalty, fit_intercept=False, solver="lbfgs", max_iter=1000, tol=1e-5)
    model.fit(x, signs, sample_weight=weights)
    fitted = np.zeros(N_FEATURES)
    fitted[used] = model.coef_[0]
    return fitted


def _accuracy(pairs: Pairs, rows: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
    margins = pairs.differences[rows] @ weights
    return float(((margins > 0) + 0.5 * (margins == 0)).mean())


def _cross_validate(pairs: Pairs, penalty: float) -> float:
    n_folds = min(N_FOLDS, len(np.unique(pairs.groups)))
    folds = GroupKFold(n_folds).split(pairs.groups, groups=pairs.groups)
    return float(np.mean([_accuracy(pairs, test, _fit_one(pairs, train, penalty)) for train, test in folds]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Train builtin:linear on the embedded training split.")
    parser.add_argument("--rows", type=Path, default=TRAIN_ROWS, help="training rows, JSON Lines (.gz, .xz)")
    parser.add_argument("--output", type=Path, default=LINEAR_FILE, help="the npz to write")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    rows = [row for _, row in iter_jsonl(given.rows)]
    if len(rows) < 2:
        raise DataError(f"{len(rows)} rows; expected at least 2 prompts", path=given.rows)
    fitted = fit(make_pairs(rows, given.seed))
    write_atomic(given.output, to_npz(fitted, sha256_file(given.rows), given.seed))
    sys.stdout.write(
        f"{fitted.n_prompts} prompts, {fitted.n_pairs} pairs, C = {fitted.penalty:g}\n"
        f"pair accuracy: {fitted.accuracy_train:.4f} on the training prompts,"
        f" {fitted.accuracy_cv:.4f} cross-validated over prompts ({N_FOLDS} folds)\n"
        f"wrote {given.output} ({given.output.stat().st_size} bytes)\n"
    )


if __name__ == "__main__":
    main()
