"""Write docs/example/pairs.jsonl, the preference file of the README: a pair for each embedded test prompt.

Chosen is a reply with the highest gold of its prompt, rejected one with the lowest; which of several is
drawn by a hash. A prompt whose replies are all equally good has no pair. With `--check` it writes nothing,
and fails if the file is another one.
"""

import json
import sys
from pathlib import Path

from rmbench.core.files import digest, iter_jsonl

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "rmbench" / "_data" / "embedded" / "test.jsonl.xz"
PAIRS = ROOT / "docs" / "example" / "pairs.jsonl"


def pairs() -> str:
    """Return the file: a JSON object per line, with the keys that TRL's preference data has."""
    lines = []
    for _, row in iter_jsonl(SOURCE):
        best, worst = max(row["gold"]), min(row["gold"])
        if best > worst:
            chosen, rejected = (
                min((r for r, g in zip(row["responses"], row["gold"], strict=True) if g == gold), key=digest)
                for gold in (best, worst)
            )
            pair = {"prompt": row["prompt"], "chosen": chosen, "rejected": rejected}
            lines.append(json.dumps(pair, ensure_ascii=False) + "\n")
    return "".join(lines)


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        PAIRS.write_text(pairs(), encoding="utf-8")
    elif PAIRS.read_text(encoding="utf-8") != pairs():
        sys.exit(f"{PAIRS} is out of date: python scripts/docs/example_pairs.py")
