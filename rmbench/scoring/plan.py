"""The plan of scoring: each distinct text once, in batches. Pure: sizes in, batches out.

A batch is cut by a budget of tokens. If a model reads the common beginning of conversations once, the
candidates of one prompt stay together and a batch costs its distinct tokens. Otherwise texts of similar
length go together and a batch costs count x longest.

Batches depend on the set of units alone, never on the scores in the store: a run that was killed and started
again sends the same batches, and gets the same rewards to the last bit.

A unit is a conversation, or an ordered pair for pairwise models.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from rmbench.core.files import conversation_key, digest, identity_of, pair_key
from rmbench.errors import ConfigError
from rmbench.models.messages import text_alone
from rmbench.models.schedule import FULL, Schedule
from rmbench.types import (
    Conversation,
    Item,
    JudgingModel,
    Lineup,
    Pair,
    RatingJudge,
    RewardModel,
    SharingModel,
    SizedModel,
    Turn,
)

U = TypeVar("U")
T = TypeVar("T")
Q = TypeVar("Q", Pair, Lineup)

DEFAULT_BATCH_TOKENS = 8192
CHARACTERS_PER_TOKEN = 4
_LARGEST_BATCH = 512
_JOINED = 0.5
"""Share of the budget that a batch of several prompts fills: a CPU is faster with smaller batches. The
candidates of one prompt are not split for that, since its prompt would be read again."""


@dataclass(frozen=True, slots=True)
class Unit(Generic[U]):
    """One question to a model: a conversation, or an ordered pair."""

    key: str
    payload: U


@dataclass(frozen=True, slots=True)
class Measure(Generic[U]):
    """Sizes of units, for the plan."""

    lengths: Callable[[Sequence[U]], Sequence[int]]
    """Tokens of each unit."""
    prompt: Callable[[U], Hashable]
    """The prompt that candidates share."""
    joint_length: Callable[[Sequence[U]], int | None]
    """Tokens that the model reads for these units in one batch, at most their sum; None: units are padded."""


def distinct(units: Iterable[Unit[U]]) -> list[Unit[U]]:
    """Return the first unit of each key, in order of appearance."""
    seen: dict[str, Unit[U]] = {}
    for unit in units:
        seen.setdefault(unit.key, unit)
    return list(seen.values())


def plan(units: Sequence[Unit[U]], measure: Measure[U], budget_tokens: int) -> list[list[Unit[U]]]:
    """Return every unit once, in batches within the budget (at least one unit each), largest first.

    The largest batch comes first, so that too little memory shows at once and not after an hour.

    Args:
        units: Distinct units, in any order.
        measure: Their sizes.
        budget_tokens: Most tokens of a batch: distinct ones, or padded ones where nothing is shared.
    """
    sizes = dict(zip((u.key for u in units), measure.lengths([u.payload for u in units]), strict=True))
    groups: dict[Hashable, list[Unit[U]]] = {}
    for unit in units:
        groups.setdefault(measure.prompt(unit.payload), []).append(unit)
    pieces: list[tuple[int, list[Unit[U]]]] = []
    padded: list[Unit[U]] = []
    for group in groups.values():
        group.sort(key=lambda u: (-sizes[u.key], u.key))
        joint = measure.joint_length([unit.payload for unit in group])
        if joint is None:
            padded += group
        else:
            pieces += _pieces(group, [sizes[u.key] for u in group], joint, budget_tokens)
    rows = batches(padded, [sizes[unit.key] for unit in padded], budget_tokens)
    found = rows + _filled(pieces, int(_JOINED * budget_tokens))
    return sorted(found, key=lambda batch: -max(sizes[unit.key] for unit in batch))


def _pieces(
    group: Sequence[Unit[U]], sizes: Sequence[int], joint: int, budget_tokens: int
) -> Iterator[tuple[int, list[Unit[U]]]]:
    """Yield (tokens, units) of a prompt's candidates: all of them, or as many at a time as fit."""
    shared = (sum(sizes) - joint) // (len(group) - 1) if len(group) > 1 else 0
    tokens, piece = shared, list[Unit[U]]()
    for unit, size in zip(group, sizes, strict=True):
        if piece and (tokens + size - shared > budget_tokens or len(piece) >= _LARGEST_BATCH):
            yield tokens, piece
            tokens, piece = shared, []
        tokens += size - shared
        piece.append(unit)
    yield tokens, piece


def _filled(pieces: list[tuple[int, list[Unit[U]]]], most_tokens: int) -> list[list[Unit[U]]]:
    """Return the pieces in batches, the largest first, those above `most_tokens` alone."""
    grouped: list[list[Unit[U]]] = []
    total = 0
    for tokens, piece in sorted(pieces, key=lambda p: (-p[0], p[1][0].key)):
        if not grouped or total + tokens > most_tokens or len(grouped[-1]) + len(piece) > _LARGEST_BATCH:
            grouped.append([])
            total = 0
        grouped[-1] += piece
        total += tokens
    return grouped


def batches(units: Sequence[Unit[U]], sizes: Sequence[int], budget_tokens: int) -> list[list[Unit[U]]]:
    """Group units of similar length so that count x longest stays within the budget, longest first.

    Args:
        units: Distinct units, in any order.
        sizes: Their sizes in tokens.
        budget_tokens: Most padded tokens in a batch.
    """
    order = sorted(range(len(units)), key=lambda i: (-sizes[i], units[i].key))
    grouped: list[list[Unit[U]]] = []
    longest = 0
    for i in order:
        if (
            not grouped
            or (len(grouped[-1]) + 1) * longest > budget_tokens
            or len(grouped[-1]) >= _LARGEST_BATCH
        ):
            grouped.append([])
            longest = max(1, sizes[i])
        grouped[-1].append(units[i])
    return grouped


