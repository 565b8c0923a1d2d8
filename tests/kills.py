"""A campaign of kills: commands are killed at random moments and run again; their files must be the same.

Run by tests/test_kill.py, and by itself: `python tests/kills.py --kills 10 --seed 0` kills each command ten
times and prints a summary.

A kill is either at a random time, or just before a random file of the command is opened for writing, renamed
or removed. What may differ afterwards is what a record says of time and of the work that was left to do.
"""

import argparse
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from report_records import make_old
from tiny_models import checkpoint_maker, train_tokenizer

from rmbench.cli.main import run
from rmbench.results.read import find_records

TIMES = ("time", "wall_s", "tokens_per_s", "computed", "reused")
"""Keys of a record's provenance that may differ: when, how long, and what was left to compute."""
_LIMIT_S = 120
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "rmbench.cli.main",
        "rmbench.evaluation.run",
        "rmbench.boards",
        "rmbench.sampling.hf",
        "rmbench.train.run",
    ]
)
"""Processes start with everything imported, so that a random moment is one of the command's own."""
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Command:
    """A command that is killed."""

    arguments: list[str]
    """As on the command line; paths are relative to the workplace."""
    makes: str
    """The folder or file that it makes or changes."""


@dataclass
class Outcome:
    """One command, killed and run again."""

    command: str
    how: str
    killed: bool
    """False: it had ended before."""
    differs: list[str] = field(default_factory=list)
    """Files that are not the same; empty: identical."""


def start(arguments: Sequence[str], place: Path, event: int = 0, sign: int = 0) -> BaseProcess:
    """Start `rmbench ARGUMENTS` in the folder `place`, in a process of its own.

    Args:
        arguments: As on the command line.
        place: The folder. What is printed goes to `<place>.said`, the number of its writes to `<place>.writes`.
        event: Before which of its writes (opening, renaming, removal of a file in `place`) it gets a signal;
            0: before none.
        sign: The signal.
    """
    process = _SERVER.Process(target=_command, args=(list(arguments), str(place), event, int(sign)))
    process.start()
    return process


