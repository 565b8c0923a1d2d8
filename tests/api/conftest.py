"""A small data set, and a reward model in a file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Twelve prompts with two responses; the longer one is right in eight."""
    path = tmp_path / "pairs.jsonl"
    rows = [
        {
            "id": str(n),
            "prompt": f"question {n}",
            "responses": [f"a{'x' * n}", f"a much longer reply {n}"],
            "gold": [0, 1] if n % 3 else [1, 0],
            "strata": {"family": "odd" if n % 2 else "even"},
        }
        for n in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def model_file(tmp_path: Path) -> Callable[[str], Path]:
    """Write `NAME.py` with a class `Mine` whose reward is an expression of the reply `text`."""

    def write(expression: str, name: str = "mine") -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(
            "class Mine:\n"
            "    def fingerprint(self):\n"
            "        return {'kind': 'mine', 'version': '1'}\n\n"
            "    def score(self, batch):\n"
            f"        return [float(f(turns[-1]['content'])) for turns in batch]\n\n\n"
            f"def f(text):\n    return {expression}\n"
        )
        return path

    return write
