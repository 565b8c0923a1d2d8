"""`process`: a token classifier as a reward model; its values for the steps of a reply become one number.

A process reward model gives every token, or the token that ends a step, the probability that the reply is
correct so far (arXiv 2305.20050). The value at a place is the probability of one label: softmax over the
labels, or the sigmoid of the only one. The reward is the value at the last place, the smallest, the mean, or
the logarithm of the product: hundreds of probabilities multiply to 0 in floating point.

Places are all tokens of the reply, or with `step_token` those that hold the last character of each of its
occurrences. A reply without one is a single step, read at its last token. A reply of no tokens at all (an
empty one, where the template writes nothing after it) has no reward.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rmbench.errors import ConfigError
from rmbench.models.hf.checkpoint import (
    Checkpoint,
    architectures,
    choose_readout,
    find_checkpoint,
    label_names,
)
from rmbench.models.hf.device import checked_length, pick_device
from rmbench.models.hf.forward import TokenStates
from rmbench.models.hf.load import (
    NoHeadError,
    Read,
    float32_input,
    is_decoder,
    load_weights,
    torch,
    transformers,
)
from rmbench.models.hf.text import Encoded, ReplyFormat, decoder_format, reply_of
from rmbench.models.hf.tokens import HFModel, Reader, Setup, Tokens, pad_id_of
from rmbench.models.hf.weights.foreign import refuse_heads
from rmbench.models.runtime import Runtime

ADAPTER_VERSION = "3"
"""Raised when any score could change."""

Reduce: TypeAlias = Literal["last", "min", "mean", "prod"]
Value: TypeAlias = Literal["probability", "logit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the values of a token classifier become a reward."""

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


class ProcessReward(HFModel):
    """A token classifier over a decoder.

    Args:
        setup: How it is loaded and read.
        checkpoint: Where it is.
        reading: How its values become a reward.

    Raises:
        ConfigError: If it cannot be loaded, has no trained head, or no such label.
    """

    def __init__(self, setup: Setup, checkpoint: Checkpoint, reading: Reading) -> None:
        where, self._reading = checkpoint.location, reading
        read, self._head = _load(checkpoint, setup.runtime, setup.attn)
        model, tokenizer = read.model, read.tokenizer
        self._told = read.remarks
        names = label_names(model.config)
        self._label = choose_readout(where, names, reading.label, None, weighable=False).label
        inner = decoder_format(tokenizer, setup.chat_template)
        text_format = ReplyFormat(tokenizer, inner, reading.step_token)
        max_length = checked_length(where, model.config, tokenizer, setup.runtime)
        self._states = TokenStates(model, pad_id_of(model, tokenizer), share=setup.share_prompts)
        super().__init__(
            Tokens(text_format, max_length, checkpoint.name),
            tokenizer,
            [Reader(checkpoint, model, self._states, read.weights)],
            (setup, checkpoint, reading),
        )
        self.compare_with_own("write a small adapter (file.py:Class)")

    def fingerprint(self) -> dict[str, str]:
        """Return whatever can change a score."""
        return {
            "kind": "process",
            "adapter": ADAPTER_VERSION,
            "label": str(self._label),
            "reduce": self._reading.reduce,
            "value": self._reading.value,
            **super().fingerprint(),
        }

    def numbers(self, rows: Sequence[Encoded]) -> list[float]:
        """Return one reward per row."""
        places = [self._reading.places(row) for row in rows]
        hidden = self._states.at(rows, places)
        with torch.inference_mode():
            logits = self._head(hidden.float()).cpu()  # (sum of places, labels)
        parts = logits.split([len(found) for found in places])
        return [self._reading.reward(part, self._label) for part in parts]

    def _own_reward(self, row: Encoded) -> float:
        ids = torch.tensor([row.ids], device=self.model.device)
        with torch.inference_mode(), float32_input(self._head):
            logits = self.model(input_ids=ids).logits[0, self._reading.places(row)].cpu()
        return self._reading.reward(logits, self._label)

    def _remarks(self) -> list[str]:
        return list(self._told)


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
    base: str | None = None,
    max_length: int | None = None,
    trust_remote_code: bool = False,
    code_revision: str | None = None,
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
        base: Of an adapter: the base to put it on.  [default: the one that it names]
        max_length: Most tokens of a conversation; None: as many as the model takes.
        trust_remote_code: Run the repository's own code, in place of --trust-remote-code.
        code_revision: Commit of another repository whose code the configs name.
    """
    step = None if step_token is None else step_token.replace("\\n", "\n")
    reading = Reading(label=label, reduce=reduce, value=value, step_token=step)
    setup = Setup(
        runtime=runtime.changed(max_length, trust_remote_code, code_revision),
        chat_template=chat_template,
        attn=attn,
        share_prompts=share_prompts,
    )
    return ProcessReward(setup, find_checkpoint(argument, None, base), reading)


def _load(checkpoint: Checkpoint, runtime: Runtime, attention: str) -> tuple[Read, Any]:
    """Return (what was read, head); the head is in float32."""
    auto = transformers.AutoModelForTokenClassification
    read = load_weights(checkpoint, runtime, auto, attention, {})
    model, where = read.model, checkpoint.location
    if not is_decoder(model.config):
        raise ConfigError(f"{where}: {model.config.model_type} is an encoder; process: reads decoders")
    made_for = architectures(model.config)
    if getattr(model.config, "task", None) == "TOKEN_CLS":  # an adapter's; its base may be any
        made_for = [type(model).__name__]
    if not any(name.endswith("ForTokenClassification") for name in made_for):
        # The same parameters as a sequence classifier's: only its name tells.
        told = ", ".join(made_for) or "no architecture"
        raise NoHeadError(f"{where}: its config names {told}; expected ...ForTokenClassification")
    if lacking := [*read.lacks["missing"], *read.lacks["mismatched"]]:
        raise NoHeadError(
            f"{where}: no trained token classifier: it lacks, or has in another shape, {lacking[0]}"
        )
    refuse_heads(where, model, read.lacks["unexpected"])
    head = getattr(model, "score", None) or getattr(model, "classifier", None)
    if not isinstance(head, torch.nn.Module):
        raise ConfigError(f"{where}: {type(model).__name__} has neither 'score' nor 'classifier'")
    model.to(pick_device(runtime.device)).eval()
    return read, head.float()