def wait_until(process: "subprocess.Popen[Any]", is_time: Callable[[], bool]) -> None:
    """Wait until it is time to kill a process. Raises AssertionError if it ends before."""
    deadline = time.monotonic() + _LIMIT_S
    while not is_time():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _command(arguments: list[str], place: str, event: int, sign: int) -> None:
    """Run a command; the body of a process."""
    os.chdir(place)
    os.environ |= {"RMBENCH_STORE": f"{place}/store", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    said = os.open(f"{place}.said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # sums in one order have the same last bits
    seen = 0

    def watch(name: str, given: tuple[Any, ...]) -> None:
        nonlocal seen
        if _is_write(name, given, place):
            seen += 1
            if seen == event:
                os.kill(os.getpid(), sign)

    sys.addaudithook(watch)
    code = run(arguments)
    sys.stdout.flush()
    Path(f"{place}.writes").write_text(str(seen))
    sys.exit(code)


def _is_write(name: str, given: tuple[Any, ...], place: str) -> bool:
    """Say whether an audit event changes a file of the workplace, its score store aside."""
    if name == "open":
        writes = isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    else:
        writes = name in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree")
    if not writes:
        return False
    if not isinstance(given[0], str | bytes | os.PathLike):
        return False
    return Path(place) in (Path.cwd() / os.fsdecode(given[0])).parents


def finish(arguments: Sequence[str], place: Path) -> int:
    """Run a command to its end; return how many writes it did. Raises AssertionError unless it ends with 0."""
    process = start(arguments, place)
    process.join(_LIMIT_S)
    assert process.exitcode == 0, (process.exitcode, Path(f"{place}.said").read_text()[-2000:])
    return int(Path(f"{place}.writes").read_text())


def contents(place: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of every file in a folder, by path; records without their times."""
    paths = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    return {str(path.relative_to(place.parent)): _without_times(path) for path in paths}


def _without_times(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix != ".json" or b'"rmbench_record"' not in raw:
        return raw
    values = json.loads(raw)
    del values["sha256"]  # a hash over the times too
    values["provenance"] = {k: v for k, v in values["provenance"].items() if k not in TIMES}
    return json.dumps(values, indent=1).encode()


def campaign(inputs: Path, below: Path, names: Iterable[str], n_kills: int, seed: int) -> Iterator[Outcome]:
    """Kill each command `n_kills` times, each time in a new copy of `inputs`, and run it again.

    Args:
        inputs: A folder from `make_inputs`.
        below: Folder of the copies.
        names: Commands, of `COMMANDS`.
        n_kills: Kills of each.
        seed: Seed of the moments and signals.
    """
    finish(["--version"], inputs)  # the first one waits for the imports
    for name in names:
        command, rng = COMMANDS[name], random.Random(f"{name} {seed}")
        place = below / f"{name}-straight"
        shutil.copytree(inputs, place)
        began = time.monotonic()
        n_writes = finish(command.arguments, place)
        took_s = time.monotonic() - began
        straight = contents(place / command.makes)
        for number in range(n_kills):
            copy = below / f"{name}-{number}"
            shutil.copytree(inputs, copy)
            outcome = _killed(name, copy, rng, n_writes if number % 2 == 0 else 0, took_s)
            finish(command.arguments, copy)
            found = contents(copy / command.makes)
            outcome.differs = sorted(p for p in {*straight, *found} if straight.get(p) != found.get(p))
            if not outcome.differs:
                shutil.rmtree(copy)
            yield outcome


def _killed(name: str, place: Path, rng: random.Random, n_writes: int, took_s: float) -> Outcome:
    """Start a command and kill it before one of its `n_writes` writes, or at a random time (0 writes)."""
    sign, arguments = rng.choice(_SIGNALS), COMMANDS[name].arguments
    if n_writes:
        event = rng.randint(1, n_writes)
        how = f"{sign.name} before write {event} of {n_writes}"
        process = start(arguments, place, event, sign)
    else:
        delay_s = rng.uniform(0.05, 0.95) * took_s
        how = f"{sign.name} after {delay_s:.2f} s of {took_s:.2f} s"
        process = start(arguments, place)
        process.join(delay_s)
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, sign)
    process.join(_LIMIT_S)
    assert process.exitcode is not None, f"{name}: {how}: it goes on"
    return Outcome(name, how, process.exitcode != 0)


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """Return lines that say how many kills left the same files, and which did not."""
    kills = [o for o in outcomes if o.killed]
    lines = [f"{len(kills)} kills: {sum(not o.differs for o in kills)} identical"]
    if late := len(outcomes) - len(kills):
        lines.append(f"{late} came too late: the command had ended; {len(outcomes)} runs in all")
    for command in dict.fromkeys(o.command for o in outcomes):
        own = [o for o in kills if o.command == command]
        lines.append(f"  {command}: {sum(not o.differs for o in own)} of {len(own)}")
    lines += [f"  {o.command}, {o.how}: {', '.join(o.differs)}" for o in outcomes if o.differs]
    return lines


COMMANDS: Mapping[str, Command] = {
    "eval": Command(
        ["eval", "-m", "slow.py:Slow", "-t", "preference", "-t", "bon", "--data", "items.jsonl",
         "--results", "made", "--batch-tokens", "60", "-q"],
        "made",
    ),
    "sample": Command(
        ["sample", "--policy", "policy", "--prompts", "prompts.jsonl", "--out", "pool.jsonl", "-n", "2",
         "--max-tokens", "8", "--device", "cpu", "--dtype", "float32", "-q"],
        "pool.jsonl",
    ),
    "import": Command(["import", "rewardbench", "published", "--results", "made", "-q"], "made"),
    "leaderboard": Command(
        ["leaderboard", "--boards-dir", "boards", "--results", "records", "--out", "made"], "made"
    ),
    "remeasure": Command(["remeasure", "aged"], "aged"),
    "train": Command(
        ["train", "--base", "base", "--data", "pairs.jsonl", "--out", "made", "--batch-size", "8",
         "--micro-batch", "4", "--max-steps", "7", "--eval-every", "2", "--max-length", "32",
         "--learning-rate", "0.01", "--method", "confidence-margin", "--device", "cpu", "-q"],
        "made",
    ),
}  # fmt: skip
MODEL = '''
"""A slow model."""
import time


class Slow:
    def fingerprint(self):
        return {"kind": "slow", "version": "1"}

    def score(self, batch):
        time.sleep(0.01)
        # Depends on the batch in its last bits, as padding does: only equal batches give equal records.
        return [len(t[-1]["content"]) % 7 + 1e-9 * len(batch) for t in batch]
'''
BOARD = """
name: test
title: Test
summary: All columns.
columns:
  - {id: accuracy, task: preference, metric: accuracy, label: accuracy}
  - {id: win, task: bon, metric: win_rate@max, label: win rate}
rank_by: [accuracy, win]
"""


def make_inputs(place: Path) -> Path:
    """Write what all commands read into a new folder, and return it."""
    place.mkdir(parents=True)
    rng = random.Random(0)
    items = [
        {
            "id": f"i{n}",
            "prompt": f"question {n % 30}",
            "responses": [f"answer {n} {k} " + "word " * rng.randint(0, 12) for k in range(3)],
            "gold": [rng.randint(0, 3) for _ in range(3)],
        }
        for n in range(40)
    ]
    pairs = [
        {"prompt": f"What is {k}?", "chosen": f"{'the fox ' * (k % 3)}Paris", "rejected": f"{k} dog"}
        for k in range(30)
    ]
    _write(place / "items.jsonl", items)
    _write(place / "pairs.jsonl", pairs)
    _write(place / "prompts.jsonl", [{"prompt": f"Tell me {k}.", "answer": f"{k}"} for k in range(8)])
    (place / "slow.py").write_text(MODEL)
    (place / "boards").mkdir()
    (place / "boards" / "test.yaml").write_text(BOARD)
    _publish(place / "published")
    models = [word for name in ("length", "shortest", "random") for word in ("-m", name)]
    tasks = ["-t", "preference", "-t", "bon", "--data", str(place / "items.jsonl")]
    records, store = str(place / "records"), str(place / "store")
    with redirect_stdout(io.StringIO()):
        assert run(["eval", *models, *tasks, "--results", records, "--store", store, "-q"]) == 0
    shutil.rmtree(place / "store")
    _make_checkpoints(place)
    _age(place / "records", place / "aged")
    return place


def _write(path: Path, rows: Sequence[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _publish(folder: Path) -> None:
    """Write the published scores of four models, in RewardBench 2's layout."""
    subsets = ("Factuality", "Precise IF", "Math", "Safety", "Focus")
    for model in range(4):
        rng = random.Random(model)
        columns = {
            "id": [str(k) for k in range(25)],
            "subset": [subsets[k % 5] for k in range(25)],
            "text": [[f"question {k} reply {n}" for n in range(4)] for k in range(25)],
            "scores": [[[rng.random()] for _ in range(4)] for _ in range(25)],
            "results": [0] * 25,
            "num_correct": [1] * 25,
            "model": f"org/model-{model}",
            "model_type": "Seq. Classifier",
        }
        path = folder / "eval-set-scores" / "org" / f"model-{model}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(columns))


def _make_checkpoints(place: Path) -> None:
    """Save a tiny base to train, and a tiny policy to sample."""
    make = checkpoint_maker(place, {"bos": train_tokenizer("bos")})
    make("llama", head=False, folder="base", initializer_range=0.05)
    make("llama", task="CausalLM", folder="policy")


def _age(records: Path, aged: Path) -> None:
    """Copy records, of which some are of an older version of the metrics and some edited by hand.

    Of the others, and of the originals, the influence files go: they are made again.
    """
    shutil.copytree(records, aged)
    for stored in list(find_records(aged)):
        if stored.model == "length":
            make_old(stored)
        elif stored.model == "shortest":
            values = json.loads(stored.path.read_text())
            values["curves"]["edited"] = 1
            stored.path.write_text(json.dumps(values))
        else:
            stored.influence_path.unlink()
    for stored in find_records(records):
        stored.influence_path.unlink()


def main() -> int:
    """Kill each command, print a summary, and return 1 if a file differs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=10, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("commands", nargs="*", default=list(COMMANDS), help=f"of {', '.join(COMMANDS)}")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        inputs = make_inputs(Path(folder) / "inputs")
        done = []
        for outcome in campaign(inputs, Path(folder), given.commands, given.kills, given.seed):
            print(
                f"{outcome.command}: {outcome.how}: {', '.join(outcome.differs) or 'identical'}", flush=True
            )
            done.append(outcome)
    print("\n".join(summary(done)))
    return int(any(o.differs for o in done))


if __name__ == "__main__":
    sys.exit(main())
