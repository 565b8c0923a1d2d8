"""`sglang:URL`: a classifier behind a server of SGLang, whose native /classify gets token ids.

Checked against SGLang's documentation (native APIs, reward models) and its sources: /classify takes what its
embedding models take, `input_ids` among it, and answers with a list of {"embedding": [a number per label],
"meta_info": {"prompt_tokens": ...}}; its classifiers give the `score` of the last token, without a sigmoid or
softmax. Its /v1/classify, which copies vLLM's and gives probabilities, is not asked.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rmbench.core.address import public_address
from rmbench.errors import ConfigError
from rmbench.models.hf.recipes.choose import Asked
from rmbench.models.http import Server
from rmbench.models.runtime import Runtime
from rmbench.models.vllm.reading import Choice, choose_reading
from rmbench.models.vllm.reward import Rows, Switch
from rmbench.models.vllm.served import Connection, Kind, ServedReward, connect, number_in, post


class SGLangServed:
    """A model that a server of SGLang runs.

    Args:
        found: The model and its server.
    """

    batch_tokens = 16_384
    kind = "sglang"
    switches: Sequence[str] = ()

    def __init__(self, found: Connection) -> None:
        self._found = found
        self.max_length, self.n_at_once = found.max_length, found.n_at_once

    def identity(self) -> Mapping[str, str]:
        """Return the facts that the server gives, and the hash of its weights if its folder is here."""
        return self._found.facts

    def notes(self) -> list[str]:
        """Return remarks on facts that a server does not give."""
        return self._found.remarks

    def classify(self, rows: Rows, switch: Switch) -> list[list[float]]:
        """Return a number per label for each row of token ids; there is no switch.

        Raises:
            ScoringError: If the server does not answer, or refuses.
        """
        body: dict[str, Any] = {"model": self._found.name, "input_ids": [list(row) for row in rows]}

        def read(raw: Any) -> list[list[float]]:
            if len(raw) != len(rows):
                raise ValueError(f"expected one entry for each of {len(rows)} texts")
            for entry, row in zip(raw, rows, strict=True):
                n = (entry.get("meta_info") or {}).get("prompt_tokens", len(row))
                if n != len(row):
                    raise ValueError(f"it read {n} tokens of a text that has {len(row)}")
            return [[number_in(value) for value in entry["embedding"]] for entry in raw]

        return post(self._found.server, "SGLang's server", "classify", body, read)


def _first(server: Server, *paths: str) -> Mapping[str, Any]:
    """Return the JSON object at the first path that the server knows: some were renamed.

    Raises:
        ConfigError: If it knows none.
    """
    for n, path in enumerate(paths, 1):
        try:
            told = server.get(path)
        except ConfigError:
            if n == len(paths):
                raise
        else:
            if isinstance(told, dict):
                return told
    return {}


def _root(server: Server, card: Mapping[str, Any]) -> str:
    """Return what the server loaded its model from; refuse a server of a model that writes text."""
    told = _first(server, "model_info", "get_model_info")
    if told.get("is_generation") is True:
        raise ConfigError(
            f"sglang: {card['id']} is served as a model that writes text; start the server with"
            " --is-embedding"
        )
    return str(told.get("model_path") or card.get("root") or card["id"])


def _version(server: Server) -> str:
    try:
        told = _first(server, "server_info", "get_server_info")
    except ConfigError:
        return "unknown"
    return str(told.get("version", "unknown"))


KIND = Kind("sglang", "SGLang's server", _root, _version)


def load_sglang(
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
    max_length: int | None = None,
    trust_remote_code: bool = False,
    model: str | None = None,
    tokenizer: str | None = None,
    key_env: str | None = None,
    concurrency: int = 8,
    timeout: float = 600.0,
    retries: int = 5,
) -> ServedReward:
    """A sequence classifier behind a server of SGLang, started with --is-embedding: `sglang:URL`.

    Args:
        argument: The address of a running server, such as http://127.0.0.1:30000.
        runtime: Length, Hub access.
        label: Index of the logit that is the reward; above one label, this or `weights` is needed.
        weights: Of each logit in the reward, as with hf: `0.2,0.3,0.5` or `helpfulness:1,verbosity:-0.5`.
        output: logit: shown by two probes at the start; any: whatever the server returns.
        chat_template: `auto` (the tokenizer's, else plain), `plain`, or the path of a Jinja file.
        recipe: As with hf: `auto`, `none`, a name of `rmbench models recipes`, or a YAML file; recipes with
            another head than a linear `score` are refused.
        read_at: As with hf: `last` token, `last_eos`, `before_eos`, or `appended:TOKEN`.
        format: As with hf: `template`, or the format of a recipe.
        append_eos: As with hf: whether EOS is written where the text does not end with it.
        strip_newline: As with hf: whether line breaks are taken from the end of the text.
        max_length: Most tokens of a conversation; None: as many as the model takes.
        trust_remote_code: Run the repository's own code, in place of --trust-remote-code.
        model: What the server calls the model.  [default: the only one]
        tokenizer: Where config and tokenizer are.  [default: what the server says that it loaded]
        key_env: Name of the environment variable that holds the server's key.
        concurrency: Requests that wait for it together.
        timeout: Seconds of a whole request.
        retries: Further requests after a failure that may pass.

    Raises:
        ConfigError: If it cannot be reached, writes text, or does not return logits.
    """
    if not argument.startswith(("http://", "https://")):
        raise ConfigError(
            f"sglang:{public_address(argument)}: expected the address of a running server, such as"
            " sglang:http://127.0.0.1:30000; a folder goes through hf: or vllm:"
        )
    found = connect(
        argument, runtime.changed(max_length, trust_remote_code), KIND, model=model, tokenizer=tokenizer,
        key_env=key_env, concurrency=concurrency, timeout=timeout, retries=retries,
    )  # fmt: skip
    asked = Asked(
        recipe=recipe, read_at=read_at, format=format, append_eos=append_eos, strip_newline=strip_newline
    )
    choice = Choice(label=label, weights=weights, chat_template=chat_template, asked=asked)
    reading = choose_reading("SGLang", found.checkpoint, found.read, runtime, choice)
    return ServedReward(f"sglang:{found.name}", SGLangServed(found), reading, output)
