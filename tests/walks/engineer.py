"""An engineer has two checkpoints and a preference file of TRL, and must decide by tonight."""

import json
import re
from pathlib import Path

from tiny_models import checkpoint_maker, train_tokenizer
from walk import Walk

N_PAIRS = 200


def prepare(folder: Path) -> None:
    """Two checkpoints as TRL saves them, and pairs as lists of messages."""
    make = checkpoint_maker(folder, {"bos": train_tokenizer("bos")})
    for seed, name in enumerate(("rm-old", "rm-new")):
        make("qwen2", seed=seed, folder=name)
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Name a number near {n}."}],
            "chosen": [{"role": "assistant", "content": f"{n + 1} is near."}],
            "rejected": [{"role": "assistant", "content": f"I do not know, maybe {7 * n}?"[: 12 + n % 20]}],
        }
        for n in range(N_PAIRS)
    ]
    (folder / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def answer(folder: Path, printed: str) -> str:
    """Return the line with the difference in accuracy and its verdict."""
    cell = r"-?\d\.\d+ \[-?\d\.\d+, -?\d\.\d+\]"
    found = re.search(
        rf"^accuracy +{cell} +{cell} +({cell}) .* (better|worse|equivalent|undecided) ", printed, re.MULTILINE
    )
    assert found is not None, printed
    return f"rm-new against rm-old: accuracy {found[1]}, {found[2]}"


WALK = Walk(
    who="the engineer",
    wants="to know which of two checkpoints is better on her pairs",
    prepare=prepare,
    commands=(
        "rmbench eval --model rm-old --model rm-new --task preference --data eval.jsonl",
        "rmbench compare rm-new rm-old --task preference",
    ),
    answer=answer,
    most_commands=2,
)
