"""HTTP client of models behind a server: address, key, retries, and a stop when the server is gone."""

import email.utils
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from rmbench.core.address import public_address, secrets_of
from rmbench.core.escape import one_line
from rmbench.core.files import parse_json
from rmbench.errors import ConfigError, ScoringError
from rmbench.models.wire import Answer, Wire, WireError, check_address

T = TypeVar("T")

LONGEST_PAUSE_S = 120.0
"""Longest pause between two requests. The client gives up on a server that asks for a longer one."""
_OWN_FAULT = (400, 413, 422)
"""Status codes of a request that the server cannot answer; other requests may have an answer."""
_MAY_PASS = (408, 425, 429)


class NoReplyError(Exception):
    """A request without a reply; others may have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Limits of time and retries."""

    timeout_s: float
    """Seconds of a whole request, from connecting to the last byte of the answer."""
    retries: int
    """Further requests after a failure that may pass."""
    backoff_s: float
    """Seconds before the first retry; doubled each time, times a jitter between 0.5 and 1.5."""
    stop_after: int
    """Questions in a row without an answer, after which the run stops."""
    seed: int
    """Seed of the jitter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Parameters that differ from server to server."""

    droppable: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Optional parameter -> words in the message of a server that does not know it."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Parameter -> its other name, for servers that ask for that name in their message."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a request has no reply."""

    told: str
    may_pass: bool = False
    is_final: bool = False
    """Whether every other request would fail too: a wrong key, a wrong address."""
    pause_s: float = 0.0
    """Seconds that the server asks to wait."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A reply that could be read."""

    value: Any


class Server:
    """A server that takes and gives JSON; safe for several threads.

    Args:
        url: Without a last slash.
        who: Its name in messages, such as `the judge`.
        key: API key, sent as a bearer token, never logged; None for a server without one.
        patience: Limits of time and retries.
        dialect: Parameters that differ from server to server.
    """

    def __init__(self, url: str, who: str, key: str | None, patience: Patience, dialect: Dialect) -> None:
        self._url, self._who, self._patience, self._dialect = url, who, patience, dialect
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._wire = Wire(headers, patience.timeout_s)
        self._told_url = public_address(url)
        self._secrets = [*([key] if key else []), *secrets_of(url)]
        # Lists and mappings take many times the size of their JSON: one answer is read at a time.
        self._reading = threading.Lock()
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        self._stop_text = ""
        self._n_failed_in_a_row = 0
        self._renamed: dict[str, str] = {}
        self._dropped: set[str] = set()
        self._counts: Counter[str] = Counter(requests=0, retries=0)

    def get(self, path: str) -> Any:
        """Return the JSON at a path, from one request without retries.

        Raises:
            ConfigError: If the server does not answer with JSON.
        """
        where = f"{self._who} at {self._told_url}"
        try:
            answer = self._wire.request("GET", f"{self._url}/{path}")
        except WireError as error:
            raise ConfigError(f"{where} does not answer ({self.shown(str(error))})") from None
        if answer.status != 200:
            raise ConfigError(f"{where}: /{path}: {self._refused(answer).told}")
        try:
            with self._reading:
                return _json(answer)
        except (ValueError, RecursionError):
            raise ConfigError(f"{where}: /{path}: expected JSON, got {self.shown(answer.text)!r}") from None

    def post(
        self,
        path: str,
        body_of: Callable[[frozenset[str]], dict[str, Any]],
        read: Callable[[Any], T],
        question: str,
    ) -> T:
        """Send a request, with retries, and return its reply as `read` reads it.

        Args:
            path: Path below the address.
            body_of: Makes the request from the names of the parameters that the server does not know.
            read: Reads the reply's JSON. Its KeyError, TypeError and the like mean unexpected JSON.
            question: Identity of the question; seeds the jitter.

        Raises:
            NoReplyError: If no request had a reply.
            ScoringError: If the server refuses every request, or the run has stopped.
        """
        trouble = _Trouble("")
        n_left = self._patience.retries
        for _ in range(1 + n_left + len(self._dialect.droppable) + len(self._dialect.renamed)):
            if self.stopped.is_set():
                raise ScoringError(self._stop_text)
            body = self._fitted(body_of)
            reply = self._once(path, body, read)
            if isinstance(reply, _Read):
                return reply.value  # type: ignore[no-any-return]  # of `read`
            trouble = reply
            if trouble.is_final:
                raise self._stop(trouble.told)
            if self._adapted(body, trouble):
                continue
            if not trouble.may_pass or n_left == 0 or trouble.pause_s > LONGEST_PAUSE_S:
                break
            n_left -= 1
            self.count("retries", 1)
            n_before = self._patience.retries - n_left - 1
            self.stopped.wait(max(trouble.pause_s, self._backoff_s(n_before, question)))
        raise NoReplyError(trouble.told)

    def counts(self) -> dict[str, int]:
        """Return the counts so far: requests, retries, requests without a parameter, and those of `count`."""
        with self._lock:
            return dict(self._counts)

    def count(self, name: str, n: int) -> None:
        """Add to a count."""
        with self._lock:
            self._counts[name] += n

    def settled(self, problem: str | None) -> None:
        """Note that a question has an answer, or the problem that it has in place of one.

        Raises:
            ScoringError: If too many questions in a row have no answer.
        """
        with self._lock:
            self._n_failed_in_a_row = 0 if problem is None else self._n_failed_in_a_row + 1
            n = self._n_failed_in_a_row
        if problem is not None and n >= self._patience.stop_after:
            raise self._stop(f"{n} questions in a row have no answer; the last: {problem}")

    def shown(self, text: str) -> str:
        """Return a server's words on one line, without key and address: some servers repeat them."""
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        return one_line(text, 300)

    def _stop(self, why: str) -> ScoringError:
        with self._lock:
            if not self.stopped.is_set():
                self._stop_text = (
                    f"{self._who} at {self._told_url}: {self.shown(why)}; what was answered before is stored"
                )
                self.stopped.set()
        return ScoringError(self._stop_text)

    def _backoff_s(self, n_before: int, question: str) -> float:
        jitter = random.Random(f"{self._patience.seed}:{question}:{n_before}").uniform(0.5, 1.5)
        return min(LONGEST_PAUSE_S, self._patience.backoff_s * 2.0 ** min(n_before, 30) * jitter)

    def _once(self, path: str, body: dict[str, Any], read: Callable[[Any], Any]) -> _Read | _Trouble:
        # ASCII: control characters and lone surrogates of a text arrive as they are.
        content = json.dumps(body).encode("ascii")
        self.count("requests", 1)
        try:
            answer = self._wire.request("POST", f"{self._url}/{path}", content)
        except WireError as error:
            return _Trouble(self.shown(str(error)), may_pass=True)
        if answer.status != 200:
            return self._refused(answer)
        try:
            with self._reading:
                return _Read(read(_json(answer)))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, OverflowError):
            told = self.shown(answer.text)
            return _Trouble(f"HTTP 200 with what is no reply of /{path}: {told!r}", may_pass=True)

    def _refused(self, answer: Answer) -> _Trouble:
        code = answer.status
        told = f"HTTP {code}: {self.shown(answer.text)!r}"
        if answer.place:
            elsewhere = self.shown(public_address(urljoin(self._url, answer.place)))
            told = (
                f"HTTP {code}: it redirects to {elsewhere}, which is not asked; give that address to ask it"
            )
        if code >= 500 or code in _MAY_PASS:
            return _Trouble(told, may_pass=True, pause_s=_pause_s(answer.retry_after))
        return _Trouble(told, is_final=code not in _OWN_FAULT)

    def _fitted(self, body_of: Callable[[frozenset[str]], dict[str, Any]]) -> dict[str, Any]:
        """Return a request without the parameters that the server does not know."""
        with self._lock:
            dropped, renamed = frozenset(self._dropped), dict(self._renamed)
            for name in sorted(dropped):
                self._counts[f"requests without {name}"] += 1
        body = body_of(dropped)
        return {renamed.get(name, name): value for name, value in body.items() if name not in dropped}

    def _adapted(self, body: dict[str, Any], trouble: _Trouble) -> bool:
        """Note a parameter that the server complains of; return whether another request may help."""
        if trouble.may_pass:
            return False
        with self._lock:
            for name, words in self._dialect.droppable.items():
                if name in body and any(word in trouble.told for word in words):
                    self._dropped.add(name)
                    return True
            for name, other in self._dialect.renamed.items():
                if name in body and other in trouble.told:
                    self._renamed[name] = other
                    return True
        return False


