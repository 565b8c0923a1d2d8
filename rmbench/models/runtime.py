"""How a model is to be run: what the command line says about the machine, not about the model."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from rmbench.errors import ConfigError, UnknownNameError

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Options that every model shares. A constructor with a parameter called `runtime` receives them.

    Raises:
        ConfigError: If a value is outside what its field says.
    """

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`; `auto` takes an accelerator where there is one."""
    dtype: Dtype = "auto"
    """`auto` is the checkpoint's own type where the hardware is fast in it (accelerators; CPUs that multiply
    bfloat16), else float32."""
    max_length: int | None = None
    """Tokens per conversation before truncation; None for the model's own limit."""
    offline: bool = False
    """Never ask a hub, not even for a file that may have changed."""
    seed: int = 0
    """For models that draw random numbers."""
    trust_remote_code: bool = False
    """Run Python code that comes with a checkpoint; needs a pinned revision."""

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            raise UnknownNameError("dtype", self.dtype, get_args(Dtype))
        kind, _, index = self.device.partition(":")
        if kind not in {"auto", "cpu", "cuda", "mps"} or (index and not (kind == "cuda" and index.isdigit())):
            raise UnknownNameError("device", self.device, ["auto", "cpu", "cuda", "cuda:0", "mps"])
        if self.max_length is not None and self.max_length < 8:
            raise ConfigError(f"max_length is {self.max_length}; expected at least 8 tokens")
