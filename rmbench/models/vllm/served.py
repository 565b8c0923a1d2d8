"""A classifier behind a server of vLLM: its /classify gets token ids."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rmbench.core.address import public_address
from rmbench.core.files import digest
from rmbench.errors import ConfigError, ScoringError, UnknownNameError
from rmbench.models.hf.checkpoint import Checkpoint, Readout, find_checkpoint
from rmbench.models.http import Dialect, NoReplyError, Patience, Server, checked_url, key_from
from rmbench.models.runtime import Runtime
from rmbench.models.vllm.engine import Config, read_config
from rmbench.models.vllm.reward import Rows, Switch, VLLMReward


class Served:
    """A model that a server runs.

    Args:
        server: The server.
        name: The server's name of the model.
        facts: Further facts about the model and the server that can change a score.
        max_length: Tokens of a text.
        n_at_once: Requests that wait for it together.
        remarks: Remarks for the user.
    """

    batch_tokens = 16_384

    def __init__(
        self, server: Server, name: str, facts: Mapping[str, str], max_length: int, n_at_once: int,
        remarks: list[str],
    ) -> None:  # fmt: skip
        self._server, self.name, self._facts = server, name, facts
        self.max_length, self.n_at_once, self._remarks = max_length, n_at_once, remarks

    def identity(self) -> Mapping[str, str]:
        """Return the facts that the server gives, and the hash of its weights if its folder is here."""
        return self._facts

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
            return [[_number(value) for value in entry["probs"]] for entry in data]

        try:
            return self._server.post("classify", lambda _: body, read, digest(body["input"]))
        except NoReplyError as error:
            raise ScoringError(f"vLLM's server: {error}; what was answered before is stored") from None


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


class ServedReward(VLLMReward):
    """A classifier that waits for a server.

    Args:
        served: The model.
        tokenizer: This and all that follows: as in `VLLMReward`.
    """

    def __init__(
        self,
        served: Served,
        tokenizer: Any,
        readout: Readout,
        chat_template: str,
        output: Literal["logit", "any"],
    ) -> None:
        super().__init__(f"vllm:{served.name}", served, tokenizer, readout, chat_template, output)
        self._n_at_once = served.n_at_once

    def concurrency(self) -> int:
        """Return how many requests may wait for the server together."""
        return self._n_at_once


def connect(
    url: str,
    runtime: Runtime,
    *,
    model: str | None = None,
    tokenizer: str | None = None,
    key_env: str | None = None,
    concurrency: int = 8,
    timeout: float = 600.0,
    retries: int = 5,
) -> tuple[Served, Checkpoint, Config]:
    """Return a model behind a server, where its tokenizer is, and its config; options as in `load_vllm`.

    Raises:
        ConfigError: If the server does not answer, or the tokenizer cannot be read.
    """
    for option, value, least in (
        ("concurrency", concurrency, 1),
        ("timeout", timeout, 1e-3),
        ("retries", retries, 0),
    ):
        if value < least:
            raise ConfigError(f"vllm: option {option!r} is {value:g}; expected at least {least:g}")
    if (runtime.device, runtime.dtype) != ("auto", "auto"):
        raise ConfigError(
            f"vllm:{public_address(url)}: --device and --dtype were chosen when the server was started"
        )
    url, warning = checked_url(url, key_env, scheme="vllm", path="")
    url = url.removesuffix("/v1")
    told_url = public_address(url)
    patience = Patience(timeout_s=timeout, retries=retries, backoff_s=1.0, stop_after=1, seed=runtime.seed)
    server = Server(url, "vLLM's server", key_from(key_env, scheme="vllm"), patience, Dialect())
    card = _card(server, told_url, model)
    root = str(card.get("root") or card["id"])
    checkpoint = _checkpoint(told_url, tokenizer or root, is_given=tokenizer is not None)
    read = read_config(checkpoint, runtime)
    read.pin.check()
    served_length = card.get("max_model_len")
    max_length = min(read.max_length, served_length) if isinstance(served_length, int) else read.max_length
    if runtime.max_length is not None and max_length < runtime.max_length:
        raise ConfigError(
            f"vllm:{told_url}: max_length is {runtime.max_length}; the server takes {max_length} tokens"
        )
    facts, remarks = _identity(server, told_url, card, checkpoint, read, is_own=tokenizer is None)
    if warning:
        remarks.append(warning)
    return Served(server, str(card["id"]), facts, max_length, concurrency, remarks), checkpoint, read


def _card(server: Server, url: str, model: str | None) -> Mapping[str, Any]:
    """Return the server's entry for a model."""
    told = server.get("v1/models")
    cards = told.get("data") if isinstance(told, dict) else None
    if not isinstance(cards, list) or not all(
        isinstance(c, dict) and isinstance(c.get("id"), str) for c in cards
    ):
        raise ConfigError(f"vllm:{url}: /v1/models does not list models; is it a server of vLLM?")
    names = [card["id"] for card in cards]
    if model is None:
        if len(cards) != 1:
            raise ConfigError(
                f"vllm:{url}: it serves {', '.join(names) or 'nothing'}; choose one: -M model=NAME"
            )
        return dict(cards[0])
    if model not in names:
        raise UnknownNameError("model", model, names, f"vllm:{url}")
    return dict(cards[names.index(model)])


def _checkpoint(url: str, place: str, *, is_given: bool) -> Checkpoint:
    try:
        return find_checkpoint(place, None)
    except ConfigError as error:
        if is_given:
            raise
        raise ConfigError(
            f"vllm:{url}: it serves {place!r}, which cannot be read here ({error}); say where its tokenizer"
            " and config are: -M tokenizer=PATH"
        ) from None


def _identity(
    server: Server, url: str, card: Mapping[str, Any], checkpoint: Checkpoint, read: Config, *, is_own: bool
) -> tuple[dict[str, str], list[str]]:
    """Return the facts about a served model for its fingerprint, and remarks for the user."""
    told = server.get("version")
    version = str(told.get("version")) if isinstance(told, dict) else "unknown"
    known = {"vllm": version, "dtype": "the server's"}
    if is_own and checkpoint.is_folder and Path(checkpoint.location).is_absolute():
        return {**known, "weights": read.pin.weights}, []
    named = {"url": url, "served": str(card["id"]), "root": str(card.get("root") or "")}
    return {**known, **named}, [
        "the server's weights cannot be seen: its address and the model's name stand for them"
    ]
