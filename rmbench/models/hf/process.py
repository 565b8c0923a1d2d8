"""`process`: a token classifier as a reward model: what it says of the steps of a reply becomes one number.

A process reward model says of every token, or of the token that ends a step, how likely all is well so far
(arXiv 2305.20050). The value at a place is the probability of one label: softmax over the labels, or the
sigmoid of the only one. The reward is the value at the last place, the smallest, the mean, or the product;
of the product its logarithm, since hundreds of probabilities multiply to 0 in floating point.

Places are all tokens of the reply, or with `step_token` those that hold the last character of each of its
occurrences. A reply without one is a single step, read at its last token. A reply of no tokens at all (an
empty one, where the template writes nothing after it) has no reward.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

from rmbench.errors import ConfigError
from rmbench.models.hf.checkpoint import Checkpoint, choose_readout, find_checkpoint, weights_identity
from rmbench.models.hf.device import pick_device
from rmbench.models.hf.forward import TokenStates
from rmbench.models.hf.load import NoHeadError, load_weights, torch, transformers
from rmbench.models.hf.reply import ReplyFormat, reply_of
from rmbench.models.hf.text import ChatFormat, Encoded, PlainFormat, choose_format, read_template
from rmbench.models.hf.tokens import Tokenised, Tokens, checked_length, scored, tokens_at_once
from rmbench.models.runtime import Dtype, Runtime
from rmbench.types import Conversation, Scored

ADAPTER_VERSION = "3"
"""Raised when any score could change."""

Reduce: TypeAlias = Literal["last", "min", "mean", "prod"]
Value: TypeAlias = Literal["probability", "logit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is read of a token classifier."""

    label: int | None
    reduce: Reduce
    value: Value
    step_token: str | None

    def __post_init__(self) -> None:
        if self.reduce == "prod" and self.value == "logit":
            raise ConfigError(
                "option 'reduce' is 'prod' and option 'value' is 'logit'; logits have no product"
            )
        if self.step_token == "":
            raise ConfigError("option 'step_token' is empty; expected the text that ends a step")

    def places(self, row: Encoded) -> list[int]:
        """Return the tokens of a conversation whose values are read, at least one."""
        first, end = reply_of(row)
        last = max(end, 1) - 1
        found = list(range(first, end)) if self.step_token is None else list(row.steps)
        return [last] if self.reduce == "last" and self.step_token is None else found or [last]

    def reward(self, logits: Any, label: int) -> float:
        """Return one number for the logits of the places (n, labels)."""
        logits = logits.double()
        if self.value == "logit":
            values = logits[:, label]
        elif logits.shape[1] == 1:
            values = torch.nn.functional.logsigmoid(logits)[:, 0]
        else:
            values = logits.log_softmax(dim=-1)[:, label]
        if self.reduce == "prod":
            return float(values.sum())
        if self.value == "probability":
            values = values.exp()
        return float({"last": values[-1], "min": values.min(), "mean": values.mean()}[self.reduce])


