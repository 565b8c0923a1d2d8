"""The core values: one prompt, K responses, a gold value per response.

A preference pair is K = 2, best-of-N is K = N, RM-Bench is K = 6 with style tags. Inference fills in K
rewards per item; everything else is arithmetic on stored rewards. Standard library only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, Protocol, TypeAlias, TypedDict, cast, runtime_checkable


class Turn(TypedDict):
    """One message of a conversation."""

    role: str
    """`system`, `user` or `assistant` (or what the data says: never guessed from position)."""
    content: str
    name: NotRequired[str]
    """Of who speaks, or of the tool that answers."""
    tool_calls: NotRequired[Sequence[Mapping[str, Any]]]
    """Calls of tools, as chat templates take them: `{"function": {"name", "arguments"}}`."""
    tool_call_id: NotRequired[str]
    """The call that a tool answers."""
    tools: NotRequired[Sequence[Mapping[str, Any]]]
    """At the first turn alone: the tools that the conversation may call, as JSON schemas."""
    reasoning_content: NotRequired[str]
    """The assistant's reasoning, where the data keeps it apart from the text."""
    thinking: NotRequired[str]
    """The same under another name; chat templates ask for one or the other."""


Conversation: TypeAlias = Sequence[Turn]
"""Prompt turns followed by one assistant turn: what a reward model scores."""

GoldKind: TypeAlias = Literal["label", "probability", "graded"]
"""What a gold value means: only its order; P(preferred) in a pair that sums to 1; a scale with distances."""

GOLD_KINDS: tuple[GoldKind, ...] = ("label", "probability", "graded")
LARGEST_GOLD = 1e100
"""Gold beyond this, of either sign, is refused: the squares and cubes of statistics would overflow."""


@dataclass(frozen=True, slots=True)
class Response:
    """One candidate answer."""

    text: str
    gold: float | None = None
    """Truth: higher is better; None where unknown. Unit: the item's `gold_kind`."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Facts about this response, e.g. {"generator": "gpt-4o"} or {"style": "concise"}."""
    logprob: float | None = None
    """Sum over its tokens of log P under the policy it was sampled from, nats; None: unknown."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What the assistant's message holds beside its text, such as `tool_calls`: the keys of a `Turn`."""

    @classmethod
    def of(cls, turn: Turn, gold: float | None = None) -> "Response":
        """Return a turn of the assistant's as a response, with all that it holds."""
        more = {key: value for key, value in turn.items() if key not in ("role", "content")}
        return cls(turn["content"], gold, more=more)

    @property
    def turn(self) -> Turn:
        """The response as a turn of the assistant's."""
        return cast(Turn, {"role": "assistant", "content": self.text, **self.more})

    @property
    def content(self) -> str | tuple[str, str]:
        """What two responses are told apart by: the text, and what stands beside it."""
        return (self.text, repr(sorted(self.more.items()))) if self.more else self.text


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt with its K >= 2 responses."""

    id: str
    """Unique within the data set."""
    prompt: tuple[Turn, ...]
    responses: tuple[Response, ...]
    cluster: str
    """Items that share it are not independent (usually: the same prompt)."""
    strata: Mapping[str, str] = field(default_factory=dict)
    """Named groups to report on, e.g. {"category": "Math"}."""
    gold_kind: GoldKind = "label"
    expected: Mapping[str, Any] = field(default_factory=dict)
    """What a verifier holds a response against, or a judge may be shown (`reference`, `rubric`, `principle`),
    as JSON values, e.g. {"answer": "42"}. Not part of the data's hash: no number depends on it but through
    gold, or through a model whose own identity says that it reads it."""
    votes: tuple[int, int, int] | None = None
    """Annotators for the first response, for the second, and who take both for equal; None: not known, or not
    two responses. Not part of the data's hash but of a run's identity (`votes`)."""

    def conversation(self, k: int) -> tuple[Turn, ...]:
        """Return the prompt followed by response `k` as an assistant turn."""
        return (*self.prompt, self.responses[k].turn)


@dataclass(frozen=True, slots=True)
class Pair:
    """One question to a pairwise model: which of two replies to `prompt` is better?"""

    prompt: tuple[Turn, ...]
    first: str
    second: str
    shown: Mapping[str, str] = field(default_factory=dict)
    """What else a judge is shown of the item, such as a reference."""
    vote: int = 0
    """Number of the vote, from 0, where a judge is asked several times."""


@dataclass(frozen=True, slots=True)
class Lineup:
    """One row of a question to a judge: how good is one of these replies to `prompt`?

    The rows of a question, one per reply, differ in `place` alone, and are asked together.
    """

    prompt: tuple[Turn, ...]
    replies: tuple[Turn, ...]
    """In the order of the item, or a single one."""
    place: int = 0
    """The reply that this row is about."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """What else the judge is shown of the item, such as a reference."""
    vote: int = 0
    """Number of the vote, from 0, where a judge is asked several times."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A reward with what its model wants counted. A model may return these instead of plain floats."""

    reward: float
    n_tokens: int | None = None
    """Tokens the model read; None: not reported."""
    truncated: bool | None = None
    """Whether the text was cut to fit; None: not reported."""
    why: str = ""
    """Why there is no reward (NaN), in a few words: it is counted under this. Empty: not reported."""


