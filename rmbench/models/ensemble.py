"""`ensemble`: several reward models whose rewards become one, reply by reply.

min and mean - k * std are pessimistic: a reply that fools one member must fool the others too (arXiv
2310.02743 compares them with the mean for optimisation). A reward depends on the conversation alone, so that
it can be stored and does not change with the batch or the data. Two usual rules do not: z-scores over a data
set, and the worst rank among the replies to a prompt. Constants bring members to one scale instead: `shift`
and `scale`, for example means and standard deviations on other data. They are part of the model's identity.

The members' rewards are stored. Another rule needs no model run, nor does a member that was evaluated alone.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Annotated, Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from rmbench.core.address import without_secrets
from rmbench.errors import (
    ConfigError,
    RmbenchError,
    ScoringError,
    UnknownNameError,
    UnwritableError,
    is_out_of_memory,
)
from rmbench.models import register_scheme
from rmbench.models.resolve import LoadedModel, fingerprint_of, load_model, model_hash
from rmbench.models.runtime import Runtime
from rmbench.types import (
    BudgetedModel,
    ControlledModel,
    Conversation,
    CountedModel,
    NotingModel,
    PairwiseModel,
    Part,
    PartedModel,
    PrecomputedRewards,
    PreparingModel,
    RatingJudge,
    RewardModel,
    Scored,
    SizedModel,
    SteppingModel,
    TrainedModel,
    Turn,
    WritingModel,
)

How: TypeAlias = Literal["min", "mean", "median", "mean-minus-std"]
_PROMPTS_AT_ONCE = 10_000

_REDUCE: Mapping[str, Callable[[NDArray[np.float64], float], NDArray[np.float64]]] = {
    "min": lambda rewards, _: rewards.min(axis=0),
    "mean": lambda rewards, _: rewards.mean(axis=0),
    "median": lambda rewards, _: np.median(rewards, axis=0),
    "mean-minus-std": lambda rewards, k: rewards.mean(axis=0) - k * rewards.std(axis=0),
}


class Ensemble:
    """Members that score the same batch, one after the other.

    Args:
        members: At least two models that score conversations.
        how: How their rewards are combined.
        k: Standard deviations (over the members, divisor M) that `mean-minus-std` subtracts.
        shift: Subtracted from each member's rewards, one number per member.
        scale: Each member's rewards are then divided by this, one number per member.
    """

    def __init__(
        self,
        members: Sequence[LoadedModel],
        how: How,
        k: float,
        shift: Sequence[float],
        scale: Sequence[float],
    ) -> None:
        self.display_name = f"ensemble-{how}:" + ",".join(member.name for member in members)
        if len(self.display_name) > 100:
            self.display_name = f"ensemble-{how}:{len(members)} members"
        self._members, self._how, self._k = members, how, k
        self._shift, self._scale = (np.asarray(x, dtype=np.float64)[:, None] for x in (shift, scale))
        self._sized = [m.model for m in members if isinstance(m.model, SizedModel)]
        self._budgeted = [m.model for m in members if isinstance(m.model, BudgetedModel)]
        if self._sized:  # else the engine goes by characters
            self.lengths = self._lengths
        if self._budgeted:
            self.batch_tokens = lambda: min(model.batch_tokens() for model in self._budgeted)
        counted = [m.model.n_parameters() for m in members if isinstance(m.model, CountedModel)]
        if len(counted) == len(members):
            self.n_parameters = lambda: sum(counted)
        stepping = [m.model for m in members if isinstance(m.model, SteppingModel)]
        if stepping:
            self.step_counts = partial(_step_counts, stepping)
        controlled = [m.model for m in members if isinstance(m.model, ControlledModel)]
        if controlled:
            self.special_tokens = lambda: sorted({t for model in controlled for t in model.special_tokens()})
        if any(isinstance(m.model, TrainedModel) for m in members):
            self.overlap = self._overlap

    def fingerprint(self) -> Mapping[str, str]:
        """Return the members' identities, in order, and how their rewards are combined."""
        prints = [fingerprint_of(member) for member in self._members]
        dtypes = sorted({print_["dtype"] for print_ in prints if "dtype" in print_})
        k = {"k": repr(self._k)} if self._how == "mean-minus-std" else {}
        return {
            "kind": "ensemble",
            "how": self._how,
            "shift": ",".join(repr(float(x)) for x in self._shift[:, 0]),
            "scale": ",".join(repr(float(x)) for x in self._scale[:, 0]),
            "version": "1",
            **{f"member_{i}": model_hash(member) for i, member in enumerate(self._members, 1)},
            **({"dtype": "+".join(dtypes)} if dtypes else {}),
            **k,
        }

    def score(self, batch: Sequence[Conversation]) -> list[Scored]:
        """Return one reward per conversation.

        A conversation counts as truncated where it is for any member that tells; its tokens are the most
        that a member reads, as in `lengths`.

        Raises:
            ScoringError: If a member breaks its contract; it is named.
        """
        if not batch:
            return []
        return self._reduced([self._ask(number, batch) for number in range(len(self._members))])

    def parts(self) -> list[Part]:
        """Return the members, or the parts of members that have parts."""
        return [part for number in range(len(self._members)) for part in self._parts_of(number)]

    def combine(self, batch: Sequence[Conversation], numbers: Sequence[Sequence[Scored]]) -> list[Scored]:
        """Return one reward per conversation from the rewards of the members.

        Raises:
            ScoringError: If a member's is not finite; it is named.
        """
        if not batch:
            return []
        rest, answers = iter(numbers), []
        for number, member in enumerate(self._members):
            own = list(islice(rest, len(self._parts_of(number))))
            made = member.model.combine(batch, own) if isinstance(member.model, PartedModel) else own[0]
            answers.append(self._finite(number, made))
        return self._reduced(answers)

    def _parts_of(self, number: int) -> list[Part]:
        member = self._members[number]
        if isinstance(member.model, PartedModel):
            return [replace(p, name=f"{self._where(number)}: {p.name}") for p in member.model.parts()]
        model: Any = member.model
        return [Part(self._where(number), model, partial(fingerprint_of, member))]

    def _where(self, number: int) -> str:
        return f"ensemble member {number + 1} ({self._members[number].name})"

    def _reduced(self, answers: Sequence[Sequence[Scored]]) -> list[Scored]:
        # What a member cannot read has no reward of the whole either; 0 stands in until then.
        rewards = np.array([[s.reward if math.isfinite(s.reward) else 0.0 for s in row] for row in answers])
        combined = _REDUCE[self._how]((rewards - self._shift) / self._scale, self._k)
        found = []
        for reward, scored in zip(combined, zip(*answers, strict=True), strict=True):
            tokens = [s.n_tokens for s in scored if s.n_tokens is not None]
            cut = [s.truncated for s in scored if s.truncated is not None]
            why = next((s.why for s in scored if not math.isfinite(s.reward)), "")
            value = math.nan if why else float(reward)
            found.append(Scored(value, max(tokens, default=None), any(cut) if cut else None, why))
        return found

    def prepare(self, batch: Sequence[Conversation]) -> None:
        """Let every member prepare that can."""
        for member in self._members:
            if isinstance(member.model, PreparingModel):
                member.model.prepare(batch)

    def refusal(self, batch: Sequence[Conversation]) -> str:
        """Return the kind of reason why a member cannot read one of these; empty if all can."""
        return next((why for member in self._writing() if (why := member.refusal(batch))), "")

    def written(self, conversation: Conversation) -> list[str]:
        """Return the texts that members read, of those whose template may leave something out."""
        return [text for member in self._writing() for text in member.written(conversation)]

    def _writing(self) -> list[WritingModel]:
        return [member.model for member in self._members if isinstance(member.model, WritingModel)]

    def notes(self) -> list[str]:
        """Return the members' remarks, and one on scales."""
        notes = []
        if (self._shift == 0).all() and (self._scale == 1).all():
            notes.append("members' rewards are combined as they are: if their scales differ, see -M scale")
        for member in self._members:
            if isinstance(member.model, NotingModel):
                notes += [f"{member.name}: {note}" for note in member.model.notes()]
        return notes

    def _ask(self, number: int, batch: Sequence[Conversation]) -> Sequence[Scored]:
        member = self._members[number]
        where, model = self._where(number), cast(RewardModel, member.model)
        try:
            answers = list(model.score(batch))
        except UnwritableError:
            raise
        except RmbenchError as error:
            raise ScoringError(f"{where}: {error}") from error
        except Exception as error:
            if is_out_of_memory(error):  # a smaller batch may do
                raise
            raise ScoringError(f"{where} raised {type(error).__name__}: {error}") from error
        if len(answers) != len(batch):
            raise ScoringError(f"{where} returned {len(answers)} rewards for {len(batch)} conversations")
        return self._finite(number, [x if isinstance(x, Scored) else Scored(float(x)) for x in answers])

    def _finite(self, number: int, scored: Sequence[Scored]) -> Sequence[Scored]:
        if bad := [s.reward for s in scored if not math.isfinite(s.reward) and not s.why]:
            told = f"{bad[0]} for {len(bad)} of {len(scored)} conversations"
            raise ScoringError(f"{self._where(number)} returned {told}")
        where = self._where(number)
        return [replace(s, why=f"{where}: {s.why}") if not math.isfinite(s.reward) else s for s in scored]

    def _lengths(self, batch: Sequence[Conversation]) -> list[int]:
        return [max(row) for row in zip(*(model.lengths(batch) for model in self._sized), strict=True)]

    def _overlap(self, prompts: Iterable[Sequence[Turn]]) -> Mapping[str, int] | None:
        """Return the most prompts that any one member was trained on.

        None where no member knows, and where those that know saw none: another one may have seen some.
        """
        trained = [m.model for m in self._members if isinstance(m.model, TrainedModel)]
        totals: list[dict[str, int]] = [{} for _ in trained]
        silent = [m for m in self._members if not isinstance(m.model, TrainedModel)]
        all_know = all(fingerprint_of(m).get("kind") == "baseline" for m in silent)
        rest = iter(prompts)
        while part := list(islice(rest, _PROMPTS_AT_ONCE)):
            for model, total in zip(trained, totals, strict=True):
                found = model.overlap(part)
                all_know = all_know and found is not None
                for key, count in (found or {}).items():
                    total[key] = total.get(key, 0) + count
        keys = {key for total in totals for key in total}
        most = {key: max(total.get(key, 0) for total in totals) for key in sorted(keys)}
        return most if any(most.values()) or (most and all_know) else None


