"""A classifier behind a server, which gets token ids: vLLM's /classify, or /pooling for a number per token.

What all such servers have in common is here too: the models that they list, and where a tokenizer is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rmbench.core.address import public_address
from rmbench.core.files import digest
from rmbench.errors import ConfigError, ScoringError, UnknownNameError
from rmbench.models.hf.checkpoint import Checkpoint, find_checkpoint
from rmbench.models.http import Dialect, NoReplyError, Patience, Server, checked_url, key_from
from rmbench.models.runtime import Runtime
from rmbench.models.vllm.engine import Config, read_config
from rmbench.models.vllm.reading import Reading
from rmbench.models.vllm.reward import NAMES, Rows, Switch, VLLMReward

Task = Literal["classify", "token_classify"]


class Served:
    """A model that a server of vLLM runs.

    Args:
        server: The server.
        name: The server's name of the model.
        facts: Further facts about the model and the server that can change a score.
        max_length: Tokens of a text.
        n_at_once: Requests that wait for it together.
        remarks: Remarks for the user.
        task: `classify` asks /classify; `token_classify` asks /pooling and reads the last token's numbers.
    """

    batch_tokens = 16_384
    kind = "vllm"
    switches: Sequence[str] = NAMES

    def __init__(
        self, server: Server, name: str, facts: Mapping[str, str], max_length: int, n_at_once: int,
        remarks: list[str], task: Task = "classify",
    ) -> None:  # fmt: skip
        self._server, self.name, self._facts, self._task = server, name, facts, task
        self.max_length, self.n_at_once, self._remarks = max_length, n_at_once, remarks

    def identity(self) -> Mapping[str, str]:
        """Return the facts that the server gives, and the hash of its weights if its folder is here."""
        return {**self._facts, **({} if self._task == "classify" else {"task": self._task})}

    def notes(self) -> list[str]:
        """Return remarks on facts that a server does not give."""
        return self._remarks

    def classify(self, rows: Rows, switch: Switch) -> list[list[float]]:
        """Return a number per label for each row of token ids.

        Raises:
            ScoringError: If the server does not answer, or refuses.
        """
        body: dict[str, Any] = {"model": self.name, "input": [list(row) for row in rows], **switch}

        def read(raw: Any) -> list[list[float]]:
            data = sorted(raw["data"], key=lambda entry: int(entry["index"]))
            if [entry["index"] for entry in data] != list(range(len(rows))):
                raise ValueError(f"expected one entry for each of {len(rows)} texts")
            if self._task == "classify":
                return [_numbers(entry["probs"]) for entry in data]
            return [_last(entry["data"], len(row)) for entry, row in zip(data, rows, strict=True)]

        path = "classify"
        if self._task == "token_classify":
            path, body = "pooling", body | {"task": self._task}
        return post(self._server, "vLLM's server", path, body, read)


def post(
    server: Server, who: str, path: str, body: dict[str, Any], read: Callable[[Any], list[list[float]]]
) -> list[list[float]]:
    """Return a number per label for each text of a request.

    Raises:
        ScoringError: If the server does not answer, or refuses.
    """
    try:
        return server.post(path, lambda _: body, read, digest(body))
    except NoReplyError as error:
        raise ScoringError(f"{who}: {error}; what was answered before is stored") from None


def _last(data: Any, n_tokens: int) -> list[float]:
    """Return the numbers of the last token; a server gives some for every token."""
    if len(data) != n_tokens:
        raise ValueError(f"expected numbers for each of {n_tokens} tokens")
    return _numbers(data[-1] if isinstance(data[-1], list) else data[-1:])


def _numbers(values: Any) -> list[float]:
    return [number_in(value) for value in values]


def number_in(value: Any) -> float:
    """Return a number of an answer.

    Raises:
        TypeError: If it is none.
    """
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


class ServedReward(VLLMReward):
    """A classifier that waits for a server.

    Args:
        name: Name in tables.
        served: The model.
        reading: This and all that follows: as in `VLLMReward`.
    """

    def __init__(self, name: str, served: Any, reading: Reading, output: Literal["logit", "any"]) -> None:
        super().__init__(name, served, reading, output)
        self._n_at_once: int = served.n_at_once

    def concurrency(self) -> int:
        """Return how many requests may wait for the server together."""
        return self._n_at_once


@dataclass(frozen=True, slots=True)
class Kind:
    """What kind of server it is."""

    scheme: str
    """Of `--model`, and key of the version in the fingerprint."""
    who: str
    """Its name in messages."""
    root: Callable[[Server, Mapping[str, Any]], str]
    """Returns what the server loaded a listed model from."""
    version: Callable[[Server], str]
    """Returns the version of the server."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A model that a server lists, and what is known of it."""

    server: Server
    name: str
    """The server's name of the model."""
    checkpoint: Checkpoint
    """Where its config and tokenizer are."""
    read: Config
    max_length: int
    facts: dict[str, str]
    remarks: list[str]
    n_at_once: int


