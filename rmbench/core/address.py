"""Addresses of servers without their secrets, for records, stores, messages and reports.

Some servers take a key as a part of the path, as a query or as user and password. A part of an address that
is no word of usual addresses is shown as a hash, which tells two addresses apart.
"""

import re
from functools import lru_cache
from hashlib import pbkdf2_hmac
from urllib.parse import unquote, urlsplit

_VERSION = re.compile(r"v[0-9]{1,2}(?:(?:alpha|beta)[0-9]?)?")
_HASHED = re.compile(r"sha256-[0-9a-f]{12}")
"""What stands for a secret already."""
_WORDS = frozenset({
    "api", "chat", "classify", "compatible-mode", "completions", "deployments", "endpoints", "engines",
    "gateway", "generate", "inference", "llm", "maas", "models", "openai", "paas", "predict", "projects",
    "proxy", "publishers", "serverless", "serving-endpoints", "vllm",
})  # fmt: skip
_IN_TEXT = re.compile(r"""(?<![A-Za-z0-9_])([a-z][a-z0-9_]*:)(https?://(?:(?!,[a-z][a-z0-9_]*:)[^\s'"])+)""")
_SHORT = 4
_ROUNDS = 100_000
"""A short password takes long to find from its hash."""


def public_address(url: str) -> str:
    """Return an address with scheme, host, port and the usual words of its path; other parts are hashes."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        scheme, _, rest = url.partition("://")
        return f"{scheme}://{_hash('', rest)}"
    if not _hidden(url):
        return url
    place = f"[{host}]" if ":" in host else host
    if port is not None:
        place += f":{port}"
    if user := parts.netloc.rpartition("@")[0]:
        place = f"{_hash(host, user)}@{place}"
    path = "/".join(s if _is_usual(s) else _hash(host, s) for s in parts.path.split("/"))
    query = f"?{_hash(host, parts.query)}" if parts.query else ""
    fragment = f"#{_hash(host, parts.fragment)}" if parts.fragment else ""
    return f"{parts.scheme}://{place}{path}{query}{fragment}"


def without_secrets(text: str) -> str:
    """Return a text in which each address of a model, such as `judge:https://...`, is public."""
    return _IN_TEXT.sub(lambda match: match[1] + public_address(match[2]), text)


def secrets_of(url: str) -> list[str]:
    """Return the parts of an address that `public_address` hides, the longest first.

    Those below four characters are left out: words of a message may hold them.
    """
    found = {*_hidden(url), *map(unquote, _hidden(url))}
    return sorted((text for text in found if len(text) >= _SHORT), key=len, reverse=True)


def _hidden(url: str) -> set[str]:
    parts = urlsplit(url)
    segments = {s for s in parts.path.split("/") if not _is_usual(s)}
    user = parts.netloc.rpartition("@")[0]
    others = (parts.query, parts.fragment, user, *user.split(":"))
    return segments | {text for text in others if text and not _HASHED.fullmatch(text)}


def _is_usual(segment: str) -> bool:
    return not segment or segment in _WORDS or bool(_VERSION.fullmatch(segment) or _HASHED.fullmatch(segment))


@lru_cache(maxsize=64)
def _hash(host: str, secret: str) -> str:
    if _HASHED.fullmatch(secret):
        return secret
    raw = pbkdf2_hmac("sha256", secret.encode("utf-8", "surrogatepass"), host.encode(), _ROUNDS)
    return f"sha256-{raw.hex()[:12]}"
