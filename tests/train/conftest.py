"""Pairs that the tests of training share."""

import json
import random
from pathlib import Path

import pytest

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "dog",
    "and",
    "then",
    "it",
    "sleeps",
    "Paris",
    "is",
    "capital",
    "of",
    "France",
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Pairs that can be learned: the chosen reply names the capital."""
    rng = random.Random(0)
    rows = []
    for k in range(60):
        noise = [" ".join(rng.choices(WORDS, k=rng.randint(2, 12))) for _ in range(2)]
        rows.append(
            {
                "id": f"p{k}",
                "prompt": f"What is {k}?",
                "chosen": f"{noise[0]} Paris Paris",
                "rejected": f"{noise[1]} 9 9",
                "strength": rng.choice([1, 2, 3]),
            }
        )
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
