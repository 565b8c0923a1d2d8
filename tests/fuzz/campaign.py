"""Thousands of malformed inputs, made from a seed, each given to `rmbench` in a process that is watched.

python tests/fuzz/campaign.py --n 5000 --seed 0            # a table of what came of them
python tests/fuzz/campaign.py --seed 0 --only 1234         # one of them again, its output, its folder kept
"""

import argparse
import contextlib
import io
import json
import os
import random
import resource
import select
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from arguments import devices, option_case, path_case
from mutations import damage
from samples import Sample, all_samples

from rmbench.cli.main import run
from rmbench.errors import RmbenchError
from rmbench.results.read import read_record
from rmbench.results.record import check_rewards_file, rewards_name

SECONDS = 10
"""A command that takes more processor time hangs."""
WAITS = 30
"""A command that takes longer, whatever it does, hangs: other processes may share the cores."""
KILLED_AFTER = 45
"""Seconds after which a process that does not answer is killed."""
BYTES = 10**9
"""A command that takes more memory than this, all in all, takes too much."""
BATCH = 40


class TooLongError(BaseException):
    """The command has not ended in time. No `except Exception` takes it."""


@dataclass
class Outcome:
    """What came of one input."""

    n: int
    kind: str
    told: str
    """What was damaged, and how."""
    command: list[str]
    code: int | None = None
    """Exit code; None: no exit."""
    seconds: float = 0.0
    peak: int = 0
    """Bytes of memory at most."""
    error: str = ""
    """The traceback, if it ended with one."""
    said: str = ""
    """The end of what it said on stderr."""
    half: list[str] = field(default_factory=list)
    """Files that are there although the command has failed, and partial ones."""
    warnings: list[str] = field(default_factory=list)
    hangs: bool = False
    unclear: bool = False
    """It failed without a line that begins with `error:`, or with more than a screen."""

    @property
    def fails(self) -> bool:
        """Say whether a promise is broken."""
        return bool(self.error or self.half or self.hangs or self.unclear or self.peak > BYTES)


def make(samples: Sequence[Sample], seed: int, n: int, folder: Path) -> Outcome:
    """Make input `n` of a campaign in `folder`; return its command, to be filled in."""
    rng = random.Random(f"{seed} {n}")
    sample = rng.choices(samples, [s.weight for s in samples])[0]
    draw = rng.random()
    shutil.copytree(sample.folder, folder)
    devices(folder)
    if draw < 0.80:
        path = rng.choice(sample.paths(folder))
        told = f"{path.relative_to(folder)}: {damage(path, rng)}"
        if sample.mend:
            sample.mend(folder, path)
        kind, command = sample.kind, list(rng.choice(sample.commands))
    elif draw < 0.90:
        command, told = path_case(rng.choice(sample.commands), folder, rng)
        kind = "path"
    else:
        command, told = option_case(rng.choice(sample.commands), rng)
        kind = "option"
    return Outcome(n, kind, told, [word.replace("{d}", str(folder)) for word in command])