def _json(answer: Answer) -> Any:
    """Return the JSON of an answer; no key is given twice."""
    return parse_json(answer.body.removeprefix(b"\xef\xbb\xbf"))


def _pause_s(header: str) -> float:
    """Return the seconds that `Retry-After` asks for: a number of them, or a date."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError, IndexError):
        return 0.0


def checked_url(url: str, key_env: str | None, *, scheme: str, path: str) -> tuple[str, str]:
    """Return the address without a last slash, and a warning, empty if there is no reason for one.

    Args:
        url: The address that was given.
        key_env: As `key_from` takes it.
        scheme: Scheme of the model, for messages: `judge`.
        path: Usual end of such an address, for messages.

    Raises:
        ConfigError: If it is no address, or holds a key: records contain the address.
    """
    expected = f"expected an address such as {scheme}:http://127.0.0.1:8000{path}"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        raise ConfigError(f"{scheme}: the address cannot be read; {expected}") from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(f"{scheme}: the address has more than host and path; pass a key by -M key_env=NAME")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{scheme}:{public_address(url)}: {expected}")
    try:
        check_address(url)
    except ValueError:
        raise ConfigError(f"{scheme}:{public_address(url)}: no address; {expected}") from None
    open_way = parts.scheme == "http" and host not in ("localhost", "127.0.0.1", "::1")
    warning = "the key is sent over a connection that is not encrypted" if open_way and key_env else ""
    return url.rstrip("/").removesuffix("/chat/completions"), warning


def key_from(key_env: str | None, *, scheme: str) -> str | None:
    """Return the key that an environment variable holds; None where no variable is named.

    Raises:
        ConfigError: If it is not set, or could not be sent. The message holds no part of it.
    """
    if key_env is None:
        return None
    key = os.environ.get(key_env, "").strip()
    if not key:
        raise ConfigError(f"{scheme}: key_env names the environment variable {key_env!r}, which is not set")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{scheme}: the environment variable {key_env!r} holds what cannot be a key")
    return key
