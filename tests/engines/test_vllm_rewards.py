"""Rewards of vLLM equal those of transformers on the same weights, here and behind a server."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, serving

from rmbench.errors import ConfigError
from rmbench.models.resolve import load_model
from rmbench.models.runtime import Runtime
from rmbench.tasks import read_task_items
from rmbench.tasks.spec import load_task
from rmbench.types import Turn

FP32_GAP = 1e-4
Talks = list[tuple[Turn, ...]]


@pytest.fixture(scope="module")
def talks() -> Talks:
    """Conversations of the embedded data, one that is cut, and one that is as short as can be."""
    items = read_task_items(load_task("preference"), None).items
    found = [item.conversation(k) for item in list(items)[:40] for k in range(2)]
    long = (Turn(role="user", content="Why? " * 400), Turn(role="assistant", content="Because. " * 50))
    return [*found, long, (Turn(role="user", content="?"), Turn(role="assistant", content="."))]


@pytest.fixture(scope="module")
def expected(talks: Talks) -> list[float]:
    return rewards(load_model(f"hf:{TINY}", {}, Runtime(device="cpu", dtype="float32")).model, talks)


@pytest.fixture(scope="module")
def engine() -> Any:
    return load_model(f"vllm:{TINY}", {}, Runtime(dtype="float32")).model


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(TINY, "pooling", tmp_path_factory.mktemp("log") / "server.log") as url:
        yield url


def rewards(model: Any, talks: Talks) -> list[float]:
    return [scored.reward for scored in model.score(talks)]


def test_offline_rewards_equal_transformers(engine: Any, talks: Talks, expected: list[float]) -> None:
    found = rewards(engine, talks)
    gap = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    print(f"vLLM to transformers, {len(talks)} texts in float32: {gap:.2g}")
    assert gap < FP32_GAP
    assert min(expected) < 0 or max(expected) > 1, "logits, not probabilities"


def test_batches_and_order_do_not_matter(engine: Any, talks: Talks) -> None:
    together = rewards(engine, talks)
    alone = [rewards(engine, [talk])[0] for talk in talks[:8]]
    assert alone == pytest.approx(together[:8], abs=FP32_GAP)
    assert rewards(engine, talks[::-1])[::-1] == pytest.approx(together, abs=FP32_GAP)


def test_a_cut_text_is_counted(engine: Any, talks: Talks) -> None:
    assert [scored.truncated for scored in engine.score(talks)][-3:] == [False, True, False]


def test_served_rewards_equal_transformers(server: str, talks: Talks, expected: list[float]) -> None:
    found = rewards(load_model(f"vllm:{server}", {}, Runtime()).model, talks)
    gap = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    print(f"vLLM's server to transformers, {len(talks)} texts in float32: {gap:.2g}")
    assert gap < FP32_GAP


def test_any_output_is_the_sigmoid(server: str, talks: Talks, expected: list[float]) -> None:
    import math

    found = rewards(load_model(f"vllm:{server}", {"output": "any"}, Runtime()).model, talks)
    assert found == pytest.approx([1 / (1 + math.exp(-x)) for x in expected], abs=FP32_GAP)


def test_eval_over_http(server: str, rmbench: Callable[..., Any], tmp_path: Path) -> None:
    done = rmbench("eval", "-m", f"vllm:{server}", "-m", "builtin:tiny", "-t", "bon", "--limit", "20",
                   "--dtype", "auto", "--results", "results", "--store", "store")  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "results").rglob("*.json")]
    values = {name: m["value"] for name, m in records[0]["metrics"].items()}
    assert {name: m["value"] for name, m in records[1]["metrics"].items()} == pytest.approx(values, abs=1e-6)


def test_bfloat16_differs_by_rounding(talks: Talks, expected: list[float]) -> None:
    found = rewards(load_model(f"vllm:{TINY}", {}, Runtime(dtype="bfloat16")).model, talks)
    gaps = [abs(a - b) for a, b in zip(found, expected, strict=True)]
    spread = max(expected) - min(expected)
    assert 0 < max(gaps) < 0.1 * spread
    print(f"bfloat16: largest {max(gaps):.2g} of a spread of {spread:.2g}")


def test_a_checkpoint_without_a_head_does_not_start(make_checkpoint: Callable[..., Path]) -> None:
    wide = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}
    folder = make_checkpoint("llama", head=False, **wide)
    with pytest.raises(ConfigError, match=r"classifier|cannot be loaded"):
        load_model(f"vllm:{folder}", {}, Runtime(dtype="float32"))
