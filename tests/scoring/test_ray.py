"""Ray for real: a local one with two actors, some of them killed. One Ray serves the whole file.

Every process of Ray takes seconds to start, so what can wait is marked slow.
"""

import importlib.util
import json
import os
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run as rmbench
from rmbench.errors import ConfigError, ScoringError
from rmbench.models.resolve import LoadedModel, fingerprint_of, load_model
from rmbench.models.runtime import Runtime
from rmbench.scoring import Scoring, open_store, score_items
from rmbench.scoring import ray as ray_module
from rmbench.scoring.processes import n_cores
from rmbench.scoring.ray import Place, RayActors, connect, place_for, ray_actors_for
from rmbench.types import Item, Response, Turn

pytestmark = pytest.mark.long

N_ITEMS = 30

MODEL = '''
import json, os, signal, time
from pathlib import Path


class Logs:
    """Reward: characters of the reply. Writes down every batch before it answers; may end its process."""

    def __init__(self, log: str, dies_at: str = "", always: bool = False, meet: bool = False, by: str = ""):
        self.log, self.dies_at, self.always, self.meet, self.by = Path(log), dies_at, always, meet, by

    def fingerprint(self):
        return {"kind": "logs", "by": str(os.getpid()) if self.by == "process" else ""}

    def score(self, batch):
        if self.meet:
            self.wait_for_another()
        texts = [turns[-1]["content"] for turns in batch]
        with self.log.open("a") as file:
            file.write(json.dumps([os.getpid(), texts]) + "\\n")
        if self.dies_at and any(t.startswith(self.dies_at) for t in texts) and (self.always or self.is_first()):
            os.kill(os.getpid(), signal.SIGKILL)
        return [len(text) + 1e-9 * len(batch) for text in texts]  # other batches give other bits

    def wait_for_another(self):
        self.log.with_name(f"here-{os.getpid()}").touch()
        deadline = time.monotonic() + 60
        while len(list(self.log.parent.glob("here-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)

    def is_first(self):
        try:
            self.log.with_suffix(".mark").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class Judge:
    """Prefers the longer one."""

    def fingerprint(self):
        return {"kind": "judge"}

    def prefer(self, batch):
        return [0.8 if len(p.first) > len(p.second) else 0.2 for p in batch]
'''


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Ray on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray leaves one in the user's folder
        patch.delenv("RAY_ADDRESS", raising=False)
        import ray

        assert connect()
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


def made_items() -> list[Item]:
    return [
        Item(f"i{n}", (Turn(role="user", content="q"),), (Response("a" * n), Response(f"b{n}")), cluster="c")
        for n in range(1, N_ITEMS)
    ]


def model(tmp_path: Path, **options: str) -> tuple[LoadedModel, dict[str, str]]:
    (tmp_path / "m.py").write_text(MODEL)
    given = {"log": f"{tmp_path}/log", **options}
    return load_model(f"{tmp_path}/m.py:Logs", given), given


def scored(tmp_path: Path, n: int, **options: str) -> tuple[Scoring, RayActors]:
    loaded, given = model(tmp_path, **options)
    with (
        open_store(tmp_path, fingerprint_of(loaded)) as store,
        ray_actors_for(loaded, given, Runtime(), n) as executor,
    ):
        return score_items(loaded.model, made_items(), store, batch_tokens=10, executor=executor), executor


def asked(tmp_path: Path) -> list[tuple[int, tuple[str, ...]]]:
    lines = (json.loads(line) for line in (tmp_path / "log").read_text().splitlines())
    return [(pid, tuple(texts)) for pid, texts in lines]


def alone(tmp_path: Path) -> tuple[Any, list[tuple[str, ...]]]:
    """Return the rewards and the batches of one process without Ray."""
    (tmp_path / "alone").mkdir()
    loaded, _ = model(tmp_path / "alone")
    with open_store(tmp_path / "alone", fingerprint_of(loaded)) as store:
        scoring = score_items(loaded.model, made_items(), store, batch_tokens=10)
    return scoring.rewards, [texts for _, texts in asked(tmp_path / "alone")]


