"""`judge:URL`: an LLM behind an OpenAI-compatible chat-completions endpoint, as a judge.

A pack says how it is asked and how its answer is read. A pack that asks about pairs makes a pairwise model,
which the engine asks in both orders; one that asks about single replies makes a reward model; one that asks
about all replies of an item makes a judge that rates them together. A question without an answer is NaN,
counted by reason, and never a tie.
"""

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

from rmbench.core.address import public_address
from rmbench.core.files import digest
from rmbench.models.judge.answer import mass
from rmbench.models.judge.endpoint import Endpoint
from rmbench.models.judge.question import Asking, request, shown_of, values
from rmbench.models.judge.reply import REASONS, UNPARSABLE, NoAnswerError, Reply
from rmbench.types import Conversation, Item, Lineup, Pair

_VERSION = "1"
"""Version of how requests are made and answers are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a judge is asked, beside the requests themselves."""

    url: str
    prompt: Mapping[str, str]
    """Its part of the fingerprint: a pack's identity, or the hash of a prompt."""
    mode: str
    structured: str
    reasks: int
    concurrency: int
    price_in: float | None
    price_out: float | None
    notes: tuple[str, ...]
    """Remarks for the user."""


class Judge:
    """Base of the judges of pairs and of replies.

    Args:
        asking: The requests.
        terms: The rest.
        endpoint: Answers them.
    """

    def __init__(self, asking: Asking, terms: Terms, endpoint: Endpoint) -> None:
        self._asking, self._terms, self._endpoint = asking, terms, endpoint
        self._lock = threading.Lock()
        self._unanswered: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self._mass, self._n_masses = 0.0, 0
        self.display_name = f"judge:{asking.model}"

    @property
    def asking(self) -> Asking:
        """What makes its requests and reads its answers, for those who send them in another way."""
        return self._asking

    def fingerprint(self) -> Mapping[str, str]:
        """Return the server, the model and the request; no key, and no option of speed or price."""
        a, t = self._asking, self._terms
        tokens = a.pack.answer.tokens
        told = {
            "url": public_address(t.url), "model": a.model, "mode": t.mode, **t.prompt,
            "temperature": a.temperature, "top_p": a.top_p, "max_tokens": a.max_tokens,
            "structured": t.structured,
            "top_logprobs": a.top_logprobs if tokens else None,
            "least_mass": a.pack.answer.least_mass if tokens else None,
            "seed": a.seed, "reasks": t.reasks, "votes": a.votes if a.votes > 1 else None,
        }  # fmt: skip
        return {"kind": "judge", "version": _VERSION, **{k: str(v) for k, v in told.items() if v is not None}}

    def votes(self) -> int:
        """Return how often each question is asked."""
        return self._asking.votes

    def shown(self, item: Item) -> Mapping[str, str]:
        """Return what the judge is shown of an item beside its replies.

        Raises:
            ConfigError: If the item does not have what the pack needs.
        """
        return shown_of(self._asking.pack, item.expected, item.id)

    def concurrency(self) -> int:
        """Return how many requests may wait for the server together."""
        return self._terms.concurrency

    def batch_tokens(self) -> int:
        """Return 1: each question is a batch of its own, so that its answer is stored when it comes."""
        return 1

    def notes(self) -> list[str]:
        """Return remarks for the user."""
        found = list(self._terms.notes)
        if self._n_masses:
            words = ", ".join(self._asking.pack.answer.tokens)
            mean, least = self._mass / self._n_masses, self._asking.pack.answer.least_mass
            found.append(
                f"{words} held {mean:.2f} of the first token's probability on average, over"
                f" {self._n_masses:,} replies; below {least:g} there is no answer"
            )
        return found

    def used(self) -> Mapping[str, float]:
        """Return requests, retries and tokens, and the cost of the tokens if their price is known."""
        t, counts = self._terms, self._endpoint.counts()
        if t.price_in is None and t.price_out is None:
            return counts
        price = counts["prompt tokens"] * (t.price_in or 0) + counts["completion tokens"] * (t.price_out or 0)
        return {**counts, "cost": price / 1e6}

    def unanswered(self) -> Mapping[str, int]:
        """Return how many questions had no answer, by reason."""
        with self._lock:
            return dict(self._unanswered)

    def _answer(self, question: Pair | Lineup) -> tuple[float, ...]:
        """Return the values of a question; NaN if there is no answer."""
        key = digest([repr(question)], 32)
        for n_before in range(self._terms.reasks + 1):

            def body(knows_format: bool, n_before: int = n_before) -> dict[str, object]:
                return request(self._asking, question, n_before, knows_format=knows_format)

            try:
                reply = self._endpoint.chat(body, key)
                self._weigh(reply)
                found = values(self._asking, question, reply)
            except NoAnswerError as error:
                if error.reason == UNPARSABLE and n_before < self._terms.reasks:
                    continue  # with another seed
                with self._lock:
                    self._unanswered[error.reason] += 1
                self._endpoint.settled(f"{error.reason}: {error}")
            else:
                self._endpoint.settled(None)
                return found
            break
        return (math.nan,) * (len(question.replies) if isinstance(question, Lineup) else 1)

    def _weigh(self, reply: Reply) -> None:
        if self._asking.pack.answer.tokens and reply.first_token:
            with self._lock:
                self._mass += mass(self._asking.pack.answer, reply)
                self._n_masses += 1

    def _mean(self, question: Pair | Lineup) -> float:
        """Return the mean of the votes of a question, for those who ask the judge directly."""
        if self._asking.votes == 1:
            return self._answer(question)[0]
        votes = [self._answer(replace(question, vote=vote))[0] for vote in range(self._asking.votes)]
        said = [vote for vote in votes if math.isfinite(vote)]
        return sum(said) / len(said) if said else math.nan


class JudgeOfPairs(Judge):
    """A judge that says which of two replies is better."""

    def prefer(self, batch: Sequence[Pair]) -> list[float]:
        """Return P(first is better) of each pair, in [0, 1]; NaN where there is no answer.

        Raises:
            ScoringError: If the server no longer answers.
        """
        return [self._answer(pair)[0] for pair in batch]


class JudgeOfLists(Judge):
    """A judge that rates all replies of an item together."""

    def most_together(self) -> int:
        """Return how many replies one question may be about."""
        return self._asking.pack.most if self._asking.pack.asks == "list" else 1

    def rate(self, batch: Sequence[Lineup]) -> list[float]:
        """Return the rating of each row's reply; NaN where there is no answer.

        Raises:
            ScoringError: If the server no longer answers.
        """
        found: list[float] = []
        for question, rows in groupby(batch, partial(replace, place=0)):
            said = self._answer(question)
            found += [said[row.place] for row in rows]
        return found


class JudgeOfReplies(JudgeOfLists):
    """A judge that rates one reply."""

    def score(self, batch: Sequence[Conversation]) -> list[float]:
        """Return the rating of each last turn; NaN if there is no answer.

        Raises:
            ScoringError: If the server no longer answers.
        """
        return [self._mean(Lineup(tuple(turns[:-1]), (turns[-1],))) for turns in batch]
