"""Several processes: the same rewards, and a worker that dies takes nothing with it."""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rmbench.errors import ConfigError, ScoringError
from rmbench.models.resolve import LoadedModel, load_model
from rmbench.models.runtime import Runtime
from rmbench.scoring import open_store, score_items
from rmbench.scoring.processes import Processes, processes_for
from rmbench.types import Conversation, Item, Pair, Response, Turn

N_ITEMS = 30


class Logs:
    """Reward: characters of the reply. Writes down who was asked what; may be told to fail on a text."""

    def __init__(self, log: Path, fails: str = "", how: str = "") -> None:
        self.log, self.fails, self.how = log, fails, how

    def fingerprint(self) -> Mapping[str, str]:
        return {"kind": "logs"}

    def score(self, batch: Sequence[Conversation]) -> Sequence[float]:
        if self.how == "meet":
            self._wait_for_another()
        texts = [turns[-1]["content"] for turns in batch]
        if self.fails in texts and not (self.how == "once" and self._marked()):
            if self.how in ("always", "once"):
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "memory" and len(batch) > 1:
                raise MemoryError("too many")
            if self.how == "error":
                raise ValueError("cannot read this")
        with self.log.open("a") as file:
            file.writelines(json.dumps([os.getpid(), text]) + "\n" for text in texts)
        return [float(len(text)) for text in texts]

    def _wait_for_another(self) -> None:
        """Do nothing before two processes are here: the first to start could do all the work."""
        self.log.with_name(f"here-{os.getpid()}").touch()
        deadline = time.monotonic() + 60
        while len(list(self.log.parent.glob("here-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)

    def _marked(self) -> bool:
        try:
            self.log.with_suffix(".mark").touch(exist_ok=False)
        except FileExistsError:
            return True
        return False


class Judge:
    """Prefers the longer one."""

    def fingerprint(self) -> Mapping[str, str]:
        return {"kind": "judge"}

    def prefer(self, batch: Sequence[Pair]) -> Sequence[float]:
        return [0.8 if len(p.first) > len(p.second) else 0.2 for p in batch]


def loaded(kind: type, *args: Any, **options: Any) -> LoadedModel:
    return LoadedModel("m", kind(*args, **options), "m.py:M")


def made_items() -> list[Item]:
    return [
        Item(f"i{n}", (Turn(role="user", content="q"),), (Response("a" * n), Response(f"b{n}")), cluster="c")
        for n in range(1, N_ITEMS)
    ]


def expected() -> tuple[tuple[float, ...], ...]:
    return tuple((float(n), float(len(f"b{n}"))) for n in range(1, N_ITEMS))


def run(tmp_path: Path, n_workers: int, **told: str) -> tuple[Any, list[Any], Processes]:
    log = tmp_path / "log"
    load = [partial(loaded, Logs, log, **told)] * n_workers
    with open_store(tmp_path, {"kind": "logs"}) as store, Processes(loaded(Logs, log), load) as executor:
        scoring = score_items(Logs(log), made_items(), store, batch_tokens=10, executor=executor)
        return scoring, [json.loads(line) for line in log.read_text().splitlines()], executor


def test_two_workers_share_the_work_and_change_nothing(tmp_path: Path) -> None:
    scoring, asked, executor = run(tmp_path, 2, how="meet")
    assert scoring.rewards == expected()
    assert scoring.n_computed == scoring.n_units == len(asked) == len({text for _, text in asked})
    pids = {pid for pid, _ in asked}
    assert os.getpid() not in pids
    assert (len(pids), executor.n_lost) == (2, 0)


def test_a_killed_workers_batch_goes_to_the_others(tmp_path: Path) -> None:
    scoring, asked, executor = run(tmp_path, 2, fails="a" * 20, how="once")
    assert scoring.rewards == expected()
    assert executor.n_lost == 1
    assert len(asked) == scoring.n_computed


def test_when_all_have_died_the_run_stops_and_what_was_scored_stays(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match="all 2 worker processes died"):
        run(tmp_path, 2, fails="a", how="always")
    with open_store(tmp_path, {"kind": "logs"}) as store:
        n_stored = len(store)
        assert n_stored > 0
        again = score_items(Logs(tmp_path / "log"), made_items(), store, batch_tokens=10)
        assert (again.rewards, again.n_computed) == (expected(), again.n_units - n_stored)


def test_a_workers_error_and_its_memory_are_this_process_s(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=r"raised ValueError on a batch of \d+: cannot read this"):
        run(tmp_path / "error", 1, fails="a" * 9, how="error")
    scoring, _, _ = run(tmp_path / "memory", 1, fails="b9", how="memory")
    assert scoring.rewards == expected()


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    for name in ("error", "memory"):
        (tmp_path / name).mkdir()


def test_a_pairwise_model_in_workers(tmp_path: Path) -> None:
    alone, shared = (open_store(tmp_path / name, {"kind": "judge"}) for name in ("alone", "shared"))
    with alone, shared, Processes(loaded(Judge), [partial(loaded, Judge)]) as executor:
        first = score_items(Judge(), made_items(), alone)
        assert score_items(Judge(), made_items(), shared, executor=executor).rewards == first.rewards


MODEL = """
import os
class Length:
    def fingerprint(self):
        return {"kind": "length"}
    def score(self, batch):
        with open(os.environ["ASKED"], "a") as log:
            log.write(f"{os.getpid()}\\n" * len(batch))
        return [float(len(turns[-1]["content"])) for turns in batch]
"""


def test_the_command_line_has_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rmbench.cli.main import run as rmbench

    (tmp_path / "m.py").write_text(MODEL)
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    records = []
    for n in ("1", "2"):
        arguments = ["eval", "--model", f"{tmp_path}/m.py:Length", "--task", "preference", "--limit", "40",
                     "--workers", n, "--results", f"{tmp_path}/{n}", "--store", f"{tmp_path}/{n}s", "--json"]  # fmt: skip
        assert rmbench([*arguments, "--quiet"]) == 0
        (record,) = json.loads(capsys.readouterr().out)
        del record["provenance"], record["sha256"]
        records.append((record, set((tmp_path / "asked").read_text().split())))
    assert records[0][0] == records[1][0]
    assert records[0][1] == {str(os.getpid())}
    assert records[1][1] - records[0][1]


def test_rewards_from_a_file_take_no_workers(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"id": "a", "rewards": [1.0, 2.0]}\n')
    loaded = load_model(f"scores:{tmp_path}/s.jsonl")
    with pytest.raises(ConfigError, match="nothing to do"):
        processes_for(loaded, {}, Runtime(), 2)


@pytest.mark.slow
def test_a_decoder_in_two_workers(tmp_path: Path, make_checkpoint: Callable[..., Path]) -> None:
    loaded = load_model(str(make_checkpoint("llama")))
    rewards = []
    for n in (1, 2):
        with (
            open_store(tmp_path / str(n), loaded.model.fingerprint()) as store,
            processes_for(loaded, {}, Runtime(), n) as executor,
        ):
            scoring = score_items(loaded.model, made_items(), store, batch_tokens=100, executor=executor)
            rewards.append([x for row in scoring.rewards for x in row])
    assert rewards[0] == pytest.approx(rewards[1], abs=1e-5)


def test_a_model_that_is_another_one_in_a_worker_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text(MODEL)
    mine = load_model(f"{file}:Length")
    file.write_text(MODEL.replace("float(len(", "-float(len("))
    refused = (
        r"^--workers: .*m\.py:Length is another model in rmbench-worker-\d: its source_sha256 is '\w+', here"
    )
    with processes_for(mine, {}, Runtime(), 2) as executor, pytest.raises(ConfigError, match=refused):
        score_items(
            mine.model, made_items(), open_store(tmp_path / "s", {"kind": "length"}), executor=executor
        )
    file.unlink()
    with processes_for(mine, {}, Runtime(), 1) as executor:
        executor.start(0, [])
        with pytest.raises(ConfigError, match=r"^--workers: in rmbench-worker-0: .*m\.py"):
            executor.finished()


@pytest.mark.long
def test_a_checkpoint_that_changed_before_a_worker_read_it_is_refused(
    tmp_path: Path, make_checkpoint: Callable[..., Path]
) -> None:
    folder = make_checkpoint("llama")
    mine = load_model(str(folder), {}, Runtime(device="cpu"))
    tokens = folder / "tokenizer_config.json"
    tokens.write_text(tokens.read_text().replace("{", "{ ", 1))
    with processes_for(mine, {}, Runtime(device="cpu"), 1) as executor:
        executor.start(0, [])
        with pytest.raises(
            ConfigError, match=r"is another model in rmbench-worker-0: its weights is 'sha256:"
        ):
            executor.finished()
