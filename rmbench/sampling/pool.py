"""The pool on disk: a line per finished prompt, appended whole, so that a killed run loses one prompt.

`rmbench eval` reads a row once it has gold: `id`, `prompt`, `responses`, `tags`, `logprobs`, and `sampling`,
the settings. `sample_pool` draws what the file lacks and appends it. The settings must be those of the file,
and so must the keys that a finished prompt carries: its answer, its strata.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmbench.core.files import LONGEST_LINE, digest, locked, parse_json, require_file
from rmbench.errors import ConfigError, DataError, RunError
from rmbench.sampling.policy import Decoding, Engine, Prompt, Sample
from rmbench.sampling.prompts import CARRIED
from rmbench.scoring import Progress

_NOT_APPENDED = (".gz", ".xz", ".json", ".parquet")
_PER_ROW = "untempered_logprobs"
_DIGITS = 6
"""Digits of log-probabilities: a sum of float32 has no more."""


class Pool:
    """A pool of one policy, being written.

    Args:
        path: The file.
        settings: Policy, engine and decoding, as in every row.

    Raises:
        ConfigError: If the file is another run's, or not a pool. The file stays as it is.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], prompts: Sequence[Prompt]) -> None:
        self._path, self._settings = path, dict(settings)
        self.counts: Counter[str] = Counter()
        """`prompts`, `responses`, `tokens`, `empty`, `cut` of the whole file; `prompts_with_empty`."""
        self.done: dict[str, Mapping[str, str]] = {}
        """Id of each finished prompt -> hashes of the prompt and of what its row carries, by key."""
        self.torn_bytes = 0
        """Length of the unfinished last line of a killed run, which is cut off."""
        if path.exists():
            self._read(prompts)

    def add(self, prompt: Prompt, samples: Sequence[Sample]) -> None:
        """Append a finished prompt; on disk when this returns.

        Raises:
            RunError: If the file cannot be written.
        """
        row = _row(prompt, samples, self._settings)
        try:
            with self._path.open("ab") as file:
                file.write(json.dumps(row, allow_nan=False).encode("ascii") + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"{self._path}: cannot be written ({error.strerror})") from None
        self._count(row)

    def _read(self, prompts: Sequence[Prompt]) -> None:
        whole = 0
        try:
            with self._path.open("rb") as file:
                lines = iter(lambda: file.readline(LONGEST_LINE), b"")
                for line, raw in enumerate(lines, start=1):
                    if len(raw) == LONGEST_LINE:
                        problem = f"a line of {LONGEST_LINE:,} bytes or more; give another --out"
                        raise DataError(problem, path=self._path, line=line)
                    if not raw.endswith(b"\n"):
                        self._check_torn(raw, line, prompts)
                        self.torn_bytes = len(raw)
                        break
                    self._count(self._checked(raw, line))
                    whole += len(raw)
            if self.torn_bytes:
                with self._path.open("r+b") as file:
                    file.truncate(whole)
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be read or written ({error.strerror})") from None

    def _checked(self, raw: bytes, line: int) -> dict[str, Any]:
        try:
            row = parse_json(raw)
        except ValueError as error:
            raise DataError(f"not valid JSON ({error})", path=self._path, line=line) from None
        if not _is_row(row):
            raise DataError(
                "no row of a pool that `rmbench sample` wrote; give another --out", path=self._path, line=line
            )
        there = {key: value for key, value in row["sampling"].items() if key != _PER_ROW}
        for key in sorted({*there, *self._settings}):
            if there.get(key) != self._settings.get(key):
                raise DataError(
                    f"sampled with other settings: {key} is {there.get(key)!r} there and"
                    f" {self._settings.get(key)!r} now; give another --out",
                    path=self._path,
                    line=line,
                    key="sampling",
                )
        return dict(row)

    def _check_torn(self, raw: bytes, line: int, prompts: Sequence[Prompt]) -> None:
        """Refuse a last line that no run of these prompts can have begun: it is somebody else's file."""
        if self.done:
            return
        heads = (json.dumps({"id": p.id, "prompt": p.given}).encode("ascii")[:-1] for p in prompts)
        if not any(raw.startswith(head) or head.startswith(raw) for head in heads):
            raise DataError(
                "no pool that `rmbench sample` began; give another --out", path=self._path, line=line
            )

    def _count(self, row: Mapping[str, Any]) -> None:
        self.done[row["id"]] = _hashes(row["prompt"], row)
        texts, tags = row["responses"], row["tags"]
        n_empty = sum(not text.strip() for text in texts)
        self.counts.update(
            prompts=1, responses=len(texts), tokens=sum(int(tag["tokens"]) for tag in tags), empty=n_empty,
            prompts_with_empty=int(n_empty > 0), cut=sum(tag["finish"] == "length" for tag in tags),
        )  # fmt: skip

    def remaining(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return the prompts that are not in the file yet.

        Raises:
            DataError: If one has the id of another prompt in the file, or its row carries something else.
        """
        for prompt in prompts:
            there, now = self.done.get(prompt.id), _hashes(prompt.given, prompt.carried)
            if there is None or there == now:
                continue
            key = next(key for key in ("prompt", *CARRIED) if there.get(key) != now.get(key))
            raise DataError(
                f"the row {prompt.id!r} has another {key} there than in {prompt.place}; give another --out",
                path=self._path,
                key=key,
            )
        return [prompt for prompt in prompts if prompt.id not in self.done]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold the pool's lock; raise ConfigError if another process has it."""
    if path.name.endswith(_NOT_APPENDED):
        raise ConfigError(f"{path}: --out is appended to, line by line; expected a name such as pool.jsonl")
    if path.exists():
        require_file(path)
    with locked(path.with_name(f".{path.name}.lock"), path, "sampling into"):
        yield


def _row(prompt: Prompt, samples: Sequence[Sample], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": prompt.id,
        "prompt": prompt.given,
        **prompt.carried,
        "responses": [s.text for s in samples],
        "logprobs": [_rounded(s.logprob) for s in samples],
        "tags": [{"finish": s.finish, "tokens": str(s.n_tokens)} for s in samples],
        "sampling": {**settings, _PER_ROW: [_rounded(s.untempered_logprob) for s in samples]},
    }


def _hashes(prompt: Any, carried: Mapping[str, Any]) -> dict[str, str]:
    """Return the hash of a prompt, and of each key that its row carries."""
    kept = {key: digest(carried[key]) for key in CARRIED if carried.get(key) is not None}
    return {"prompt": digest(prompt), **kept}


def _rounded(value: float) -> float:
    return round(value, _DIGITS) + 0.0  # no -0.0


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("sampling"), dict) or "prompt" not in row:
        return False
    texts, tags = row.get("responses"), row.get("tags")
    return (
        isinstance(row.get("id"), str)
        and isinstance(texts, list)
        and all(isinstance(text, str) for text in texts)
        and isinstance(tags, list)
        and len(tags) == len(texts)
        and all(isinstance(t, dict) and "finish" in t and str(t.get("tokens")).isdecimal() for t in tags)
    )


