"""The backbone of a Hugging Face model, compiled by torch."""

from typing import Any

from rmbench.errors import ConfigError, first_line
from rmbench.models.hf_load import torch


def compile_backbone(model: Any, where: str) -> None:
    """Let the backbone be compiled at its first forward pass, for any batch size and length; make that pass.

    Raises:
        ConfigError: If torch cannot compile here (it needs a C++ compiler) or not this model.
    """
    model.base_model.compile(dynamic=True)
    ids = torch.arange(24, device=model.device).view(2, 12) % int(model.config.get_text_config().vocab_size)
    try:
        with torch.inference_mode():
            model.base_model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (torch._dynamo.exc.TorchDynamoException, RuntimeError) as error:
        raise ConfigError(
            f"{where}: torch cannot compile it here ({first_line(error)}); leave out torch_compile"
        ) from None


def is_compiled(model: Any) -> bool:
    """Say whether `compile_backbone` was asked for."""
    return model.base_model._compiled_call_impl is not None
