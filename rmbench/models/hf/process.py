"""`process`: a model that rates the steps of a reply; its values for them become one number.

A process reward model gives every token, or the token that ends a step, the probability that the reply is
correct so far (arXiv 2305.20050). The value at a place is the probability of one label: softmax over the
labels, or the sigmoid of the only one. The reward is the value at the last place, the smallest, the mean, or
the logarithm of the product: hundreds of probabilities multiply to 0 in floating point.

Places of a plain token classifier are all tokens of the reply, or with `step_token` those that hold the last
character of each of its occurrences, and the last token of the reply where a step ends without one. A reply
of no tokens at all (an empty one, where the template writes nothing after it) has no reward.

A recipe with steps (`rmbench.models.hf.recipes.steps`) names another head, and a mark that is written after
each step and read there. `insert` does that for token classifiers.
"""

from collections.abc import Iterable, Mapping, Sequence
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
from rmbench.models.hf.recipes.choose import Asked
from rmbench.models.hf.recipes.fit import Fit
from rmbench.models.hf.recipes.recipe import Example, Recipe, recipes
from rmbench.models.hf.recipes.step_text import StepFormat
from rmbench.models.hf.reply import ReplyFormat, reply_of
from rmbench.models.hf.text import Encoded, TextFormat, decoder_format
from rmbench.models.hf.tokens import HFModel, Reader, Setup, Tokens, pad_id_of
from rmbench.models.hf.weights.foreign import refuse_heads
from rmbench.models.runtime import Runtime
from rmbench.types import Conversation

ADAPTER_VERSION = "3"
"""Raised when any score could change."""

