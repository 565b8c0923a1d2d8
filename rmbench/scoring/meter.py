"""What a model that is paid for took during one evaluation, and what it did not answer."""

from rmbench.types import AnyModel, MeteredModel


class Meter:
    """Reads a model's counters, which go on for as long as the model lives, as differences.

    Args:
        model: Any; of one that counts nothing there is nothing to tell.
    """

    def __init__(self, model: AnyModel) -> None:
        self._model = model if isinstance(model, MeteredModel) else None
        self._used = dict(self._model.used()) if self._model else {}
        self._unanswered = dict(self._model.unanswered()) if self._model else {}

    def used(self) -> dict[str, float] | None:
        """Return requests, tokens, price and the like since this meter was made."""
        if self._model is None:
            return None
        return {name: value - self._used.get(name, 0) for name, value in self._model.used().items()}

    def unanswered(self) -> dict[str, int] | None:
        """Return the questions without an answer since this meter was made, by reason."""
        if self._model is None:
            return None
        return {why: n - self._unanswered.get(why, 0) for why, n in self._model.unanswered().items()}
