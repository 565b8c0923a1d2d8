"""`vllm:FOLDER`, `vllm:org/name[@revision]` and `vllm:URL`: classifiers run by vLLM."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rmbench.core.address import public_address
from rmbench.errors import ConfigError, ScoringError
from rmbench.models.hf.checkpoint import Checkpoint, find_checkpoint
from rmbench.models.hf.recipes.choose import Asked
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
from rmbench.models.vllm.reading import Choice, choose_reading
from rmbench.models.vllm.reward import NAMES, Rows, Switch, VLLMReward
from rmbench.models.vllm.served import Served, ServedReward, Task, connect


class Offline:
    """An engine with a pooling runner, started at once.

    Args:
        checkpoint: Where the classifier is.
        read: Its config.
        runtime: Device, dtype, length.
        options: How it uses the machine.
        task: `classify`, or `token_classify` for models with a number per token: the last token's are read.
        overrides: Values of the config in place of its own, or beside them; None for none.

    Raises:
        ConfigError: If it cannot start.
    """

    batch_tokens = 65_536
    kind = "vllm"
    switches: Sequence[str] = NAMES

    def __init__(
        self,
        checkpoint: Checkpoint,
        read: Config,
        runtime: Runtime,
        options: EngineOptions,
        task: Task = "classify",
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self.max_length, self._weights, self._task = read.max_length, read.pin.weights, task
        further = {"hf_overrides": dict(overrides)} if overrides else {}
        self._engine: Any = start_engine(checkpoint, read, runtime, "pooling", options, **further)

    def identity(self) -> Mapping[str, str]:
        """Return weights, dtype and version."""
        task = {} if self._task == "classify" else {"task": self._task}
        return {"weights": self._weights, "dtype": dtype_of(self._engine), "vllm": version(), **task}

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
        prompts = [{"prompt_token_ids": list(row)} for row in rows]
        try:
            if self._task == "classify":
                found = self._engine.classify(prompts, pooling_params=params, use_tqdm=False)
                return [[float(value) for value in output.outputs.probs] for output in found]
            found = self._engine.encode(
                prompts, pooling_params=params, pooling_task=self._task, use_tqdm=False
            )
            return [_last(output.outputs.data, len(row)) for output, row in zip(found, rows, strict=True)]
        except Exception as error:  # whatever happened in the engine's own process
            raise engine_failed(error) from error


def _last(data: Any, n_tokens: int) -> list[float]:
    """Return the numbers of the last token, of a tensor (T, labels) or (T,)."""
    if len(data) != n_tokens:
        raise ValueError(f"it gives numbers for {len(data)} of {n_tokens} tokens")
    return [float(value) for value in data[-1].reshape(-1)]


def load_vllm(
    argument: str,
    *,
    runtime: Runtime,
    label: int | None = None,
    weights: str | None = None,
    output: Literal["logit", "any"] = "logit",
    chat_template: str = "auto",
    recipe: str = "auto",
    read_at: str | None = None,
    format: str | None = None,  # noqa: A002  # it is the name of the option
    append_eos: bool | None = None,
    strip_newline: bool | None = None,
    task: Task = "classify",
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
        recipe: As with hf: `auto`, `none`, a name of `rmbench models recipes`, or a YAML file. vLLM reads a
            linear `score`; recipes with another head are refused.
        read_at: As with hf: `last` token, `last_eos`, `before_eos`, or `appended:TOKEN`.
        format: As with hf: `template`, or the format of a recipe.
        append_eos: As with hf: whether EOS is written where the text does not end with it.
        strip_newline: As with hf: whether line breaks are taken from the end of the text.
        task: classify: a number per text; token_classify: models with a number per token, such as
            Qwen2ForRewardModel, of which the last is read (at a server: /pooling).
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
    asked = Asked(
        recipe=recipe, read_at=read_at, format=format, append_eos=append_eos, strip_newline=strip_newline
    )
    choice = Choice(label=label, weights=weights, chat_template=chat_template, asked=asked)
    if is_server:
        found = connect(argument, runtime, **given_there)  # type: ignore[arg-type]
        reading = choose_reading("vLLM", found.checkpoint, found.read, runtime, choice, task=task)
        served = Served(
            found.server, found.name, found.facts, found.max_length, found.n_at_once, found.remarks, task
        )
        return ServedReward(f"vllm:{found.name}", served, reading, output)
    checkpoint = find_checkpoint(argument, None)
    read = read_config(checkpoint, runtime)
    reading = choose_reading("vLLM", checkpoint, read, runtime, choice, task=task)
    engine = EngineOptions(**given_here)  # type: ignore[arg-type]
    offline = Offline(checkpoint, read, runtime, engine, task, reading.overrides)
    return VLLMReward(f"vllm:{checkpoint.name}", offline, reading, output)
