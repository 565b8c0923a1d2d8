"""`dpo`: a language model as a reward model, through how likely it finds a reply.

With a reference: beta * (log pi(y|x) - log ref(y|x)), arXiv 2305.18290 eq. 5 without beta log Z(x), which all
replies to a prompt share. Rewards of different prompts are therefore apart by an unknown constant each.
Without: beta * log pi(y|x); with `average`, per token of the reply, as in SimPO (arXiv 2405.14734 eq. 4).

Only tokens of the reply count, the end of the turn among them (`rmbench.models.hf.reply`). A reply of no
tokens has no reward: 0, the logarithm of certainty, would be the best of all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.models.hf.checkpoint import Checkpoint, find_checkpoint, source_of
from rmbench.models.hf.device import checked_length
from rmbench.models.hf.load import load_causal
from rmbench.models.hf.logprobs import LogProbs, ReplyLogProb
from rmbench.models.hf.reply import ReplyFormat, reply_of
from rmbench.models.hf.text import Encoded, decoder_format
from rmbench.models.hf.tokens import HFModel, Setup, Tokens, pad_id_of
from rmbench.models.runtime import Runtime
from rmbench.types import Conversation, Part, Scored

ADAPTER_VERSION = "3"
"""Raised when any score could change."""
_PROBES = ("Is this a probe?  It is.\n\nYes: 12,345.", "\u00e9t\u00e9 \U0001f600 def f(x):\n    return x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How log-probabilities become a reward."""

    beta: float
    average: bool

    def reward(self, policy: float, reference: float, n_tokens: int) -> float:
        """Return the reward of one reply."""
        return self.beta * (policy - reference) / (max(1, n_tokens) if self.average else 1)


class ImplicitReward(HFModel):
    """A policy, and its reference if there is one; they read the same tokens.

    Args:
        setup: How they are loaded and read.
        policy: Where the policy is.
        reference: Where the reference is; None for a reward without one.
        rule: How log-probabilities become a reward.

    Raises:
        ConfigError: If one cannot be loaded, or their tokenizers differ.
    """

    def __init__(self, setup: Setup, policy: Checkpoint, reference: Checkpoint | None, rule: Rule) -> None:
        self._rule = rule
        # What is refused is refused before any of their code runs; the same weights are not loaded twice.
        checkpoints = [c for c in dict.fromkeys((policy, reference)) if c is not None]
        for checkpoint in checkpoints:
            source_of(checkpoint, setup.runtime)
        tokenizers, limits, found = list[Any](), list[int](), list[LogProbs]()
        for checkpoint in checkpoints:
            model, tokenizer = load_causal(checkpoint, setup.runtime, setup.attn)
            tokenizers.append(tokenizer)
            if checkpoint != policy:
                _check_tokenizers(policy, checkpoint, *tokenizers, templates=setup.chat_template == "auto")
            limits.append(checked_length(checkpoint.location, model.config, tokenizer, setup.runtime))
            pad_id = pad_id_of(model, tokenizer)
            found.append(LogProbs(model, checkpoint.location, pad_id, share=setup.share_prompts))
        own = tokenizers[0]
        text_format = ReplyFormat(own, decoder_format(own, setup.chat_template))
        tokens = Tokens(text_format, min(limits), f"dpo:{policy.name}")
        models = [ReplyLogProb(*each, own, tokens) for each in zip(checkpoints, found, strict=True)]
        self._policy, self._reference = models[0], None if reference is None else models[-1]
        readers = [reader for each in models for reader in each.readers]
        super().__init__(tokens, own, readers, (setup, policy, reference, rule))

    def fingerprint(self) -> dict[str, str]:
        """Return whatever can change a score; hashes the weights of folders once."""
        found = super().fingerprint()
        return {
            "kind": "dpo",
            "adapter": ADAPTER_VERSION,
            "average": str(self._rule.average),
            "beta": repr(self._rule.beta),
            "policy": found.pop("weights"),
            "reference": "none" if self._reference is None else self._reference.readers[0].weights,
            **found,
        }

    def parts(self) -> list[Part]:
        """Return the models whose numbers are stored: the policy, and the reference."""
        named = zip(("policy", "reference"), self._asked(), strict=False)
        return [
            Part(f"{name} {each.readers[0].checkpoint.name}", each, each.fingerprint) for name, each in named
        ]

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

    def score(self, batch: Sequence[Conversation]) -> list[Scored]:
        """Return one reward per conversation; both models read the same batch."""
        asked = {id(part): part for part in self._asked()}  # a policy that is its reference reads once
        found = {key: part.score(batch) for key, part in asked.items()}
        return self.combine(batch, [found[id(part)] for part in self._asked()])

    def _own_reward(self, row: Encoded) -> float:
        other = 0.0 if self._reference is None else self._reference.own_sum(row)
        first, end = reply_of(row)
        return self._rule.reward(self._policy.own_sum(row), other, end - first)

    def _remarks(self) -> list[str]:
        if self._reference is not None:
            return ["an implicit reward: rewards of different prompts are apart by an unknown constant"]
        if not self._rule.average:
            return ["no reference: longer replies are less likely and get lower rewards; see -M average"]
        return []


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
    setup = Setup(
        runtime=runtime.changed(max_length, trust_remote_code),
        chat_template=chat_template,
        attn=attn,
        share_prompts=share_prompts,
    )
    usual = 0.1 if reference == "given" else 1.0
    return ImplicitReward(
        setup,
        find_checkpoint(places["policy"], None),
        find_checkpoint(places["ref"], None) if "ref" in places else None,
        Rule(beta=usual if beta is None else beta, average=average),
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
    policy: Checkpoint, reference: Checkpoint, own: Any, other: Any, *, templates: bool
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
