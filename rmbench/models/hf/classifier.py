"""`hf`: any Hugging Face sequence classifier as a reward model.

Decoders (those with a `score` head): the backbone is run without a cache, and the head is applied in fp32 to
the hidden state of each conversation's last token. transformers itself looks for the last token that is not
the padding id, which reads one token too early wherever padding is EOS. Encoders pool by themselves, with
padding masked.

The reward is the raw logit, or a weighted sum of several: no sigmoid, no softmax.

A recipe (`rmbench.models.hf.recipes.recipe`) may name another head, another place and another text. With
`forward=own` the class's own forward pass gives the reward (`rmbench.models.hf.recipes.own`).
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from rmbench.core.overlap import TrainingPrompts
from rmbench.errors import ConfigError
from rmbench.models.hf.attention import compile_backbone, is_compiled, use_products
from rmbench.models.hf.checkpoint import RECORD, Checkpoint, choose_readout, find_checkpoint, label_names
from rmbench.models.hf.device import batches_at_once, checked_length, is_fast_bfloat16
from rmbench.models.hf.forward import EncoderLogits, TokenStates
from rmbench.models.hf.load import Loaded, float32_input, load_classifier, load_own, torch
from rmbench.models.hf.recipes.choose import Asked
from rmbench.models.hf.recipes.heads import normalization
from rmbench.models.hf.recipes.own import OwnLogits
from rmbench.models.hf.recipes.padding import PROBE, rankings_that_differ
from rmbench.models.hf.recipes.recipe import Example
from rmbench.models.hf.recipes.text import Places, RecipeFormat
from rmbench.models.hf.text import Encoded, TextFormat, choose_format
from rmbench.models.hf.tokens import HFModel, Reader, Setup, Tokens, pad_id_of
from rmbench.models.runtime import Runtime
from rmbench.types import Conversation, Scored, Turn

ADAPTER_VERSION = "2"
"""Raised when any score could change."""

_PROBE = (Turn(role="user", content="Is this a probe?"), Turn(role="assistant", content="It is."))
_LONGER = (_PROBE[0], Turn(role="assistant", content="It is. It is longer than the other one."))
Forward = Literal["auto", "own"]


class HFRewardModel(HFModel):
    """A sequence classifier: its one label, a chosen one, or a weighted sum; by folder or Hub id.

    Args:
        setup: How it is loaded and read.
        checkpoint: Where it is.
        label: This and all that follows: as in `load_hf`.

    Raises:
        ConfigError: If the checkpoint cannot be loaded, or would score silently wrong.
    """

    def __init__(
        self,
        setup: Setup,
        checkpoint: Checkpoint,
        label: int | None,
        weights: str | None,
        fresh_head: int | None,
        torch_compile: bool,
        asked: Asked | None = None,
        forward: Forward = "auto",
    ) -> None:
        where, self._is_own, asked = checkpoint.location, forward == "own", asked or Asked()
        asked.check_template(setup.chat_template)
        if self._is_own:
            read_at = asked.read_at if asked.read_at and not asked.read_at.startswith("appended:") else None
            if fresh_head is not None or torch_compile or asked.head or read_at:
                raise ConfigError(
                    f"{where}: forward=own reads the class as it is; leave out fresh_head, torch_compile,"
                    " head and read_at"
                )
            loaded = load_own(checkpoint, setup.runtime, setup.attn, asked)
        else:
            loaded = load_classifier(checkpoint, setup.runtime, fresh_head, setup.attn, asked)
        model, tokenizer = loaded.model, loaded.tokenizer
        if torch_compile:
            compile_backbone(model, where)
        if setup.attn == "auto" and loaded.is_encoder and not self._is_own and is_fast_bfloat16(model):
            use_products(model)
        self._fresh_head, self._fresh, self._told = fresh_head, loaded.fresh, loaded.remarks
        self.pad_id = pad_id_of(model, tokenizer)
        self.encoder: OwnLogits | EncoderLogits | None = None
        if self._is_own:
            self.encoder = OwnLogits(model, where, self.pad_id)
        elif loaded.is_encoder:
            self.encoder = EncoderLogits(model, self.pad_id)
        self._states = TokenStates(model, self.pad_id, share=setup.share_prompts)
        self._threads = self._threads_each = 1
        self._recipe, self._why, self._gate = loaded.recipe, loaded.why, loaded.gate
        self._unread = loaded.unread
        self._normalization = (
            (0.0, 1.0) if self._recipe is None else normalization(self._recipe, model.config)
        )
        text_format, self._places = _reading(loaded, setup.chat_template, self._is_own)
        max_length = checked_length(where, model.config, tokenizer, setup.runtime)
        names = label_names(model.config)
        if isinstance(self.encoder, OwnLogits):
            names = self.encoder.labels(*text_format.encode([_PROBE, _LONGER], max_length))
        self._readout = choose_readout(where, names, label, weights)
        reader = Reader(checkpoint, model, self.encoder or self._states, loaded.weights)
        made_of = (setup, checkpoint, label, weights, fresh_head, torch_compile, asked, forward)
        super().__init__(Tokens(text_format, max_length, checkpoint.name), tokenizer, [reader], made_of)
        if not isinstance(self.encoder, OwnLogits):
            self.compare_with_own(
                "pass -M forward=own to take the number that the class itself returns, one text at a time, or"
                " write a small adapter (file.py:Class)"
            )

    def fingerprint(self) -> dict[str, str]:
        """Return whatever can change a score."""
        return {
            "kind": "hf",
            "adapter": ADAPTER_VERSION,
            "label": self._readout.identity,
            **super().fingerprint(),
            **({"compiled": "torch"} if is_compiled(self.model) else {}),
            **({} if self._fresh_head is None else {"fresh_head": str(self._fresh_head)}),
            **({} if self._recipe is None else {"recipe": self._recipe.identity}),
            **({"forward": self._own_output} if isinstance(self.encoder, OwnLogits) else {}),
        }

    def batches_at_once(self) -> int:
        """Return how many batches are computed faster side by side than one after the other."""
        if self.encoder or is_compiled(self.model) or self.sharing_problem or self._states.together.switches:
            return 1  # these keep something of a forward pass in the model
        self._threads = torch.get_num_threads()
        found, self._threads_each = batches_at_once(self.model)
        return found

    def score_beside(self, batch: Sequence[Conversation]) -> list[Scored]:
        """Return what `score` does, in this thread's part of the processor."""
        torch.set_num_threads(self._threads_each)  # of this thread, and of those that are made from now on
        return self.score(batch)

    def end_beside(self) -> None:
        """Give threads that are made from now on the whole processor again."""
        torch.set_num_threads(self._threads)

    def overlap(self, prompts: Iterable[Sequence[Turn]]) -> Mapping[str, int] | None:
        """Return how many of `prompts` a model of `rmbench train` was trained on; None for others."""
        checkpoint = self.readers[0].checkpoint
        seen = TrainingPrompts.load(Path(checkpoint.location)) if checkpoint.is_folder else None
        return None if seen is None else seen.count(prompts)

    def diagnose(self, conversation: Conversation) -> dict[str, Any]:
        """Return what `rmbench check` asks of a tokenised model about one conversation.

        Keys beside those of every adapter: `eos_seen`, `pad_is_eos` (None where it does not apply), `read_at`
        (the text of the token whose hidden state is read; None for encoders), `own_read_at` (the one that
        transformers' own forward pass would read).
        """
        row = self.encode([conversation])[0]
        ids = row.ids
        eos, decoder = self.tokenizer.eos_token_id, self.encoder is None
        asks_eos = decoder and eos is not None and not self._ends_by_recipe
        own = ids[_last_but(self._config_pad_id, ids)]
        return super().diagnose(conversation) | {
            # A template may write a line break after its EOS.
            "eos_seen": eos in ids[-3:] if asks_eos else None,
            "pad_is_eos": eos is not None and self.pad_id == eos if decoder else None,
            "read_at": self.tokenizer.decode([ids[self._places.of(row)[-1]]]) if decoder else None,
            "own_read_at": self.tokenizer.decode([own]) if decoder else None,
        }

    @property
    def _own_output(self) -> str:
        """The output of its own forward pass that is the reward; `-` before a cost."""
        sign = "-" if self._recipe is not None and self._recipe.negate else ""
        return f"own:{sign}{self.encoder.output if isinstance(self.encoder, OwnLogits) else ''}"

    @property
    def _ends_by_recipe(self) -> bool:
        """Whether the recipe says how a text ends: by a token of its own, or as its family writes it."""
        recipe = self._recipe
        return recipe is not None and (recipe.text is not None or recipe.read_at.startswith("appended:"))

    @property
    def _config_pad_id(self) -> int | None:
        found: int | None = self.model.config.get_text_config().pad_token_id
        return found

    def numbers(self, rows: Sequence[Encoded]) -> list[float]:
        """Return one reward per row."""
        rewards = [0.0] * len(rows)
        for group, logits in self._logits(rows):
            for k, reward in zip(group, self._rewards(logits), strict=True):
                rewards[k] = reward
        return rewards

    def _rewards(self, logits: Any) -> list[float]:
        found = self._readout.rewards(logits)
        if self._recipe is None:
            return found
        (mean, std), sign = self._normalization, -1.0 if self._recipe.negate else 1.0
        if self._is_own:  # a class normalises by itself, and gives a cost as a cost
            return [sign * reward for reward in found]
        return [sign * (reward - mean) / std for reward in found]

    def _logits(self, rows: Sequence[Encoded]) -> list[tuple[list[int], Any]]:
        if self.encoder:
            return self.encoder.passes(rows)
        found = self._states.passes(rows, [self._places.of(row) for row in rows])
        with torch.inference_mode():
            return [(group, self._head(states.float())) for group, states in found]

    def _head(self, states: Any) -> Any:
        """Return the logits (B, labels) of the states that were read, (B, D).

        They are (2 B, D) with a gate that reads the prompt: its own come before those of the head.
        """
        if self._gate is None:
            return self.model.score(states)
        if self._gate.reads_prompt:
            return self._gate(self.model.score(states[1::2]), states[::2])
        return self._gate(self.model.score(states), states)

    def _own_reward(self, row: Encoded) -> float | None:
        if isinstance(self.encoder, OwnLogits):
            return None
        if self.encoder is not None:
            with torch.inference_mode():
                return self._rewards(self.encoder.logits([row]))[0]
        if (
            self._gate is not None
            or self._config_pad_id in row.ids
            or self._places.of(row) != [len(row.ids) - 1]
        ):
            return None
        ids = torch.tensor([row.ids], device=self.model.device)
        with torch.inference_mode(), float32_input(self.model.score):
            return self._rewards(self.model(input_ids=ids, use_cache=False).logits)[0]

    def card_example(self) -> tuple[Example, list[float]] | None:
        """Return what the recipe's card states, and the rewards of this model; None if it states nothing."""
        example = None if self._recipe is None else self._recipe.example
        if example is None:
            return None
        return example, [scored.reward for scored in self.score(example.conversations())]

    def _remarks(self) -> list[str]:
        notes = list(self._told)
        if self._fresh:
            drawn = ", ".join(self._fresh)
            notes.append(f"the head is random (fresh_head={self._fresh_head}: {drawn}); a control only")
        if self._unread:
            notes.append(f"the files also have {self._unread}, which is not read")
        if isinstance(self.encoder, OwnLogits):
            notes.append(
                f"forward=own: the reward is {self.encoder.output or 'the tensor'} of"
                f" {type(self.model).__name__}'s own forward pass, one text at a time"
            )
            if self._recipe is not None:
                cost = "; it is a cost, and negated" if self._recipe.negate else ""
                notes.append(f"the text is written as for the recipe {self._recipe.name} ({self._why}){cost}")
            return notes
        if (recipe := self._recipe) is not None:
            notes.append(f"recipe {recipe.name} ({self._why}): {recipe.about}; read at {recipe.read_at}")
            if recipe.read_at != "last":
                return notes  # where the text ends does not matter
        seen = self.diagnose(_PROBE)
        if seen["eos_seen"] is False:
            eos = self.tokenizer.eos_token
            notes.append(f"no EOS ({eos!r}) after the response: the reward is read at {seen['read_at']!r}")
        if seen["own_read_at"] != seen["read_at"]:
            notes.append(self._padding_remark(seen["read_at"], seen["own_read_at"]))
        return notes

    def _padding_remark(self, read_at: str, own: str) -> str:
        told = f"the padding token {read_at!r} ends every text; the reward is read there"
        checkpoint = self.readers[0].checkpoint
        if checkpoint.is_folder and (Path(checkpoint.location) / RECORD).is_file():
            return f"{told}, where rmbench trained it ({RECORD})"
        n, of = self._padding_matters
        return (
            f"{told}, but transformers' own forward pass reads {own!r}, as published rewards may; the two"
            f" rank {n:,} of {of:,} pairs of probe texts differently; if it was trained there (TRL does so"
            " where padding is EOS), pass -M read_at=before_eos"
        )

    @cached_property
    def _padding_matters(self) -> tuple[int, int]:
        """Pairs of probe texts that the last token and transformers' own place rank differently, of all."""
        rows = self.encode(PROBE)
        last = [self._places.of(row) for row in rows]
        places = [
            [*own[:-1], _last_but(self._config_pad_id, row.ids), *own]
            for own, row in zip(last, rows, strict=True)
        ]
        with torch.inference_mode():
            rewards = self._rewards(self._head(self._states.at(rows, places).float()))
        return rankings_that_differ(rewards[::2], rewards[1::2])

    def _sharing_remarks(self) -> list[str]:
        return [] if self.encoder else super()._sharing_remarks()


