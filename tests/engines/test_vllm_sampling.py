"""Sampling through vLLM: seeds, resume, and log-probabilities that transformers confirms."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from rmbench.models.runtime import Runtime
from rmbench.sampling.hf import TransformersEngine
from rmbench.sampling.policy import Decoding, Policy, Prompt, Sample
from rmbench.sampling.vllm import VLLMEngine
from rmbench.types import Turn

TEXTS = ["What is rain?", "Name a colour.", "Count to three.", "Why is the sky blue, and the sea?"]
FP32 = Runtime(dtype="float32", offline=True)
GAP = 5e-3
"""Of a sum of log-probabilities over a few dozen tokens, nats."""


def prompts() -> list[Prompt]:
    return [Prompt(f"p{k}", text, (Turn(role="user", content=text),), f"key{k}", {}, f"line {k}")
            for k, text in enumerate(TEXTS)]  # fmt: skip


def seen_rows(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Return a list that grows by the tokens of each response."""
    rows: list[list[int]] = []
    own = Policy.read

    def read(self: Policy, row: Any, *rest: float, stop: Any = ()) -> Sample:
        rows.append(list(row))
        return own(self, row, *rest, stop=stop)

    monkeypatch.setattr(Policy, "read", read)
    return rows


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(n=8, max_tokens=24, seed=3),
        Decoding(n=8, max_tokens=24, temperature=0.7, top_k=20, top_p=0.9, seed=3),
    ],
    ids=["plain", "narrowed"],
)
def test_logprobs_are_those_of_transformers(
    language_model: Path, decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = seen_rows(monkeypatch)
    engine = VLLMEngine(str(language_model), FP32, decoding)
    found = [sample for samples in engine.sample(prompts(), decoding) for sample in samples]
    model = transformers.AutoModelForCausalLM.from_pretrained(language_model, dtype=torch.float32).eval()
    ids = [list(engine.policy.encode(p.turns)) for p in prompts() for _ in range(decoding.n)]
    for prompt, row, sample in zip(ids, rows, found, strict=True):
        with torch.inference_mode():
            scores = model(input_ids=torch.tensor([prompt + row])).logits[0, len(prompt) - 1 : -1].float()
        raw = scores.log_softmax(-1)
        own = raw
        if decoding.temperature != 1:
            narrow = [
                transformers.TemperatureLogitsWarper(decoding.temperature),
                transformers.TopKLogitsWarper(decoding.top_k),
                transformers.TopPLogitsWarper(decoding.top_p),
            ]
            for step in narrow:
                own = step(None, own)
            own = own.log_softmax(-1)
        picked = torch.tensor(row)[:, None]
        assert sample.untempered_logprob == pytest.approx(float(raw.gather(1, picked).sum()), abs=GAP)
        assert sample.logprob == pytest.approx(float(own.gather(1, picked).sum()), abs=GAP)
    assert len({sample.text for sample in found}) > len(TEXTS), "not greedy"


def test_greedy_is_what_transformers_says(language_model: Path) -> None:
    decoding = Decoding(n=1, temperature=0, max_tokens=16)
    ours = list(TransformersEngine(str(language_model), FP32).sample(prompts(), decoding))
    theirs = list(VLLMEngine(str(language_model), FP32, decoding).sample(prompts(), decoding))
    assert [s[0].text for s in theirs] == [s[0].text for s in ours]
    assert [s[0].untempered_logprob for s in theirs] == pytest.approx(
        [s[0].untempered_logprob for s in ours], abs=GAP
    )
    assert {s[0].logprob for s in theirs} == {0.0}


def test_a_response_ends_before_a_text(language_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Decoding(n=8, max_tokens=24, seed=3)
    whole = [
        s.text
        for samples in VLLMEngine(str(language_model), FP32, plain).sample(prompts(), plain)
        for s in samples
    ]
    letter = max("aeiou ", key=lambda c: sum(c in text for text in whole))
    stop = Decoding(n=8, max_tokens=24, seed=3, stop=(letter,))
    rows = seen_rows(monkeypatch)
    engine = VLLMEngine(str(language_model), FP32, stop)
    found = [s for samples in engine.sample(prompts(), stop) for s in samples]
    assert [s.text for s in found] == [text.partition(letter)[0] for text in whole]
    assert all(s.finish == "stop" for s, text in zip(found, whole, strict=True) if letter in text)
    for row, text in zip(rows, whole, strict=True):  # nothing was drawn beyond the text
        assert letter not in text or letter not in engine.policy.text(row[:-1])


def test_a_pool_is_continued_and_its_order_does_not_matter(
    language_model: Path, rmbench: Callable[..., Any], tmp_path: Path
) -> None:
    rows = [json.dumps({"id": f"p{k}", "prompt": text}) + "\n" for k, text in enumerate(TEXTS)]
    (tmp_path / "all.jsonl").write_text("".join(rows))
    (tmp_path / "turned.jsonl").write_text("".join(rows[::-1]))
    given = ["sample", "--policy", str(language_model), "--engine", "vllm", "-n", "8", "--max-tokens", "24",
             "--dtype", "float32", "--seed", "5"]  # fmt: skip
    done = rmbench(*given, "--prompts", "all.jsonl", "--out", "whole.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pool"]["responses"] == 8 * len(TEXTS)
    whole = (tmp_path / "whole.jsonl").read_bytes()
    (tmp_path / "torn.jsonl").write_bytes(whole[: len(whole) // 2])
    assert rmbench(*given, "--prompts", "all.jsonl", "--out", "torn.jsonl").returncode == 0
    assert (tmp_path / "torn.jsonl").read_bytes() == whole
    assert rmbench(*given, "--prompts", "turned.jsonl", "--out", "turned-pool.jsonl").returncode == 0
    turned = (tmp_path / "turned-pool.jsonl").read_text().splitlines()
    assert turned[::-1] == whole.decode().splitlines()
    refused = rmbench(*given[:3], *given[5:], "--prompts", "all.jsonl", "--out", "whole.jsonl")
    assert refused.returncode == 2, "another engine does not continue it"
    assert "sampled with other settings: engine" in refused.stderr
