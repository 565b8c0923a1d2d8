"""Adapters on bases whose head a recipe reads, or that a recipe reads a word of; the reference is peft's own merge."""

from pathlib import Path
from typing import Any

import pytest
import replicas
import step_replicas
import torch
from adapter_builders import merged_by_peft, put_adapter
from replicas import Make

from rmbench.models.resolve import load_model
from rmbench.types import Turn

TALKS = [
    [Turn(role="user", content=prompt), Turn(role="assistant", content=reply)]
    for prompt, reply in [
        ("Tell me all.", "I do not know."),
        ("Tell me all.", "No."),
        ("What?", "Paris. " * 5),
    ]
]


def check_reads(folder: Path, merged: Any, head: Any, **options: str) -> Any:
    """Compare with a head at the last token of the merged model, one text at a time."""
    model: Any = load_model(str(folder), options).model
    rows = [row.ids for row in model.encode(TALKS)]
    with torch.inference_mode():
        last = [merged.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1] for ids in rows]
    expected = [float(state @ head[0]) for state in last]
    assert [scored.reward for scored in model.score(TALKS)] == pytest.approx(expected, abs=1e-5)
    assert [model.score([talk])[0].reward for talk in TALKS] == pytest.approx(expected, abs=1e-5)
    return model


def test_an_adapter_of_a_language_model_under_a_value_head(make_checkpoint: Make, tmp_path: Path) -> None:
    body = replicas.Body(make_checkpoint, heads={"v_head.weight": replicas.drawn(1, 32)})
    folder = put_adapter(body.folder, tmp_path / "adapter", task="CAUSAL_LM", kind="CAUSAL_LM")
    merged = merged_by_peft(body.folder, folder, "CAUSAL_LM")
    model = check_reads(folder, merged, body.heads["v_head.weight"])
    assert model.fingerprint()["recipe"].startswith("value-head:")


def test_a_head_that_the_adapter_brings_is_read_by_its_base_s_recipe(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    replica = replicas.openrlhf(make_checkpoint, template=replicas.TEMPLATE)
    folder = put_adapter(replica.folder, tmp_path / "adapter")
    merged = merged_by_peft(replica.folder, folder, "SEQ_CLS", num_labels=1)
    model = check_reads(folder, merged, merged.score.weight)
    assert model.fingerprint()["recipe"].startswith("openrlhf:")


def test_an_adapter_of_a_language_model_that_rates_steps(make_checkpoint: Make, tmp_path: Path) -> None:
    base = step_replicas.math_shepherd(make_checkpoint).folder
    folder = put_adapter(
        base, tmp_path / "adapter", task="CAUSAL_LM", kind="CAUSAL_LM", merged_into=tmp_path / "merged"
    )
    for file in base.glob("*token*"):
        (tmp_path / "merged" / file.name).write_bytes(file.read_bytes())
    found, expected = (
        [s.reward for s in load_model(f"process:{where}", {"recipe": "math-shepherd"}).model.score(TALKS)]  # type: ignore[union-attr]
        for where in (folder, tmp_path / "merged")
    )
    assert found == pytest.approx(expected, abs=1e-5)
    assert len({round(x, 6) for x in found}) == len(TALKS)
