"""Where a server is, and the key to it."""

import os
from urllib.parse import urlsplit

from rmbench.errors import ConfigError


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
