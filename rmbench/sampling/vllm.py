"""Engine `vllm`: many prompts at a time, a request per response.

Each request has its own seed, made from the run's seed, the prompt and the response's number. Its neighbours
change a text only through the last bits of logits: vLLM batches requests as they arrive, and another batch
may choose the other of two tokens that are within rounding of each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rmbench.core.files import digest
from rmbench.errors import RunError
from rmbench.models.hf.checkpoint import find_checkpoint
from rmbench.models.hf.load import check_writes, explained, transformers
from rmbench.models.runtime import Runtime
from rmbench.models.vllm.engine import (
    EngineOptions,
    dtype_of,
    engine_failed,
    read_config,
    start_engine,
    version,
)
from rmbench.sampling.policy import Decoding, Policy, Prompt, Sample
from rmbench.types import Turn

ENGINE_VERSION = "1"
"""Raised when any text could change."""

_AT_ONCE = {"cpu": 256, "cuda": 2_048}
"""Responses per call, which a kill loses. The engine runs empty at the end of each call."""


class VLLMEngine:
    """A causal language model, run by vLLM on this machine.

    Args:
        policy: A folder, or `org/name[@revision]`.
        runtime: Device, dtype, offline.
        decoding: Decoding settings; they decide which log-probabilities the engine keeps.
        chat_template: `auto` (the tokenizer's, else a plain transcript), `plain`, or a Jinja file.
        options: The engine's own options.

    Raises:
        ConfigError: If it cannot be started, or is no language model.
    """

    def __init__(
        self,
        policy: str,
        runtime: Runtime,
        decoding: Decoding,
        *,
        chat_template: str = "auto",
        options: EngineOptions | None = None,
    ) -> None:
        checkpoint = find_checkpoint(policy, None)
        read = read_config(checkpoint, runtime)
        check_writes(checkpoint, read.config)
        with explained(checkpoint):
            declared = _declared(checkpoint.location, read.config, read.pin.source)
        weights = read.pin.weights
        self.policy = Policy(checkpoint, weights, read.config, read.tokenizer, declared, chat_template)
        """How prompts are encoded and responses are read."""
        self._max_length = read.max_length
        # The engine returns one log-probability of the chosen token: as drawn, or at temperature 1.
        self._is_narrowed = decoding.temperature != 0 and (
            decoding.temperature != 1 or decoding.top_k > 0 or decoding.top_p < 1
        )
        self._engine = start_engine(
            checkpoint,
            read,
            runtime,
            "generate",
            options or EngineOptions(),
            logprobs_mode="processed_logprobs" if self._is_narrowed else "raw_logprobs",
            generation_config="vllm",  # not the checkpoint's own top-k or penalty
        )

    def identity(self) -> Mapping[str, Any]:
        """Return everything that can change a text."""
        return self.policy.identity(f"vllm-{version()}-{ENGINE_VERSION}", dtype_of(self._engine))

    def notes(self) -> list[str]:
        """Return remarks on format, end tokens and ignored settings of the checkpoint."""
        return self.policy.notes()

    def problem(self, turns: Sequence[Turn], decoding: Decoding) -> str | None:
        """Return why a prompt can have no response; None if it can."""
        if (found := self.policy.problem(turns, decoding)) is not None:
            return found
        n_tokens = len(self.policy.encode(turns))
        # One more than is drawn: a second pass asks for one token that is not used.
        if n_tokens + decoding.max_tokens >= self._max_length:
            return (
                f"the prompt has {n_tokens:,} tokens; with --max-tokens {decoding.max_tokens:,} that is more"
                f" than the {self._max_length:,} that vLLM was started for"
            )
        return None

    def sample(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[list[Sample]]:
        """Yield the responses prompt by prompt; several prompts are drawn at a time.

        Raises:
            RunError: If the engine fails.
        """
        kind = self._engine.llm_engine.vllm_config.device_config.device_type
        per_lot = max(1, _AT_ONCE.get(kind, _AT_ONCE["cuda"]) // decoding.n)
        rest = iter(prompts)
        while lot := list(islice(rest, per_lot)):
            ids = [self.policy.encode(prompt.turns) for prompt in lot]
            asked = [(own, self._params(p.key, k, decoding)) for own, p in zip(ids, lot, strict=True)
                     for k in range(decoding.n)]  # fmt: skip
            drawn = self._generate([own for own, _ in asked], [params for _, params in asked])
            samples = self._read([own for own, _ in asked], [one.outputs[0] for one in drawn], decoding)
            for start in range(0, len(samples), decoding.n):
                yield samples[start : start + decoding.n]

    def _params(self, key: str, sample: int, decoding: Decoding) -> Any:
        import vllm

        return vllm.SamplingParams(
            temperature=decoding.temperature,
            top_k=decoding.top_k,
            top_p=decoding.top_p,
            max_tokens=decoding.max_tokens,
            seed=int(digest([decoding.seed, key, sample], 15), 16),
            stop_token_ids=list(self.policy.ends),
            ignore_eos=True,  # only the end tokens above
            logprobs=0,
            stop=list(decoding.stop),
            detokenize=bool(decoding.stop),
        )

    def _generate(self, rows: Sequence[Sequence[int]], params: Any) -> list[Any]:
        try:
            return list(
                self._engine.generate(
                    [{"prompt_token_ids": list(row)} for row in rows], params, use_tqdm=False
                )
            )
        except Exception as error:  # any failure in the engine's own process
            raise RunError(str(engine_failed(error))) from error

    def _read(
        self, prompts: Sequence[Sequence[int]], drawn: Sequence[Any], decoding: Decoding
    ) -> list[Sample]:
        """Return the engine's output as responses."""
        rows = [list(one.token_ids) for one in drawn]
        told = [
            sum(float(at[token].logprob) for token, at in zip(row, one.logprobs, strict=True))
            for row, one in zip(rows, drawn, strict=True)
        ]
        if decoding.temperature == 0:
            own, untempered = [0.0] * len(rows), told  # no choice, no uncertainty
        else:
            own, untempered = told, self._at_temperature_1(prompts, rows) if self._is_narrowed else told
        return [self.policy.read(*one, stop=decoding.stop) for one in zip(rows, own, untempered, strict=True)]

    def _at_temperature_1(self, prompts: Sequence[Sequence[int]], rows: Sequence[list[int]]) -> list[float]:
        """Return ln P of each row after its prompt, without temperature and filters: a second pass."""
        import vllm

        params = vllm.SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        whole = [[*prompt, *row] for prompt, row in zip(prompts, rows, strict=True)]
        found = self._generate(whole, params)
        return [
            sum(
                float(at[token].logprob)
                for token, at in zip(row, one.prompt_logprobs[len(prompt) :], strict=True)
            )
            for prompt, row, one in zip(prompts, rows, found, strict=True)
        ]


def _declared(location: str, config: Any, source: Mapping[str, Any]) -> Any:
    """Return a checkpoint's generation config, or one made from its config."""
    generation: Any = transformers.GenerationConfig
    source = {k: v for k, v in source.items() if k != "trust_remote_code"}
    if Path(location).is_dir() and (Path(location) / "generation_config.json").exists():
        return generation.from_pretrained(location, **source)  # a damaged file is an error
    try:
        return generation.from_pretrained(location, **source)
    except OSError:  # transformers' error for a missing file
        return generation.from_model_config(config)
