"""Records for tests of reports: ordinary ones, and ones whose every text is hostile."""

import json
from pathlib import Path
from typing import Any

from rmbench.cli.main import run
from rmbench.results.influence import influence_name
from rmbench.results.record import rewards_name, run_id, sealed
from rmbench.results.run import Run

HOSTILE = (
    "<script>document.title='owned'</script>",
    "\"><img src=x onerror=document.title='owned'>",
    "</svg></style></title></script><h1>owned</h1>",
    "<![CDATA[ ]]> --> <!--",
    "\u202egnp.exe\u202c left \u200f right \ufffe",
    "{{ 7 * 7 }}{% raw %} $x^2$ ${",
    "' onmouseover='document.title=1' x='",
    "NaN",
    "long" * 2500,
    "&lt;b&gt; &amp; \x00\x1b[31m",
    "نموذج 模型 🤖",
)


def rows(texts: tuple[str, ...] = (), n: int = 22) -> list[dict[str, Any]]:
    """Return `n` pools of four responses, longer ones better in two of three; texts begin with `texts`."""
    found = []
    for k in range(n):
        lead = texts[k % len(texts)] if texts else ""
        lengths = (5, 9, 14, 23) if k % 3 else (23, 14, 9, 5)
        found.append(
            {
                "id": f"{lead[:60]}item {k:02d}",
                "prompt": [{"role": "user", "content": f"{lead}\nprompt {k}"}],
                "responses": [f"{lead}\n" + "x" * length for length in lengths],
                "gold": [0.0, 0.25, 0.5, 1.0],
                "gold_kind": "graded",
                "strata": {"family": f"{lead[:40]}f{k % 3}"},
            }
        )
    return found


def evaluate(folder: Path, *models: str, texts: tuple[str, ...] = ()) -> Path:
    """Evaluate models on `preference` and `bon` with made-up data, `folder`/items.jsonl; return the results."""
    data = folder / "items.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(texts)), encoding="utf-8")
    command = [word for model in models for word in ("-m", model)]
    command += ["-t", "preference", "-t", "bon", "--data", str(data), "-q"]
    assert (
        run(["eval", *command, "--results", str(folder / "results"), "--store", str(folder / "store")]) == 0
    )
    return folder / "results"


def spoil(results: Path) -> None:
    """Put hostile texts wherever a record may have any text that its identity does not cover."""
    for n, path in enumerate(sorted(results.rglob("*.json"))):
        record = json.loads(path.read_text())
        record["model"] = HOSTILE[n % len(HOSTILE)]
        record["counts"]["dropped"] = {HOSTILE[1]: 3}
        record["undefined"] = {HOSTILE[0]: HOSTILE[2]}
        record["provenance"] |= {"command": list(HOSTILE), "data": HOSTILE[4], "versions": {HOSTILE[1]: "1"}}
        path.write_text(json.dumps(sealed(record)))


def spoil_identity(results: Path) -> None:
    """Put hostile texts into identities, too: ids follow from them, so such records are whole."""
    for n, path in enumerate(sorted(results.rglob("*.json"))):
        record = json.loads(path.read_text())
        identity = record["identity"]
        identity["task"] |= {"name": HOSTILE[n % 4], "digest": HOSTILE[1]}
        identity["task"]["params"] |= {"gold_meaning": HOSTILE[2], HOSTILE[0]: HOSTILE[5]}
        identity["model"] = {HOSTILE[3]: HOSTILE[4]}
        identity["data"] = HOSTILE[0]
        new = run_id(identity)
        rewards = path.with_name(record["files"]["rewards"]["name"])
        rewards.rename(path.with_name(f"{new}.rewards.jsonl.gz"))
        path.with_name(f"{new}.json").write_text(json.dumps(sealed(record | {"run_id": new})))
        path.unlink()


def make_old(stored: Run) -> str:
    """Make the record one of an older version of the metrics; return its new run id."""
    values = json.loads(stored.path.read_text())
    values["identity"]["metrics_version"] = 1
    values["run_id"] = run_id(values["identity"])
    values["files"]["rewards"]["name"] = rewards_name(values["run_id"])
    stored.rewards_path.rename(stored.path.with_name(rewards_name(values["run_id"])))
    stored.influence_path.rename(stored.path.with_name(influence_name(values["run_id"])))
    stored.path.unlink()
    stored.path.with_name(f"{values['run_id']}.json").write_text(json.dumps(sealed(values), indent=1) + "\n")
    return str(values["run_id"])
