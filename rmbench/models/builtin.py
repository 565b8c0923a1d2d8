"""`builtin:NAME`: models that come with the package.

`builtin:linear`: a small linear reward over lexical features, trained by
`scripts/embedded/train_linear.py`.

With it a trained model can run every task without a download. It reads words and shapes, not meaning;
scoring needs numpy alone.

Lexical features of a response and its prompt, hashed into one sparse vector.

Blocks: words and word pairs of the response; character trigrams of its words; its shape (counts, case, list
markers, punctuation, whether it parses as JSON or as a number); each word of the prompt crossed with each
shape, so that "lower case" and "no capitals" can meet; and a few dense numbers.
"""

import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmbench.core.files import parse_json, read_arrays, sha256_bytes
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.models import SCHEMES, register_scheme
from rmbench.models.messages import text_alone
from rmbench.models.runtime import Runtime
from rmbench.types import Conversation

FEATURES_VERSION = "1"
"""Raised when any feature changes: weights of another version are refused."""

N_HASHED = 1 << 16
_DENSE = (
    "log_chars", "log_words", "log_lines", "unique_words", "in_prompt", "of_prompt", "upper", "digits",
    "punctuation", "list_lines", "quoted_found", "json", "repeated",
)  # fmt: skip
N_FEATURES = N_HASHED + len(_DENSE)

_MAX_CHARS = 20_000  # of a response: enough for its shape, and a bound on the time for a runaway text
_TOKEN = re.compile(r"\w+|[^\w\s]")
_WORD = re.compile(r"\w+")
_LIST_LINE = re.compile(r"^\s*([-*\u2022]|\d+[.)])\s+\S")
_SENTENCE_END = re.compile(r"[.!?]+(\s|$)")
_QUOTED = re.compile(r"[\"'\u201c\u2018`]([^\"'\u201d\u2019`\n]{1,60})[\"'\u201d\u2019`]")
_NUMBER_WORDS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905
    )
}


