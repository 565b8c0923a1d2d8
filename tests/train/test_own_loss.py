"""A loss of one's own: in a file, with options, part of the model's identity."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rmbench.cli.main import run

Make = Callable[..., Path]

SOURCE = """
import torch
from rmbench.train.losses import margin_of, register_loss

{decorator}
def hinge(chosen, rejected, batch, gap: float = 1.0):
    \"\"\"Return `max(0, gap - d_i)`.\"\"\"
    d = margin_of(chosen, rejected)
    return torch.clamp(gap - d, min=0.0), {{"mean": float(batch.margins.mean())}}
"""


def arguments(base: Path, tmp_path: Path, method: str, *more: str) -> list[str]:
    rows = [
        {"id": f"{k}", "prompt": f"Say {k}", "chosen": f"Paris {k}", "rejected": "9 9"} for k in range(40)
    ]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    given = f"train --base {base} --data {data} --out {tmp_path / 'out'} --method {method} --batch-size 8"
    return [*given.split(), "--micro-batch", "4", "--max-steps", "3", "--device", "cpu", "-q", *more]


@pytest.mark.long
def test_a_loss_in_a_file_trains_and_is_part_of_the_identity(make_checkpoint: Make, tmp_path: Path) -> None:
    base = make_checkpoint("llama", head=False)
    file = tmp_path / "my_loss.py"
    file.write_text(SOURCE.format(decorator='@register_loss("my-hinge")'))
    command = arguments(base, tmp_path, f"{file}:my-hinge", "-L", "gap=2.5")
    assert run(command) == 0
    record = json.loads((tmp_path / "out" / "rmbench.json").read_text())
    assert record["identity"]["settings"]["method"] == "my_loss.py:my-hinge"
    assert record["identity"]["settings"]["method_options"] == {"gap": "2.5"}
    assert len(record["identity"]["loss_source"]) == 64
    assert str(tmp_path) not in json.dumps(record)
    assert run(command) == 0, "finished: nothing is done"
    file.write_text(SOURCE.format(decorator='@register_loss("my-hinge")') + "# changed\n")
    again = subprocess.run([sys.executable, "-m", "rmbench", *command], capture_output=True, text=True)
    assert again.returncode == 2, "another loss, another model"
    assert "holds another trained model" in again.stderr


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("absent.py:hinge", "there is no file absent.py"),
        ("{file}:hing", "Did you mean 'hinge'"),
        ("{broken}:hinge", "importing it raised NameError"),
        ("{file}:hinge -L gop=1", "Did you mean 'gap'"),
    ],
)
def test_what_is_wrong_is_one_line(
    make_checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, said: str
) -> None:
    base = make_checkpoint("llama", head=False)
    (tmp_path / "own.py").write_text(SOURCE.format(decorator=""))
    (tmp_path / "broken.py").write_text("undefined\n")
    given = method.format(file=tmp_path / "own.py", broken=tmp_path / "broken.py").split()
    capsys.readouterr()
    assert run(arguments(base, tmp_path, given[0], *given[1:])) == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    assert said in message
    assert not (tmp_path / "out").exists()