Reduce: TypeAlias = Literal["last", "min", "mean", "prod"]
Value: TypeAlias = Literal["probability", "logit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the values of the places of a reply become a reward."""

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
        if row.steps:
            return list(row.steps)
        first, end = reply_of(row)
        last = max(end, 1) - 1
        return [last] if self.reduce == "last" else list(range(first, end)) or [last]

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
    """A token classifier over a decoder, or another head that a recipe for steps names.

    Args:
        setup: How it is loaded and read.
        checkpoint: Where it is.
        reading: How its values become a reward.
        asked: The user's options of recipes.

    Raises:
        ConfigError: If it cannot be loaded, has no trained head, or no such label.
    """

    def __init__(
        self, setup: Setup, checkpoint: Checkpoint, reading: Reading, asked: Asked | None = None
    ) -> None:
        where, self._reading, asked = checkpoint.location, reading, asked or Asked()
        asked.check_template(setup.chat_template)
        fit = Fit(checkpoint, setup.runtime, asked, None, rates_steps=True)
        read, self._head = _load(checkpoint, setup.runtime, setup.attn, fit)
        model, tokenizer = read.model, read.tokenizer
        self._told, self._recipe, self._why, self._unread = read.remarks, fit.recipe, fit.why, fit.unread
        self._steps = None if fit.recipe is None else fit.recipe.steps
        names = label_names(model.config)
        label = reading.label
        if (
            label is None and self._steps is not None and len(names) == 2
        ):  # good or bad; of three nobody knows
            label = self._steps.label
        self._label = choose_readout(where, names, label, None, weighable=False).label
        text_format = _format_of(tokenizer, self._recipe, reading, setup.chat_template)
        max_length = checked_length(where, model.config, tokenizer, setup.runtime)
        self._states = TokenStates(model, pad_id_of(model, tokenizer), share=setup.share_prompts)
        super().__init__(
            Tokens(text_format, max_length, checkpoint.name),
            tokenizer,
            [Reader(checkpoint, model, self._states, read.weights)],
            (setup, checkpoint, reading, asked),
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
            **({} if self._recipe is None else {"recipe": self._recipe.identity}),
        }

    def step_counts(self, conversations: Iterable[Conversation]) -> Mapping[str, int] | None:
        """Return how many steps the replies have, and how many replies nothing divides into steps.

        None where the model reads every token.
        """
        if self._steps is None and self._reading.step_token is None:
            return None
        n_steps = n_whole = 0
        for turns in conversations:
            reply = turns[-1]["content"]
            if self._steps is not None:
                n_steps, is_whole = n_steps + len(self._steps.of(reply)), not self._steps.is_divided(reply)
            else:
                *ended, rest = reply.split(self._reading.step_token)
                n_steps, is_whole = n_steps + len(ended) + bool(rest.strip() or not ended), not ended
            n_whole += is_whole
        return {"steps": n_steps, "responses_without_separator": n_whole}

    def special_tokens(self) -> list[str]:
        """Return the texts that the tokenizer reads as control tokens, but for the mark of the recipe."""
        mark = None if self._steps is None else self._steps.mark
        return [token for token in super().special_tokens() if token != mark]

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

    def card_example(self) -> tuple[Example, list[float]] | None:
        """Return what the recipe's card states, and the rewards of this model; None if it states nothing.

        Cards state values of last steps.
        """
        example = None if self._recipe is None else self._recipe.example
        if example is None or (self._reading.reduce, self._reading.value) != ("last", "probability"):
            return None
        return example, [scored.reward for scored in self.score(example.conversations())]

    def _remarks(self) -> list[str]:
        notes = list(self._told)
        if self._unread:
            notes.append(f"the files also have {self._unread}, which is not read")
        if (recipe := self._recipe) is not None and self._steps is not None:
            where = "before" if self._steps.written == "turns" else "at"
            notes.append(
                f"recipe {recipe.name} ({self._why}): {recipe.about}; each step is read {where}"
                f" {self._steps.mark!r}, which is written after it; reduce={self._reading.reduce}"
            )
        elif (step := self._reading.step_token) is not None:
            notes.append(
                f"a last step without {step!r} after it is read at the end of the reply; if the model was"
                f" trained at a {step!r} after every step, pass -M insert= with it"
            )
        return notes


def _format_of(tokenizer: Any, recipe: Recipe | None, reading: Reading, chat_template: str) -> TextFormat:
    """Return how conversations are written."""
    if recipe is not None and recipe.steps is not None:
        return StepFormat(tokenizer, recipe, recipe.steps, chat_template)
    return ReplyFormat(tokenizer, decoder_format(tokenizer, chat_template), reading.step_token)


def load_process(
    argument: str,
    *,
    runtime: Runtime,
    label: int | None = None,
    reduce: Reduce = "last",
    step_token: str | None = None,
    insert: str | None = None,
    value: Value = "probability",
    recipe: str = "auto",
    head: str | None = None,
    format: str | None = None,  # noqa: A002 - the option's name
    chat_template: str = "auto",
    attn: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto",
    share_prompts: bool = True,
    base: str | None = None,
    max_length: int | None = None,
    trust_remote_code: bool = False,
    code_revision: str | None = None,
) -> ProcessReward:
    r"""A process reward model, which rates steps: `process:FOLDER` or `process:org/name[@revision]`.

    Args:
        argument: Folder, or Hub id.
        runtime: Device, dtype, length.
        label: Index of the label that means a good step; needed above one label, unless a recipe has it.
        reduce: The value at the last place, the smallest, the mean, or the logarithm of the product.
        step_token: Text that ends a step (`\n` is a line break); without it, and without a recipe, every
            token is a place. The last step is read at the reply's last token where no such text ends it.
        insert: Text that is written after each step, the last one too, in place of `step_token` (of itself
            without that), as tokens of its own; read there. TRL trains so.
        value: The label's probability, or its logit.
        recipe: How steps are read: `auto` (by what the files show), `none`, a name of `rmbench models
            recipes`, or a YAML file.
        head: `text:GOOD,BAD` or `token:ID-ID`: the logit of one word less that of another, from the LM head.
        format: `template`, or the format of a recipe such as `math-shepherd`.
        chat_template: `auto` (the tokenizer's, else plain), `plain`, or the path of a Jinja file.
        attn: Attention implementation; `auto` is transformers' choice.
        share_prompts: Read what the conversations of a batch begin with once, where the model allows it.
        base: Of an adapter: the base to put it on.  [default: the one that it names]
        max_length: Most tokens of a conversation; None: as many as the model takes.
        trust_remote_code: Run the repository's own code, in place of --trust-remote-code.
        code_revision: Commit of another repository whose code the configs name.
    """
    step, mark = (None if t is None else t.replace("\\n", "\n") for t in (step_token, insert))
    reading = Reading(label=label, reduce=reduce, value=value, step_token=step)
    if mark == "":
        raise ConfigError("option 'insert' is empty; expected the text that is written after a step")
    asked = Asked(recipe=recipe, head=head, format=format, step_token=step, insert=mark)
    setup = Setup(
        runtime=runtime.changed(max_length, trust_remote_code, code_revision),
        chat_template=chat_template,
        attn=attn,
        share_prompts=share_prompts,
    )
    return ProcessReward(setup, find_checkpoint(argument, None, base), reading, asked)


def _load(checkpoint: Checkpoint, runtime: Runtime, attention: str, fit: Fit) -> tuple[Read, Any]:
    """Return (what was read, head); the head is in float32. `fit` finds the recipe."""
    auto = transformers.AutoModelForTokenClassification
    read = load_weights(checkpoint, runtime, auto, attention, {}, fit=fit)
    model, where = read.model, checkpoint.location
    if not is_decoder(model.config) or not _may_read_left_to_right(model):
        raise ConfigError(f"{where}: {model.config.model_type} is an encoder; process: reads decoders")
    if fit.head is None:
        _check_class(where, model)
    lacking = [*read.lacks["missing"], *read.lacks["mismatched"]]
    if lacking := [name for name in lacking if fit.head is None or not name.startswith("score.")]:
        raise NoHeadError(
            f"{where}: no trained token classifier: it lacks, or has in another shape, {lacking[0]}"
        )
    refuse_heads(where, model, fit.not_seen(read.lacks["unexpected"]))
    head = getattr(model, "score", None) or getattr(model, "classifier", None)
    if not isinstance(head, torch.nn.Module):
        raise ConfigError(f"{where}: {type(model).__name__} has neither 'score' nor 'classifier'")
    model.to(pick_device(runtime.device)).eval()
    return read, head.float()


def _may_read_left_to_right(model: Any) -> bool:
    """Say no for encoders that transformers has no masked language model of, such as CANINE."""
    decoders = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return hasattr(model, "score") or model.config.model_type in decoders


def _check_class(where: str, model: Any) -> None:
    """Refuse what is no token classifier: its parameters are a sequence classifier's, only the name tells."""
    made_for = architectures(model.config)
    if getattr(model.config, "task", None) == "TOKEN_CLS":  # an adapter's; its base may be any
        made_for = [type(model).__name__]
    if any(name.endswith("ForTokenClassification") for name in made_for):
        return
    told = ", ".join(made_for) or "no architecture"
    by_words = ", ".join(name for name, each in recipes().items() if each.steps and not each.match.size)
    raise NoHeadError(
        f"{where}: its config names {told}; expected ...ForTokenClassification, or files that a recipe for"
        " steps fits (`rmbench models recipes`). A language model that rates steps by a word needs -M recipe="
        f" with {by_words}"
    )
