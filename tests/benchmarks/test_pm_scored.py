"""`pm-bon`: pools scored by a published preference model."""

import json
from pathlib import Path
from typing import Any

import pytest

from rmbench.errors import DataError
from rmbench.tasks import read_task_items
from rmbench.tasks.items import ItemSet
from rmbench.tasks.spec import load_task


def sample(text: Any, score: Any) -> dict[str, Any]:
    return {"sampled_string": text, "pm_scores": [{"pm_score": score}]}


def row(**changes: Any) -> dict[str, Any]:
    return {
        "comparison_model": "No.",
        "rl_prompt": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: May I steal?\n\nAssistant:",
        "comparison_dataset": "LaMDA",
        "sampled_answers": [
            sample(" No.\n\nHuman:", 1.5),
            sample(" Yes\nHuman:", -0.25),
            sample("\n\nHuman:", 0.0),
        ],
    } | changes


def read(folder: Path, *rows: dict[str, Any], on_bad: str = "fail") -> ItemSet:
    (folder / "LAMDA_HHRLHF.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return read_task_items(load_task("pm-bon"), folder, on_bad=on_bad, offline=True)


def test_a_row_is_a_pool(tmp_path: Path) -> None:
    found = read(tmp_path, row())
    (item,) = found.items
    assert item.id == "LAMDA_HHRLHF:1"
    assert [t["role"] for t in item.prompt] == ["user", "assistant", "user"]
    assert [(r.text, r.gold) for r in item.responses] == [("No.", 1.5), ("Yes", -0.25), ("", 0.0)]
    assert item.strata == {"policy": "HHRLHF", "prompts": "LaMDA"}
    assert item.gold_kind == "graded"
    assert not found.dropped


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rl_prompt": "Hi"}, "does not begin with"),
        ({"rl_prompt": "\n\nHuman: Hi"}, "does not end with"),
        ({"rl_prompt": "\n\nHuman: Hi\n\nAssistant: Ho"}, "does not end with"),
        ({"sampled_answers": []}, "at least two samples"),
        ({"sampled_answers": [sample("a", 1), {"sampled_string": "b"}]}, "sampled_string, pm_scores"),
        ({"sampled_answers": [sample("a", 1), sample("b", None)]}, "expected a number"),
        ({"sampled_answers": [sample("a", 1), sample("b", "1")]}, "expected a number"),
        ({"sampled_answers": [sample("a", 1), sample(3, 1)]}, "expected text"),
        ({"sampled_answers": [sample("a", 1), {"sampled_string": "b", "pm_scores": []}]}, "one object"),
        ({"comparison_dataset": ""}, "expected text"),
    ],
)
def test_a_row_that_does_not_fit_is_named_or_left_out(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, row(), row(**changes))
    assert "line 2" in str(caught.value)
    found = read(tmp_path, row(), row(**changes), on_bad="skip")
    assert len(found.items) == 1


def test_the_real_files(shared_data: Path) -> None:
    found = read_task_items(load_task("pm-bon"), shared_data / "pm_scored_samples", offline=True)
    assert len(found.items) == 104
    assert {len(item.responses) for item in found.items} == {17}
    assert len({item.cluster for item in found.items}) == 26
    assert not found.dropped
    assert not any("\nHuman:" in r.text for item in found.items for r in item.responses)
