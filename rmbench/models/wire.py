"""HTTP requests with one deadline for the whole of each, and a bound on the answer.

A server is not trusted: it may send an answer that never ends, byte by byte or as fast as it can, or that is
small only as long as it is compressed. httpx2 limits each wait alone, and reads whatever comes.
"""

import threading
import time
import weakref
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

from rmbench.errors import ConfigError

try:
    import httpcore2
    import httpx2
except ImportError as error:
    raise ImportError(f"{error}; models behind a server need: pip install 'rmbench[judge]'") from error

MOST_BYTES = 16 * 2**20
"""Bytes of an answer, after decompression, beyond which it is given up."""
_MOST_OF_ERROR = 2**16
_PACKED = ("gzip", "x-gzip", "deflate")


def check_address(url: str) -> None:
    """Raise ValueError if the client could not ask at this address."""
    try:
        httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(str(error)) from None


class WireError(Exception):
    """A request without an answer; the text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    retry_after: str
    """The header, empty without one."""
    place: str
    """Where a redirect points to, empty without one."""
    body: bytes

    @property
    def text(self) -> str:
        """The beginning of the body, for messages."""
        return self.body[:4096].decode("utf-8", "replace")


class Wire:
    """A client that follows no redirect and keeps no cookie; safe for several threads.

    Args:
        headers: Sent with every request.
        timeout_s: Seconds from the beginning of a request to the last byte of its answer. Only the look-up of
            the server's name has the system's own limit.
        most_bytes: Bytes of an answer, after decompression, beyond which it is given up.

    Raises:
        ConfigError: If this version of httpx2 cannot be given a deadline.
    """

    def __init__(self, headers: dict[str, str], timeout_s: float, most_bytes: int = MOST_BYTES) -> None:
        self._timeout_s, self._most_bytes = timeout_s, most_bytes
        self._http = httpx2.Client(
            headers={**headers, "Accept-Encoding": "gzip, deflate"},
            timeout=timeout_s,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )
        self._deadline = _Deadline()
        _time_out(self._http, self._deadline)
        weakref.finalize(self, self._http.close)

    def request(self, method: str, url: str, content: bytes | None = None) -> Answer:
        """Return the answer to a request.

        Raises:
            WireError: If there is none: no connection, no whole answer in time, or one that is too large.
        """
        try:
            with (
                self._deadline.in_s(self._timeout_s),
                self._http.stream(method, url, content=content) as response,
            ):
                return Answer(
                    response.status_code,
                    response.headers.get("Retry-After", ""),
                    response.headers.get("Location", "") if 300 <= response.status_code < 400 else "",
                    self._body(response) if response.status_code == 200 else _some(response),
                )
        except httpx2.TimeoutException:
            raise WireError(f"no answer within {self._timeout_s:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise WireError(f"{type(error).__name__}: {error}") from None

    def _body(self, response: httpx2.Response) -> bytes:
        found = bytearray()
        for part in _unpacked(response, self._most_bytes):
            found += part
        return bytes(found)


def _some(response: httpx2.Response) -> bytes:
    """Return the beginning of an error's body, as far as it can be read: its status says enough."""
    found = bytearray()
    try:
        for part in _unpacked(response, _MOST_OF_ERROR):
            found += part
    except (httpx2.HTTPError, WireError):
        pass
    return bytes(found)


def _unpacked(response: httpx2.Response, most: int) -> Iterator[bytes]:
    """Yield the parts of a body after decompression; none is larger than what is left of `most` bytes."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity", *_PACKED):
        raise WireError(f"the answer is compressed in a way that was not asked for: {encoding[:40]!r}")
    unpack = zlib.decompressobj(47) if encoding in _PACKED else None  # 47: a header of gzip or of zlib
    n_raw = n_read = 0
    for raw in response.iter_raw():
        n_raw += len(raw)
        rest = raw
        while rest:
            try:
                part = rest if unpack is None else unpack.decompress(rest, most + 1 - n_read)
            except zlib.error as error:
                raise WireError(f"the answer cannot be decompressed: {error}") from None
            n_read += len(part)
            if max(n_raw, n_read) > most:
                raise WireError(f"the answer is larger than {most:,} bytes")
            yield part
            rest = b"" if unpack is None else unpack.unconsumed_tail
    if unpack is not None and not unpack.eof:
        raise WireError("the answer is cut off")


class _Deadline(threading.local):
    """The time at which the request of this thread ends."""

    at: float | None = None

    @contextmanager
    def in_s(self, seconds: float) -> Iterator[None]:
        """Set the deadline."""
        self.at = time.monotonic() + seconds
        try:
            yield
        finally:
            self.at = None

    def left(self, timeout: float | None, error: type[Exception]) -> float | None:
        """Return the shorter of a wait and of what is left; raise `error` when nothing is."""
        if self.at is None:
            return timeout
        left = self.at - time.monotonic()
        if left <= 0:
            raise error("the deadline of the request")
        return left if timeout is None else min(timeout, left)


def _time_out(client: httpx2.Client, deadline: _Deadline) -> None:
    """Make every connection of a client keep to a deadline."""
    try:
        transports = [client._transport, *filter(None, client._mounts.values())]
        for transport in transports:
            pool: Any = transport._pool  # type: ignore[attr-defined]  # httpx2 has no other way to it
            pool._network_backend = _Backend(pool._network_backend, deadline)
    except AttributeError:
        raise ConfigError(
            f"httpx2 {httpx2.__version__} cannot be given a deadline; expected: pip install 'httpx2==2.16.*'"
        ) from None


class _Backend(httpcore2.NetworkBackend):
    def __init__(self, inner: httpcore2.NetworkBackend, deadline: _Deadline) -> None:
        self._inner, self._deadline = inner, deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        left = self._deadline.left(timeout, httpcore2.ConnectTimeout)
        return _Stream(
            self._inner.connect_tcp(host, port, left, local_address, socket_options), self._deadline
        )

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream, deadline: _Deadline) -> None:
        self._inner, self._deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.left(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        view = memoryview(buffer)
        for start in range(0, len(view), _MOST_OF_ERROR):  # a server may read slowly, too
            part = bytes(view[start : start + _MOST_OF_ERROR])
            self._inner.write(part, self._deadline.left(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = self._deadline.left(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
