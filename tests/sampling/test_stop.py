"""Stop texts: the response is the one without them, cut before the first, wherever tokens begin and end."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra hf")

from test_draw import PROMPT, distribution, logits, prompt_ids  # noqa: E402
from test_sample_command import ROWS, arguments, refused, rows_in  # noqa: E402

from rmbench.cli.main import run  # noqa: E402
from rmbench.models.runtime import Runtime  # noqa: E402
from rmbench.sampling.hf import TransformersEngine  # noqa: E402
from rmbench.sampling.policy import (  # noqa: E402
    Decoding,
    where_it_stops,
)

Put = Callable[..., Path]


@pytest.fixture
def engine(policy: Path) -> TransformersEngine:
    return TransformersEngine(str(policy), Runtime(device="cpu", dtype="float32"))


def drawn_rows(engine: Any, decoding: Decoding, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    """Return the samples, and the tokens of each up to its end token."""
    generate, seen = engine.model.generate, []
    with monkeypatch.context() as patch:
        patch.setattr(engine.model, "generate", lambda **k: seen.append(generate(**k)) or seen[-1])
        (samples,) = engine.sample([PROMPT], decoding)
    rows = [row[len(prompt_ids(engine)) :] for out in seen for row in out.tolist()]
    ends = [next((k for k, t in enumerate(row) if t in engine.policy.ends), len(row)) for row in rows]
    return samples, [row[:end] for row, end in zip(rows, ends, strict=True)]


def across(engine: Any, rows: list[list[int]]) -> str:
    """Return a text of two characters that lies across two tokens of some row and in no single token."""
    words = [[engine.tokenizer.decode([t]) for t in row] for row in rows]
    for row in words:
        for before, after in pairwise(row[2:]):
            pair = before[-1:] + after[:1]
            inside = any(pair in word for other in words for word in other)
            if len(pair) == 2 and pair.isascii() and pair.isprintable() and not inside:
                return pair
    raise AssertionError("no such text; draw more")


def test_a_response_ends_before_the_text_also_across_tokens(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Decoding(n=24, max_tokens=12, seed=4)
    whole, rows = drawn_rows(engine, plain, monkeypatch)
    spanning = across(engine, rows)
    taken = "".join(sample.text for sample in whole if spanning in sample.text)
    words = (engine.tokenizer.decode([t]) for row in rows for t in row)
    one_token = next(w for w in words if len(w) > 1 and w.isascii() and w not in taken)
    stop = (spanning, one_token)
    decoding = Decoding(n=24, max_tokens=12, seed=4, stop=stop)
    found, _ = drawn_rows(engine, decoding, monkeypatch)
    n_cut = dict.fromkeys(stop, 0)
    for before, sample, row in zip(whole, found, rows, strict=True):
        at = min((before.text.find(text) for text in stop if text in before.text), default=None)
        if at is None:
            assert sample == before
            continue
        assert sample.text == before.text[:at]
        assert sample.finish == "stop"
        n_drawn = next(
            n for n in range(1, len(row) + 1)
            if any(text in engine.tokenizer.decode(row[:n], skip_special_tokens=True) for text in stop)
        )  # fmt: skip
        assert sample.n_tokens == n_drawn
        start = len(prompt_ids(engine))
        steps = logits(engine, prompt_ids(engine) + row[:n_drawn])[start - 1 : -1]
        logps = [
            float(torch.tensor(distribution(x, plain)[t]).log()) for x, t in zip(steps, row, strict=False)
        ]
        assert sample.logprob == pytest.approx(sum(logps), abs=1e-4)
        n_cut[next(text for text in stop if before.text[at:].startswith(text))] += 1
    assert all(n_cut.values()), n_cut
    assert "length" in {sample.finish for sample in found}


def test_the_first_of_several_texts_counts() -> None:
    assert where_it_stops("one two one", ("two", "one")) == 0
    assert where_it_stops("abcabd", ("abd", "cab")) == 2
    assert where_it_stops("abc", ("d",)) is None
    assert where_it_stops("abc", ()) is None


def test_texts_depend_on_neither_batches_nor_order_and_a_pool_goes_on(
    policy: Path, put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = put(ROWS)
    plain, out = tmp_path / "plain.jsonl", tmp_path / "stop.jsonl"
    assert run(arguments(policy, prompts, plain)) == 0
    whole = {row["id"]: row["responses"] for row in rows_in(plain)}
    letters = [c for c in "etaoinshr" if sum(c in text for texts in whole.values() for text in texts) > 3][:2]
    given = ["--stop", letters[1], "--stop", letters[0], "--stop", r"x\n"]
    assert run(arguments(policy, prompts, out, *given)) == 0
    texts = {row["id"]: row["responses"] for row in rows_in(out)}
    assert texts == {
        name: [text[: where_it_stops(text, [*letters, "x\n"])] for text in row] for name, row in whole.items()
    }
    assert texts != whole
    for size, rows in (("1", ROWS), ("3", ROWS[::-1])):
        other = tmp_path / f"{size}.jsonl"
        assert run(arguments(policy, put(rows, "again.jsonl"), other, *given, "--batch-size", size)) == 0
        assert {row["id"]: row["responses"] for row in rows_in(other)} == texts
    # Killed within a line, the file ends with the same bytes; in another order the texts are the same ones.
    straight = out.read_bytes()
    out.write_bytes(straight[: len(straight) // 2])
    assert (
        run(arguments(policy, prompts, out, *given[2:4], *given[4:], *given[:2], "--stop", letters[0])) == 0
    )
    assert out.read_bytes() == straight
    # Part of the settings, and only where there is one: pools from before there was go on.
    assert {json.dumps(row["sampling"]["stop"]) for row in rows_in(out)} == {
        json.dumps(sorted([*letters, "x\n"]))
    }
    assert not any("stop" in row["sampling"] for row in rows_in(plain))
    capsys.readouterr()
    assert run(arguments(policy, prompts, out)) == 2
    refused(capsys, "stop is [", "and None now")
    assert run(arguments(policy, prompts, plain, "--stop", "x")) == 2
    refused(capsys, "stop is None there and ['x'] now")
    assert run(arguments(policy, prompts, tmp_path / "new.jsonl", "--stop", "")) == 2
    refused(capsys, "--stop '': expected the text that a response ends before")
    assert not (tmp_path / "new.jsonl").exists()