def _last_but(pad_id: int | None, ids: Sequence[int]) -> int:
    """Return the place of the last token that is not padding; 0 if all are."""
    return next((k for k in range(len(ids) - 1, -1, -1) if ids[k] != pad_id), 0)


def _reading(loaded: Loaded, chat_template: str, is_own: bool) -> tuple[TextFormat, Places]:
    """Return how a classifier's text is written, and where it is read, unless its own forward pass says."""
    recipe, tokenizer = loaded.recipe, loaded.tokenizer
    if recipe is None:
        return choose_format(tokenizer, loaded.is_encoder, chat_template), Places(tokenizer, "last", None)
    gate = recipe.head.gate if recipe.head else None
    places = Places(tokenizer, recipe.read_at, gate if gate and gate.before else None)
    config = loaded.model.config
    return RecipeFormat(tokenizer, recipe, chat_template, config, None if is_own else places), places


def load_hf(
    argument: str,
    *,
    runtime: Runtime,
    label: int | None = None,
    weights: str | None = None,
    fresh_head: int | None = None,
    chat_template: str = "auto",
    attn: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto",
    share_prompts: bool = True,
    torch_compile: bool = False,
    forward: Forward = "auto",
    recipe: str = "auto",
    head: str | None = None,
    read_at: str | None = None,
    format: str | None = None,  # noqa: A002 - the option's name
    append_eos: bool | None = None,
    strip_newline: bool | None = None,
    system: str | None = None,
    gguf_file: str | None = None,
    base: str | None = None,
    max_length: int | None = None,
    trust_remote_code: bool = False,
    code_revision: str | None = None,
) -> HFRewardModel:
    """A Hugging Face sequence classifier: a folder, `hf:FOLDER`, or `hf:org/name[@revision]`.

    Args:
        argument: Folder, or Hub id.
        runtime: Device, dtype, length.
        label: Index of the logit that is the reward; above one label, this or `weights` is needed.
        weights: Of each logit in the reward, `0.2,0.3,0.5`, or by label, `helpfulness:1,verbosity:-0.5`.
        fresh_head: Seed of a random head for a checkpoint without one (a control, not a reward model).
        chat_template: `auto` (the tokenizer's; without one a text pair for encoders, else plain), `plain`,
            `pair` (encoders), or the path of a Jinja file.
        attn: Attention implementation; `auto` is transformers' choice, or a faster one of rmbench.
        share_prompts: Read what the conversations of a batch begin with once, where the model allows it.
        torch_compile: Compile the backbone first: half a minute, then a tenth faster on a CPU.
        forward: `own`: the logits of the class's own forward pass, one text at a time (with
            --trust-remote-code that of the repository's own code).
        recipe: How the head is read: `auto` (by what the files show), `none`, a name of `rmbench models
            recipes`, or a YAML file.
        head: `token:ID` (the logit of a token of the vocabulary) or `token:ID-ID` (a difference of two); by
            their words `text:Yes,No`.
        read_at: `last` token, `last_eos`, `before_eos` (the last one that is not EOS, as transformers reads
            where padding is EOS), or `appended:TOKEN`.
        format: `template`, or the format of a recipe such as `beaver-reward`.
        append_eos: Whether EOS is written where the text does not end with it.
        strip_newline: Whether line breaks are taken from the end of the text.
        system: A system message for conversations without one; `system=` is an empty one.
        gguf_file: A quantised file of the folder to read.
        base: Of an adapter: the base to put it on.  [default: the one that it names]
        max_length: Most tokens of a conversation; None: as many as the model takes.
        trust_remote_code: Run the repository's own code, in place of --trust-remote-code.
        code_revision: Commit of another repository whose code the configs name.
    """
    setup = Setup(
        runtime=runtime.changed(max_length, trust_remote_code, code_revision),
        chat_template=chat_template,
        attn=attn,
        share_prompts=share_prompts,
    )
    checkpoint = find_checkpoint(argument, gguf_file, base)
    asked = Asked(
        recipe=recipe, head=head, read_at=read_at, format=format, append_eos=append_eos,
        strip_newline=strip_newline, system=system,
    )  # fmt: skip
    return HFRewardModel(setup, checkpoint, label, weights, fresh_head, torch_compile, asked, forward)