def _step_counts(
    models: Sequence[SteppingModel], conversations: Iterable[Conversation]
) -> Mapping[str, int] | None:
    """Return the most that any one of the models counts, of each key; None if none reads steps."""
    totals: list[dict[str, int]] = [{} for _ in models]
    rest = iter(conversations)
    while part := list(islice(rest, _PROMPTS_AT_ONCE)):
        for model, total in zip(models, totals, strict=True):
            for key, count in (model.step_counts(part) or {}).items():
                total[key] = total.get(key, 0) + count
    keys = {key for total in totals for key in total}
    return {key: max(total.get(key, 0) for total in totals) for key in sorted(keys)} or None


@register_scheme(
    "ensemble",
    rule="ensemble:A,B,C (several of these as one)",
    patterns={"ensemble:A,B,C": "several models as one: min, mean, median or mean minus std"},
)
def load_ensemble(
    argument: str,
    *,
    runtime: Runtime,
    how: How = "mean",
    k: float = 1.0,
    shift: str = "0",
    scale: str = "1",
    **members: Annotated[str, "N.OPTION"],
) -> Ensemble:
    """Several reward models as one: `ensemble:A,B,C`, each what --model takes (no pairs, no scores files).

    Args:
        argument: The members; a comma separates, or a semicolon if there is one (for members with commas).
        runtime: Device, dtype, length, for every member.
        how: Of the members' rewards for a reply; mean-minus-std takes off k standard deviations.
        k: How many, for mean-minus-std.
        shift: Numbers taken off the members' rewards first, such as `0.3,-2,0`; one is for all.
        scale: Numbers that they are then divided by, such as `1,2.5,1`; one is for all.
        members: OPTION of member number N, from 1: `2.label=1` is what `label=1` is for that model alone.

    Raises:
        UnknownNameError: If there is no such option.
        ConfigError: If a member cannot be had, and which.
    """
    where = without_secrets(f"ensemble:{argument}")
    specs = [spec.strip() for spec in argument.split(";" if ";" in argument else ",")]
    if len(specs) < 2 or not all(specs):
        raise ConfigError(f"{where}: expected at least two models, with a comma between them, and none empty")
    if not (math.isfinite(k) and k >= 0):
        raise ConfigError(f"{where}: option 'k' is {k}; expected a number, 0 or more")
    shifts, scales = (_numbers(where, *pair, len(specs)) for pair in (("shift", shift), ("scale", scale)))
    if not all(x > 0 for x in scales):
        raise ConfigError(f"{where}: option 'scale' is {scale!r}; expected numbers above 0")
    options = _options_by_member(where, members, len(specs))
    loaded = [_member(number, spec, options[number], runtime) for number, spec in enumerate(specs, 1)]
    return Ensemble(loaded, how, k, shifts, scales)


