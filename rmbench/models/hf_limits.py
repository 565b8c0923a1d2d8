"""How many tokens a Hugging Face model can read."""

from typing import Any

from rmbench.errors import ConfigError
from rmbench.models.runtime import Runtime

MAX_LENGTH = 16_384
"""Upper bound of the default token limit: no reply of a public benchmark is longer, and one that is must
not take the memory of a whole batch. `max_length` asks for more."""

# Families whose first usable position is not 0 but the padding index + 1.
_OFFSET_POSITIONS = frozenset(
    {"camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm",
     "xlm-roberta", "xlm-roberta-xl", "xmod"}
)  # fmt: skip


def checked_length(where: str, model: Any, tokenizer: Any, runtime: Runtime) -> int:
    """Return min(the model's positions, the tokenizer's limit, MAX_LENGTH), or what was asked for."""
    limits = [MAX_LENGTH]
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        if model.config.model_type in _OFFSET_POSITIONS:
            positions -= int(model.config.pad_token_id) + 1
        limits.append(positions)
    if runtime.max_length is not None:
        if positions is not None and runtime.max_length > positions:
            raise ConfigError(
                f"{where}: max_length is {runtime.max_length}; the model has {positions} positions"
            )
        return runtime.max_length
    declared = tokenizer.model_max_length
    if isinstance(declared, int) and 0 < declared < 10**9:  # "no limit" is written as 1e30
        limits.append(declared)
    return min(limits)
