"""Questions to a judge: the request of each, and the values in its reply. Nothing is sent here."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rmbench.core.files import conversation_key, digest, identity_of, pair_key
from rmbench.errors import ConfigError
from rmbench.models.judge.answer import read
from rmbench.models.judge.pack import Pack
from rmbench.models.judge.reply import Reply
from rmbench.models.messages import text_alone
from rmbench.types import Lineup, Pair, Turn

_STRIDE = 1_000_003
"""Between the seeds of a vote's first request and of the next one, where no verdict can be read: votes have
neighbouring seeds, and none may be another's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """All parts of a request that can change an answer."""

    model: str
    pack: Pack
    """How questions are asked and answers are read."""
    formal: Pack | None = None
    """The same with a JSON schema, for servers that know them; None for none."""
    temperature: float | None
    top_p: float | None = None
    max_tokens: int
    top_logprobs: int
    seed: int
    votes: int = 1


def request(
    asking: Asking, question: Pair | Lineup, n_before: int = 0, *, knows_format: bool = True
) -> dict[str, Any]:
    """Return the body of a chat completion that asks a question.

    Args:
        asking: The judge.
        question: A pair, or the replies that are rated together.
        n_before: Replies before, to the same question, in which nothing could be read.
        knows_format: Whether the server knows `response_format`.
    """
    pack = asking.formal if asking.formal is not None and knows_format else asking.pack
    again = n_before if asking.votes == 1 else n_before * _STRIDE
    body: dict[str, Any] = {"model": asking.model, "seed": asking.seed + question.vote + again}
    if asking.temperature is not None:
        body["temperature"] = asking.temperature
    if asking.top_p is not None:
        body["top_p"] = asking.top_p
    if pack.answer.tokens:
        logprobs = {"max_tokens": 1, "logprobs": True, "top_logprobs": asking.top_logprobs}
        return body | logprobs | {"messages": messages(pack, question)}
    body |= {"max_tokens": asking.max_tokens, "messages": messages(pack, question)}
    if not pack.schema:
        return body
    name = pack.answer.json[0] if pack.form else pack.name
    schema = {"name": name, "strict": True, "schema": dict(pack.schema)}
    return body | {"response_format": {"type": "json_schema", "json_schema": schema}}


def values(asking: Asking, question: Pair | Lineup, reply: Reply) -> tuple[float, ...]:
    """Return what a judge said: (P(first is better),), or a score for each reply, in the order of `replies`.

    Raises:
        NoAnswerError: If there is no answer.
    """
    pack = asking.pack
    if isinstance(question, Pair):
        return read(pack.answer, pack.asks, pack.thinking, reply, 2)
    order = shown_order(question) if pack.asks == "list" else [0]
    found = read(pack.answer, pack.asks, pack.thinking, reply, len(order))
    return tuple(found[order.index(k)] for k in range(len(order)))


def messages(pack: Pack, question: Pair | Lineup) -> list[dict[str, str]]:
    """Return the messages that ask a question.

    Raises:
        UnwritableError: If a turn calls tools.
    """
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in question.prompt]
    if isinstance(question, Pair):
        mark = pair_key(question.prompt, question.first, question.second)[:12]
        replies = {"first": question.first, "second": question.second}
    else:
        text_alone(question.replies, "a judge's prompt")
        texts = [turn["content"] for turn in question.replies]
        if pack.asks == "list":
            mark = digest(_identity(question), 12)
            replies = {"responses": pack.listed([texts[k] for k in shown_order(question)])}
        else:
            mark = conversation_key((*question.prompt, question.replies[0]))[:12]
            replies = {"response": texts[0]}
    told = {"prompt": _told(question.prompt, mark), "mark": mark}
    return pack.fill({**told, **replies, **question.shown}, turns)


def shown_order(question: Lineup) -> list[int]:
    """Return the order in which replies are shown: shuffled by the question and the vote, never by chance."""
    order = list(range(len(question.replies)))
    random.Random(f"{digest(_identity(question), 32)}:{question.vote}").shuffle(order)
    return order


def shown_of(pack: Pack, expected: Mapping[str, Any], item: str) -> dict[str, str]:
    """Return what a judge is shown of an item beside its replies.

    Raises:
        ConfigError: If the item does not have what the pack needs.
    """
    found = {}
    for name, otherwise in pack.shows.items():
        value = expected.get(name)
        if value is None and otherwise is None:
            raise ConfigError(
                f"item {item!r} has no {name}, which judge pack {pack.name!r} shows the judge; expected the"
                f" column {name!r} in the data (rmbench models judges lists what each pack needs)"
            )
        found[name] = otherwise or "" if value is None else _as_text(value)
    return found


def _as_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "\n".join(map(_as_text, value))
    return value if isinstance(value, str) else str(value)


def _identity(question: Lineup) -> list[Any]:
    return [[identity_of(turn) for turn in turns] for turns in (question.prompt, question.replies)]


def _told(prompt: Sequence[Turn], mark: str) -> str:
    """Return a prompt as one text: a question as it is, a longer conversation turn by turn."""
    text_alone(prompt, "a judge's prompt")
    if len(prompt) == 1 and prompt[0]["role"] == "user":
        return prompt[0]["content"]
    return "\n".join(f"<{t['role']} {mark}>\n{t['content']}\n</{t['role']} {mark}>" for t in prompt)
