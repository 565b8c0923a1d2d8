"""What an item asks of a model: conversations, or ordered pairs; and how large each is."""

from collections.abc import Hashable, Sequence

from rmbench.canon import conversation_key, pair_key
from rmbench.scoring.plan import CHARACTERS_PER_TOKEN, Measure, Unit
from rmbench.types import Conversation, Item, Pair, RewardModel, SharingModel, SizedModel, Turn


def conversations_of(item: Item) -> list[Unit[Conversation]]:
    """Return one conversation per response, in order."""
    found = (item.conversation(k) for k in range(len(item.responses)))
    return [Unit(conversation_key(turns), turns) for turns in found]


def pairs_of(item: Item) -> list[Unit[Pair]]:
    """Return every ordered pair of responses, i before j: K (K - 1) for K responses, row by row."""
    texts = [response.text for response in item.responses]
    return [
        Unit(pair_key(item.prompt, texts[i], texts[j]), Pair(item.prompt, texts[i], texts[j]))
        for i in range(len(texts))
        for j in range(len(texts))
        if i != j
    ]


def conversation_measure(model: RewardModel) -> Measure[Conversation]:
    """Return the sizes of conversations as the model tells them, else by their characters."""
    lengths = model.lengths if isinstance(model, SizedModel) else _conversation_lengths
    joint = model.joint_length if isinstance(model, SharingModel) else _nothing_shared
    return Measure(lengths, lambda turns: _key(turns[:-1]), joint)


def pair_measure() -> Measure[Pair]:
    """Return the sizes of pairs by their characters."""
    return Measure(_pair_lengths, lambda pair: _key(pair.prompt), _nothing_shared)


def tokens_of(n_characters: int) -> int:
    """Return about how many tokens a text has, for models that do not say."""
    return 1 + n_characters // CHARACTERS_PER_TOKEN


def _conversation_lengths(batch: Sequence[Conversation]) -> list[int]:
    return [tokens_of(sum(len(t["content"]) for t in turns)) for turns in batch]


def _pair_lengths(batch: Sequence[Pair]) -> list[int]:
    return [tokens_of(sum(len(t["content"]) for t in p.prompt) + len(p.first) + len(p.second)) for p in batch]


def _nothing_shared(_batch: Sequence[object]) -> int | None:
    return None


def _key(prompt: Sequence[Turn]) -> Hashable:
    return tuple((turn["role"], turn["content"]) for turn in prompt)
