"""What the warm-up learns beside the ranking: what was asked, what the reply is like, which checks it passes.

Each is a short step on the way from two texts to a gold value; rewards alone tell a model of random weights too
little about them. The outputs are dropped with the end of the warm-up.
"""

import math
from collections.abc import Sequence

import torch
from relabel import Pool
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

from rmbench.gold.instruction import VERIFIERS
from rmbench.gold.instruction.counts import passes, split_items, split_lines, split_sentences, split_words

CHECKS = tuple(sorted(VERIFIERS.names()))
LOOKS = tuple({"name": name} for name in ("uppercase", "lowercase", "quoted", "title_case", "json_valid", "json_only",
               "number_only", "no_preamble", "distinct_items", "alphabetical")) + tuple(
    {"name": "ends_with", "text": mark} for mark in ".?!"
)  # fmt: skip
"""Checks that every reply can be asked, whatever its prompt."""
_BOUNDS = ("words", "sentences", "lines", "list_items", "item_words", "separated")
_N_COUNTS = 5
N_TOKEN_OUTPUTS = 3
N_OUTPUTS = 2 * len(CHECKS) + len(LOOKS) + _N_COUNTS + 2 * len(_BOUNDS)


def auxiliary_loss(outputs: torch.Tensor, pools: Sequence[Pool]) -> torch.Tensor:
    """Return the mean of the losses of all that the outputs say.

    Args:
        outputs: Shape (pools x replies, N_OUTPUTS), a row per reply.
        pools: In the same order.
    """
    rows = [targets(pool, j) for pool in pools for j in range(len(pool.replies))]
    target = torch.tensor(rows)
    known = ~target.isnan()
    n, ends = len(CHECKS), 2 * len(CHECKS) + len(LOOKS)
    parts = [
        binary_cross_entropy_with_logits(outputs[:, part][known[:, part]], target[:, part][known[:, part]])
        for part in (slice(0, n), slice(n, 2 * n), slice(2 * n, ends))
    ]
    numbers = smooth_l1_loss(outputs[:, ends:][known[:, ends:]], target[:, ends:][known[:, ends:]], beta=0.2)
    return torch.stack(parts).sum() + numbers


def token_loss(
    outputs: torch.Tensor, ids: Sequence[int], separator: int, ends: Sequence[int]
) -> torch.Tensor:
    """Return the loss of what is said of each token of a reply: dense, and so learned first.

    Is it in the prompt, how many tokens and how many sentence ends are before it: what `contains`, `words` and
    `sentences` are made of.

    Args:
        outputs: Shape (T, N_TOKEN_OUTPUTS), at least as long as `ids`.
        ids: Prompt, separator, reply, end.
        separator: Its id.
        ends: Ids of tokens that end a sentence.
    """
    start = ids.index(separator) + 1 if separator in ids else 0
    prompt, reply = set(ids[:start]), ids[start:-1]
    if not reply:
        return outputs.sum() * 0.0
    said = outputs[start : start + len(reply)]
    known = torch.tensor([float(token in prompt) for token in reply])
    n_ended = torch.tensor([float(token in ends) for token in reply]).cumsum(0)
    counts = torch.stack([torch.arange(len(reply)).float(), n_ended], dim=1).log1p()
    return binary_cross_entropy_with_logits(said[:, 0], known) + smooth_l1_loss(said[:, 1:], counts, beta=0.2)


def targets(pool: Pool, j: int) -> list[float]:
    """Return the targets of reply `j`, (N_OUTPUTS,); NaN where the prompt sets none."""
    shares = [math.nan] * len(CHECKS)
    for kind in {check["name"] for check in pool.checks}:
        of_kind = [k for k, check in enumerate(pool.checks) if check["name"] == kind]
        shares[CHECKS.index(kind)] = sum(pool.passed[j][k] for k in of_kind) / len(of_kind)
    asked = [float(not math.isnan(share)) for share in shares]
    reply = pool.replies[j]
    counts = [
        len(reply) / 4,
        *(len(split(reply)) for split in (split_words, split_sentences, split_lines, split_items)),
    ]
    bounds = []
    for kind in _BOUNDS:
        found = [check for check in pool.checks if check["name"] == kind]
        for keys in (("at_most", "exactly"), ("at_least", "exactly")):
            values = [check[key] for check in found for key in keys if key in check]
            bounds.append(math.log1p(values[0]) if values else math.nan)
    return (
        shares + asked + [float(p) for p in passes(reply, LOOKS)] + [math.log1p(c) for c in counts] + bounds
    )
