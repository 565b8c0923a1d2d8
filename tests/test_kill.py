"""Commands that are killed and run again end with the same files: `tests/kills.py` says which, and how."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra hf")
pytest.importorskip("accelerate", reason="needs the extra train")

from kills import COMMANDS, campaign, make_inputs, summary

pytestmark = pytest.mark.long


@pytest.mark.parametrize("kills", [1, pytest.param(18, marks=pytest.mark.slow)])
def test_a_command_that_was_killed_and_run_again_leaves_the_same_files(
    kills: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = make_inputs(tmp_path / "inputs")
    done = list(campaign(inputs, tmp_path, COMMANDS, kills, seed=0))
    told = summary(done)
    with capsys.disabled():
        print("\n" + "\n".join(told))
    assert [o for o in done if o.differs] == []
    assert sum(o.killed for o in done) >= 0.5 * len(COMMANDS) * kills, "most kills came in time"
