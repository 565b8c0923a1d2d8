"""A walk: what a user types, from an empty folder to her answer, with the installed wheel.

    python tests/walks/walk.py [engineer] [researcher] [student] [--programs FOLDER]

prints each command with its seconds, and what the user wanted to know. The files that a user has before she
begins (checkpoints, pairs, a metric of her own) are put there first, and their making is not counted.
"""

import argparse
import importlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

NAMES = ("engineer", "researcher", "student")


@dataclass(frozen=True)
class Walk:
    """One user's way to an answer."""

    who: str
    wants: str
    prepare: Callable[[Path], None]
    """Puts into an empty folder what the user has already."""
    commands: Sequence[str]
    """As typed into a shell, in order."""
    answer: Callable[[Path, str], str]
    """Finds the answer in the folder and in all that was printed; raises where there is none."""
    most_commands: int
    """The aim: a walk with more is a failure."""


@dataclass(frozen=True)
class Step:
    """One command with its seconds, and the seconds since the first command began."""

    command: str
    seconds: float
    since: float
    printed: str


def take(walk: Walk, folder: Path, programs: Path) -> tuple[list[Step], str]:
    """Take a walk in an empty folder; return its steps and the answer.

    Args:
        walk: Whose.
        folder: It is empty.
        programs: Folder with the program `rmbench`.

    Raises:
        RuntimeError: If a command fails.
    """
    walk.prepare(folder)
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("RMBENCH_", "PYTHON"))}
    environment = {**ours, "PATH": f"{programs}{os.pathsep}{ours['PATH']}"}
    environment["RMBENCH_STORE"] = str(folder.parent / f"{folder.name}-store")
    began, steps = time.monotonic(), list[Step]()
    for command in walk.commands:
        words = shlex.split(command)
        start = time.monotonic()
        if words[0] == "export":
            key, _, value = words[1].partition("=")
            environment[key] = value
            printed = ""
        else:
            done = subprocess.run(
                words, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise RuntimeError(f"{command}\n{done.stdout}\n{done.stderr}")
            printed = done.stdout
        now = time.monotonic()
        steps.append(Step(command, now - start, now - began, printed))
    return steps, walk.answer(folder, "".join(step.printed for step in steps))


def report(walk: Walk, steps: Sequence[Step], answer: str) -> str:
    """Return the lines that the script prints."""
    lines = [f"{walk.who} wants {walk.wants}"]
    lines += [f"  {step.seconds:6.1f} s  {step.command}" for step in steps]
    lines.append(f"  {len(steps)} commands, {steps[-1].since:.1f} s: {answer}")
    return "\n".join(lines)


def main() -> None:
    """Take the walks that are named, or all, and print them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument(
        "--programs", type=Path, help="folder with the program rmbench; default: that of this Python"
    )
    asked = parser.parse_args()
    programs = asked.programs or Path(sys.executable).parent
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    for name in asked.names or NAMES:
        walk = importlib.import_module(name).WALK
        with tempfile.TemporaryDirectory() as folder:
            empty = Path(folder) / "empty"
            empty.mkdir()
            print(report(walk, *take(walk, empty, programs.absolute())))


if __name__ == "__main__":
    main()