@runtime_checkable
class RewardModel(Protocol):
    """All that a user implements: two methods, no base class."""

    def fingerprint(self) -> Mapping[str, str]:
        """Return whatever can change a score (weights, template, dtype, version); never batch or device."""
        ...

    def score(self, batch: Sequence[Conversation]) -> Sequence[float | Scored]:
        """Return len(batch) finite rewards, in order; higher is better, any scale."""
        ...


@runtime_checkable
class PairwiseModel(Protocol):
    """Preference models and LLM judges; both orders are asked and averaged by the engine."""

    def fingerprint(self) -> Mapping[str, str]:
        """Return whatever can change a preference."""
        ...

    def prefer(self, batch: Sequence[Pair]) -> Sequence[float | Scored]:
        """Return P(first is better), each in [0, 1], in order."""
        ...


@runtime_checkable
class PrecomputedRewards(Protocol):
    """Rewards that somebody computed elsewhere, looked up by item id."""

    def fingerprint(self) -> Mapping[str, str]:
        """Return the identity of the rewards (a hash of their file)."""
        ...

    def rewards(self, items: Sequence[Item]) -> Sequence[Sequence[float]]:
        """Return one reward per response of each item; NaN where the source says it has none."""
        ...


@runtime_checkable
class RatingJudge(Protocol):
    """A judge that rates replies, each alone or all of an item together."""

    def fingerprint(self) -> Mapping[str, str]:
        """Return whatever can change a rating."""
        ...

    def most_together(self) -> int:
        """Return how many replies one question may be about; 1: each is asked about alone."""
        ...

    def rate(self, batch: Sequence[Lineup]) -> Sequence[float | Scored]:
        """Return the rating of each row's reply, in order; the rows of one question are asked once."""
        ...


@runtime_checkable
class JudgingModel(Protocol):
    """Optional: a judge, which may be shown more than replies, and may be asked several times."""

    def votes(self) -> int:
        """Return how often each question is asked."""
        ...

    def shown(self, item: Item) -> Mapping[str, str]:
        """Return what it is shown of an item beside the replies.

        Raises:
            ConfigError: If the item does not have what the judge needs.
        """
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """What gives one of the numbers that a reward is made of."""

    name: str
    """For messages."""
    model: RewardModel
    fingerprint: Callable[[], Mapping[str, str]]
    """Gives its whole identity, by which its numbers are stored; asked where there is a store."""


@runtime_checkable
class PartedModel(Protocol):
    """Optional: a reward made of numbers that other rewards are made of as well. They are stored, not it."""

    def parts(self) -> Sequence[Part]:
        """Return what gives these numbers; each has a score store of its own."""
        ...

    def combine(self, batch: Sequence[Conversation], numbers: Sequence[Sequence[Scored]]) -> Sequence[Scored]:
        """Return one reward per conversation from one row of numbers per part; nothing is read for it."""
        ...


@runtime_checkable
class SizedModel(Protocol):
    """Optional: a model that knows its token counts gets batches within the token budget."""

    def lengths(self, batch: Sequence[Conversation]) -> Sequence[int]:
        """Return the number of tokens each conversation costs, after truncation."""
        ...


@runtime_checkable
class SharingModel(Protocol):
    """Optional: a model that reads what the conversations of a batch begin with once, without padding."""

    def joint_length(self, batch: Sequence[Conversation]) -> int | None:
        """Return the tokens read for these in one batch; None where each is a padded row."""
        ...