def windows(things: Iterable[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Yield consecutive things in lists whose sizes sum to at most `most` (at least one thing each)."""
    window: list[T] = []
    total = 0
    for thing in things:
        cost = size(thing)
        if window and total + cost > most:
            yield window
            window, total = [], 0
        window.append(thing)
        total += cost
    if window:
        yield window


def conversations_of(item: Item) -> list[Unit[Conversation]]:
    """Return one conversation per response, in order."""
    found = (item.conversation(k) for k in range(len(item.responses)))
    return [Unit(conversation_key(turns), turns) for turns in found]


def pairs_of(item: Item, schedule: Schedule = FULL) -> list[Unit[Pair]]:
    """Return the ordered pairs of responses that are asked: (i, j) and (j, i) of each pair, sorted.

    The full round robin has K (K - 1) for K responses, row by row.

    Raises:
        UnwritableError: If a response calls tools: a pairwise model gets texts.
    """
    text_alone((response.turn for response in item.responses), f"a pairwise model (item {item.id})")
    texts = [response.text for response in item.responses]
    return [
        Unit(pair_key(item.prompt, texts[i], texts[j]), Pair(item.prompt, texts[i], texts[j]))
        for i, j in sorted(order for i, j in schedule.pairs(item) for order in ((i, j), (j, i)))
    ]


def pairs_for(model: object, schedule: Schedule, item: Item) -> list[Unit[Pair]]:
    """Return the pairs of an item with what a judge is shown beside them.

    Raises:
        UnwritableError: As `pairs_of`.
        ConfigError: If the item lacks what the judge needs.
    """
    shown = _shown(model, item)
    units = pairs_of(item, schedule)
    if not shown:
        return units
    return [Unit(_shown_key(unit.key, shown), replace(unit.payload, shown=shown)) for unit in units]


def lineups_of(model: RatingJudge, item: Item) -> list[Unit[Lineup]]:
    """Return the question, or questions, of a judge that rates an item's responses: one row per response.

    Raises:
        ConfigError: If the item has more responses than the judge compares, or lacks what it needs.
    """
    shown, most = _shown(model, item), model.most_together()
    if 1 < most < len(item.responses):
        raise ConfigError(
            f"item {item.id!r} has {len(item.responses)} responses, and the judge rates at most {most} at"
            " once; expected a pack that asks about pairs or single responses (rmbench models judges)"
        )
    turns = tuple(response.turn for response in item.responses)
    text_alone(turns, f"a judge's prompt (item {item.id})")
    found = []
    for k, turn in enumerate(turns):
        if most == 1:
            key, row = conversation_key((*item.prompt, turn)), Lineup(item.prompt, (turn,), shown=shown)
        else:
            said = [[identity_of(each) for each in some] for some in (item.prompt, turns)]
            key, row = digest(["list", *said, k], 32), Lineup(item.prompt, turns, k, shown)
        found.append(Unit(_shown_key(key, shown) if shown else key, row))
    return found


def votes_of(units: Sequence[Unit[Q]], n_votes: int) -> list[list[Unit[Q]]]:
    """Return the votes of each question; a vote's key does not depend on how many there are."""
    return [
        [Unit(_vote_key(unit.key, vote), replace(unit.payload, vote=vote)) for vote in range(n_votes)]
        for unit in units
    ]


def _shown(model: object, item: Item) -> Mapping[str, str]:
    return model.shown(item) if isinstance(model, JudgingModel) else {}


def _shown_key(key: str, shown: Mapping[str, str]) -> str:
    return digest([key, "shown", dict(shown)], 32)


def _vote_key(key: str, vote: int) -> str:
    return key if vote == 0 else digest([key, "vote", vote], 32)


def conversation_measure(model: RewardModel) -> Measure[Conversation]:
    """Return the sizes of conversations that the model gives, else by their characters."""
    lengths = model.lengths if isinstance(model, SizedModel) else _conversation_lengths
    joint = model.joint_length if isinstance(model, SharingModel) else _nothing_shared
    return Measure(lengths, lambda turns: _key(turns[:-1]), joint)


def lineup_measure() -> Measure[Lineup]:
    """Return sizes that put the rows of a question, and no others, into one batch of a budget of 1."""
    return Measure(
        lambda batch: [1] * len(batch),
        lambda row: (_key(row.prompt), _key(row.replies), tuple(sorted(row.shown.items())), row.vote),
        lambda _batch: 1,
    )


def pair_measure() -> Measure[Pair]:
    """Return the sizes of pairs by their characters."""
    return Measure(_pair_lengths, lambda pair: _key(pair.prompt), _nothing_shared)


def tokens_of(n_characters: int) -> int:
    """Return a rough number of tokens of a text, for models that do not count them."""
    return 1 + n_characters // CHARACTERS_PER_TOKEN


def _conversation_lengths(batch: Sequence[Conversation]) -> list[int]:
    return [tokens_of(sum(len(t["content"]) for t in turns)) for turns in batch]


def _pair_lengths(batch: Sequence[Pair]) -> list[int]:
    return [tokens_of(sum(len(t["content"]) for t in p.prompt) + len(p.first) + len(p.second)) for p in batch]


def _nothing_shared(_batch: Sequence[object]) -> int | None:
    return None


def _key(prompt: Sequence[Turn]) -> Hashable:
    return tuple((turn["role"], turn["content"]) for turn in prompt)
