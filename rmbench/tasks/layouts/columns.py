"""Names of columns that preference data is published with, and the columns of a file that are read.

Names are compared in lower case, with `_` for `-`, a space or a dot.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rmbench.errors import ConfigError

PROMPTS = (
    "prompt", "question", "instruction", "query", "user_input", "user_query", "problem", "post", "context",
    "history", "conversation_history", "input", "messages", "conversations", "conversation",
)  # fmt: skip
"""Columns of prompts, the first that a file has is read."""
SYSTEMS = ("system", "system_prompt", "system_message")
TOOLS = ("tools",)
SHOWN = {
    "reference": ("reference", "reference_answer", "reference_response"),
    "rubric": ("rubric", "rubrics"),
    "principle": ("principle", "principles"),
}
"""What a judge may be shown, and the columns that hold it."""
IDS = ("id", "pair_id", "comparison_id", "uid", "uuid")
STRATA = (
    "subset", "category", "subcategory", "domain", "source", "task", "task_type", "language", "lang",
    "difficulty", "level", "topic", "type", "dataset", "split_name", "section", "capability", "style",
)  # fmt: skip
"""Columns that become strata."""

BEST_FIRST = (
    ("chosen", "rejected"), ("chosen_response", "rejected_response"), ("response_chosen",
    "response_rejected"), ("chosen_messages", "rejected_messages"), ("messages", "rejected_messages"),
    ("messages", "rejected_response"), ("chosen_answer", "rejected_answer"), ("answer_chosen",
    "answer_rejected"), ("chosen_output", "rejected_output"), ("chosen_completion", "rejected_completion"),
    ("chosen_text", "rejected_text"), ("preferred", "dispreferred"), ("preferred_output",
    "non_preferred_output"), ("preferred_response", "dispreferred_response"), ("preferred_response",
    "non_preferred_response"), ("preferred_response", "rejected_response"), ("accepted", "rejected"),
    ("better", "worse"), ("better_response", "worse_response"), ("good", "bad"), ("positive", "negative"),
    ("winner", "loser"), ("win", "lose"), ("response_j", "response_k"), ("good_response", "bad_response"),
)  # fmt: skip
"""Two columns of replies, the better one first."""

_STEMS = (
    "output", "response", "answer", "completion", "reply", "candidate", "text", "summary", "generation",
    "conversation", "model_output", "human_ref", "option",
)  # fmt: skip
_SUFFIXES = (("1", "2"), ("a", "b"), ("0", "1"))

EITHER = tuple(
    (f"{stem}{mark}{one}", f"{stem}{mark}{two}")
    for stem in _STEMS
    for one, two in _SUFFIXES
    for mark in ("_", "")
)
"""Two columns of replies in no order; another column says which is better."""
WINNERS = (
    "winner", "preference", "overall_preference", "preference_strength", "preferred", "better", "label",
    "labels", "choice", "choose_best", "better_response_id", "better_response", "chosen",
    "human_preference", "verdict", "gold_label", "annotation", "safer_response_id",
)  # fmt: skip
"""Columns that say which of two replies is better, the first that a file has is read."""
SIGNED = ("overall_preference", "preference_strength")
"""Numbers on a scale around 0, as HelpSteer publishes them: below 0 the first reply is better."""

POOLS = (
    "responses", "completions", "answers", "generations", "candidates", "outputs", "output",
    "all_responses",
)  # fmt: skip
"""Columns with a list of replies."""
SCORES = (
    "gold", "scores", "ratings", "rewards", "overall_scores", "overall_score", "score", "rating", "labels",
    "ranks", "rank", "ranking",
)  # fmt: skip
"""Columns with a number for each reply of a list; of ranks a lower one is better."""
RANKS = ("ranks", "rank", "ranking")
TEXTS = ("response", "text", "content", "answer", "output", "completion", "generation", "message")
"""Keys of a reply's text, where replies are objects."""
SCORE_WORDS = ("score", "rating", "avg_rating", "reward", "overall_score")
"""Parts of names such as `score_chosen`, `chosen-rating`, `output_1_score`."""
STRENGTHS = ("margin", "strength")
"""Columns with how much better the better reply is."""

_TEXT = re.compile(r"[\s.\-]+")


def plain(name: Any) -> str:
    """Return a column's name as names are compared."""
    return _TEXT.sub("_", str(name).strip().lower())


def renames(text: str | None) -> dict[str, str]:
    """Return name in the file -> name that is read, of `prompt:question,chosen:good`.

    Raises:
        ConfigError: If the text is no list of such pairs, or names something twice.
    """
    found: dict[str, str] = {}
    for part in filter(None, (text or "").split(",")):
        meant, colon, column = part.partition(":")
        if not colon or not meant.strip() or not column.strip():
            raise ConfigError(
                f"parameter 'columns': {part!r}; expected NAME:COLUMN, such as prompt:question,chosen:good"
            )
        if column.strip() in found or plain(meant) in found.values():
            raise ConfigError(f"parameter 'columns': {part.strip()!r} names something twice")
        found[column.strip()] = plain(meant)
    return found


@dataclass(frozen=True, slots=True)
class Names:
    """The columns of a file, by the names that are compared."""

    of: Mapping[str, str]
    """Name as it is compared -> name in the file."""

    @classmethod
    def read(cls, columns: Iterable[Any], renamed: Mapping[str, str]) -> "Names":
        """Return the names of columns; those of `renamed` stand for what the user says, before all others."""
        columns = list(map(str, columns))
        if missing := [column for column in renamed if column not in columns]:
            raise ConfigError(
                f"parameter 'columns': the data has no column {missing[0]!r};"
                f" it has {', '.join(columns[:20])}"
            )
        found: dict[str, str] = {}
        for column in columns:
            if column not in renamed:
                found.setdefault(plain(column), column)
        return cls({**found, **{meant: column for column, meant in renamed.items()}})

    def first(self, wanted: Sequence[str]) -> str | None:
        """Return the first of some names that the file has; None for none."""
        return next((name for name in wanted if name in self.of), None)

    def has(self, *wanted: str) -> bool:
        """Say whether the file has all of these."""
        return all(name in self.of for name in wanted)


@dataclass(frozen=True, slots=True)
class Used:
    """What was read of a row's columns, by the names that are compared."""

    names: Names
    seen: set[str] = field(default_factory=set)

    def column(self, name: str) -> str:
        """Return a column's name in the file, and remember that it is read."""
        self.seen.add(name)
        return self.names.of[name]
