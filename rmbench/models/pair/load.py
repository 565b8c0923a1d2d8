"""`pair:FOLDER` and `pair:org/name[@revision]`: local models that compare two replies."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from rmbench.errors import ConfigError
from rmbench.models.hf.checkpoint import Checkpoint, find_checkpoint
from rmbench.models.hf.device import checked_length
from rmbench.models.hf.dpo import LogProbs
from rmbench.models.hf.identity import pin_of
from rmbench.models.hf.load import explained, load_causal, load_weights, quiet, transformers
from rmbench.models.hf.recipes.recipe import Seen
from rmbench.models.hf.recipes.tensors import tensors_of
from rmbench.models.hf.tokens import pad_id_of
from rmbench.models.hf.weights.adapter import is_adapter
from rmbench.models.pair.marked import load_marked
from rmbench.models.pair.model import FirstTokenReader, LetterReader, PairModel, tokenizer_hash
from rmbench.models.pair.recipe import PairRecipe, Question, choose_pair_recipe
from rmbench.models.pair.text import QuestionText
from rmbench.models.runtime import Runtime
from rmbench.types import Pair, Turn

_PROBE = Pair((Turn(role="user", content="What is the capital of France?"),), "Paris.", "I do not know.")
_LEAST_MASS = 0.5
"""Least probability of both letters together at a probe, where nothing else says that a model compares."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """Where a model is and how it is read."""

    checkpoint: Checkpoint
    runtime: Runtime
    chat_template: str
    attn: str
    share_prompts: bool
    recipe: PairRecipe
    why: str
    is_named: bool
    """The recipe is the user's choice."""

    @property
    def where(self) -> str:
        return self.checkpoint.location

    @property
    def remark(self) -> str:
        more = f"; {self.recipe.remark}" if self.recipe.remark else ""
        return f"recipe {self.recipe.name} ({self.why}): {self.recipe.about}{more}"


def load_pair(
    argument: str,
    *,
    runtime: Runtime,
    recipe: str = "auto",
    chat_template: str = "auto",
    attn: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto",
    share_prompts: bool = True,
    base: str | None = None,
    max_length: int | None = None,
    trust_remote_code: bool = False,
    code_revision: str | None = None,
) -> PairModel:
    """A model that compares two replies, on this machine: `pair:FOLDER`, or `pair:org/name[@revision]`.

    Args:
        argument: Folder, or Hub id.
        runtime: Device, dtype, length.
        recipe: How it is asked and read: `auto` (by what the files show), a name of `rmbench models recipes`,
            or a YAML file.
        chat_template: Of a recipe that asks in a chat turn: `auto` (the tokenizer's), `plain`, or a file.
        attn: Attention implementation; `auto` is transformers' choice.
        share_prompts: Read what the questions of a batch begin with once, where the model allows it.
        base: Where config and tokenizer of the encoder are, for a folder without them (llm-blender/PairRM);
            of an adapter, its base.  [default: the one that it names]
        max_length: Most tokens of a question; None: what the family says, else as many as the model takes.
        trust_remote_code: Run the repository's own code, in place of --trust-remote-code.
        code_revision: Commit of another repository whose code the configs name.

    Raises:
        ConfigError: If it cannot be loaded, or no recipe fits.
    """
    runtime = runtime.changed(max_length, trust_remote_code, code_revision)
    checkpoint = find_checkpoint(argument, None)
    with quiet(), explained(checkpoint):
        if base is not None and is_adapter(checkpoint, runtime):
            checkpoint, base = replace(checkpoint, base=base), None
        pin = pin_of(checkpoint, runtime)
        config = transformers.AutoConfig.from_pretrained(pin.checkpoint.location, **pin.source)
        tensors = tensors_of(pin, runtime)
    seen = Seen(checkpoint.location, config, tensors, None)
    found, why = choose_pair_recipe(recipe, seen)
    asked = _Asked(checkpoint, runtime, chat_template, attn, share_prompts, found, why, recipe != "auto")
    if found.question is not None:
        if base is not None:
            raise ConfigError(f"{asked.where}: option 'base': it is no adapter, and has a config of its own")
        return _asking(asked, found.question, config)
    if chat_template != "auto":
        raise ConfigError(f"{asked.where}: option 'chat_template': the recipe {found.name} has none")
    marked = load_marked(checkpoint, pin, tensors, found, runtime, attn, base)
    name = f"pair:{checkpoint.name}"
    return PairModel(name, found, marked.text, marked.reader, marked.identity, [asked.remark])


def _asking(asked: _Asked, form: Question, config: Any) -> PairModel:
    """Return a language model that answers with a letter."""
    is_seq2seq = bool(getattr(config, "is_encoder_decoder", False))
    where, runtime = asked.where, asked.runtime
    if not is_seq2seq:
        read = load_causal(asked.checkpoint, runtime, asked.attn)
    else:
        auto = transformers.AutoModelForSeq2SeqLM
        read = load_weights(asked.checkpoint, runtime, auto, asked.attn, {})
        if wrong := [name for names in read.lacks.values() for name in names]:
            raise ConfigError(
                f"{where}: no whole language model: {len(wrong)} weights are missing, of another shape or not"
                f" read, first {wrong[0]!r}"
            )
        read.model.eval()
    model, tokenizer = read.model, read.tokenizer
    longest = checked_length(where, model.config, tokenizer, runtime)
    if runtime.max_length is None and form.max_length is not None:
        longest = min(longest, form.max_length)
    text = QuestionText(tokenizer, form, asked.chat_template, longest, where)
    letters, pad_id = _letters(tokenizer, form, where), pad_id_of(model, tokenizer)
    reader: LetterReader | FirstTokenReader
    if is_seq2seq:
        reader = FirstTokenReader(model, pad_id, letters, where)
    else:
        reader = LetterReader(LogProbs(model, where, pad_id, share=asked.share_prompts), letters)
    mass = reader.mass(text.encode([_PROBE])[0])
    both = " and ".join(map(repr, form.letters))
    if mass < _LEAST_MASS and not asked.is_named:
        raise ConfigError(
            f"{where}: {both} hold {mass:.2g} of the probability of the answer to a probe, so the recipe"
            f" {asked.recipe.name} does not seem to be its own; if it is, pass -M recipe={asked.recipe.name};"
            " other texts go into a YAML file, -M recipe=FILE"
        )
    told_mass = f"{both} hold {mass:.2g} of the probability of the answer to a probe"
    identity = {"weights": read.weights, "tokenizer": tokenizer_hash(tokenizer)}
    remarks = [*read.remarks, asked.remark, told_mass]
    return PairModel(f"pair:{asked.checkpoint.name}", asked.recipe, text, reader, identity, remarks)


def _letters(tokenizer: Any, form: Question, where: str) -> tuple[int, int]:
    """Return the ids of the two letters, each one token."""
    rows = [tokenizer(letter, add_special_tokens=False)["input_ids"] for letter in form.letters]
    for letter, ids in zip(form.letters, rows, strict=True):
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise ConfigError(f"{where}: its tokenizer cuts {letter!r} into {len(ids)} tokens; expected one")
    if rows[0] == rows[1]:
        raise ConfigError(
            f"{where}: its tokenizer has one token for {form.letters[0]!r} and {form.letters[1]!r}"
        )
    return int(rows[0][0]), int(rows[1][0])