def _files(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for path in folder.rglob("*"):
        state = path.lstat()
        if not stat.S_ISDIR(state.st_mode) and "store" not in path.relative_to(folder).parts:
            is_file = stat.S_ISREG(state.st_mode)
            written = (state.st_mtime_ns, state.st_size) if is_file else (0, 0)
            found[str(path.relative_to(folder))] = (stat.S_IFMT(state.st_mode), *written)
    return found


def _stays(folder: Path, name: str) -> bool:
    """Say whether a file may stay after a command that failed: locks, caches, checkpoints, a study's models, whole records."""
    path = folder / name
    if (
        name.endswith((".lock", ".influence.npz", ".sqlite"))
        or ".training/" in name
        or name.startswith("runs/")
    ):
        return True
    record = path.with_name(path.name.split(".")[0] + ".json")
    try:
        found = read_record(record)
        check_rewards_file(record.with_name(rewards_name(found.run_id)), found.rewards_sha256)
    except (RmbenchError, OSError):
        return False
    return True


def _memory(key: str) -> int:
    with Path("/proc/self/status").open(encoding="ascii") as file:
        line = next(line for line in file if line.startswith(key))
    return int(line.split()[1]) * 1024


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise TooLongError


def perform(outcome: Outcome, folder: Path, said: Path) -> None:
    """Run the command of an input in this process, and fill in what came of it."""
    before, start = _files(folder), time.monotonic()
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    os.chdir(folder)
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = said.open("w", encoding="utf-8", errors="backslashreplace")
    os.dup2(sys.stderr.fileno(), 2)
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, _raise)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(WAITS)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            outcome.code = run(outcome.command)
        except TooLongError:
            outcome.hangs = True
            outcome.said = traceback.format_exc()[-3000:]
        except BaseException:
            outcome.error = traceback.format_exc()
        finally:
            signal.alarm(0)
            signal.setitimer(signal.ITIMER_PROF, 0)
    outcome.seconds, outcome.peak = time.monotonic() - start, _memory("VmHWM")
    for stream in (sys.stdout, sys.stderr):
        stream.close()
    text = said.read_text(encoding="utf-8", errors="replace")
    outcome.said = outcome.said or text[-600:]
    outcome.warnings = sorted({f"{w.category.__name__}: {str(w.message)[:150]} ({Path(w.filename).name}:{w.lineno})" for w in warned})  # fmt: skip
    after = _files(folder)
    changed = [p for p in after if before.get(p) != after[p]]
    outcome.half = [
        p for p in changed if p.endswith(".partial") or (outcome.code != 0 and not _stays(folder, p))
    ]
    if outcome.hangs:
        outcome.half = []
    # A device or pipe that is no longer one was replaced, which breaks it for everybody.
    outcome.half += [
        p for p, (kind, *_) in before.items() if kind != stat.S_IFREG and after.get(p, (0,))[0] != kind
    ]
    if outcome.code not in (0, None):
        last = [line for line in text.splitlines() if line.startswith("error: ")]
        outcome.unclear = len(last) != 1 or len(last[0]) > 2100 or outcome.code not in (1, 2)


def _work(samples: Sequence[Sample], seed: int, numbers: Sequence[int], below: Path, pipe: int) -> None:
    """Perform inputs one after the other in this process; tell each before and after on `pipe`."""
    limit = _memory("VmSize") + 6 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(pipe, "w", encoding="utf-8") as out:
        for n in numbers:
            folder = below / str(n)
            outcome = make(samples, seed, n, folder)
            print(json.dumps(asdict(outcome)), file=out, flush=True)
            perform(outcome, folder, below / f"{n}.txt")
            os.chdir(below)
            print(json.dumps(asdict(outcome)), file=out, flush=True)
            for left in (folder, below / f"{n}.txt"):
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _told(pipe: int, process: int) -> Iterator[Outcome | None]:
    """Yield what a process tells; None if it does not answer, after it was killed."""
    held = b""
    while select.select([pipe], [], [], KILLED_AFTER)[0]:
        if not (more := os.read(pipe, 1 << 16)):
            break
        *lines, held = (held + more).split(b"\n")
        yield from (Outcome(**json.loads(line)) for line in lines)
    else:
        os.kill(process, signal.SIGKILL)
        yield None
    os.close(pipe)


