"""`dpo`: a language model as a reward model, through how likely it finds a reply.

With a reference: beta * (log pi(y|x) - log ref(y|x)), arXiv 2305.18290 eq. 5 without beta log Z(x), which all
replies to a prompt share. Rewards of different prompts are therefore apart by an unknown constant each.
Without: beta * log pi(y|x); with `average`, per token of the reply, as in SimPO (arXiv 2405.14734 eq. 4).

Only tokens of the reply count, the end of the turn among them (`hf_reply`). A reply of none has no reward: 0,
the logarithm of certainty, would be the best of all. What is stored are the
log-probabilities (`reply_logprob`): the reward is two multiplications away from them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.models.hf.checkpoint import Checkpoint, find_checkpoint, source_of
from rmbench.models.hf.load import load_causal
from rmbench.models.hf.logprobs import LogProbs, ReplyLogProb
from rmbench.models.hf.reply import ReplyFormat
from rmbench.models.hf.text import ChatFormat, PlainFormat, choose_format, read_template
from rmbench.models.hf.tokens import Tokenised, Tokens, checked_length, tokenizer_identity
from rmbench.models.runtime import Dtype, Runtime
from rmbench.types import Conversation, Part, Scored

ADAPTER_VERSION = "3"
"""Raised when any score could change."""
_PROBES = ("Is this a probe?  It is.\n\nYes: 12,345.", "\u00e9t\u00e9 \U0001f600 def f(x):\n    return x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What becomes of log-probabilities."""

    beta: float
    average: bool

    def reward(self, policy: float, reference: float, n_tokens: int) -> float:
        """Return the reward of one reply."""
        return self.beta * (policy - reference) / (max(1, n_tokens) if self.average else 1)