def _options_by_member(where: str, options: Mapping[str, str], n: int) -> dict[int, dict[str, str]]:
    """Return the options of members 1 to `n` from `{"2.label": "1"}`."""
    found: dict[int, dict[str, str]] = {number: {} for number in range(1, n + 1)}
    for key, value in options.items():
        number, dot, option = key.partition(".")
        if not (dot and option and number.isdecimal()):
            known = ("how", "k", "shift", "scale", *(f"{i}.OPTION" for i in found))
            raise UnknownNameError("option", key, known, where)
        if int(number) not in found or number != str(int(number)):
            raise ConfigError(f"{where}: option {key!r}: there is no member {number}; expected 1 to {n}")
        found[int(number)][option] = value
    return found


def _member(number: int, spec: str, options: Mapping[str, str], runtime: Runtime) -> LoadedModel:
    where = f"ensemble member {number} ({without_secrets(spec)})"
    try:
        loaded = load_model(spec, options, runtime)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    kinds = (
        (PairwiseModel, "compares pairs"),
        (PrecomputedRewards, "looks rewards up by item"),
        (RatingJudge, "rates all responses of an item together"),
    )
    for kind, what in kinds:
        if isinstance(loaded.model, kind) and not isinstance(loaded.model, RewardModel):
            raise ConfigError(f"{where}: it {what}; expected a model that scores a conversation")
    return loaded


def _numbers(where: str, option: str, text: str, n: int) -> list[float]:
    """Return `n` numbers; one stands for all."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    numbers = numbers * n if len(numbers) == 1 else numbers
    if len(numbers) != n or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{where}: option {option!r} is {text!r}; expected one number, or {n} with commas")
    return numbers