def featurize(turns: Conversation) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return (indices, values) of the non-zero features of a conversation, indices unique and sorted.

    Shapes (n,) and (n,); 0 <= index < N_FEATURES. Pure: the same in every process and version of Python.
    """
    text_alone(turns, "builtin:linear")
    prompt = "\n".join(turn["content"] for turn in turns[:-1])[-_MAX_CHARS:]
    response = turns[-1]["content"][:_MAX_CHARS]
    found: dict[int, float] = {}
    words = [t.lower() for t in _TOKEN.findall(response)]
    _add(
        found,
        sorted({f"w:{w}" for w in words} | {f"b:{a} {b}" for a, b in pairwise(words)}),
    )
    trigrams = {g for w in set(words) for g in _trigrams(w)}
    _add(found, sorted(trigrams))
    shapes = list(dict.fromkeys(_shapes(response, prompt)))
    _add(found, [f"s:{shape}" for shape in shapes], scale=math.sqrt(len(shapes)))
    asked = sorted({w.lower() for w in _WORD.findall(prompt)})[:200]
    _add(found, [f"x:{word}:{shape}" for word in asked for shape in shapes], scale=2.0)
    for k, value in enumerate(_dense(response, prompt)):
        if value:
            found[N_HASHED + k] = value
    indices = np.array(sorted(found), dtype=np.int64)
    return indices, np.array([found[i] for i in indices.tolist()], dtype=np.float64)


def _add(found: dict[int, float], names: Sequence[str], scale: float = 1.0) -> None:
    """Add a block whose L2 norm is `scale` (before collisions), so that no block drowns the others."""
    if not names:
        return
    value = scale / math.sqrt(len(names))
    for name in names:
        index = _hash(name)
        found[index] = found.get(index, 0.0) + value


def _hash(name: str) -> int:
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) % N_HASHED


@lru_cache(maxsize=50_000)
def _trigrams(word: str) -> tuple[str, ...]:
    padded = f"<{word[:40]}>"
    return tuple(f"c:{padded[i : i + 3]}" for i in range(len(padded) - 2))


def _shapes(response: str, prompt: str) -> Iterator[str]:
    stripped = response.strip()
    words, lines = _WORD.findall(stripped), [line for line in stripped.splitlines() if line.strip()]
    n_listed = sum(bool(_LIST_LINE.match(line)) for line in lines)
    n_sentences = len(_SENTENCE_END.findall(stripped))
    counts = {"words": len(words), "lines": len(lines), "listed": n_listed, "sentences": n_sentences,
              "chars": len(stripped), "commas": stripped.count(",")}  # fmt: skip
    for name, count in counts.items():
        yield f"{name}~{count if count < 6 else 2 ** int(math.log2(count))}"
    wanted = _numbers(prompt)
    for name, count in counts.items():
        if wanted:
            yield f"{name}{'=' if count in wanted else '<' if count < min(wanted) else '>'}asked"
    yield from _edges(stripped)
    yield from _case(stripped)
    kind = _json_kind(stripped)
    yield f"json:{kind}"
    for mark in '"([{*#`!?:;-_0123456789':
        if mark in stripped:
            yield f"has:{mark}"
    lowered = stripped.lower()
    for quoted in _QUOTED.findall(prompt)[:8]:
        yield "quoted:in" if quoted.lower() in lowered else "quoted:out"


def _edges(stripped: str) -> Iterator[str]:
    if not stripped:
        yield "empty"
        return
    for name, char in (("first", stripped[0]), ("last", stripped[-1])):
        kind = (
            "upper" if char.isupper() else "lower" if char.islower() else "digit" if char.isdigit() else char
        )
        yield f"{name}:{kind}"


def _case(stripped: str) -> Iterator[str]:
    letters = [c for c in stripped if c.isalpha()]
    if not letters:
        yield "case:none"
    elif stripped == stripped.lower():
        yield "case:lower"
    elif stripped == stripped.upper():
        yield "case:upper"
    else:
        yield "case:title" if stripped == stripped.title() else "case:mixed"


def _json_kind(stripped: str) -> str:
    if stripped[:1] not in ("{", "[", '"') and not re.fullmatch(r"-?\d+(\.\d+)?", stripped):
        return "no"
    try:
        return type(json.loads(stripped)).__name__
    except (ValueError, RecursionError):
        return "broken"


def _numbers(prompt: str) -> set[int]:
    """Return the small whole numbers that a prompt names, in digits or words."""
    words = [w.lower() for w in _WORD.findall(prompt)]
    digits = {int(w) for w in words if w.isascii() and w.isdigit() and len(w) <= 3}
    return digits | {_NUMBER_WORDS[w] for w in words if w in _NUMBER_WORDS}


def _dense(response: str, prompt: str) -> list[float]:
    """Return the numbers of _DENSE, each about 0 to 1."""
    n = max(len(response), 1)
    words = [w.lower() for w in _WORD.findall(response)]
    unique, asked = set(words), {w.lower() for w in _WORD.findall(prompt)}
    lines = [line for line in response.splitlines() if line.strip()]
    quoted = [q.lower() for q in _QUOTED.findall(prompt)[:8]]
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return [
        math.log1p(len(response)) / 8,
        math.log1p(len(words)) / 6,
        math.log1p(len(lines)) / 3,
        len(unique) / max(len(words), 1),
        sum(w in asked for w in words) / max(len(words), 1),
        len(unique & asked) / max(len(asked), 1),
        sum(c.isupper() for c in response) / n,
        sum(c.isdigit() for c in response) / n,
        sum(not c.isalnum() and not c.isspace() for c in response) / n,
        sum(bool(_LIST_LINE.match(line)) for line in lines) / max(len(lines), 1),
        sum(q in response.lower() for q in quoted) / max(len(quoted), 1),
        float(_json_kind(response.strip()) in ("dict", "list")),
        1 - len(set(triples)) / max(len(triples), 1),
    ]


class LinearReward:
    """Dot product of hashed features and learned weights.

    Args:
        path: A `.npz` with `weights` (N_FEATURES,) float32 and `metadata` (JSON text); read without pickle.

    Raises:
        ConfigError: If the file is not there, or was trained with other features.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ConfigError(f"there is no {path.name} in this installation: install rmbench again")
        raw = path.read_bytes()  # the very bytes that are hashed
        found = read_arrays(path, {"weights": ("float32", 1), "metadata": ("str", 0)}, raw=raw)
        self._weights: NDArray[np.float64] = found["weights"].astype(np.float64)
        self.metadata: Mapping[str, object] = parse_json(str(found["metadata"]))
        version = self.metadata.get("features_version")
        if version != FEATURES_VERSION or self._weights.shape != (N_FEATURES,):
            raise ConfigError(
                f"{path}: trained with features {version!r}, this version computes {FEATURES_VERSION!r}:"
                " train it again in a checkout, python scripts/embedded/train_linear.py"
            )
        self._sha256 = sha256_bytes(raw)

    def fingerprint(self) -> Mapping[str, str]:
        """Return a hash of the weights and the version of the features."""
        return {"kind": "linear", "features": FEATURES_VERSION, "weights": f"sha256:{self._sha256}"}

    def n_parameters(self) -> int:
        """Return the number of weights."""
        return len(self._weights)

    def score(self, batch: Sequence[Conversation]) -> list[float]:
        """Return one reward per conversation, in log-odds of being preferred on the training split."""
        return [self._reward(turns) for turns in batch]

    def _reward(self, turns: Conversation) -> float:
        indices, values = featurize(turns)
        return float(self._weights[indices] @ values)


_FOLDER = Path(str(files("rmbench"))) / "_data" / "builtin"
LINEAR_FILE = _FOLDER / "linear.npz"
TINY_FOLDER = _FOLDER / "tiny"


@register_scheme(
    "builtin",
    rule="builtin:NAME (shipped with rmbench)",
    patterns={
        "builtin:linear": "n-grams and simple features, trained on the embedded data",
        "builtin:tiny": "a small transformer, trained on the embedded data (needs torch)",
    },
)
def load_builtin(name: str, *, runtime: Runtime) -> Any:
    """Return the shipped model called `name`.

    Raises:
        UnknownNameError: If there is no model of that name.
        ConfigError: If `tiny` is asked for without torch and transformers.
    """
    if name == "linear":
        return LinearReward(LINEAR_FILE)
    if name != "tiny":
        raise UnknownNameError("builtin model", name, ["linear", "tiny"])
    # Only here: it imports torch, which `linear` does without.
    return SCHEMES.get("hf").load(f"builtin:{name}", runtime=runtime)


def shipped_checkpoint(name: str) -> Path:
    """Return the folder of the shipped Hugging Face model called `name`.

    Raises:
        UnknownNameError: If there is no model of that name.
    """
    if name != "tiny":
        raise UnknownNameError("transformer of the package", name, ["tiny"], f"builtin:{name}")
    return TINY_FOLDER
