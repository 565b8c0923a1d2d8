"""Steps of a reply: how they are told apart, and what is written after each so that its value can be read."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from rmbench.core.options import Option

Written = Literal["text", "tokens", "turns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Where the steps of a reply end, and where the value of each is read."""

    mark: str
    """What is written after each step, the last one too. The value is read at its last token; of `turns`, at
    the token before it."""
    written: Written = "text"
    """`text`: the mark is part of the reply's text. `tokens`: prompt, steps and marks are tokenised apart.
    `turns`: each step is a turn of the user, and the mark is the assistant's answer to it."""
    one_token: bool = False
    """The tokenizer has to write the mark as one token."""
    split: str = ""
    """Text between two steps, in whose place the mark is written. Empty: the mark itself."""
    between: str = ""
    """After a mark, where another step follows; of `turns`, between the prompt and the first step."""
    blank: bool = False
    """Empty steps count too."""
    strip: bool = False
    """White space around a step is taken away."""
    label: Annotated[int, Option(low=0)] | None = None
    """The label that means a good step, where the head has several."""

    def of(self, reply: str) -> list[str]:
        """Return the steps of a reply, at least one.

        A reply with marks in its text is divided there: it was written for such a model.
        """
        found = re.split(self._divider(reply), reply)
        if self._is_marked(reply):
            found = [found[0], *(step.removeprefix(self.between) for step in found[1:])]
        if not self.blank or self._is_marked(reply):
            found = [step for step in found if step.strip()] or [reply]
        return [step.strip() for step in found] if self.strip else found

    def is_divided(self, reply: str) -> bool:
        """Say whether a reply has the text that stands between steps, or a mark."""
        return re.search(self._divider(reply), reply) is not None

    def _divider(self, reply: str) -> str:
        return self._mark_pattern if self._is_marked(reply) else re.escape(self.split or self.mark)

    def _is_marked(self, reply: str) -> bool:
        return self.written == "text" and re.search(self._mark_pattern, reply) is not None

    @property
    def _mark_pattern(self) -> str:
        """The mark; one that ends with a letter is no beginning of a word."""
        return re.escape(self.mark) + (r"(?!\w)" if self.mark[-1:].isalnum() else "")
