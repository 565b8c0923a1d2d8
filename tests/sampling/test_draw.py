"""What is drawn: against the softmax, a forward pass and an argmax, each worked out here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

torch = pytest.importorskip("torch", reason="needs the extra hf")

from rmbench.core.files import conversation_key  # noqa: E402
from rmbench.models.runtime import Runtime  # noqa: E402
from rmbench.sampling.hf import TransformersEngine, invert  # noqa: E402
from rmbench.sampling.policy import (  # noqa: E402
    Decoding,
    Prompt,
    uniforms,
)
from rmbench.types import Turn  # noqa: E402

TEXT = "What is the capital of France?"
TURNS = (Turn(role="user", content=TEXT),)
PROMPT = Prompt("p", TEXT, TURNS, conversation_key(TURNS), {}, "here")


@pytest.fixture
def engine(policy: Path) -> TransformersEngine:
    return TransformersEngine(str(policy), Runtime(device="cpu", dtype="float32"))


def prompt_ids(engine: Any) -> list[int]:
    return engine.tokenizer(f"<s><|user|>{TEXT}</s><|assistant|>", add_special_tokens=False)["input_ids"]


def logits(engine: Any, ids: list[int]) -> np.ndarray:
    """Return (T, V) of one forward pass without a cache."""
    with torch.inference_mode():
        return engine.model(torch.tensor([ids]), use_cache=False).logits[0].double().numpy()


def distribution(row: np.ndarray, decoding: Decoding) -> np.ndarray:
    """Return the probabilities that a token is drawn with: temperature, then top-k, then top-p."""
    p = np.exp(row / decoding.temperature - np.max(row / decoding.temperature))
    order = np.argsort(-p)
    if decoding.top_k:
        p[order[decoding.top_k :]] = 0.0
    p /= p.sum()
    before = np.concatenate([[0.0], np.cumsum(p[order])[:-1]])
    p[order[before >= decoding.top_p]] = 0.0
    return p / p.sum()


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 0.7, "top_k": 40}, {"temperature": 1.3, "top_p": 0.8}], ids=str
)
def test_first_tokens_follow_the_softmax(policy: Path, how: dict[str, Any]) -> None:
    decoding = Decoding(n=6000, max_tokens=1, seed=3, **how)
    engine = TransformersEngine(str(policy), Runtime(device="cpu", dtype="float32"), rows=2000)
    (samples,) = engine.sample([PROMPT], decoding)
    p = distribution(logits(engine, prompt_ids(engine))[-1], decoding)
    tokens = np.flatnonzero(p)
    tokens = tokens[np.argsort(p[tokens])]
    # With one token a response, its log-probability says which token it was.
    drawn = np.array([s.logprob for s in samples])
    middles = (np.log(p[tokens])[1:] + np.log(p[tokens])[:-1]) / 2
    observed = np.bincount(np.searchsorted(middles, drawn), minlength=len(tokens))
    np.testing.assert_allclose(drawn, np.log(p[tokens])[np.searchsorted(middles, drawn)], atol=2e-5)

    def p_value(expected: np.ndarray) -> float:
        rare = expected < 5
        cells = [np.append(x[~rare], x[rare].sum()) for x in (observed, expected)]
        kept = cells[1] > 0
        return float(chisquare(cells[0][kept], cells[1][kept]).pvalue)

    assert p_value(len(samples) * p[tokens]) > 0.001
    wrong = p[tokens] ** 0.9
    assert p_value(len(samples) * wrong / wrong.sum()) < 0.001


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 0.8, "top_k": 30, "top_p": 0.9}], ids=["all", "narrowed"]
)
def test_logprobs_are_those_of_one_forward_pass(
    engine: Any, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    generate, seen = engine.model.generate, []
    monkeypatch.setattr(engine.model, "generate", lambda **k: seen.append(generate(**k)) or seen[-1])
    decoding = Decoding(n=12, max_tokens=8, seed=1, **how)
    (samples,) = engine.sample([PROMPT], decoding)
    start = len(prompt_ids(engine))
    assert {s.finish for s in samples} == {"stop", "length"}
    for sample, row in zip(samples, seen[0].tolist(), strict=True):
        assert row[:start] == prompt_ids(engine)
        ends = [k for k in range(start, len(row)) if row[k] in engine.policy.ends]
        last = ends[0] if ends else len(row) - 1
        assert sample.finish == ("stop" if ends else "length")
        assert sample.n_tokens == last - start + (not ends)
        steps = logits(engine, row[: last + 1])[start - 1 : last]
        own = [np.log(distribution(x, decoding)[t]) for x, t in zip(steps, row[start:], strict=False)]
        plain = [np.log(distribution(x, Decoding(n=1))[t]) for x, t in zip(steps, row[start:], strict=False)]
        assert sample.logprob == pytest.approx(sum(own), abs=1e-4)
        assert sample.untempered_logprob == pytest.approx(sum(plain), abs=1e-4)
        kept = row[start : ends[0] if ends else None]
        assert sample.text == engine.tokenizer.decode(kept, skip_special_tokens=True)


def test_temperature_0_is_greedy(engine: Any) -> None:
    decoding = Decoding(n=3, temperature=0.0, max_tokens=12, seed=9, top_k=7)
    (samples,) = engine.sample([PROMPT], decoding)
    ids, untempered = prompt_ids(engine), 0.0
    start = len(ids)
    while len(ids) < start + 12 and ids[-1] not in engine.policy.ends:
        row = logits(engine, ids)[-1]
        ids.append(int(row.argmax()))
        untempered += float(np.log(distribution(row, Decoding(n=1)).max()))
    kept = ids[start:-1] if ids[-1] in engine.policy.ends else ids[start:]
    assert [s.text for s in samples] == [engine.tokenizer.decode(kept, skip_special_tokens=True)] * 3
    assert [s.logprob for s in samples] == [0.0] * 3
    assert samples[0].untempered_logprob == pytest.approx(untempered, abs=1e-4)


def test_each_response_has_numbers_of_its_own() -> None:
    row = uniforms(0, "k", 0, 8)
    # Pinned: other numbers would be other texts, and ENGINE_VERSION would have to rise.
    assert row[:2].tolist() == [0.40528282220634226, 0.7513887390698244]
    assert uniforms(0, "k", 0, 5).tolist() == row[:5].tolist()
    others = [uniforms(1, "k", 0, 8), uniforms(0, "l", 0, 8), uniforms(0, "k", 1, 8)]
    assert len({tuple(x) for x in [row, *others]}) == 4
    many = np.concatenate([uniforms(0, "k", k, 50) for k in range(200)])
    assert many.min() >= 0
    assert many.max() < 1
    assert chisquare(np.bincount((many * 20).astype(int), minlength=20)).pvalue > 0.001


@given(
    st.lists(st.sampled_from([0.0, 0.0, 1e-30, 1e-8, 0.3, 1.0, 7.0]), min_size=1, max_size=30).filter(any),
    st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 1 - 2**-53])),
)
def test_a_token_is_found_where_the_cumulative_probability_passes(weights: list[float], u: float) -> None:
    p = torch.tensor([weights], dtype=torch.float64)
    p = (p / p.sum()).float()
    token = int(invert(p, torch.tensor([u], dtype=torch.float64))[0, 0])
    assert p[0, token] > 0
    cumulative = np.cumsum(p[0].double().numpy())
    assert u * cumulative[-1] <= cumulative[token]
    assert token == 0 or cumulative[token - 1] <= u * cumulative[-1]


def test_what_the_checkpoint_asks_for_is_said_and_not_done(
    engine: Any, make_policy: Callable[..., Path]
) -> None:
    (note,) = engine.notes()
    assert "temperature 0.3, top_k 3, repetition_penalty 1.7" in note
    assert engine.identity()["stop_tokens"] == [2, *range(300, 320)]
    plain = TransformersEngine(str(make_policy("plain", template=None, stops=[2])), Runtime(device="cpu"))
    assert "Human: ... Assistant: ..." in plain.notes()[0]
    assert plain.policy.encode(TURNS) == tuple(
        plain.tokenizer(f"<s>\n\nHuman: {TEXT}\n\nAssistant:", add_special_tokens=False)["input_ids"]
    )
    blind = make_policy("blind", template="{% for m in messages %}{{ m['content'] }}{% endfor %}")
    notes = TransformersEngine(str(blind), Runtime(device="cpu")).notes()
    assert any("add_generation_prompt" in n for n in notes)


def test_what_does_not_fit_into_memory_is_halved(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    decoding = Decoding(n=7, max_tokens=5)
    (straight,) = engine.sample([PROMPT], decoding)
    generate, sizes = engine.model.generate, []

    def small(**given: Any) -> Any:
        sizes.append(len(given["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("made up")
        return generate(**given)

    monkeypatch.setattr(engine.model, "generate", small)
    (halved,) = engine.sample([PROMPT], decoding)
    assert [s.text for s in halved] == [s.text for s in straight]
    assert sum(size for size in sizes if size <= 2) == 7
