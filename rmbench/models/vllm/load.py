"""`vllm:FOLDER`, `vllm:org/name[@revision]` and `vllm:URL`: classifiers run by vLLM."""

from collections.abc import Mapping
from typing import Any, Literal

from rmbench.core.address import public_address
from rmbench.errors import ConfigError, ScoringError
from rmbench.models.hf.checkpoint import Checkpoint, find_checkpoint
from rmbench.models.runtime import Runtime
from rmbench.models.vllm.engine import (
    Config,
    EngineOptions,
    dtype_of,
    engine_failed,
    read_config,
    start_engine,
    version,
)
from rmbench.models.vllm.reward import Rows, Switch, VLLMReward, classifier_readout
from rmbench.models.vllm.served import ServedReward, connect


class Offline:
    """An engine with a pooling runner, started at once.

    Args:
        checkpoint: Where the classifier is.
        read: Its config.
        runtime: Device, dtype, length.
        options: How it uses the machine.

    Raises:
        ConfigError: If it cannot start.
    """

    batch_tokens = 65_536

    def __init__(
        self, checkpoint: Checkpoint, read: Config, runtime: Runtime, options: EngineOptions
    ) -> None:
        self.max_length, self._weights = read.max_length, read.pin.weights
        self._engine: Any = start_engine(checkpoint, read, runtime, "pooling", options)

    def identity(self) -> Mapping[str, str]:
        """Return weights, dtype and version."""
        return {"weights": self._weights, "dtype": dtype_of(self._engine), "vllm": version()}

    def notes(self) -> list[str]:
        """Return nothing."""
        return []

    def classify(self, rows: Rows, switch: Switch) -> list[list[float]]:
        """Return a number per label for each row of token ids.

        Raises:
            ScoringError: If the engine fails, or does not know the switch.
        """
        import vllm

        try:
            params = vllm.PoolingParams(**switch)
        except TypeError as error:
            raise ScoringError(str(error)) from None
        try:
            found = self._engine.classify(
                [{"prompt_token_ids": list(row)} for row in rows], pooling_params=params, use_tqdm=False
            )
        except Exception as error:  # whatever happened in the engine's own process
            raise engine_failed(error) from error
        return [[float(value) for value in output.outputs.probs] for output in found]


def load_vllm(
    argument: str,
    *,
    runtime: Runtime,
    label: int | None = None,
    weights: str | None = None,
    output: Literal["logit", "any"] = "logit",
    chat_template: str = "auto",
    max_length: int | None = None,
    trust_remote_code: bool = False,
    gpus: int | None = None,
    gpu_share: float | None = None,
    compile: bool | None = None,  # noqa: A002  # it is the name of the option
    model: str | None = None,
    tokenizer: str | None = None,
    key_env: str | None = None,
    concurrency: int | None = None,
    timeout: float | None = None,
    retries: int | None = None,
) -> VLLMReward:
    """A sequence classifier run by vLLM: `vllm:FOLDER`, `vllm:org/name[@revision]`, or a server's address.

    Args:
        argument: Folder, Hub id, or the address of a running server, such as http://127.0.0.1:8000.
        runtime: Device, dtype, length.
        label: Index of the logit that is the reward; above one label, this or `weights` is needed.
        weights: Of each logit in the reward, as with hf: `0.2,0.3,0.5` or `helpfulness:1,verbosity:-0.5`.
        output: logit: shown by two probes at the start; any: whatever vLLM returns, probabilities too.
        chat_template: `auto` (the tokenizer's, else plain), `plain`, or the path of a Jinja file.
        max_length: Most tokens of a conversation; None: as many as the model takes.
        trust_remote_code: Run the repository's own code, in place of --trust-remote-code.
        gpus: In this machine: GPUs over which each layer is split.  [default: 1]
        gpu_share: In this machine: fraction of a GPU's memory to take.  [default: 0.9]
        compile: In this machine: compile first, a minute or two at each start.  [default: no]
        model: At a server: what it calls the model.  [default: the only one]
        tokenizer: At a server: where the tokenizer is.  [default: what the server says that it serves]
        key_env: At a server: name of the environment variable that holds its key.
        concurrency: At a server: requests that wait for it together.  [default: 8]
        timeout: At a server: seconds of a whole request.  [default: 600]
        retries: At a server: further requests after a failure that may pass.  [default: 5]

    Raises:
        ConfigError: If it cannot be started or reached, or does not return logits.
    """
    runtime = runtime.changed(max_length, trust_remote_code)
    here = {"gpus": gpus, "gpu_share": gpu_share, "compile": compile}
    there = {"model": model, "tokenizer": tokenizer, "key_env": key_env, "concurrency": concurrency,
             "timeout": timeout, "retries": retries}  # fmt: skip
    is_server = argument.startswith(("http://", "https://"))
    given_here, given_there = ({k: v for k, v in each.items() if v is not None} for each in (here, there))
    for name in given_here if is_server else given_there:
        place = "vLLM in this machine" if is_server else "a server"
        raise ConfigError(
            f"vllm:{public_address(argument) if is_server else argument}: option {name!r} is for {place}"
        )
    if is_server:
        served, checkpoint, read = connect(argument, runtime, **given_there)  # type: ignore[arg-type]
        readout = classifier_readout(checkpoint, read, label, weights)
        return ServedReward(served, read.tokenizer, readout, chat_template, output)
    checkpoint = find_checkpoint(argument, None)
    read = read_config(checkpoint, runtime)
    readout = classifier_readout(checkpoint, read, label, weights)
    offline = Offline(checkpoint, read, runtime, EngineOptions(**given_here))  # type: ignore[arg-type]
    return VLLMReward(f"vllm:{checkpoint.name}", offline, read.tokenizer, readout, chat_template, output)
