"""`dpo`: a language model as a reward model, through how likely it finds a reply.

With a reference: beta * (log pi(y|x) - log ref(y|x)), arXiv 2305.18290 eq. 5 without beta log Z(x), which all
replies to a prompt share. Rewards of different prompts are therefore apart by an unknown constant each.
Without: beta * log pi(y|x); with `average`, per token of the reply, as in SimPO (arXiv 2405.14734 eq. 4).

Only tokens of the reply count, the end of the turn among them (`rmbench.models.hf.text`). A reply of no
tokens has no reward: 0, the logarithm of certainty, would be the best of all.

The backbone gives hidden states, only those that a reply's tokens are predicted from. The head is applied to
a few of them at a time: the logit of the token that comes minus logsumexp over the vocabulary, in float32.
The logits of a whole batch, B * T * V * 4 bytes, would be gigabytes where V is 150,000.

Some architectures cap or scale their logits. `LogProbs` knows three ways, compares itself with the model's
own forward pass on made-up tokens, and refuses a model that differs.

Log-probabilities are stored. Changing beta needs no forward pass, and policies share one pass of their
reference.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.models.hf.checkpoint import Checkpoint, find_checkpoint
from rmbench.models.hf.device import allowed_gap, checked_length
from rmbench.models.hf.forward import TokenStates, last_places
from rmbench.models.hf.identity import runtimes_for
from rmbench.models.hf.load import Read, explained, load_causal, torch
from rmbench.models.hf.reply import ReplyFormat, reply_of
from rmbench.models.hf.sharing import made_up_ids
from rmbench.models.hf.text import Encoded, decoder_format
from rmbench.models.hf.tokens import HFModel, Reader, Setup, Tokens, pad_id_of, tokenizer_identity
from rmbench.models.hf.weights.adapter import is_adapter
from rmbench.models.runtime import Runtime
from rmbench.types import Conversation, Part, Scored

VERSION = "2"
"""Raised when any log-probability could change."""
CELLS_AT_ONCE = {"cpu": 4_000_000, "cuda": 64_000_000, "mps": 16_000_000}
"""Logits that are held at once, in float32: 16 MB on a CPU."""


class LogProbs:
    """Sums the log-probabilities of replies' tokens.

    Args:
        model: A causal language model.
        where: Its place, for messages.
        pad_id: Fills masked places.
        share: Whether what a batch's rows begin with may be read once.

    Raises:
        ConfigError: If its logits are not those of its own forward pass.
    """

    def __init__(self, model: Any, where: str, pad_id: int, *, share: bool = True) -> None:
        self.model = model
        self.states = TokenStates(model, pad_id, share=share)
        self._head = model.get_output_embeddings()
        if self._head is None:
            raise ConfigError(f"{where}: {type(model).__name__} does not tell its output layer")
        config = model.config.get_text_config()
        self._cap = getattr(config, "final_logit_softcapping", None)
        divided = getattr(config, "logits_scaling", None) or 1.0
        self._scale = (getattr(config, "logit_scale", None) or 1.0) / divided
        self._check(where)

    def sums(self, rows: Sequence[Encoded]) -> list[float]:
        """Return log pi(reply | prompt) of each row, in nats; 0 for a reply of no tokens."""
        replies = [reply_of(row) for row in rows]
        hidden = self.states.at(rows, [range(first - 1, end - 1) for first, end in replies])
        said = [token for row, place in zip(rows, replies, strict=True) for token in row.ids[slice(*place)]]
        with torch.inference_mode():
            logps = self._logps(hidden, torch.tensor(said, dtype=torch.long, device=hidden.device))
        return [float(part.sum()) for part in logps.double().cpu().split([b - a for a, b in replies])]

    def after(self, rows: Sequence[Encoded], tokens: Sequence[int]) -> Any:
        """Return log pi of each of some tokens as the next one of each row, (rows, tokens), float32."""
        hidden = self.states.at(rows, last_places(rows)).repeat_interleave(len(tokens), dim=0)
        with torch.inference_mode():
            targets = torch.tensor(tokens, device=hidden.device).repeat(len(rows))
            return self._logps(hidden, targets).view(len(rows), len(tokens))

    def own_sum(self, row: Encoded) -> float:
        """Return the same of one row from the model's own forward pass, with all its logits."""
        first, end = reply_of(row)
        ids = torch.tensor([row.ids], device=self.model.device)
        with torch.inference_mode():
            logits = self.model(input_ids=ids, use_cache=False).logits[0, first - 1 : end - 1]
            logps = logits.float().log_softmax(dim=-1)
            return float(logps.gather(1, ids[0, first:end, None]).double().sum())

    def _logps(self, hidden: Any, targets: Any) -> Any:
        """Return log pi of each target (M,), float32, from the states before them (M, D)."""
        n_words = int(self._head.weight.shape[0])
        at_once = max(1, CELLS_AT_ONCE[self.model.device.type] // n_words)
        found = [torch.zeros(0, device=hidden.device)]
        for start in range(0, len(targets), at_once):
            part = slice(start, start + at_once)
            logits = self._head(hidden[part]).float() * self._scale
            if self._cap is not None:
                logits = torch.tanh(logits / self._cap) * self._cap
            chosen = logits.gather(1, targets[part, None])[:, 0]
            found.append(chosen - logits.logsumexp(dim=-1))
        return torch.cat(found)

    def _check(self, where: str) -> None:
        ids = made_up_ids(self.model.config.get_text_config(), 12, 3)
        row = Encoded(ids, reply=(1, len(ids)))
        own, found = self.own_sum(row), self.sums([row])[0]
        allowed = allowed_gap(self.model, 1e-4, 0.05) * max(1.0, abs(own))
        if not abs(own - found) <= allowed:  # NaN fails too
            raise ConfigError(
                f"{where}: {type(self.model).__name__} does more to its logits than rmbench knows:"
                f" log-probabilities of a probe are {found:.6g}, its own forward pass says {own:.6g}"
            )


class ReplyLogProb(HFModel):
    """A model whose number for a conversation is the log-probability of its last turn, in nats.

    Args:
        checkpoint: Where the language model is.
        logprobs: The language model.
        weights: Identity of the files that it was loaded from.
        tokenizer: Decides which tokens a text becomes.
        tokens: Encodes conversations; shared with the other parts of a reward.
    """

    def __init__(
        self, checkpoint: Checkpoint, logprobs: LogProbs, weights: str, tokenizer: Any, tokens: Tokens
    ) -> None:
        super().__init__(tokens, tokenizer, [Reader(checkpoint, logprobs.model, logprobs.states, weights)])
        self._logprobs = logprobs
        self.compare_with_own("write a small adapter (file.py:Class)")

    def fingerprint(self) -> dict[str, str]:
        """Return whatever can change the log-probability of a reply; beta and the like do not."""
        tokens = tokenizer_identity(self.tokenizer)
        return {"kind": "logprob", "version": VERSION, "tokenizer": tokens, **super().fingerprint()}

    def n_reply_tokens(self, batch: Sequence[Conversation]) -> list[int]:
        """Return the tokens that each number is a sum over."""
        places = [reply_of(row) for row in self.encode(batch)]
        return [end - first for first, end in places]

    def numbers(self, rows: Sequence[Encoded]) -> list[float]:
        """Return one log-probability per row."""
        return self._logprobs.sums(rows)

    def found_out(self) -> list[str]:
        """Return what the probe found."""
        return self._found_out

    def _own_reward(self, row: Encoded) -> float:
        return self._logprobs.own_sum(row)


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
        runtimes = runtimes_for(checkpoints, setup.runtime)
        reads, limits, found = list[Read](), list[int](), list[LogProbs]()
        for checkpoint, runtime in zip(checkpoints, runtimes, strict=True):
            read = load_causal(checkpoint, runtime, setup.attn)
            model, tokenizer = read.model, read.tokenizer
            reads.append(read)
            if checkpoint != policy:
                both = (each.tokenizer for each in reads)
                _check_tokenizers(policy, checkpoint, *both, templates=setup.chat_template == "auto")
            limits.append(checked_length(checkpoint.location, model.config, tokenizer, runtime))
            pad_id = pad_id_of(model, tokenizer)
            found.append(LogProbs(model, checkpoint.location, pad_id, share=setup.share_prompts))
        own, weights = reads[0].tokenizer, [read.weights for read in reads]
        text_format = ReplyFormat(own, decoder_format(own, setup.chat_template))
        tokens = Tokens(text_format, min(limits), f"dpo:{policy.name}")
        made = zip(checkpoints, found, weights, strict=True)
        models = [ReplyLogProb(*each, own, tokens) for each in made]
        self._policy, self._reference = models[0], None if reference is None else models[-1]
        readers = [reader for each in models for reader in each.readers]
        told = [remark for read in reads for remark in read.remarks]
        self._told = list(dict.fromkeys([*told, *(remark for each in models for remark in each.found_out())]))
        super().__init__(tokens, own, readers, (setup, policy, reference, rule))

    def fingerprint(self) -> dict[str, str]:
        """Return whatever can change a score."""
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
        other = 0.0 if self._reference is None else self._reference._own_reward(row)
        first, end = reply_of(row)
        return self._rule.reward(self._policy._own_reward(row), other, end - first)

    def _remarks(self) -> list[str]:
        if self._reference is not None:
            return [
                *self._told,
                "an implicit reward: rewards of different prompts are apart by an unknown constant",
            ]
        if not self._rule.average:
            return [
                *self._told,
                "no reference: longer replies are less likely and get lower rewards; see -M average",
            ]
        return list(self._told)


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
    base: str | None = None,
    max_length: int | None = None,
    trust_remote_code: bool = False,
    code_revision: str | None = None,
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
        base: Of each part that is an adapter: the base to put it on.  [default: the one that it names]
        max_length: Most tokens of a conversation; None: as many as the model takes.
        trust_remote_code: Run the repositories' own code, in place of --trust-remote-code.
        code_revision: Commit of another repository whose code the configs name.

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
        runtime=runtime.changed(max_length, trust_remote_code, code_revision),
        chat_template=chat_template,
        attn=attn,
        share_prompts=share_prompts,
    )
    usual = 0.1 if reference == "given" else 1.0
    policy = find_checkpoint(places["policy"], None)
    ref = find_checkpoint(places["ref"], None) if "ref" in places else None
    if base is not None:
        policy, ref = _on_base(policy, ref, base, setup.runtime)
    return ImplicitReward(setup, policy, ref, Rule(beta=usual if beta is None else beta, average=average))


def _on_base(
    policy: Checkpoint, reference: Checkpoint | None, base: str, runtime: Runtime
) -> tuple[Checkpoint, Checkpoint | None]:
    """Return policy and reference, with the base of those that are adapters; else of the policy."""
    found = dict.fromkeys(each for each in (policy, reference) if each is not None)
    adapters = []
    for each in found:
        with explained(each):
            adapters += [each] if is_adapter(each, runtime) else []
    on = {each: replace(each, base=base) for each in adapters or [policy]}
    return on.get(policy, policy), None if reference is None else on.get(reference, reference)


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
