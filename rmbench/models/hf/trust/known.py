"""Token ids that a model has no embedding for: its tokenizer was extended, or is another model's."""

from collections.abc import Sequence
from typing import Any

from rmbench.errors import UnwritableError
from rmbench.models.hf.text import Encoded
from rmbench.types import Conversation

REASON = "a token that the model does not have"
"""What `--on-bad skip` counts by."""


class KnownTokens:
    """Finds texts with ids beyond a model's embedding.

    Args:
        tokenizer: The models' tokenizer.
        models: The models of transformers that read its ids.
    """

    def __init__(self, tokenizer: Any, models: Sequence[Any]) -> None:
        self._tokenizer = tokenizer
        self._n_known = min(
            (n for n in map(_n_embeddings, models) if n is not None), default=len(tokenizer) + 2**40
        )
        vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else {}
        self._unknown = sorted((i, token) for token, i in vocabulary.items() if i >= self._n_known)

    def check(self, batch: Sequence[Conversation], rows: Sequence[Encoded]) -> None:
        """Raise UnwritableError if a row of a conversation has such an id."""
        if not self._unknown:
            return
        for turns, row in zip(batch, rows, strict=True):
            if bad := [i for i in row.ids if i >= self._n_known]:
                raise UnwritableError(
                    f"its text has the token {self._tokenizer.convert_ids_to_tokens(bad[0])!r} (id {bad[0]}),"
                    f" and the model has {self._n_known} embeddings: the tokenizer is another model's, or was"
                    " extended without the model",
                    turns,
                    reason=REASON,
                )

    def notes(self) -> list[str]:
        """Say that the tokenizer has such ids."""
        if not self._unknown:
            return []
        told = ", ".join(f"{token!r} ({i})" for i, token in self._unknown[:3])
        more = ", ..." if len(self._unknown) > 3 else ""
        n = f"{len(self._unknown):,} tokens of the tokenizer are beyond the model's {self._n_known:,}"
        return [f"{n} embeddings ({told}{more}); a text that has one is refused"]


def _n_embeddings(model: Any) -> int | None:
    """Return how many ids a model has an embedding for; None where it does not tell."""
    try:
        found = model.get_input_embeddings()
    except NotImplementedError:
        return None
    weight = getattr(found, "weight", None)
    return int(weight.shape[0]) if weight is not None and weight.dim() == 2 else None
