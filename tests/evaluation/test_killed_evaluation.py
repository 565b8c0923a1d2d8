"""Real processes, really killed: nothing lost but the batch in flight, and the same record in the end."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kills import wait_until

MODEL = '''
"""A slow model that writes down every text it is asked for."""
import os
import time


class Slow:
    def fingerprint(self):
        return {"kind": "slow", "version": "1"}

    def score(self, batch):
        time.sleep(0.02)
        with open(os.environ["ASKED"], "a") as log:
            for turns in batch:
                log.write(turns[-1]["content"] + "\\n")
        # Depends on the batch in its last bits, as padding does: only equal batches give equal records.
        return [len(t[-1]["content"]) % 7 + 1e-9 * len(batch) for t in batch]
'''

N_ITEMS = 100
BATCH_TOKENS = 60


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    (tmp_path / "slow.py").write_text(MODEL)
    rng = random.Random(0)
    rows = [
        {
            "id": f"i{n}",
            "prompt": f"question {n % 70}",
            "responses": [f"answer {n} {k} " + "word " * rng.randint(0, 12) for k in range(3)],
            "gold": [rng.randint(0, 3) for _ in range(3)],
            "strata": {"family": "ab"[n % 2]},
        }
        for n in range(N_ITEMS)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def command(workplace: Path, name: str, task: str = "preference") -> tuple[list[str], dict[str, str]]:
    arguments = [
        sys.executable, "-m", "rmbench", "eval", "--model", f"{workplace}/slow.py:Slow", "--task", task,
        "--data", f"{workplace}/items.jsonl", "--results", f"{workplace}/{name}/results",
        "--store", f"{workplace}/{name}/store", "--batch-tokens", str(BATCH_TOKENS), "--json", "--quiet",
    ]  # fmt: skip
    return arguments, {**os.environ, "ASKED": f"{workplace}/{name}.log"}


def finish(workplace: Path, name: str, task: str = "preference") -> dict[str, Any]:
    arguments, environment = command(workplace, name, task)
    done = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert len(records) == 1
    return dict(records[0])


def without_provenance(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("provenance", "sha256")}


def asked(workplace: Path, name: str) -> list[str]:
    log = workplace / f"{name}.log"
    return log.read_text().splitlines() if log.exists() else []


def test_killed_again_and_again_the_record_is_the_same(workplace: Path) -> None:
    straight = finish(workplace, "straight")
    assert len(asked(workplace, "straight")) == len(set(asked(workplace, "straight"))) == 3 * N_ITEMS
    arguments, environment = command(workplace, "killed")
    largest_batch, kills = 512, 0
    for extra_s in (0.15, 0.4, 0.7):
        process = subprocess.Popen(
            arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = len(asked(workplace, "killed"))
        wait_until(process, lambda before=before: len(asked(workplace, "killed")) > before)
        time.sleep(extra_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        assert not list((workplace / "killed" / "results").rglob("*.json"))
    resumed = finish(workplace, "killed")
    assert without_provenance(resumed) == without_provenance(straight)
    texts = asked(workplace, "killed")
    assert set(texts) == set(asked(workplace, "straight"))
    batches = [len(b) for b in _batches(workplace)]
    largest_batch = max(batches)
    assert len(texts) <= 3 * N_ITEMS + kills * largest_batch
    assert resumed["provenance"]["computed"] < 3 * N_ITEMS
    rewards = [
        next((workplace / name / "results").rglob("*.rewards.jsonl.gz")).read_bytes()
        for name in ("straight", "killed")
    ]
    assert rewards[0] == rewards[1]


def _batches(workplace: Path) -> list[list[object]]:
    from rmbench.scoring.plan import Unit, batches, tokens_of
    from rmbench.tasks import read_task_items
    from rmbench.tasks.spec import load_task

    items = read_task_items(load_task("preference"), workplace / "items.jsonl").items
    units = [Unit(r.text, len(i.prompt[0]["content"]) + len(r.text)) for i in items for r in i.responses]
    return [list(b) for b in batches(units, [tokens_of(u.payload) for u in units], BATCH_TOKENS)]


@pytest.mark.long
def test_two_processes_share_the_work(workplace: Path) -> None:
    arguments, environment = command(workplace, "both")
    straight = finish(workplace, "straight")
    processes = [
        subprocess.Popen(
            [*arguments[:-2], "--json", "--quiet"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    records = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        records.append(json.loads(out)[0])
    for record in records:
        assert without_provenance(record) == without_provenance(straight)
    assert set(asked(workplace, "both")) == set(asked(workplace, "straight"))


def test_the_same_evaluation_again_and_another_task_on_the_same_data_ask_nothing(workplace: Path) -> None:
    finish(workplace, "one", "calibration")
    n_asked = len(asked(workplace, "one"))
    again = finish(workplace, "one", "calibration")
    other = finish(workplace, "one", "preference")
    assert len(asked(workplace, "one")) == n_asked
    assert other["provenance"]["computed"] == 0
    assert again["run_id"] != other["run_id"]