def campaign(samples: Sequence[Sample], seed: int, numbers: Sequence[int], below: Path) -> Iterator[Outcome]:
    """Yield what came of the inputs, in order; a process that dies or does not answer is replaced."""
    left = list(numbers)
    while left:
        ours, theirs = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # threads of libraries, which the child has not
            process = os.fork()
        if process == 0:
            os.close(ours)
            try:
                _work(samples, seed, left[:BATCH], below, theirs)
            except BaseException:
                os.write(1, traceback.format_exc().encode())
            finally:
                os.kill(os.getpid(), signal.SIGKILL)  # nothing of the parent's is flushed or run here
        os.close(theirs)
        done, started, answers = 0, None, True
        for found in _told(ours, process):
            if found is None:
                answers = False
            elif started is None:
                started = found
            else:
                started, done = None, done + 1
                yield found
        _, status = os.waitpid(process, 0)
        if started is not None:
            started.hangs = not answers
            started.error = "" if started.hangs else f"the process died: status {status}"
            done += 1
            yield started
        elif done == 0:
            raise RuntimeError(f"input {left[0]} could not be made")
        left = left[done:]


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the figures of a campaign."""
    codes = Counter(str(o.code) for o in outcomes)
    return {
        "inputs": len(outcomes),
        "exit codes": dict(sorted(codes.items())),
        "tracebacks": sum(bool(o.error) for o in outcomes),
        f"hangs over {SECONDS} s": sum(o.hangs for o in outcomes),
        "above 1 GB": sum(o.peak > BYTES for o in outcomes),
        "half-written files": sum(bool(o.half) for o in outcomes),
        "errors that are not one line": sum(o.unclear for o in outcomes),
    }


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the figures by kind of input as a table."""
    head = ["kind", *summary([])]
    head.remove("exit codes")
    lines = ["| " + " | ".join([*head[:2], "refused", *head[2:]]) + " |", "|---" * (len(head) + 1) + "|"]
    for kind in [*sorted({o.kind for o in outcomes}), ""]:
        of_kind = [o for o in outcomes if kind in ("", o.kind)]
        figures = summary(of_kind)
        refused = sum(n for code, n in figures["exit codes"].items() if code in ("1", "2"))
        cells = [kind or "all", figures["inputs"], refused, *(figures[k] for k in head[2:])]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def isolate(folder: Path) -> None:
    """Keep commands away from the user's stores and from every hub."""
    os.environ |= {"RMBENCH_STORE": str(folder / "default-store"), "HF_HUB_OFFLINE": "1"}
    os.environ.pop("RMBENCH_RESULTS", None)


def preload() -> None:
    """Import what commands import, once for all processes."""
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)


def main() -> None:
    """Run a campaign as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=5000, help="number of inputs")
    parser.add_argument("--start", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="make this input alone, and keep its folder")
    parser.add_argument("--out", type=Path, help="write every outcome there, a line of JSON each")
    given = parser.parse_args()
    below = Path(tempfile.mkdtemp(prefix="rmbench-fuzz-"))
    isolate(below)
    preload()
    (below / "samples").mkdir()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        samples = all_samples(below / "samples")
    if given.only is not None:
        outcome = make(samples, given.seed, given.only, below / "case")
        print(
            f"{below / 'case'}\n{outcome.kind}: {outcome.told}\nrmbench {' '.join(map(repr, outcome.command))}"
        )
        os.chdir(below / "case")
        print("exit code", run(outcome.command))
        return
    found = []
    out = given.out.open("w", encoding="utf-8") if given.out else None
    for outcome in campaign(samples, given.seed, range(given.start, given.start + given.n), below):
        found.append(outcome)
        if out:
            print(json.dumps(asdict(outcome)), file=out, flush=True)
        if outcome.fails:
            what = (
                outcome.error.strip().splitlines()[-1] if outcome.error else "hangs" if outcome.hangs else ""
            )
            what = what or (f"left {outcome.half[:3]}" if outcome.half else f"{outcome.peak / 1e9:.2f} GB; {outcome.said[-200:]!r}")  # fmt: skip
            print(f"{outcome.n} {outcome.kind}: {outcome.told[:150]}: {what[:300]}", file=sys.stderr)
    shutil.rmtree(below, ignore_errors=True)
    print(as_markdown(found))
    print(json.dumps(summary(found), indent=1))


if __name__ == "__main__":
    main()
