"""How a model is run: device, dtype, hub access, seed."""

import re
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeAlias, get_args

from rmbench.core.options import NO_OPTION, Option
from rmbench.errors import ConfigError, UnknownNameError

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Options that every model shares. A constructor with a parameter called `runtime` receives them.

    Raises:
        ConfigError: If a value is outside what its field says.
    """

    device: Annotated[str, Option("auto, cpu, cuda (or gpu), cuda:1, mps.", env="RMBENCH_DEVICE")] = "auto"
    dtype: Annotated[
        Dtype,
        Option(
            "auto, float32, bfloat16, float16. auto: the checkpoint's where the hardware is fast in it, else"
            " float32.",
            metavar="TEXT",
            env="RMBENCH_DTYPE",
        ),
    ] = "auto"
    offline: Annotated[bool, Option("Never reach for a hub.", env="RMBENCH_OFFLINE")] = False
    trust_remote_code: Annotated[
        bool,
        Option(
            "Run Python code that comes with a checkpoint. From the Hub it needs org/name@<40-hex commit>."
        ),
    ] = False
    seed: Annotated[
        int,
        Option(
            "Seed of everything that is drawn: bootstrap, folds, --limit, random models.",
            env="RMBENCH_SEED",
            low=0,
        ),
    ] = 0
    max_length: Annotated[int | None, NO_OPTION] = None
    """Tokens per conversation before truncation; None for the model's own limit. An option of the model."""
    code_revision: Annotated[str | None, NO_OPTION] = None
    """Commit of another repository whose code the checkpoint runs. An option of the model."""

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            raise UnknownNameError("dtype", self.dtype, get_args(Dtype))
        kind, colon, index = self.device.partition(":")
        if kind == "gpu":
            kind = "cuda"
            object.__setattr__(self, "device", f"{kind}{colon}{index}")
        if kind not in {"auto", "cpu", "cuda", "mps"} or (index and not (kind == "cuda" and index.isdigit())):
            raise UnknownNameError("device", self.device, ["auto", "cpu", "cuda", "cuda:0", "mps"])
        if self.max_length is not None and self.max_length < 8:
            raise ConfigError(f"max_length is {self.max_length}; expected at least 8 tokens")
        if self.code_revision is not None and not is_commit(self.code_revision):
            raise ConfigError(f"code_revision is {self.code_revision!r}; expected a commit, 40 hex digits")

    def changed(
        self, max_length: int | None, trust_remote_code: bool, code_revision: str | None = None
    ) -> "Runtime":
        """Return this with what a model's own options say; None and False change nothing."""
        return replace(
            self,
            max_length=self.max_length if max_length is None else max_length,
            trust_remote_code=trust_remote_code or self.trust_remote_code,
            code_revision=code_revision or self.code_revision,
        )


def is_commit(revision: str | None) -> bool:
    """Say whether a revision is a commit, which never means other files later."""
    return re.fullmatch(r"[0-9a-f]{40}", revision or "") is not None
