"""The layout of a row's columns: two replies in order, two with a winner, or a list with scores."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rmbench.tasks.layouts import columns as known
from rmbench.tasks.layouts.columns import Names

Kind: TypeAlias = Literal["pair", "winner", "pool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The columns that are read of a row, by the names that are compared (`columns.plain`)."""

    kind: Kind
    replies: tuple[str, ...]
    """Two columns, or one with a list; of a `pair` the better one first."""
    gold: tuple[str, ...] = ()
    """The column of the winner, those of two or three marks (0 or 1), or those of scores."""
    gold_is: Literal["order", "winner", "marks", "scores", "ranks", "strength", "inside"] = "order"
    """What they hold; `inside`: replies are objects that hold their score."""

    def columns(self) -> tuple[str, ...]:
        """Return the columns that make it this layout."""
        return (*self.replies, *self.gold)

    def told(self, names: Names) -> str:
        """Return the layout in words, with the names of the file."""
        said = [repr(names.of[name]) for name in self.replies]
        gold = " and ".join(repr(names.of[name]) for name in self.gold)
        if self.kind == "pool":
            if self.gold_is == "order":
                return f"{said[0]} is a list of two replies, the better one first"
            held = {"inside": "each with its score", "ranks": f"{gold} their ranks (1 is best)"}
            return f"{said[0]} is a list of replies, {held.get(self.gold_is, f'{gold} their scores')}"
        if self.kind == "pair":
            more = {"scores": f", scores {gold}", "strength": f", by {gold}"}.get(self.gold_is, "")
            return f"{said[0]} is better than {said[1]}{more}"
        says = "are the scores" if self.gold_is == "scores" else "says which is better"
        return f"{said[0]} and {said[1]} are two replies, {gold} {says}"


def layout_of(names: Names, value: Mapping[str, Any], renamed: Sequence[str] = ()) -> Layout | None:
    """Return the layout of a row; None if its columns are none that is known.

    Args:
        names: Of its columns.
        value: The row.
        renamed: Names that the user gave to columns: the layout with most of them is taken.
    """
    held = {name: value[column] for name, column in names.of.items() if column in value}
    found = [each for look in _LOOKS for each in look(names, held)]
    return max(found, key=lambda each: len(set(each.columns()) & set(renamed)), default=None)


def nearest(names: Names) -> str:
    """Return what is missing for the layouts that come nearest, in words."""
    sides = sorted({name for pair in known.BEST_FIRST for name in pair if name in names.of})
    if sides:
        others = sorted({b for pair in known.BEST_FIRST for a, b in (pair, pair[::-1]) if a == sides[0]})
        return f"beside {sides[0]!r} one of {', '.join(map(repr, others[:6]))} is expected"
    if two := next((pair for pair in known.EITHER if names.has(*pair)), None):
        one, other = map(repr, two)
        return f"{one} and {other} are two replies; expected one such as winner that says which is better"
    if pool := names.first(known.POOLS):
        return f"{pool!r} may be a list of replies; expected a column such as scores with a number for each"
    return "expected prompt, chosen and rejected, or two responses and a winner, or responses and scores"


Look: TypeAlias = Callable[[Names, Mapping[str, Any]], Iterator[Layout]]


def _pairs(names: Names, held: Mapping[str, Any]) -> Iterator[Layout]:
    for better, worse in known.BEST_FIRST:
        if names.has(better, worse) and all(
            isinstance(held[name], str | list | dict) for name in (better, worse)
        ):
            gold, gold_is = _strength(names, better, worse)
            yield Layout(kind="pair", replies=(better, worse), gold=gold, gold_is=gold_is)


def _strength(
    names: Names, better: str, worse: str
) -> tuple[tuple[str, ...], Literal["order", "scores", "strength"]]:
    if scores := _scores_of(names, better, worse):
        return scores, "scores"
    if strength := names.first(known.STRENGTHS):
        return (strength,), "strength"
    return (), "order"


def _scores_of(names: Names, one: str, two: str) -> tuple[str, str] | None:
    """Return the columns with the scores of two replies: `score_chosen`, `chosen_rating`, `score_0`."""
    start, end = _shared(one, two), _shared(one[::-1], two[::-1])
    without_end = one[: len(one) - end].rstrip("_"), two[: len(two) - end].rstrip("_")
    for a, b in ((one, two), (one[start:], two[start:]), without_end):
        for word in known.SCORE_WORDS:
            for pair in (
                (f"{word}_{a}", f"{word}_{b}"),
                (f"{a}_{word}", f"{b}_{word}"),
                (f"{word}{a}", f"{word}{b}"),
            ):
                if names.has(*pair):
                    return pair
    return None


def _shared(one: str, two: str) -> int:
    """Return how many signs two names begin with alike."""
    return next(
        (k for k, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two))
    )


def _winners(names: Names, _: Mapping[str, Any]) -> Iterator[Layout]:
    for pair in (("first", "second"), *known.EITHER):
        if not names.has(*pair):
            continue
        marks = [name for name in ("winner_model_a", "winner_model_b", "winner_tie") if names.has(name)]
        if len(marks) >= 2 and pair[0].endswith("a"):
            yield Layout(kind="winner", replies=pair, gold=tuple(marks), gold_is="marks")
        elif winner := names.first(known.WINNERS):
            yield Layout(kind="winner", replies=pair, gold=(winner,), gold_is="winner")
        elif scores := _scores_of(names, *pair):
            yield Layout(kind="winner", replies=pair, gold=scores, gold_is="scores")


def _pools(names: Names, held: Mapping[str, Any]) -> Iterator[Layout]:
    for name in known.POOLS:
        value = held.get(name)
        if not isinstance(value, list) or not value:
            continue
        scores = names.first(known.SCORES)
        if scores is not None and isinstance(held.get(scores), list):
            gold_is: Literal["ranks", "scores"] = "ranks" if scores in known.RANKS else "scores"
            yield Layout(kind="pool", replies=(name,), gold=(scores,), gold_is=gold_is)
        elif isinstance(value[0], Mapping) and score_key(value[0]):
            yield Layout(kind="pool", replies=(name,), gold_is="inside")
        elif name == "output" and names.has("instruction") and len(value) == 2:
            yield Layout(kind="pool", replies=(name,))


def score_key(reply: Mapping[str, Any]) -> str | None:
    """Return the key of an object that holds a reply's score or rank; None without one."""
    keys = {known.plain(key): str(key) for key in reply}
    wanted = (*known.SCORE_WORDS, *known.SCORES)
    return next(
        (keys[word] for word in wanted if word in keys and not isinstance(reply[keys[word]], list)), None
    )


_LOOKS: tuple[Look, ...] = (_pairs, _winners, _pools)
