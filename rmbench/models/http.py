"""A model behind a server: requests with retries, and a stop when the server no longer answers.

Where a server is, and the key to it.
"""

import email.utils
import json
import os
import random
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from rmbench.core.escape import one_line
from rmbench.errors import ConfigError, ScoringError

try:
    import httpx2
except ImportError as error:
    raise ImportError(f"{error}; models behind a server need: pip install 'rmbench[judge]'") from error


T = TypeVar("T")

LONGEST_PAUSE_S = 120.0
"""A server that asks for a longer pause is not waited for."""
_OWN_FAULT = (400, 413, 422)
"""The request was wrong: this question has no answer, others may have one."""
_MAY_PASS = (408, 425, 429)


class NoReplyError(Exception):
    """A request without a reply; others may have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to go on trying."""

    timeout_s: float
    """For connecting, and for each wait for the server."""
    retries: int
    """Further requests after one that failed in a way that may pass."""
    backoff_s: float
    """Before the first of them; doubled each time, with a jitter of half to one and a half."""
    stop_after: int
    """Questions in a row without an answer, after which nothing more is asked."""
    seed: int
    """Of the jitter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What differs from server to server."""

    droppable: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What a request can do without -> the words by which a server says that it does not know it."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Parameter -> what it is called by servers that say so."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a request has no reply."""

    told: str
    may_pass: bool = False
    is_final: bool = False
    """No other request will do better: a wrong key, a wrong address."""
    pause_s: float = 0.0
    """What the server asks for."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A reply, as it was read."""

    value: Any


class Server:
    """A server that takes and gives JSON; safe for several threads.

    Args:
        url: Without a last slash.
        who: What it is called in messages, such as `the judge`.
        key: Of the server, sent as a bearer token and to nobody told; None for none.
        patience: How long to go on trying.
        dialect: What requests can do without, or have under another name.
    """

    def __init__(self, url: str, who: str, key: str | None, patience: Patience, dialect: Dialect) -> None:
        self._url, self._who, self._key, self._patience, self._dialect = url, who, key, patience, dialect
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = httpx2.Client(headers=headers, timeout=patience.timeout_s, limits=limits)
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        self._stop_text = ""
        self._n_failed_in_a_row = 0
        self._renamed: dict[str, str] = {}
        self._dropped: set[str] = set()
        self._counts: Counter[str] = Counter(requests=0, retries=0)
        weakref.finalize(self, self._http.close)

    def get(self, path: str) -> Any:
        """Return the JSON at a path, asked for once, before the first question.

        Raises:
            ConfigError: If there is none.
        """
        where = f"{self._who} at {self._url}"
        try:
            response = self._http.get(f"{self._url}/{path}")
        except httpx2.HTTPError as error:
            told = self.shown(f"{type(error).__name__}: {error}")
            raise ConfigError(f"{where} does not answer ({told})") from None
        if response.status_code != 200:
            raise ConfigError(f"{where}: /{path}: HTTP {response.status_code}: {self.shown(response.text)!r}")
        try:
            return response.json()
        except (ValueError, RecursionError):
            raise ConfigError(f"{where}: /{path}: expected JSON, got {self.shown(response.text)!r}") from None

    def post(
        self,
        path: str,
        body_of: Callable[[frozenset[str]], dict[str, Any]],
        read: Callable[[Any], T],
        question: str,
    ) -> T:
        """Return what `read` makes of the reply to a request, which is tried again where that may help.

        Args:
            path: Where to, below the address.
            body_of: Makes the request; told which of its parameters the server does not know.
            read: Of the reply's JSON. It may raise what unexpected JSON makes code raise.
            question: Its identity, for the jitter.

        Raises:
            NoReplyError: If there is none.
            ScoringError: If the server will not answer any request, or was given up before.
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
        """Return what was counted since this was made, and requests that had to do without a parameter."""
        with self._lock:
            return dict(self._counts)

    def count(self, name: str, n: int) -> None:
        """Add to what is counted."""
        with self._lock:
            self._counts[name] += n

    def settled(self, problem: str | None) -> None:
        """Note that a question was answered, or what it has in place of an answer.

        Raises:
            ScoringError: If too many in a row were not.
        """
        with self._lock:
            self._n_failed_in_a_row = 0 if problem is None else self._n_failed_in_a_row + 1
            n = self._n_failed_in_a_row
        if problem is not None and n >= self._patience.stop_after:
            raise self._stop(f"{n} questions in a row have no answer; the last: {problem}")

    def shown(self, text: str) -> str:
        """Return a server's words for a person: servers have been seen to repeat the key."""
        return one_line(text.replace(self._key, "[key]") if self._key else text, 300)

    def _stop(self, why: str) -> ScoringError:
        with self._lock:
            if not self.stopped.is_set():
                self._stop_text = (
                    f"{self._who} at {self._url}: {self.shown(why)}; what was answered before is stored"
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
            response = self._http.post(f"{self._url}/{path}", content=content)
        except httpx2.TimeoutException:
            return _Trouble(f"no answer within {self._patience.timeout_s:g} s", may_pass=True)
        except httpx2.HTTPError as error:
            return _Trouble(self.shown(f"{type(error).__name__}: {error}"), may_pass=True)
        if response.status_code != 200:
            return self._refused(response)
        try:
            return _Read(read(response.json()))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            told = self.shown(response.text)
            return _Trouble(f"HTTP 200 with what is no reply of /{path}: {told!r}", may_pass=True)

    def _refused(self, response: "httpx2.Response") -> _Trouble:
        code = response.status_code
        told = f"HTTP {code}: {self.shown(response.text)!r}"
        if code >= 500 or code in _MAY_PASS:
            return _Trouble(told, may_pass=True, pause_s=_pause_s(response.headers.get("Retry-After", "")))
        return _Trouble(told, is_final=code not in _OWN_FAULT)

    def _fitted(self, body_of: Callable[[frozenset[str]], dict[str, Any]]) -> dict[str, Any]:
        """Return a request without what the server does not know; other threads may just learn of more."""
        with self._lock:
            dropped, renamed = frozenset(self._dropped), dict(self._renamed)
            for name in sorted(dropped):
                self._counts[f"requests without {name}"] += 1
        body = body_of(dropped)
        return {renamed.get(name, name): value for name, value in body.items() if name not in dropped}

    def _adapted(self, body: dict[str, Any], trouble: _Trouble) -> bool:
        """Say whether the server complained of a parameter that can be left out or has another name now."""
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


def _pause_s(header: str) -> float:
    """Return the seconds that `Retry-After` asks for: a number of them, or a date."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def checked_url(url: str, key_env: str | None, *, scheme: str, path: str) -> tuple[str, str]:
    """Return the address without a last slash, and what to warn of (empty for nothing).

    Args:
        url: As it was given.
        key_env: As `key_from` takes it.
        scheme: Of the model, for messages: `judge`.
        path: What such an address usually ends with, for messages.

    Raises:
        ConfigError: If it is no address, or holds a key: addresses are written into records.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"{scheme}: the address cannot be read: {error}") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(f"{scheme}: the address has more than host and path; pass a key by -M key_env=NAME")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{scheme}:{url}: expected an address such as {scheme}:http://127.0.0.1:8000{path}")
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
