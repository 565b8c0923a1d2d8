"""`instruction`: the share of an item's checks that a response passes, as the embedded data has them."""

from collections.abc import Mapping
from typing import Any

from rmbench.types import GoldKind
from rmbench.verifiers import verify
from rmbench.verifiers.verdicts import Verdict, needed


class Instruction:
    """The share of the item's `checks` that the response passes, from 0 to 1."""

    version = "1"
    gold_kind: GoldKind = "graded"

    def verify(self, response: str, expected: Mapping[str, Any]) -> Verdict:
        """Return the share."""
        return Verdict(verify(response, needed(expected, "checks")))
