"""The page of all benchmarks is what the task files say, and says of each what was checked."""

from pathlib import Path

import pytest

from rmbench.cli.main import run
from rmbench.tasks.spec import list_tasks, load_task

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def test_the_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tasks", "--page"]) == 0
    assert capsys.readouterr().out == PAGE.read_text(encoding="utf-8"), (
        "rmbench tasks --page > docs/benchmarks.md"
    )


@pytest.mark.parametrize("name", list_tasks())
def test_every_task_says_what_was_checked_or_what_was_not(name: str) -> None:
    spec = load_task(name)
    assert spec.reproduced or spec.unchecked
    assert f"\n## {name}\n" in PAGE.read_text(encoding="utf-8")


def test_what_was_checked_is_text_in_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    text = load_task("preference").path.read_text().replace("name: preference", "name: mine")
    path.write_text(text + "reproduced: everything\n")
    assert run(["tasks", str(path)]) == 2
    assert (
        f"{path}, line 13, key 'reproduced': 'everything'; expected a list of texts"
        in capsys.readouterr().err
    )
