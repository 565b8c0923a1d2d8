"""Log-probabilities are stored, not rewards: what was read once is not read for another reward."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run
from rmbench.errors import ScoringError
from rmbench.models.hf.dpo import LogProbs
from rmbench.models.resolve import Runtime, load_model
from rmbench.scoring import PartStores, ScoreStore, open_stores, score_items
from rmbench.scoring.processes import processes_for
from rmbench.types import Item, Response, Turn

Make = Callable[..., Path]
ROWS = [
    {"id": f"i{k}", "prompt": f"Tell me of {k}.", "gold": [1, 0, 0],
     "responses": [f"It is {k} more than 0.", "No." + " " * k, "The quick brown fox " * k]}
    for k in range(1, 6)
]  # fmt: skip
N_TEXTS = 15
N_LOADING = 4
"""Rows that each model compares with its own forward pass when it is loaded."""


def causal(make: Make, folder: str, seed: int) -> Path:
    return make("llama", task="CausalLM", folder=folder, seed=seed)


@contextmanager
def rows_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Count the conversations of forward passes, by the model's weights."""
    seen: dict[str, int] = {}
    sums = LogProbs.sums

    def counted(self: LogProbs, rows: Any) -> list[float]:
        name = Path(self.model.config.name_or_path).name
        seen[name] = seen.get(name, 0) + len(rows)
        return sums(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(LogProbs, "sums", counted)
        yield seen


def made_items() -> list[Item]:
    return [
        Item(str(row["id"]), (Turn(role="user", content=str(row["prompt"])),),
             tuple(Response(text) for text in row["responses"]), cluster=str(row["id"]))  # type: ignore[attr-defined]
        for row in ROWS
    ]  # fmt: skip


@pytest.fixture
def evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Return a function that evaluates and returns the record."""
    data = tmp_path / "items.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def evaluate(spec: str, *options: str) -> dict[str, Any]:
        given = [x for option in options for x in ("-M", option)]
        assert run(["eval", "--model", spec, "--task", "preference", "--data", str(data), *given, "--quiet",
                    "--results", f"{tmp_path}/results", "--store", f"{tmp_path}/store", "--device", "cpu",
                    "--json"]) == 0  # fmt: skip
        (record,) = json.loads(capsys.readouterr().out)
        return dict(record)

    return evaluate


def test_another_beta_and_an_average_read_nothing(
    make_checkpoint: Make, evaluated: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy, ref = (causal(make_checkpoint, name, seed) for seed, name in enumerate(("policy", "ref")))
    spec = f"dpo:policy={policy},ref={ref}"
    with rows_read(monkeypatch) as seen:
        first = evaluated(spec, "beta=1")
        n_loading = {"policy": N_LOADING, "ref": N_LOADING}
        assert seen == {"policy": N_TEXTS + N_LOADING, "ref": N_TEXTS + N_LOADING}
        assert first["provenance"]["computed"] == N_TEXTS
    with rows_read(monkeypatch) as seen:
        for options in (["beta=0.5"], ["average=yes"]):
            record = evaluated(spec, *options)
            assert (record["provenance"]["computed"], record["provenance"]["reused"]) == (0, N_TEXTS)
        assert seen == {name: 2 * n for name, n in n_loading.items()}
    with rows_read(monkeypatch) as seen:
        evaluated(f"dpo:policy={policy}", "reference=none")
        assert seen == {"policy": N_LOADING}
    # One file of numbers per language model, and none of rewards.
    assert [path.name.partition("-")[0] for path in (tmp_path / "store").glob("*.sqlite")] == ["logprob"] * 2


def test_a_reference_is_read_once_for_two_policies(
    make_checkpoint: Make, evaluated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, ref = (causal(make_checkpoint, name, seed) for seed, name in enumerate(("one", "two", "ref")))
    with rows_read(monkeypatch) as seen:
        evaluated(f"dpo:policy={one},ref={ref}")
        evaluated(f"dpo:policy={two},ref={ref}")
    assert seen == {"one": N_TEXTS + N_LOADING, "two": N_TEXTS + N_LOADING, "ref": N_TEXTS + 2 * N_LOADING}
    with rows_read(monkeypatch) as seen:  # either way round, all is known
        evaluated(f"dpo:policy={ref},ref={two}")
    assert seen == {"ref": N_LOADING, "two": N_LOADING}


def test_implicit_rewards_in_an_ensemble_are_read_where_they_are_not_known(
    make_checkpoint: Make, evaluated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, ref = (causal(make_checkpoint, name, seed) for seed, name in enumerate(("one", "two", "ref")))
    with rows_read(monkeypatch) as seen:
        evaluated(f"dpo:policy={one},ref={ref}")
        evaluated(f"ensemble:dpo:policy={one},ref={ref};dpo:policy={two},ref={ref};length", "how=min")
    assert seen == {
        "one": N_TEXTS + 2 * N_LOADING,
        "two": N_TEXTS + N_LOADING,
        "ref": N_TEXTS + 3 * N_LOADING,
    }


def test_rewards_from_stores_are_those_without(make_checkpoint: Make, tmp_path: Path) -> None:
    policy, ref = (causal(make_checkpoint, name, seed) for seed, name in enumerate(("policy", "ref")))
    items = made_items()
    for options in ({"beta": "0.7"}, {"average": "yes"}):
        model: Any = load_model(f"dpo:policy={policy},ref={ref}", options, Runtime(device="cpu")).model
        direct = [s.reward for item in items for s in model.score([item.conversation(k) for k in range(3)])]
        with open_stores(tmp_path, model, model.fingerprint()) as store:
            assert isinstance(store, PartStores)
            assert [part.path for part in store.parts] == [
                ScoreStore(part.path, own.fingerprint()).path
                for part, own in zip(store.parts, [p.model for p in model.parts()], strict=True)
            ]
            scoring = score_items(model, items, store)
        assert [x for row in scoring.rewards for x in row] == pytest.approx(direct, abs=1e-5)


def test_the_identity_of_a_number_is_what_it_is_read_from(make_checkpoint: Make) -> None:
    policy, ref = (causal(make_checkpoint, name, seed) for seed, name in enumerate(("policy", "ref")))
    spec = f"dpo:policy={policy},ref={ref}"

    def prints(runtime: Runtime, **options: str) -> list[dict[str, str]]:
        model: Any = load_model(spec, options, runtime).model
        return [dict(part.fingerprint()) for part in model.parts()]

    plain = prints(Runtime())
    assert plain[0]["weights"] != plain[1]["weights"]
    assert prints(Runtime(), beta="3", average="yes") == plain
    for other in (
        prints(Runtime(max_length=64)),
        prints(Runtime(dtype="bfloat16")),
        prints(Runtime(), chat_template="plain"),
    ):
        assert not [each for each in other if each in plain]


def test_a_run_that_stops_between_policy_and_reference_goes_on_there(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, ref = (causal(make_checkpoint, name, seed) for seed, name in enumerate(("policy", "ref")))
    model: Any = load_model(f"dpo:policy={policy},ref={ref}", {}, Runtime(device="cpu")).model
    sums = LogProbs.sums

    def dies(self: LogProbs, rows: Any) -> list[float]:
        if Path(self.model.config.name_or_path).name == "ref":
            raise ValueError("killed")
        return sums(self, rows)

    with open_stores(tmp_path, model, {}) as store:
        with monkeypatch.context() as patch:
            patch.setattr(LogProbs, "sums", dies)
            with pytest.raises(ScoringError, match="killed"):
                score_items(model, made_items(), store)
        with rows_read(monkeypatch) as seen:
            resumed = score_items(model, made_items(), store)
        assert seen == {"ref": N_TEXTS}
    with open_stores(tmp_path / "whole", model, {}) as store:
        assert score_items(model, made_items(), store).rewards == resumed.rewards


class Bar:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.n_texts = self.n_told = 0

    def start(self, n_texts: int) -> None:
        self.n_texts += n_texts

    def advance(self, n_texts: int, n_tokens: int) -> None:
        self.n_told += n_texts


def test_progress_counts_a_text_once(make_checkpoint: Make, tmp_path: Path) -> None:
    policy, ref = (causal(make_checkpoint, name, seed) for seed, name in enumerate(("policy", "ref")))
    model: Any = load_model(f"dpo:policy={policy},ref={ref}", {}, Runtime(device="cpu")).model
    for items in (made_items()[:2], [*made_items(), *made_items()]):  # the second time some are known
        bar = Bar()
        with open_stores(tmp_path, model, {}) as store:
            scoring = score_items(model, items, store, progress=bar)
        assert bar.n_told == bar.n_texts == 3 * len(items)
    assert (scoring.n_computed, scoring.n_units) == (N_TEXTS - 6, N_TEXTS)


@pytest.mark.slow
def test_workers_read_and_this_process_stores(make_checkpoint: Make, tmp_path: Path) -> None:
    policy, ref = (causal(make_checkpoint, name, seed) for seed, name in enumerate(("policy", "ref")))
    loaded = load_model(f"dpo:policy={policy},ref={ref}", {}, Runtime(device="cpu"))
    model: Any = loaded.model
    with open_stores(tmp_path / "alone", model, {}) as store:
        alone = score_items(model, made_items(), store, batch_tokens=100)
    with (
        open_stores(tmp_path / "two", model, {}) as store,
        processes_for(loaded, {}, Runtime(device="cpu"), 2) as executor,
    ):
        assert isinstance(store, PartStores)
        shared = score_items(model, made_items(), store, batch_tokens=100, executor=executor)
        assert [len(part) for part in store.parts] == [N_TEXTS] * 2
    for mine, theirs in zip(alone.rewards, shared.rewards, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)
