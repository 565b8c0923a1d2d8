"""`hf`: any Hugging Face sequence classifier as a reward model.

Decoders (those with a `score` head): the backbone is run without a cache, and the head is applied in fp32 to
the hidden state of each conversation's last token. transformers itself looks for the last token that is not
the padding id, which reads one token too early wherever padding is EOS. Encoders pool by themselves, with
padding masked.

The reward is the raw logit, or a weighted sum of several: no sigmoid, no softmax.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rmbench.core.overlap import TrainingPrompts
from rmbench.models.hf.attention import compile_backbone, is_compiled, is_fast_bfloat16, use_products
from rmbench.models.hf.checkpoint import Checkpoint, choose_readout, find_checkpoint, weights_identity
from rmbench.models.hf.forward import Forward
from rmbench.models.hf.load import load_classifier, torch
from rmbench.models.hf.text import Encoded, choose_format, read_template
from rmbench.models.hf.tokens import (
    Tokenised,
    Tokens,
    batches_at_once,
    checked_length,
    scored,
    tokens_at_once,
)
from rmbench.models.runtime import Dtype, Runtime
from rmbench.types import Conversation, Scored, Turn

ADAPTER_VERSION = "2"
"""Raised when any score could change."""

_PROBE = (Turn(role="user", content="Is this a probe?"), Turn(role="assistant", content="It is."))


class HFRewardModel(Tokenised):
    """A sequence classifier: its one label, a chosen one, or a weighted sum; by folder or Hub id.

    Args:
        checkpoint: Where it is.
        runtime: Device, dtype, length.
        label: This and all that follows: as in `load_hf`.

    Raises:
        ConfigError: If the checkpoint cannot be loaded, or would score silently wrong.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        runtime: Runtime,
        label: int | None = None,
        fresh_head: int | None = None,
        chat_template: str = "auto",
        attn: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto",
        share_prompts: bool = True,
        torch_compile: bool = False,
        weights: str | None = None,
    ) -> None:
        self.display_name = checkpoint.name
        self._checkpoint = checkpoint
        self._loaded = load_classifier(checkpoint, runtime, fresh_head, attn)
        self._model, self._tokenizer = self._loaded.model, self._loaded.tokenizer
        if torch_compile:
            compile_backbone(self._model, checkpoint.location)
        if attn == "auto" and self._loaded.is_encoder and is_fast_bfloat16(self._model):
            use_products(self._model)
        self._readout = choose_readout(checkpoint.location, self._loaded.label_names, label, weights)
        self._fresh_head = fresh_head
        self._load_again: Callable[[Dtype], HFRewardModel] = lambda dtype: HFRewardModel(
            checkpoint, replace(runtime, dtype=dtype), label, fresh_head, chat_template, attn, share_prompts,
            torch_compile, weights,
        )  # fmt: skip
        self._format = choose_format(self._tokenizer, self._loaded.is_encoder, chat_template, read_template)
        self.max_length = checked_length(checkpoint.location, self._model.config, self._tokenizer, runtime)
        self._tokens = Tokens(self._format, self.max_length, checkpoint.name)
        self._forward = Forward(self._loaded, self._readout, self._pad_id(), share=share_prompts)
        self._weights: Mapping[str, str] | None = None
        self._threads = self._threads_each = 1

    def fingerprint(self) -> Mapping[str, str]:
        """Return whatever can change a score; hashes the weights of a folder once."""
        if self._weights is None:
            self._weights = weights_identity(self._checkpoint, self._model.config)
        attention = str(getattr(self._model.config, "_attn_implementation", None))
        identity = {
            "kind": "hf",
            "adapter": ADAPTER_VERSION,
            "attention": attention,
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "format": self._format.identity,
            "label": self._readout.identity,
            "max_length": str(self.max_length),
            "truncation": "left-keep-bos",
            **self._weights,
            **({"compiled": "torch"} if is_compiled(self._model) else {}),
        }
        return identity | ({} if self._fresh_head is None else {"fresh_head": str(self._fresh_head)})

    def joint_length(self, batch: Sequence[Conversation]) -> int | None:
        """Return the tokens read for these in one batch; None where each is a padded row."""
        return self._forward.joint_length(self._tokens.encode(batch))

    def batch_tokens(self) -> int:
        """Return how many tokens to give it at once: what fits, and no more than makes it faster."""
        return tokens_at_once(self._model)

    def n_parameters(self) -> int:
        """Return the number of weights, tied ones once."""
        return sum(weight.numel() for weight in self._model.parameters())

    def score(self, batch: Sequence[Conversation]) -> list[Scored]:
        """Return one reward per conversation, from one forward pass over the batch."""
        if not batch:
            return []
        encoded = self._tokens.encode(batch)
        rewards = self._forward.rewards(encoded)
        return [scored(row, reward) for reward, row in zip(rewards, encoded, strict=True)]

    def batches_at_once(self) -> int:
        """Return how many batches are computed faster side by side than one after the other."""
        if self._loaded.is_encoder or is_compiled(self._model) or self._forward.sharing_problem:
            return 1  # these keep something of a forward pass in the model
        self._threads = torch.get_num_threads()
        found, self._threads_each = batches_at_once(self._model)
        return found

    def score_beside(self, batch: Sequence[Conversation]) -> list[Scored]:
        """Return what `score` does, in this thread's part of the processor."""
        torch.set_num_threads(self._threads_each)  # of this thread, and of those that are made from now on
        return self.score(batch)

    def end_beside(self) -> None:
        """Give threads that are made from now on the whole processor again."""
        torch.set_num_threads(self._threads)

    def notes(self) -> list[str]:
        """Return remarks on format, head and EOS."""
        notes = list(self._format.notes())
        if self._loaded.fresh:
            drawn = ", ".join(self._loaded.fresh)
            notes.append(f"the head is random (fresh_head={self._fresh_head}: {drawn}); a control only")
        seen = self.diagnose(_PROBE)
        if seen["eos_seen"] is False:
            eos = self._tokenizer.eos_token
            notes.append(f"no EOS ({eos!r}) after the response: the reward is read at {seen['read_at']!r}")
        if seen["own_read_at"] != seen["read_at"]:
            notes.append(
                f"the padding token {seen['read_at']!r} ends every text; the reward is read there, but"
                f" transformers' own forward pass reads {seen['own_read_at']!r}, as published rewards may"
            )
        if not self._loaded.is_encoder and (problem := self._forward.sharing_problem):
            notes.append(f"each candidate's prompt is read again: {problem}")
        return notes

    def recast(self, dtype: Dtype) -> "HFRewardModel":
        """Return the same model in another dtype, loaded again: a cast would round its buffers too."""
        return self._load_again(dtype)

    def overlap(self, prompts: Iterable[Sequence[Turn]]) -> Mapping[str, int] | None:
        """Return how many of `prompts` a model of `rmbench train` was trained on; None for others."""
        if not self._checkpoint.is_folder:
            return None
        seen = TrainingPrompts.load(Path(self._checkpoint.location))
        return None if seen is None else seen.count(prompts)

    def diagnose(self, conversation: Conversation) -> dict[str, Any]:
        """Return what `rmbench check` asks of a tokenised model about one conversation.

        Keys: `double_bos`, `eos_seen`, `pad_is_eos` (None where it does not apply), `read_at` (the text of
        the token whose hidden state is read; None for encoders), `own_read_at` (the one that transformers'
        own forward pass would read), `own_forward_gap` (distance to the reward of that pass; None where it
        looks for a padding id that the text holds).
        """
        row = self._tokens.encode([conversation])[0]
        bos, eos = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        decoder = not self._loaded.is_encoder
        return {
            "double_bos": None if bos is None else list(row.ids[:2]) == [bos, bos],
            # A template may write a line break after its EOS.
            "eos_seen": eos in row.ids[-3:] if decoder and eos is not None else None,
            "pad_is_eos": eos is not None and self._pad_id() == eos if decoder else None,
            "read_at": self._tokenizer.decode([row.ids[-1]]) if decoder else None,
            "own_read_at": self._own_read_at(row) if decoder else None,
            "own_forward_gap": self._own_forward_gap(row),
        }

    def _pad_id(self) -> int:
        # RoBERTa numbers positions by the config's padding id; for the others it only fills masked places.
        for owner in (self._model.config, self._tokenizer):
            pad = getattr(owner, "pad_token_id", None)
            if pad is not None and pad >= 0:
                return int(pad)
        return int(self._tokenizer.eos_token_id or 0)

    def _own_read_at(self, row: Encoded) -> str:
        pad = self._model.config.get_text_config().pad_token_id
        return str(self._tokenizer.decode([next((i for i in reversed(row.ids) if i != pad), row.ids[0])]))

    def _own_forward_gap(self, row: Encoded) -> float | None:
        pad = self._model.config.get_text_config().pad_token_id
        if self._loaded.is_encoder or (pad is not None and pad in row.ids):
            return None
        ids = torch.tensor([row.ids], device=self._model.device)
        with torch.inference_mode():
            # Its head was made fp32: hand it fp32 hidden states, as `Forward` does.
            hook = self._model.score.register_forward_pre_hook(lambda _, args: (args[0].float(),))
            try:
                logits = self._model(input_ids=ids, use_cache=False).logits
            finally:
                hook.remove()
        return abs(self._readout.rewards(logits)[0] - self._forward.rewards([row])[0])


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
    gguf_file: str | None = None,
    max_length: int | None = None,
    trust_remote_code: bool = False,
) -> HFRewardModel:
    """A Hugging Face sequence classifier: a folder, `hf:FOLDER`, or `hf:org/name[@revision]`.

    Args:
        argument: Folder, or Hub id.
        runtime: Device, dtype, length.
        label: Index of the logit that is the reward; above one label, this or `weights` is needed.
        weights: Of each logit in the reward, `0.2,0.3,0.5`, or by label, `helpfulness:1,verbosity:-0.5`.
        fresh_head: Seed of a random head for a checkpoint without one (a control, not a reward model).
        chat_template: `auto` (the tokenizer's, else plain), `plain`, or the path of a Jinja file.
        attn: Attention implementation; `auto` is transformers' choice, or a faster one of rmbench.
        share_prompts: Read what the conversations of a batch begin with once, where the model allows it.
        torch_compile: Compile the backbone first: half a minute, then a tenth faster on a CPU.
        gguf_file: A quantised file of the folder to read.
        max_length: Most tokens of a conversation; None: as many as the model takes.
        trust_remote_code: Run the repository's own code, in place of --trust-remote-code.
    """
    checkpoint = find_checkpoint(argument, gguf_file)
    if max_length is not None:
        runtime = replace(runtime, max_length=max_length)
    if trust_remote_code:
        runtime = replace(runtime, trust_remote_code=True)
    return HFRewardModel(
        checkpoint, runtime, label, fresh_head, chat_template, attn, share_prompts, torch_compile, weights
    )
