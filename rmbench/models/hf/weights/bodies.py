"""Bodies that transformers does not know, and that are another body under other names.

InternLM2 is Llama: its queries, keys and values are one matrix, and its config and tensors have other names
(InternLM's own `tools/convert2llama.py` says which). Such a model is loaded as that other body, without the
code that comes with it. Its tokenizer is read from `tokenizer.json`, or from `tokenizer.model` by the rules
in that file.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError, first_line
from rmbench.models.hf.checkpoint import Checkpoint, file_of
from rmbench.models.hf.device import transformers
from rmbench.models.hf.identity import Pin
from rmbench.models.hf.weights.tensors import TensorFile, files_of
from rmbench.models.runtime import Runtime

_PROBES = (
    "Hello, world!  Two spaces\n\tand a tab.", " leading space", "user\nassistant", "Été, 漢字, 😀, 1234567",
)  # fmt: skip
"""Texts without special tokens that a tokenizer has to read as its SentencePiece model does."""


@dataclass(frozen=True, slots=True)
class Body:
    """A body under other names."""

    model_type: str
    is_like: str
    """The model type of transformers that it is."""
    config: Mapping[str, str]
    """Key of its config -> key of the other's."""
    names: Mapping[str, str]
    """Part of a tensor's name -> what it is in the other."""
    fused: str
    """Part of the names of tensors that hold queries, keys and values."""
    split: Callable[[Any, Any], tuple[Any, Any, Any]]
    """Cuts such a tensor into the three, by the config."""

    def read_config(self, given: Mapping[str, Any]) -> Any:
        """Return a config of the other body; the classes that it names stay, as evidence."""
        kept = {k: v for k, v in given.items() if k not in ("auto_map", "model_type", "attn_implementation")}
        renamed = {self.config.get(key, key): value for key, value in kept.items()}
        return transformers.AutoConfig.for_model(self.is_like, **renamed)

    def name(self, name: str) -> str:
        """Return the name that a tensor has in the other body."""
        for part, other in self.names.items():
            name = name.replace(part, other)
        return name

    def state(self, checkpoint: Checkpoint, config: Any, runtime: Runtime) -> dict[str, Any]:
        """Return name -> tensor of the other body, from the files of a checkpoint.

        Raises:
            ConfigError: If a fused tensor has another shape than the config says.
        """
        found: dict[str, Any] = {}
        files = files_of(checkpoint, runtime)
        for path in sorted(set(files.values())):
            with TensorFile(path) as file:
                for name in file.names:
                    tensor = file.tensor(name)
                    if self.fused not in name:
                        found[self.name(name)] = tensor
                        continue
                    try:
                        parts = self.split(tensor, config)
                    except RuntimeError:
                        raise ConfigError(
                            f"{path}: {name!r} is {tuple(tensor.shape)}, which the heads of its config.json"
                            " do not fit; take the config.json that was saved with it"
                        ) from None
                    for letter, part in zip("qkv", parts, strict=True):
                        own = name.replace(self.fused, f"self_attn.{letter}_proj")
                        found[self.name(own)] = part.clone()
        return found


def _grouped(tensor: Any, config: Any) -> tuple[Any, Any, Any]:
    """Cut rows that stand per key head: its queries, its key, its value."""
    n_keys, n_queries = config.num_key_value_heads, config.num_attention_heads
    per_key = n_queries // n_keys
    width = config.hidden_size // n_queries
    parts = tensor.reshape(n_keys, per_key + 2, width, *tensor.shape[1:])
    cut = parts[:, :per_key], parts[:, per_key], parts[:, per_key + 1]
    query, key, value = (part.reshape(-1, *tensor.shape[1:]) for part in cut)
    return query, key, value


BODIES = (
    Body(
        model_type="internlm2",
        is_like="llama",
        config={"bias": "attention_bias"},
        names={
            "model.tok_embeddings.": "model.embed_tokens.",
            ".attention.wo.": ".self_attn.o_proj.",
            ".feed_forward.w1.": ".mlp.gate_proj.",
            ".feed_forward.w2.": ".mlp.down_proj.",
            ".feed_forward.w3.": ".mlp.up_proj.",
            ".attention_norm.": ".input_layernorm.",
            ".ffn_norm.": ".post_attention_layernorm.",
            "output.weight": "lm_head.weight",
        },
        fused="attention.wqkv",
        split=_grouped,
    ),
)


def find_body(pin: Pin, runtime: Runtime) -> tuple[Body, dict[str, Any]] | None:
    """Return the body that a checkpoint has under other names, and its config.json; None for others."""
    path = None if pin.checkpoint.gguf_file else file_of(pin.checkpoint, "config.json", runtime)
    try:
        given = None if path is None else json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None  # transformers says what is wrong with it
    if not isinstance(given, dict):
        return None
    found = next((body for body in BODIES if body.model_type == given.get("model_type")), None)
    return None if found is None else (found, given)


def own_tokenizer(checkpoint: Checkpoint, source: Mapping[str, Any]) -> Any:
    """Return the tokenizer of such a model, without its own code.

    Raises:
        ConfigError: If it has neither tokenizer.json nor a tokenizer.model that can be read as it is meant.
    """
    given = {key: value for key, value in source.items() if key != "trust_remote_code"}
    read = transformers.PreTrainedTokenizerFast.from_pretrained
    runtime = Runtime(offline=bool(source.get("local_files_only")))
    if file_of(checkpoint, "tokenizer.json", runtime) is not None:
        return read(checkpoint.location, **given)
    path = file_of(checkpoint, "tokenizer.model", runtime)
    if path is None:
        raise ConfigError(f"{checkpoint.location}: it has no tokenizer.json and no tokenizer.model")
    tokenizer = read(checkpoint.location, **given)
    _follow(tokenizer, path)
    return tokenizer


def _follow(tokenizer: Any, path: Path) -> None:
    """Let a tokenizer split text as its SentencePiece model does, and write BOS before it.

    Raises:
        ConfigError: If it splits some text differently all the same.
    """
    from sentencepiece import SentencePieceProcessor
    from tokenizers import normalizers, processors

    try:
        pieces = SentencePieceProcessor(str(path))
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{path}: cannot be read: {first_line(error)}") from None
    rules: list[Any] = [normalizers.Replace(" ", "▁")]
    if pieces.encode("a", out_type=str)[0].startswith("▁"):
        rules.insert(0, normalizers.Prepend("▁"))
    backend = tokenizer.backend_tokenizer
    backend.normalizer, backend.pre_tokenizer = normalizers.Sequence(rules), None
    bos, bos_id = tokenizer.bos_token, tokenizer.bos_token_id
    if bos is not None and getattr(tokenizer, "add_bos_token", True) is not False:
        backend.post_processor = processors.TemplateProcessing(
            f"{bos} $A", f"{bos} $A {bos}:1 $B:1", [(bos, bos_id)]
        )
    for text in _PROBES:
        if tokenizer(text, add_special_tokens=False)["input_ids"] != pieces.encode(text):
            raise ConfigError(
                f"{path}: without the code that comes with it, {text[:20]!r} is split into other tokens;"
                " expected a tokenizer.json beside it (load the tokenizer once with its own code in Python,"
                " and save_pretrained it there)"
            )