@pytest.mark.usefixtures("address")
def test_two_actors_share_the_batches_of_the_same_plan(tmp_path: Path) -> None:
    rewards, batches = alone(tmp_path)
    scoring, executor = scored(tmp_path, 2, meet="yes")
    assert scoring.rewards == rewards
    assert Counter(texts for _, texts in asked(tmp_path)) == Counter(batches)
    pids = {pid for pid, _ in asked(tmp_path)}
    assert os.getpid() not in pids
    assert (len(pids), executor.n_lost) == (2, 0)


@pytest.mark.usefixtures("address")
def test_a_killed_actor_costs_its_batch_alone(tmp_path: Path) -> None:
    rewards, batches = alone(tmp_path)
    scoring, executor = scored(tmp_path, 2, dies_at="a" * 20)
    assert scoring.rewards == rewards
    assert executor.n_lost == 1
    again = Counter(texts for _, texts in asked(tmp_path)) - Counter(batches)
    assert (len(batches) > 10, list(again.values())) == (True, [1])
    (killed,) = again
    assert any(text.startswith("a" * 20) for text in killed)
    loaded, _ = model(tmp_path, dies_at="a" * 20)
    with open_store(tmp_path, fingerprint_of(loaded)) as store:
        assert len(store) == scoring.n_units == scoring.n_computed


@pytest.mark.slow
@pytest.mark.usefixtures("address")
def test_a_batch_that_kills_its_actors_stops_the_run_and_the_rest_is_stored(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=r"^3 actors died of one batch.*what was scored is stored$"):
        scored(tmp_path, 1, dies_at="b9", always="yes")
    (times,) = {n for texts, n in Counter(t for _, t in asked(tmp_path)).items() if "b9" in texts}
    assert times == 3
    loaded, _ = model(tmp_path, dies_at="b9", always="yes")
    with open_store(tmp_path, fingerprint_of(loaded)) as store:
        assert len(store) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("address")
def test_a_pairwise_model_by_actors(tmp_path: Path) -> None:
    model(tmp_path)
    loaded = load_model(f"{tmp_path}/m.py:Judge")
    with (
        open_store(tmp_path / "alone", {"kind": "judge"}) as here,
        open_store(tmp_path / "shared", {"kind": "judge"}) as there,
        ray_actors_for(loaded, {}, Runtime(), 1) as executor,
    ):
        first = score_items(loaded.model, made_items(), here)
        assert score_items(loaded.model, made_items(), there, executor=executor).rewards == first.rewards


@pytest.mark.usefixtures("address")
def test_actors_that_find_no_place_are_an_error_and_no_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    class Guest:
        def here(self) -> bool:
            return True

    monkeypatch.setattr(ray_module, "PATIENCE_S", 1.0)
    guest = ray.remote(Guest).options(num_cpus=n_cores()).remote()
    assert ray.get(guest.here.remote())
    expected = rf"^--executor ray: 1 of 1 actors of {n_cores()} CPUs found no place within 1 s; of {n_cores()} CPUs and"
    with pytest.raises(ConfigError, match=expected):
        scored(tmp_path, 1)
    ray.kill(guest)
    too_many = 4 * n_cores() + 1
    with pytest.raises(ConfigError, match=rf"--workers {too_many}: the cluster has {n_cores()} CPUs and"):
        scored(tmp_path, too_many)
    assert not (tmp_path / "log").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("address")
def test_a_model_that_is_another_one_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is another model on .*: its by is '\d+', here '\d+'$"):
        scored(tmp_path, 1, by="process")
    loaded, given = model(tmp_path)
    (tmp_path / "m.py").unlink()
    with ray_actors_for(loaded, given, Runtime(), 1) as executor:
        executor.start(0, [])
        with pytest.raises(ConfigError, match=r"^--executor ray: on .*m\.py"):
            executor.finished()