class ImplicitReward(Tokenised):
    """A policy, and its reference if there is one; they read the same tokens.

    Args:
        policy: Where the policy is.
        reference: Where the reference is; None for none.
        rule: What becomes of log-probabilities.
        runtime: Device, dtype, length.
        chat_template: As in `load_dpo`.
        attn: As in `load_dpo`.
        share_prompts: As in `load_dpo`.

    Raises:
        ConfigError: If one cannot be loaded, or their tokenizers differ.
    """

    def __init__(
        self,
        policy: Checkpoint,
        reference: Checkpoint | None,
        rule: Rule,
        runtime: Runtime,
        chat_template: str = "auto",
        attn: str = "auto",
        share_prompts: bool = True,
    ) -> None:
        self.display_name = f"dpo:{policy.name}"
        self._rule = rule
        self._load_again: Callable[[Dtype], ImplicitReward] = lambda dtype: ImplicitReward(
            policy, reference, rule, replace(runtime, dtype=dtype), chat_template, attn, share_prompts
        )
        for checkpoint in (policy, reference):
            if checkpoint is not None:
                source_of(checkpoint, runtime)  # what is refused is refused before any code of theirs runs
        model, tokenizer = load_causal(policy, runtime, attn)
        self._bos = tokenizer.bos_token_id
        limits = [checked_length(policy.location, model.config, tokenizer, runtime)]
        pad_id = next(int(i) for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
        found = [(policy, LogProbs(model, policy.location, pad_id, share=share_prompts))]
        if reference is not None and reference != policy:  # the same weights are not loaded twice
            other_model, other = load_causal(reference, runtime, attn)
            _check_tokenizers(policy, tokenizer, reference, other, templates=chat_template == "auto")
            limits.append(checked_length(reference.location, other_model.config, other, runtime))
            theirs = LogProbs(other_model, reference.location, pad_id, share=share_prompts)
            found.append((reference, theirs))
        inner = choose_format(tokenizer, False, chat_template, read_template)
        self._format = ReplyFormat(tokenizer, cast(ChatFormat | PlainFormat, inner))
        self.max_length = min(limits)
        self._tokens = Tokens(self._format, self.max_length, self.display_name)
        reading = {
            "format": self._format.identity,
            "max_length": str(self.max_length),
            "tokenizer": tokenizer_identity(tokenizer),
            "truncation": "left-keep-bos",
        }
        parts = [ReplyLogProb(*each, self._tokens, reading) for each in found]
        self._policy, self._reference = parts[0], None if reference is None else parts[-1]

    def fingerprint(self) -> Mapping[str, str]:
        """Return whatever can change a score; hashes the weights of folders once."""
        own = self._policy.fingerprint()
        return {
            "kind": "dpo",
            "adapter": ADAPTER_VERSION,
            "average": str(self._rule.average),
            "beta": repr(self._rule.beta),
            **{key: own[key] for key in ("attention", "dtype", "format", "max_length", "truncation")},
            "policy": self._policy.weights,
            "reference": "none" if self._reference is None else self._reference.weights,
        }

    def parts(self) -> list[Part]:
        """Return what is stored: the policy's log-probabilities, and the reference's."""
        named = zip(("policy", "reference"), self._asked(), strict=False)
        return [Part(f"{name} {each.checkpoint.name}", each, each.fingerprint) for name, each in named]

    def _asked(self) -> list[ReplyLogProb]:
        return [self._policy, *([] if self._reference is None else [self._reference])]

    def combine(self, batch: Sequence[Conversation], numbers: Sequence[Sequence[Scored]]) -> list[Scored]:
        """Return one reward per conversation from the log-probabilities of the parts."""
        counts = self._policy.n_reply_tokens(batch) if self._rule.average and batch else [1] * len(batch)
        other = [0.0] * len(batch) if self._reference is None else [s.reward for s in numbers[1]]
        return [
            replace(own, reward=self._rule.reward(own.reward, theirs, n))
            for own, theirs, n in zip(numbers[0], other, counts, strict=True)
        ]

    def joint_length(self, batch: Sequence[Conversation]) -> int | None:
        """Return the tokens that either reads for these in one batch; None where one pads rows."""
        found = [part.joint_length(batch) for part in self._asked()]
        return None if None in found else found[0]

    def batch_tokens(self) -> int:
        """Return how many tokens to give it at once: what fits, and no more than makes it faster."""
        return min(part.batch_tokens() for part in self._asked())

    def score(self, batch: Sequence[Conversation]) -> list[Scored]:
        """Return one reward per conversation; both models read the same batch."""
        asked = {id(part): part for part in self._asked()}  # a policy that is its reference reads once
        found = {key: part.score(batch) for key, part in asked.items()}
        return self.combine(batch, [found[id(part)] for part in self._asked()])

    def n_parameters(self) -> int:
        """Return the number of weights of the policy, tied ones once; the reference is not counted."""
        return sum(weight.numel() for weight in self._policy.model.parameters())

    def notes(self) -> list[str]:
        """Return remarks on the format, and on what the numbers can be compared with."""
        notes = self._format.notes()
        if self._reference is not None:
            notes.append("an implicit reward: rewards of different prompts are apart by an unknown constant")
        elif not self._rule.average:
            notes.append("no reference: longer replies are less likely and get lower rewards; see -M average")
        for part in {id(part): part for part in self._asked()}.values():
            if part.sharing_problem:
                name = part.checkpoint.name
                notes.append(f"each candidate's prompt is read again by {name}: {part.sharing_problem}")
        return notes

    def recast(self, dtype: Dtype) -> "ImplicitReward":
        """Return the same model in another dtype, loaded again."""
        return self._load_again(dtype)

    def diagnose(self, conversation: Conversation) -> dict[str, Any]:
        """Return what `rmbench check` asks about one conversation: `double_bos` and `own_forward_gap`.

        The gap is to the reward from both models' own forward passes, with all their logits.
        """
        ids = self._tokens.encode([conversation])[0].ids
        other = 0.0 if self._reference is None else self._reference.own_sum(conversation)
        (n_tokens,) = self._policy.n_reply_tokens([conversation])
        own = self._rule.reward(self._policy.own_sum(conversation), other, n_tokens)
        return {
            "double_bos": None if self._bos is None else list(ids[:2]) == [self._bos] * 2,
            "own_forward_gap": abs(own - self.score([conversation])[0].reward),
        }


def load_dpo(
    argument: str,
    *,
    runtime: Runtime,
    beta: float | None = None,
    reference: Literal["given", "none"] = "given",
    average: bool = False,
    chat_template: str = "auto",
    attn: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto",
    share_prompts: bool = True,
    max_length: int | None = None,
    trust_remote_code: bool = False,
) -> ImplicitReward:
    """A language model's implicit reward: `dpo:policy=PATH,ref=PATH`, folders or org/name[@revision].

    Args:
        argument: `policy=PATH,ref=PATH`; a comma separates, so a path has none.
        runtime: Device, dtype, length.
        beta: Factor of the reward; by default 0.1, and 1 without a reference.
        reference: `given` (by ref=PATH), or `none`: the policy's log-probability alone.
        average: Divide by the tokens of the reply (with reference=none: SimPO's reward).
        chat_template: `auto` (the policy's tokenizer's, else plain), `plain`, or the path of a Jinja file.
        attn: Attention implementation; `auto` is transformers' choice.
        share_prompts: Read what the conversations of a batch begin with once, where the models allow it.
        max_length: Most tokens of a conversation; None: as many as the model takes.
        trust_remote_code: Run the repositories' own code, in place of --trust-remote-code.

    Raises:
        ConfigError: If the argument does not say which models, or they do not go together.
    """
    places = parse_places(argument)
    if "ref" not in places and reference == "given":
        raise ConfigError(f"dpo:{argument}: no ref=PATH; for the policy alone pass -M reference=none")
    if "ref" in places and reference == "none":
        raise ConfigError(f"dpo:{argument}: it has ref=PATH, and option 'reference' is 'none'; leave one out")
    if beta is not None and not (math.isfinite(beta) and beta > 0):
        raise ConfigError(f"dpo:{argument}: option 'beta' is {beta}; expected a number above 0")
    if max_length is not None:
        runtime = replace(runtime, max_length=max_length)
    if trust_remote_code:
        runtime = replace(runtime, trust_remote_code=True)
    usual = 0.1 if reference == "given" else 1.0
    return ImplicitReward(
        find_checkpoint(places["policy"], None),
        find_checkpoint(places["ref"], None) if "ref" in places else None,
        Rule(beta=usual if beta is None else beta, average=average),
        runtime,
        chat_template,
        attn,
        share_prompts,
    )


def parse_places(argument: str) -> dict[str, str]:
    """Return {"policy": PATH, "ref": PATH}: a comma separates parts, the first `=` of a part its key.

    Raises:
        ConfigError: If a part is no KEY=PATH, comes twice, or there is no policy.
    """
    places: dict[str, str] = {}
    for part in argument.split(","):
        key, equals, path = part.partition("=")
        if not equals or not path:
            raise ConfigError(
                f"dpo:{argument}: {part!r} is not KEY=PATH; expected policy=PATH,ref=PATH (a comma separates:"
                " a path that has one needs another name, or a link)"
            )
        if key not in ("policy", "ref"):
            raise UnknownNameError("key", key, ("policy", "ref"), f"dpo:{argument}")
        if key in places:
            raise ConfigError(f"dpo:{argument}: {key}= comes twice")
        places[key] = path
    if "policy" not in places:
        raise ConfigError(f"dpo:{argument}: no policy=PATH; expected policy=PATH,ref=PATH")
    return places


def _check_tokenizers(
    policy: Checkpoint, own: Any, reference: Checkpoint, other: Any, *, templates: bool
) -> None:
    """Refuse two models that would read other tokens; a reference without a template reads the policy's."""
    both = f"{policy.location} and {reference.location}"
    mine, theirs = own.get_vocab(), other.get_vocab()
    differ = sorted(token for token in mine | theirs if mine.get(token) != theirs.get(token))
    if differ:
        ids = f"{mine.get(differ[0])} and {theirs.get(differ[0])}"
        raise ConfigError(
            f"{both}: their tokenizers differ: {len(differ)} tokens have other ids, first {differ[0]!r}"
            f" ({ids}); a log-ratio needs the same tokens"
        )
    if any(own(text)["input_ids"] != other(text)["input_ids"] for text in _PROBES):
        raise ConfigError(f"{both}: their tokenizers know the same tokens and cut a probe differently")
    written = [getattr(tokenizer, "chat_template", None) for tokenizer in (own, other)]
    if templates and written[1] is not None and written[0] != written[1]:
        raise ConfigError(
            f"{both}: their chat templates differ; choose one with -M chat_template=FILE (or plain)"
        )
