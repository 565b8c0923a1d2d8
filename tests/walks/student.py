"""A student wants to repeat the paper's comparison of losses on a laptop, with pictures."""

import re
from pathlib import Path

from walk import Walk

STUDY = """\
name: paper
summary: Does a margin from the model's own confidence help?
bases: {tiny: "builtin:tiny"}
data:
  - {name: embedded, source: "preference:train", pairs_per_prompt: 2}
methods:
  - {name: bradley-terry}
  - {name: confidence-margin}
seeds: 2
train: {epochs: 1, batch_size: 32, freeze_backbone: true}
evaluate:
  - {task: preference, limit: 40}
reference: bradley-terry
"""
PICTURES = ("deciles", "margins", "training")


def prepare(folder: Path) -> None:
    """The file of the study: losses, data, seeds."""
    (folder / "paper.yaml").write_text(STUDY, encoding="utf-8")


def answer(folder: Path, printed: str) -> str:
    """Return the difference in accuracy; the pictures are there."""
    for name in PICTURES:
        picture = folder / "leaderboards" / "paper" / f"embedded.{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG"), picture
    rows = re.findall(r"^\| tiny \| embedded \| preference \| (.+) \| (.+) \|$", printed, re.MULTILINE)
    assert rows, printed
    return f"accuracy of bradley-terry {rows[0][0]}; confidence-margin {rows[0][1]}; {len(PICTURES)} pictures"


WALK = Walk(
    who="the student",
    wants="a comparison of two losses with pictures",
    prepare=prepare,
    commands=("rmbench losses", "rmbench study paper.yaml --quiet"),
    answer=answer,
    most_commands=3,
)