@pytest.mark.slow
def test_the_command_line_joins_a_cluster_and_leaves_it_be(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    model(tmp_path)
    arguments = ["eval", "--model", f"{tmp_path}/m.py:Logs", "--task", "preference", "--limit", "10",
                 "--batch-tokens", "200", "--store", f"{tmp_path}/{{}}", "--results", f"{tmp_path}/{{}}", "--json",
                 "-M", f"log={tmp_path}/{{}}.log", "-M", f"dies_at={'I'}", "-M", "name=logs"]  # fmt: skip
    ours = [a.format("shared") for a in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "rmbench", *ours, "--executor", "ray", "--workers", "2"],
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    notes = [line for line in done.stderr.splitlines() if line.startswith("note:")]
    assert notes == ["note: logs: 1 process that scored died; its batch was asked again"]
    assert "(raylet)" not in done.stderr + done.stdout
    assert ray.is_initialized()
    assert any(node["Alive"] for node in ray.nodes())
    (tmp_path / "shared.mark").replace(tmp_path / "alone.mark")
    assert rmbench([a.format("alone") for a in arguments]) == 0
    here, there = (json.loads(text)[0] for text in (capsys.readouterr().out, done.stdout))
    assert here["metrics"] == there["metrics"]


@pytest.mark.slow
def test_a_ray_of_its_own_is_quiet_and_gone_afterwards(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rmbench", "eval", "--model", "builtin:tiny", "--task", "preference",
               "--limit", "20", "--workers", "2", "--quiet", "--json"]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    records = []
    for executor in ("ray", "local"):
        folders = ["--results", f"{tmp_path}/{executor}", "--store", f"{tmp_path}/{executor}-store"]
        done = subprocess.run(
            [*command, *folders, "--executor", executor],
            env=environment, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        (record,) = json.loads(done.stdout)
        del record["provenance"], record["sha256"]
        records.append(record)
    assert records[0] == records[1]
    rewards = [next((tmp_path / e).rglob("*.rewards*")).read_bytes() for e in ("ray", "local")]
    assert rewards[0] == rewards[1]


def test_an_address_without_ray_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    arguments = ["eval", "--model", "length", "--task", "preference", "--limit", "2", "--executor", "ray"]
    assert rmbench([*arguments, "--results", str(tmp_path), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --executor ray: no Ray at RAY_ADDRESS=127.0.0.1:1: ")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_use_for_actors_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.jsonl").write_text('{"id": "a", "rewards": [1.0, 2.0]}\n')
    with pytest.raises(ConfigError, match=r"^--executor ray: .*nothing to do"):
        ray_actors_for(load_model(f"scores:{tmp_path}/s.jsonl"), {}, Runtime(), 2)
    length = load_model("length")
    with pytest.raises(ConfigError, match="expected --device cuda, not cuda:1"):
        ray_actors_for(length, {}, Runtime(device="cuda:1"), 2)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^--executor ray needs Ray: pip install 'rmbench\[ray\]'$"):
        ray_actors_for(length, {}, Runtime(), 2)


@pytest.mark.parametrize(
    ("cpus", "n", "expected"),
    [
        ([2], 1, Place(2.0, 0, 2)),
        ([2], 2, Place(1.0, 0, 1)),
        ([2], 3, Place(0.5, 0, 1)),
        ([2], 6, Place(0.3333, 0, 1)),  # six of 0.3334 would be more than two CPUs
        ([2], 8, Place(0.25, 0, 1)),
        ([1, 1], 3, Place(0.5, 0, 1)),  # two thirds of a CPU would fit twice only
        ([8, 3], 3, Place(3.0, 0, 3)),
        ([7], 2, Place(3.0, 0, 3)),
    ],
)
def test_shares_of_cpus(cpus: list[float], n: int, expected: Place) -> None:
    assert place_for([{"CPU": float(c)} for c in cpus], n, gpus=True) == expected
    # However they are dealt, the last of them finds its place: a greedy count on each machine.
    assert sum(int(c // expected.n_cpus) for c in cpus) >= n


def test_gpus_go_one_to_an_actor() -> None:
    machines = [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 2.0}]
    assert place_for(machines, 4, gpus=True) == Place(0.0, 1, None)
    assert place_for(machines, 4, gpus=False) == Place(4.0, 0, 4)
    with pytest.raises(
        ConfigError, match=r"--workers 5: the cluster has 18 CPUs and 4 GPUs, at most 4 actors"
    ):
        place_for(machines, 5, gpus=True)
    with pytest.raises(ConfigError, match=r"has 0 CPUs and 0 GPUs, at most 0 actors"):
        place_for([{}], 1, gpus=True)