class ProcessReward(Tokenised):
    """A token classifier over a decoder.

    Args:
        checkpoint: Where it is.
        reading: What is read of it.
        runtime: Device, dtype, length.
        chat_template: As in `load_process`.
        attn: As in `load_process`.
        share_prompts: As in `load_process`.

    Raises:
        ConfigError: If it cannot be loaded, has no trained head, or no such label.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        reading: Reading,
        runtime: Runtime,
        chat_template: str,
        attn: str,
        share_prompts: bool = True,
    ) -> None:
        self.display_name = checkpoint.name
        self._checkpoint, self._reading = checkpoint, reading
        self._load_again: Callable[[Dtype], ProcessReward] = lambda dtype: ProcessReward(
            checkpoint, reading, replace(runtime, dtype=dtype), chat_template, attn, share_prompts
        )
        self._model, self._tokenizer, self._head = _load(checkpoint, runtime, attn)
        config = self._model.config
        names = [str(config.id2label.get(k, k)) for k in range(int(config.num_labels))]
        self._label = choose_readout(checkpoint.location, names, reading.label, None, weighable=False).label
        inner = choose_format(self._tokenizer, False, chat_template, read_template)
        self._format = ReplyFormat(self._tokenizer, cast(ChatFormat | PlainFormat, inner), reading.step_token)
        self.max_length = checked_length(checkpoint.location, self._model.config, self._tokenizer, runtime)
        self._tokens = Tokens(self._format, self.max_length, checkpoint.name)
        pads = (config.pad_token_id, self._tokenizer.pad_token_id, self._tokenizer.eos_token_id, 0)
        pad_id = next(int(i) for i in pads if i is not None and i >= 0)
        self._states = TokenStates(self._model, pad_id, share=share_prompts)
        self._weights: Mapping[str, str] | None = None

    def fingerprint(self) -> Mapping[str, str]:
        """Return whatever can change a score; hashes the weights of a folder once."""
        if self._weights is None:
            self._weights = weights_identity(self._checkpoint, self._model.config)
        return {
            "kind": "process",
            "adapter": ADAPTER_VERSION,
            "attention": str(getattr(self._model.config, "_attn_implementation", None)),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "format": self._format.identity,
            "label": str(self._label),
            "max_length": str(self.max_length),
            "reduce": self._reading.reduce,
            "truncation": "left-keep-bos",
            "value": self._reading.value,
            **self._weights,
        }

    def joint_length(self, batch: Sequence[Conversation]) -> int | None:
        """Return the tokens read for these in one batch; None where each is a padded row."""
        return self._states.joint_length(self._tokens.encode(batch))

    def batch_tokens(self) -> int:
        """Return how many tokens to give it at once: what fits, and no more than makes it faster."""
        return tokens_at_once(self._model)

    def n_parameters(self) -> int:
        """Return the number of weights, tied ones once."""
        return sum(weight.numel() for weight in self._model.parameters())

    def score(self, batch: Sequence[Conversation]) -> list[Scored]:
        """Return one reward per conversation."""
        rows = self._tokens.encode(batch) if batch else []
        if not rows:
            return []
        places = [self._reading.places(row) for row in rows]
        hidden = self._states.at(rows, places)
        with torch.inference_mode():
            logits = self._head(hidden.float()).cpu()  # (sum of places, labels)
        parts = logits.split([len(found) for found in places])
        return [
            scored(row, self._reading.reward(part, self._label))
            for part, row in zip(parts, rows, strict=True)
        ]

    def notes(self) -> list[str]:
        """Return remarks on the format, and why prompts are not shared where they are not."""
        notes = self._format.notes()
        if problem := self._states.sharing_problem:
            notes.append(f"each candidate's prompt is read again: {problem}")
        return notes

    def recast(self, dtype: Dtype) -> "ProcessReward":
        """Return the same model in another dtype, loaded again."""
        return self._load_again(dtype)

    def diagnose(self, conversation: Conversation) -> dict[str, Any]:
        """Return what `rmbench check` asks about one conversation: `double_bos` and `own_forward_gap`."""
        row = self._tokens.encode([conversation])[0]
        bos = self._tokenizer.bos_token_id
        ids = torch.tensor([row.ids], device=self._model.device)
        hook = self._head.register_forward_pre_hook(lambda _, args: (args[0].float(),))
        try:
            with torch.inference_mode():
                logits = self._model(input_ids=ids).logits[0, self._reading.places(row)].cpu()
        finally:
            hook.remove()
        own = self._reading.reward(logits, self._label)
        return {
            "double_bos": None if bos is None else list(row.ids[:2]) == [bos, bos],
            "own_forward_gap": abs(own - self.score([conversation])[0].reward),
        }


def load_process(
    argument: str,
    *,
    runtime: Runtime,
    label: int | None = None,
    reduce: Reduce = "last",
    step_token: str | None = None,
    value: Value = "probability",
    chat_template: str = "auto",
    attn: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto",
    share_prompts: bool = True,
    max_length: int | None = None,
    trust_remote_code: bool = False,
) -> ProcessReward:
    r"""A token classifier (process reward model): `process:FOLDER` or `process:org/name[@revision]`.

    Args:
        argument: Folder, or Hub id.
        runtime: Device, dtype, length.
        label: Index of the label that means a good step; needed above one label.
        reduce: The value at the last place, the smallest, the mean, or the logarithm of the product.
        step_token: Text that ends a step (`\n` is a line break); without it every token is a place.
        value: The label's probability, or its logit.
        chat_template: `auto` (the tokenizer's, else plain), `plain`, or the path of a Jinja file.
        attn: Attention implementation; `auto` is transformers' choice.
        share_prompts: Read what the conversations of a batch begin with once, where the model allows it.
        max_length: Most tokens of a conversation; None: as many as the model takes.
        trust_remote_code: Run the repository's own code, in place of --trust-remote-code.
    """
    step = None if step_token is None else step_token.replace("\\n", "\n")
    reading = Reading(label=label, reduce=reduce, value=value, step_token=step)
    if max_length is not None:
        runtime = replace(runtime, max_length=max_length)
    if trust_remote_code:
        runtime = replace(runtime, trust_remote_code=True)
    checkpoint = find_checkpoint(argument, None)
    return ProcessReward(checkpoint, reading, runtime, chat_template, attn, share_prompts)


def _load(checkpoint: Checkpoint, runtime: Runtime, attention: str) -> tuple[Any, Any, Any]:
    """Return (model, tokenizer, head); the head is in float32."""
    auto = transformers.AutoModelForTokenClassification
    model, tokenizer, info = load_weights(checkpoint, runtime, auto, attention, {})
    where, named = checkpoint.location, transformers.models.auto.modeling_auto
    if model.config.model_type in named.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise ConfigError(f"{where}: {model.config.model_type} is an encoder; process: reads decoders")
    made_for = getattr(model.config, "architectures", None) or []
    if not any(str(name).endswith("ForTokenClassification") for name in made_for):
        # The same parameters as a sequence classifier's: only its name tells.
        told = ", ".join(map(str, made_for)) or "no architecture"
        raise NoHeadError(f"{where}: its config names {told}; expected ...ForTokenClassification")
    if lacking := sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]])):
        raise NoHeadError(
            f"{where}: no trained token classifier: it lacks, or has in another shape, {lacking[0]}"
        )
    head = getattr(model, "score", None) or getattr(model, "classifier", None)
    if not isinstance(head, torch.nn.Module):
        raise ConfigError(f"{where}: {type(model).__name__} has neither 'score' nor 'classifier'")
    model.to(pick_device(runtime.device)).eval()
    return model, tokenizer, head.float()
