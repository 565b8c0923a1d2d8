"""Log-probabilities of responses: read, kept, hashed only where there are any, and back from a record."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmbench.core.files import iter_jsonl, to_jsonl_gz
from rmbench.errors import DataError
from rmbench.metrics import panel_of
from rmbench.models.scores import ScoresFile
from rmbench.results.run import stored_panel
from rmbench.results.write import reward_rows
from rmbench.tasks import read_task_items
from rmbench.tasks.spec import load_task

ROW: dict[str, Any] = {"id": "a", "prompt": "Q", "responses": ["x", "y"], "gold": [1, 0]}


def read(path: Path, *rows: dict[str, Any]) -> Any:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return read_task_items(load_task("bon"), path, offline=True)


def test_they_are_read_and_the_key_that_says_how_they_were_sampled_is_not(tmp_path: Path) -> None:
    found = read(tmp_path / "x.jsonl", {**ROW, "logprobs": [-12.5, 5e-7], "sampling": {"temperature": 1}})
    assert [r.logprob for r in found.items[0].responses] == [-12.5, 0.0]


def test_only_where_there_are_any_do_they_change_the_hash(tmp_path: Path) -> None:
    without, none = read(tmp_path / "a.jsonl", ROW), read(tmp_path / "b.jsonl", {**ROW, "logprobs": None})
    some = [read(tmp_path / f"{k}.jsonl", {**ROW, "logprobs": [-1.0, -k]}) for k in (1, 2)]
    # As it was before there were log-probabilities, from the definition of the hash.
    known = '["a",[["user","Q"]],[["x",1.0],["y",0.0]],"CLUSTER",{},"label"]\n'.replace(
        "CLUSTER", without.items[0].cluster
    )

    assert without.data_hash == none.data_hash == sha256(known.encode()).hexdigest()
    assert len({without.data_hash, *(s.data_hash for s in some)}) == 3


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([-1.0], r"1 values; expected one per response, 2"),
        (-1.0, r"no list; expected one per response, 2"),
        ([-1.0, 0.5], r"logprobs\[1\].*0\.5; expected a finite number of nats, at most 0"),
        ([-1.0, None], r"logprobs\[1\].*None; expected a finite number"),
        ([True, -1.0], r"logprobs\[0\].*True; expected a finite number"),
        ([-1.0, float("-inf")], r"logprobs\[1\].*-inf; expected a finite number"),
    ],
)
def test_what_is_no_log_probability_is_named(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(tmp_path / "x.jsonl", {**ROW, "logprobs": value})


def test_they_come_back_from_a_rewards_file_which_can_still_be_scored_from(tmp_path: Path) -> None:
    items = read(tmp_path / "x.jsonl", {**ROW, "logprobs": [-3.0, -0.5]}, {**ROW, "id": "b"}).items
    rewards = [[0.5, 1.5], [1.0, 2.0]]
    path = tmp_path / "rewards.jsonl.gz"
    path.write_bytes(to_jsonl_gz(reward_rows(items, rewards, None)))
    rows = [row for _, row in iter_jsonl(path)]
    assert "logprobs" in rows[0]
    assert "logprobs" not in rows[1]
    for panel in (stored_panel(rows), panel_of(items, rewards)):
        np.testing.assert_array_equal(panel.logprobs, [-3.0, -0.5, np.nan, np.nan])
        np.testing.assert_array_equal(panel.take(np.array([True, False])).logprobs, [-3.0, -0.5])
    assert ScoresFile(str(path)).rewards(items) == rewards
