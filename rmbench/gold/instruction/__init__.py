"""Verifiable instructions: small checks of a reply that need no judge, and the gold made from them.

    >>> verify("Paris.", [{"name": "answer", "accepted": ["Paris"]}, {"name": "words", "exactly": 1}])
    1.0

A check is a mapping with the verifier's `name` and its parameters, so a data file stores it directly.
The idea follows IFEval (Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models").
"""

from rmbench.gold.instruction import counts, structured, wording
from rmbench.gold.instruction import wording as answers
from rmbench.gold.instruction import wording as shape
from rmbench.gold.instruction.counts import VERIFIERS, Verifier, passes, verify

__all__ = ["VERIFIERS", "Verifier", "answers", "counts", "passes", "shape", "structured", "verify", "wording"]