UNFIT = "prompt does not fit the policy"


@dataclass(frozen=True, slots=True)
class Sampled:
    """A finished pool."""

    settings: Mapping[str, Any]
    """The settings in every row's `sampling`."""
    counts: Mapping[str, int]
    """Of the whole file: `prompts`, `responses`, `tokens`, `empty`, `prompts_with_empty`, `cut`."""
    n_new: int
    """Prompts sampled now."""
    n_before: int
    """Prompts of this run that were in the file already."""
    n_others: int
    """Prompts of the file that are not in this run."""
    torn_bytes: int
    """Length of the unfinished last line of a killed run, cut off and drawn again."""
    left_out: Mapping[str, int]
    """Reason -> prompts left out here."""


def sample_pool(
    engine: Engine,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    out: Path,
    *,
    system: str | None = None,
    on_bad: str = "fail",
    bar: Progress | None = None,
) -> Sampled:
    """Draw what `out` lacks and append it, a line per prompt. The caller holds the file's lock.

    Args:
        engine: The policy.
        prompts: Distinct prompts.
        decoding: Decoding settings.
        out: The pool; a file with other settings is refused.
        system: The system message that was added to prompts, if any.
        on_bad: What to do with a prompt that the policy cannot read: `fail`, or `skip` and count.
        bar: Progress bar: responses to draw, and responses on disk.

    Raises:
        ConfigError: If the file or a prompt does not fit; nothing is drawn.
        RunError: If the policy fails. Finished prompts stay in the file.
    """
    settings = {**engine.identity(), **decoding.settings(), **({} if system is None else {"system": system})}
    pool = Pool(out, settings, prompts)
    missing = pool.remaining(prompts)
    n_before = len(prompts) - len(missing)
    n_others = len(pool.done) - n_before
    fit, left_out = [], Counter[str]()
    for prompt in missing:
        problem = engine.problem(prompt.turns, decoding)
        if problem is None:
            fit.append(prompt)
        elif on_bad == "fail":
            raise ConfigError(f"{prompt.place}: {problem}")
        else:
            left_out[UNFIT] += 1
    if bar is not None:
        bar.start(len(fit) * decoding.n)
    for prompt, samples in zip(fit, engine.sample(fit, decoding), strict=True):
        pool.add(prompt, samples)
        if bar is not None:
            bar.advance(len(samples), sum(s.n_tokens for s in samples))
    return Sampled(settings, dict(pool.counts), len(fit), n_before, n_others, pool.torn_bytes, dict(left_out))
