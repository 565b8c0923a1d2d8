"""`scores:FILE`: rewards computed elsewhere, so that any model can be ranked without a GPU."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rmbench.core.files import canonical_json, iter_jsonl, require_file
from rmbench.errors import DataError, UnknownNameError
from rmbench.models import register_scheme
from rmbench.types import Item

IGNORED_KEYS = frozenset(
    {
        "cluster", "gold", "gold_kind", "lengths", "logprobs", "n_tokens", "prompt", "responses", "strata",
        "truncated",
    }
)  # fmt: skip
"""Keys that a row may carry besides `id` and `rewards`: those of exported items and of our own records."""

_SUFFIXES = (".gz", ".xz", ".jsonl", ".json")


class ScoresFile:
    """Rewards from JSON Lines (plain, .gz, .xz): one row `{"id": "<item id>", "rewards": [K numbers]}`.

    `null` means that there is no reward for a response: it counts as invalid, never as 0. A reward
    may be nested as `[x]`, as tools write logits of shape (B, 1).

    Args:
        path: The file.

    Raises:
        DataError: With file, line and key, if a row does not fit.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        require_file(self.path, "scores")
        self._rows: dict[str, tuple[int, list[float | None]]] = {}
        for line, row in iter_jsonl(self.path):
            self._add(line, row)
        if not self._rows:
            raise DataError('no rows; expected {"id": ..., "rewards": [...]} per line', path=self.path)
        self.display_name = _stem(self.path)

    def fingerprint(self) -> Mapping[str, str]:
        """Return a hash of ids and rewards: neither line order nor compression nor ignored keys matter."""
        sha = hashlib.sha256()
        for key in sorted(self._rows):
            line = canonical_json([key, self._rows[key][1]]) + "\n"
            sha.update(line.encode("utf-8", "surrogatepass"))
        return {"kind": "scores", "sha256": sha.hexdigest(), "version": "1"}

    def rewards(self, items: Sequence[Item]) -> list[list[float]]:
        """Return one reward per response of each item; NaN where the file says null.

        Raises:
            DataError: If the file has no row for an item, or not one reward per response.
        """
        missing = [item.id for item in items if item.id not in self._rows]
        if missing:
            few = ", ".join(map(repr, missing[:3])) + (", ..." if len(missing) > 3 else "")
            raise DataError(
                f"no row for {len(missing)} of {len(items)} items: {few}", path=self.path, key="id"
            )
        found = []
        for item in items:
            line, values = self._rows[item.id]
            if len(values) != len(item.responses):
                problem = f"item {item.id!r} has {len(values)} rewards; expected {len(item.responses)}"
                raise DataError(problem, path=self.path, line=line, key="rewards")
            found.append([math.nan if value is None else value for value in values])
        return found

    def _add(self, line: int, row: Any) -> None:
        if not isinstance(row, dict):
            raise DataError(f"a {type(row).__name__}; expected an object", path=self.path, line=line)
        for key in ("id", "rewards"):
            if key not in row:
                raise DataError("is missing", path=self.path, line=line, key=key)
        unknown = sorted(set(row) - {"id", "rewards"} - IGNORED_KEYS)
        if unknown:
            known = {"id", "rewards"} | IGNORED_KEYS
            raise UnknownNameError("key", unknown[0], known, f"{self.path}, line {line}")
        if not isinstance(row["id"], str):
            problem = f"is {row['id']!r}; expected a string"
            raise DataError(problem, path=self.path, line=line, key="id")
        if row["id"] in self._rows:
            problem = f"{row['id']!r} occurs twice, first in line {self._rows[row['id']][0]}"
            raise DataError(problem, path=self.path, line=line, key="id")
        self._rows[row["id"]] = (line, self._values(row["rewards"], line))

    def _values(self, rewards: Any, line: int) -> list[float | None]:
        values = rewards if isinstance(rewards, list) else [rewards]
        return [self._number(value, line, k) for k, value in enumerate(values)]

    def _number(self, value: Any, line: int, k: int) -> float | None:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if value is None:
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isfinite(number):
                return number
        shown = canonical_json(value) if isinstance(value, (str, bool, list, dict)) else str(value)
        problem = f"reward {k} is {shown[:40]}; expected a finite number, or null where there is none"
        raise DataError(problem, path=self.path, line=line, key="rewards")


def _stem(path: Path) -> str:
    name = path.name
    while name.endswith(_SUFFIXES) and not name.startswith("."):
        name = name.rpartition(".")[0]
    return name


register_scheme(
    "scores",
    rule="scores:FILE (rewards computed elsewhere)",
    kind="precomputed",
    patterns={"scores:FILE": 'computed elsewhere: JSON Lines {"id": ..., "rewards": [...]}'},
)(ScoresFile)
