"""Where padding is EOS: how often the two places where a reward may be read rank texts differently.

Nothing in the files of most models says at which of the two they were trained.
"""

from itertools import combinations

from rmbench.types import Conversation, Turn

_QUESTIONS = (
    "What is the capital of France?",
    "How do I boil an egg?",
    "Write a short poem about the sea.",
    "Why is 51 not a prime number?",
)
_ANSWERS = (
    "I do not know.",
    "The capital is Paris, on the river Seine. It has been the capital for most of a thousand years.",
    "Put it into boiling water for eight minutes, then into cold water.",
    "Grey waves, a gull, the tide / comes home. The boats lie side by side.",
    "Because 3 times 17 is 51!",
)
PROBE: tuple[Conversation, ...] = tuple(
    (Turn(role="user", content=question), Turn(role="assistant", content=answer))
    for question in _QUESTIONS
    for answer in _ANSWERS
)
"""Twenty conversations: each of four questions with each of five answers."""


def rankings_that_differ(one: list[float], other: list[float]) -> tuple[int, int]:
    """Return (pairs that two lists of rewards rank differently, all pairs); a tie ranks a pair too."""
    pairs = list(combinations(range(len(one)), 2))
    return sum(_order(one, *pair) != _order(other, *pair) for pair in pairs), len(pairs)


def _order(rewards: list[float], a: int, b: int) -> int:
    return (rewards[a] > rewards[b]) - (rewards[a] < rewards[b])
