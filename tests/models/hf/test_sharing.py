"""A batch's distinct tokens in one row: the same rewards as one at a time, and who cannot says why."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_classifier import chat, load, reference, rendered

from rmbench.models.hf import forward as hf_forward
from rmbench.models.hf.classifier import HFRewardModel
from rmbench.models.runtime import Runtime

Make = Callable[..., Path]

PROMPTS = ["What is the capital of France? " * 3, "Tell me all. The quick brown fox " * 2, "No."]
REPLIES = ["Paris is the capital of France.", "Paris is the capital", "Paris is the capital of", "I do not know.",
           "", "over the lazy dog, and then it sleeps. " * 3]  # fmt: skip
TEXTS = [(prompt, reply) for prompt in PROMPTS for reply in REPLIES]
BATCH = [chat(*text) for text in TEXTS]


def alone(model: HFRewardModel, batch: Any = BATCH) -> list[float]:
    return [model.score([c])[0].reward for c in batch]


def together(model: HFRewardModel, batch: Any = BATCH) -> list[float]:
    return [scored.reward for scored in model.score(batch)]


@contextmanager
def tokens_read(model: HFRewardModel) -> Iterator[list[int]]:
    """Count what the backbone is given, padding included."""
    seen: list[int] = []
    backbone = model.model.base_model
    hook = backbone.register_forward_pre_hook(
        lambda _module, _args, given: seen.append(given["input_ids"].numel()), with_kwargs=True
    )
    yield seen
    hook.remove()


@pytest.mark.parametrize("arch", ["llama", "qwen2", "gpt2", "gpt_neox", "opt", "mistral"])
def test_shared_prompts_change_no_reward(make_checkpoint: Make, arch: str) -> None:
    folder = make_checkpoint(arch)
    model = load(folder)
    assert model.sharing_problem is None
    expected = reference(folder, [rendered(*text) for text in TEXTS])
    assert len(set(expected)) == len(expected)
    with tokens_read(model) as seen:
        found = together(model)
    assert found == pytest.approx(expected, abs=2e-5)
    n_tokens = sum(model.lengths(BATCH))
    assert seen == [model.joint_length(BATCH)]
    assert seen[0] < 0.6 * n_tokens
    assert together(model, BATCH[::-1])[::-1] == pytest.approx(expected, abs=2e-5)


def test_equal_conversations_in_a_batch_have_equal_rewards(make_checkpoint: Make) -> None:
    model = load(make_checkpoint("llama"))
    rewards = together(model, [BATCH[0], BATCH[1], BATCH[0]])
    assert rewards[0] == rewards[2] == pytest.approx(alone(model, BATCH[:1])[0], abs=1e-5)


def test_a_conversation_that_was_cut_is_read_as_it_was_cut(make_checkpoint: Make) -> None:
    folder = make_checkpoint("llama")
    model, apart = (
        load(folder, Runtime(max_length=30)),
        load(folder, Runtime(max_length=30), share_prompts="no"),
    )
    encoded = model.encode(BATCH)
    assert 0 < sum(row.truncated for row in encoded) < len(encoded)
    assert together(model) == pytest.approx(alone(apart), abs=2e-5)


@pytest.mark.parametrize(
    ("arch", "config", "reason"),
    [
        ("falcon", {}, "attention interface"),
        ("bloom", {}, "takes no positions"),
        ("gemma2", {}, "softcap"),
        ("mistral", {"sliding_window": 16}, "sees 16 tokens at a time"),
    ],
)
def test_who_cannot_share_reads_padded_rows_and_says_why(
    make_checkpoint: Make, arch: str, config: dict[str, Any], reason: str
) -> None:
    model = load(make_checkpoint(arch, **config))
    assert any("prompt is read again" in note and reason in note for note in model.notes())
    assert model.joint_length(BATCH) is None
    with tokens_read(model) as seen:
        found = together(model)
    assert sum(seen) >= sum(model.lengths(BATCH))
    assert found == pytest.approx(alone(model), abs=2e-5)


def test_an_encoder_reads_padded_rows_of_similar_length(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(make_checkpoint("bert", tokenizer="pair", template=None))
    assert model.joint_length(BATCH) is None
    assert not any("prompt is read again" in note for note in model.notes())
    assert model.encoder is not None
    logits, n_read = model.encoder.logits, list[int]()

    def counted(rows: Any) -> Any:
        n_read.append(len(rows))
        return logits(rows)

    monkeypatch.setattr(model.encoder, "logits", counted)
    expected, read = alone(model), []
    for cost in (0, 10, 10_000):
        monkeypatch.setattr(hf_forward, "TOKENS_PER_FORWARD", cost)
        n_read.clear()
        assert together(model) == pytest.approx(expected, abs=2e-5)
        assert sum(n_read) == len(BATCH)
        read.append(len(n_read))
    assert read[0] == len(set(model.lengths(BATCH)))
    assert read == sorted(read, reverse=True)
    assert read[-1] == 1


def test_a_window_longer_than_the_probe_is_kept_to_batch_by_batch(make_checkpoint: Make) -> None:
    model = load(make_checkpoint("mistral", sliding_window=48))
    short = [c for c, n in zip(BATCH, model.lengths(BATCH), strict=True) if n <= 48]
    assert model.sharing_problem is None
    assert len(short) < len(BATCH)
    assert isinstance(model.joint_length(short), int)
    assert model.joint_length(BATCH) is None
    for batch in (short, BATCH):
        assert together(model, batch) == pytest.approx(alone(model, batch), abs=2e-5)


def test_a_model_that_ignores_its_positions_is_found_out(make_checkpoint: Make) -> None:
    model = load(make_checkpoint("llama"))
    backbone = model.model.model
    forward = backbone.forward

    def deaf(input_ids: Any = None, attention_mask: Any = None, position_ids: Any = None, **more: Any) -> Any:
        return forward(input_ids=input_ids, attention_mask=attention_mask, **more)

    backbone.forward = deaf
    assert "would differ by" in str(model.sharing_problem)
    assert together(model) == pytest.approx(alone(model), abs=2e-5)


def test_a_model_that_looks_both_ways_is_found_out(make_checkpoint: Make) -> None:
    model = load(make_checkpoint("llama"))
    for layer in model.model.model.layers:
        layer.self_attn.is_causal = False
    assert "looks both ways" in str(model.sharing_problem)


def test_what_costs_more_shared_is_padded(make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(make_checkpoint("llama"))
    expected = together(model)
    monkeypatch.setattr(hf_forward, "TOKENS_PER_SEGMENT", 10_000)
    with tokens_read(model) as seen:
        assert together(model) == pytest.approx(expected, abs=2e-5)
    assert sum(seen) >= sum(model.lengths(BATCH))


def test_the_models_own_attention_is_back_afterwards(make_checkpoint: Make) -> None:
    model = load(make_checkpoint("llama"))
    before = dict(model.fingerprint())
    together(model)
    assert dict(model.fingerprint()) == before
    assert before["attention"] == "sdpa"
    assert model.diagnose(BATCH[0])["own_forward_gap"] < 1e-5


def test_in_bfloat16_sharing_adds_no_more_than_the_type_does(make_checkpoint: Make) -> None:
    folder = make_checkpoint("llama")
    half, exact = load(folder, Runtime(dtype="bfloat16")), load(folder)
    assert half.sharing_problem is None
    assert together(half) == pytest.approx(alone(exact), abs=0.3)


def test_tokens_made_ahead_are_those_that_are_read(make_checkpoint: Make) -> None:
    model = load(make_checkpoint("llama"))
    encode, threads = model.text_format.encode, []

    def watched(batch: Any, limit: int) -> Any:
        threads.append((threading.current_thread().name, len(batch)))
        return encode(batch, limit)

    model.text_format.encode = watched  # type: ignore[method-assign]
    model.prepare(BATCH)
    give_up = time.monotonic() + 60
    while not threads and time.monotonic() < give_up:  # what follows waits for what has begun
        time.sleep(0.01)
    assert together(model) == pytest.approx(alone(load(make_checkpoint("llama", folder="same"))), abs=2e-5)
    assert [name.startswith("tokens") for name, _ in threads] == [True]
    assert sum(n for _, n in threads) == len(BATCH)


def test_a_model_in_another_dtype_is_as_if_loaded_so(make_checkpoint: Make) -> None:
    folder = make_checkpoint("llama")
    exact, half = load(folder), load(folder, Runtime(dtype="bfloat16"))
    before = together(exact)
    recast = exact.recast("bfloat16")
    assert together(recast) == together(half)
    assert recast.fingerprint() == half.fingerprint()
    assert together(exact) == before
    assert exact.fingerprint()["dtype"] == "float32"


@pytest.mark.parametrize(("has", "own", "picked"), [
    (True, "bfloat16", "bfloat16"), (False, "bfloat16", "float32"), (True, "float32", "float32"),
    (True, "float16", "float32"), (True, None, "float32"),
])  # fmt: skip
def test_auto_is_the_checkpoints_type_where_the_cpu_is_fast_in_it(
    has: bool, own: str | None, picked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from rmbench.models.hf import device as hf_device

    monkeypatch.setattr(hf_device, "cpu_multiplies_bfloat16", lambda: has)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    own_dtype = None if own is None else getattr(torch, own)
    assert hf_device.pick_dtype("auto", cpu, own_dtype) == getattr(torch, picked)
    assert hf_device.pick_dtype("float16", cpu, own_dtype) == torch.float16
    assert hf_device.pick_dtype("auto", cuda, own_dtype) == "auto"