def _vllm_version(server: Server) -> str:
    told = server.get("version")
    return str(told.get("version")) if isinstance(told, dict) else "unknown"


VLLM = Kind("vllm", "vLLM's server", lambda _, card: str(card.get("root") or card["id"]), _vllm_version)


def connect(
    url: str,
    runtime: Runtime,
    kind: Kind = VLLM,
    *,
    model: str | None = None,
    tokenizer: str | None = None,
    key_env: str | None = None,
    concurrency: int = 8,
    timeout: float = 600.0,
    retries: int = 5,
) -> Connection:
    """Return a model behind a server, where its tokenizer is, and its config; options as in `load_vllm`.

    Raises:
        ConfigError: If the server does not answer, or the tokenizer cannot be read.
    """
    scheme = kind.scheme
    for option, value, least in (
        ("concurrency", concurrency, 1),
        ("timeout", timeout, 1e-3),
        ("retries", retries, 0),
    ):
        if value < least:
            raise ConfigError(f"{scheme}: option {option!r} is {value:g}; expected at least {least:g}")
    if (runtime.device, runtime.dtype) != ("auto", "auto"):
        raise ConfigError(
            f"{scheme}:{public_address(url)}: --device and --dtype were chosen when the server was started"
        )
    url, warning = checked_url(url, key_env, scheme=scheme, path="")
    url = url.removesuffix("/v1")
    told_url = f"{scheme}:{public_address(url)}"
    patience = Patience(timeout_s=timeout, retries=retries, backoff_s=1.0, stop_after=1, seed=runtime.seed)
    server = Server(url, kind.who, key_from(key_env, scheme=scheme), patience, Dialect())
    card = _card(server, told_url, model, kind)
    root = kind.root(server, card)
    checkpoint = _checkpoint(told_url, tokenizer or root, is_given=tokenizer is not None)
    read = read_config(checkpoint, runtime, needs_weights=False)
    read.pin.check()
    served_length = card.get("max_model_len")
    max_length = min(read.max_length, served_length) if isinstance(served_length, int) else read.max_length
    if runtime.max_length is not None and max_length < runtime.max_length:
        raise ConfigError(
            f"{told_url}: max_length is {runtime.max_length}; the server takes {max_length} tokens"
        )
    known = {scheme: kind.version(server), "dtype": "the server's"}
    if tokenizer is None and checkpoint.is_folder and Path(checkpoint.location).is_absolute():
        facts, remarks = {**known, "weights": read.pin.weights}, list[str]()
    else:
        named = {"url": public_address(url), "served": str(card["id"]), "root": str(card.get("root") or "")}
        facts = {**known, **named}
        remarks = ["the server's weights cannot be seen: its address and the model's name stand for them"]
    if warning:
        remarks.append(warning)
    return Connection(server, str(card["id"]), checkpoint, read, max_length, facts, remarks, concurrency)


def _card(server: Server, where: str, model: str | None, kind: Kind) -> Mapping[str, Any]:
    """Return the server's entry for a model."""
    told = server.get("v1/models")
    cards = told.get("data") if isinstance(told, dict) else None
    if not isinstance(cards, list) or not all(
        isinstance(c, dict) and isinstance(c.get("id"), str) for c in cards
    ):
        raise ConfigError(f"{where}: /v1/models does not list models; is it {kind.who}?")
    names = [card["id"] for card in cards]
    if model is None:
        if len(cards) != 1:
            raise ConfigError(
                f"{where}: it serves {', '.join(names) or 'nothing'}; choose one: -M model=NAME"
            )
        return dict(cards[0])
    if model not in names:
        raise UnknownNameError("model", model, names, where)
    return dict(cards[names.index(model)])


def _checkpoint(where: str, place: str, *, is_given: bool) -> Checkpoint:
    """Return where config and tokenizer are; a folder needs no weights."""
    try:
        folder = Path(place).expanduser()
        if (folder / "config.json").is_file():
            return Checkpoint(str(folder), None, is_folder=True)
        return find_checkpoint(place, None)
    except ConfigError as error:
        if is_given:
            raise
        raise ConfigError(
            f"{where}: it serves {place!r}, which cannot be read here ({error}); say where its tokenizer and"
            " config are: -M tokenizer=PATH"
        ) from None
