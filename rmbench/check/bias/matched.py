"""Matched pairs: of each item, the reply that is edited, a rival, and a pair for self-preference.

Every choice is drawn by the seed and the item's id alone, so that one item does not change another's.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from rmbench.core.files import digest
from rmbench.edits import Edit, Letter
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.types import Item, Response

MOST_REPLIES = 8
"""Replies of an item that are read, for the unit of effects; more are drawn from."""
GENERATOR = "generator"
"""Tag of a reply that names the model that wrote it."""


@dataclass(frozen=True, slots=True)
class Matched:
    """An item, and the texts that are compared."""

    item: Item
    replies: tuple[Response, ...]
    """At most `MOST_REPLIES` of the item's."""
    base: int
    """Place in `replies` of the one that is edited: one of lower gold, where gold differs."""
    rival: int
    """Place of another one, of the highest gold where gold differs."""
    edited: Mapping[str, tuple[Response, Response] | None]
    """Edit -> the edited reply as it stands when shown first (or read alone), and when shown second. None:
    the edit changes nothing."""
    own: tuple[Response, Response] | None
    """A reply of the model's own generator and one of another, of equal gold; None: there is no such pair."""


def match(
    items: Sequence[Item], edits: Sequence[Edit], *, seed: int, own: str | None, pairwise: bool
) -> tuple[list[Matched], dict[str, int]]:
    """Return the matched texts of items, and how many items are left out, by reason.

    Args:
        items: With two replies or more.
        edits: Applied to the base reply of each item.
        seed: Draws replies and what edits draw.
        own: The generator that counts as the model's own; None: no pairs for self-preference.
        pairwise: True: placed edits name the letter of the reply.
    """
    found, left_out = [], Counter[str]()
    for item in items:
        random = Random(f"{seed}:{item.id}")
        places = sorted(random.sample(range(len(item.responses)), min(len(item.responses), MOST_REPLIES)))
        replies = tuple(item.responses[k] for k in places)
        chosen = _base_and_rival(replies, random)
        if chosen is None:
            left_out["all replies are the same text, or empty"] += 1
            continue
        base, rival = chosen
        edited = {edit.name: _edited(edit, item, replies[base], seed, pairwise) for edit in edits}
        pair = None if own is None else _own_pair(item, own, random)
        found.append(Matched(item, replies, base, rival, edited, pair))
    return found, dict(left_out)


def _base_and_rival(replies: Sequence[Response], random: Random) -> tuple[int, int] | None:
    """Return the places of a reply to edit and of another one; None if there are no two different texts."""
    order = random.sample(range(len(replies)), len(replies))
    known = [k for k in order if replies[k].gold is not None]
    # The highest gold first; a stable sort keeps equal ones in the drawn order.
    best = sorted(known, key=lambda k: -float(replies[k].gold or 0.0))
    for rival in best[:1]:
        for base in known:
            below = float(replies[base].gold or 0.0) < float(replies[rival].gold or 0.0)
            if below and _differ(replies[base], replies[rival]):
                return base, rival
    for base in order:
        for rival in order:
            if _differ(replies[base], replies[rival]):
                return base, rival
    return None


def _differ(base: Response, rival: Response) -> bool:
    return bool(base.text.strip()) and base.content != rival.content


def _edited(
    edit: Edit, item: Item, base: Response, seed: int, pairwise: bool
) -> tuple[Response, Response] | None:
    prompt = next((turn["content"] for turn in reversed(item.prompt) if turn["role"] == "user"), "")
    draw = digest([seed, item.id], 16)
    letters: tuple[Letter | None, ...] = ("A", "B") if pairwise and edit.placed else (None, None)
    texts = [edit.apply(base.text, prompt, seed=draw, letter=letter) for letter in letters]
    if None in texts:
        return None
    first, second = (replace(base, text=str(text), gold=None, logprob=None) for text in texts)
    return first, second


def _own_pair(item: Item, own: str, random: Random) -> tuple[Response, Response] | None:
    tagged = [r for r in item.responses if r.tags.get(GENERATOR) and r.gold is not None]
    pairs = [
        (mine, other)
        for mine in tagged
        for other in tagged
        if mine.tags[GENERATOR] == own
        and other.tags[GENERATOR] != own
        and mine.gold == other.gold
        and mine.content != other.content
    ]
    return random.choice(pairs) if pairs else None


def generators_of(items: Sequence[Item]) -> Counter[str]:
    """Return the generators that replies name, with how many replies each wrote."""
    return Counter(r.tags[GENERATOR] for item in items for r in item.responses if r.tags.get(GENERATOR))


def check_own(own: str | None, items: Sequence[Item]) -> str:
    """Return why self-preference is not measured; empty where it can be.

    Raises:
        UnknownNameError: If no reply names `own` as its generator.
        ConfigError: If the data names no generator at all.
    """
    found = generators_of(items)
    if own is None:
        if not found:
            return "not measured: no generator in the data"
        names = ", ".join(name for name, _ in found.most_common(4)) + (", ..." if len(found) > 4 else "")
        return f"not measured: say which generator is the model's own, --self NAME ({names})"
    if not found:
        raise ConfigError(
            f"--self {own}: no reply of the data names its generator; expected rows with `tags` such as"
            ' [{"generator": "gpt-4o"}, ...], or no --self'
        )
    if own not in found:
        raise UnknownNameError("generator", own, sorted(found), "--self")
    return ""
