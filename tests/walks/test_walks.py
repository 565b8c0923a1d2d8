"""The walks of users with the installed wheel: each ends with an answer, in few commands."""

from pathlib import Path

import engineer
import pytest
import researcher
import student
from installed_wheel import Built
from walk import NAMES, Walk, report, take

pytestmark = pytest.mark.long

WALKS = {"engineer": engineer.WALK, "researcher": researcher.WALK, "student": student.WALK}


def test_every_walk_is_taken() -> None:
    assert set(WALKS) == set(NAMES)


def check(walk: Walk, built: Built, folder: Path) -> None:
    folder = folder / "empty"
    folder.mkdir()
    steps, answer = take(walk, folder, built.programs)
    assert len(steps) <= walk.most_commands
    told = report(walk, steps, answer)
    assert answer in told
    assert all(step.command in told for step in steps)


def test_a_metric_of_her_own_on_a_board(built_once: Built, tmp_path: Path) -> None:
    check(researcher.WALK, built_once, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["engineer", "student"])
def test_walks_with_torch(name: str, built_once: Built, tmp_path: Path) -> None:
    check(WALKS[name], built_once, tmp_path)


def test_a_command_that_fails_is_shown_with_what_it_printed(built_once: Built, tmp_path: Path) -> None:
    broken = Walk("she", "an error", lambda folder: None, ("rmbench tasks nowhere",), lambda f, p: "", 1)
    with pytest.raises(RuntimeError, match="unknown task 'nowhere'"):
        take(broken, tmp_path, built_once.programs)