@runtime_checkable
class PreparingModel(Protocol):
    """Optional: a model that can begin in the background what `lengths` and `score` will need."""

    def prepare(self, batch: Sequence[Conversation]) -> None:
        """Begin, and return at once."""
        ...


@runtime_checkable
class WritingModel(Protocol):
    """Optional: a model that knows which conversations its text format refuses, or writes only in part."""

    def refusal(self, batch: Sequence[Conversation]) -> str:
        """Return the kind of reason why one of these cannot be written; empty if all can."""
        ...

    def written(self, conversation: Conversation) -> Sequence[str]:
        """Return the texts that its parts read, of those in which something may be left out."""
        ...


@runtime_checkable
class ControlledModel(Protocol):
    """Optional: a model whose tokenizer reads some texts as control tokens, wherever they stand."""

    def special_tokens(self) -> Sequence[str]:
        """Return these texts, such as `<|im_end|>`."""
        ...


@runtime_checkable
class BudgetedModel(Protocol):
    """Optional: a model that knows how much fits into its memory."""

    def batch_tokens(self) -> int:
        """Return the most tokens to give it at once."""
        ...


@runtime_checkable
class NotingModel(Protocol):
    """Optional: a model with something to tell its user (a missing EOS, a fallback format)."""

    def notes(self) -> Sequence[str]:
        """Return one line per remark."""
        ...


@runtime_checkable
class ConcurrentModel(Protocol):
    """Optional: a model that waits for a server, and may be asked from several threads at once."""

    def concurrency(self) -> int:
        """Return how many batches it may be given at once."""
        ...


@runtime_checkable
class ParallelModel(Protocol):
    """Optional: a model in this process that gets more done on several batches at once than on one."""

    def batches_at_once(self) -> int:
        """Return how many; 1 for one after the other."""
        ...

    def score_beside(self, batch: Sequence[Conversation]) -> Sequence[float | Scored]:
        """Return what `score` does; to be called from so many threads at once."""
        ...

    def end_beside(self) -> None:
        """Undo what being asked from threads took; called after the last of them has ended."""
        ...


@runtime_checkable
class MeteredModel(Protocol):
    """Optional: a model that is paid for by use, and may have no answer to a question (NaN)."""

    def used(self) -> Mapping[str, float]:
        """Return what it took since it was made: requests, tokens, their price."""
        ...

    def unanswered(self) -> Mapping[str, int]:
        """Return how many questions had no answer since it was made, by reason."""
        ...


@runtime_checkable
class CountedModel(Protocol):
    """Optional: a model that knows its size, for the record's provenance."""

    def n_parameters(self) -> int:
        """Return how many numbers were learned."""
        ...


@runtime_checkable
class TrainedModel(Protocol):
    """Optional: a model that knows what it was trained on."""

    def overlap(self, prompts: Iterable[Sequence[Turn]]) -> Mapping[str, int] | None:
        """Return how many of `prompts` were trained on: `exact`, `ngram`; None where that is unknown.

        They come one at a time, and may be many.
        """
        ...


@runtime_checkable
class SteppingModel(Protocol):
    """Optional: a model that rates the steps of a reply."""

    def step_counts(self, conversations: Iterable[Conversation]) -> Mapping[str, int] | None:
        """Return `steps`, of all replies, and `responses_without_separator`; None if it reads no steps.

        They come one at a time, and may be many.
        """
        ...


AnyModel: TypeAlias = RewardModel | PairwiseModel | PrecomputedRewards | RatingJudge


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its uncertainty. Never a bare float, so that no table can lose its error bar."""

    value: float
    """Point estimate, in `unit`."""
    ci95: tuple[float, float] | None
    """95% interval, (low, high); None below two clusters or where none is defined."""
    stderr: float | None
    """Standard error clustered by prompt; None where only an interval is known."""
    n: int
    """Observations measured, in the metric's own unit of observation (pairs, prompts)."""
    n_clusters: int
    """Independent groups among them (usually prompts)."""
    unit: str = "fraction"
    higher_is_better: bool | None = True
    """None for a description that has no good direction."""
    remark: str = ""
    """What to bear in mind with this number, in words; empty for nothing."""
