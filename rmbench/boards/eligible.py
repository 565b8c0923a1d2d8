"""Which records a board shows in a column, and which it leaves out."""

from collections import Counter
from collections.abc import Sequence

from rmbench.boards.definition import ColumnSpec
from rmbench.canon import digest
from rmbench.record_reader import StoredRun


def row_name(run: StoredRun, runs: Sequence[StoredRun]) -> str:
    """Return the model's name, with its fingerprint's hash where two different models share one."""
    record = run.record
    prints = {digest(r.record.identity["model"], 6) for r in runs if r.record.model == record.model}
    if len(prints) < 2:
        return record.model
    return f"{record.model} ({digest(record.identity['model'], 6)})"


def eligible(
    column: ColumnSpec, runs: Sequence[StoredRun], left_out: list[str]
) -> list[tuple[StoredRun, str]]:
    """Return the records of a column with their rows' names; why others are not there goes to `left_out`."""
    task = column.task
    of_task = [r for r in runs if r.record.task == task.name]
    whole = []
    for run in of_task:
        why = None
        if run.record.identity["task"]["digest"] != task.digest():
            why = "another version or other parameters"
        elif run.record.identity["limit"] is not None:
            why = f"--limit {run.record.identity['limit']}"
        elif "gold" in run.record.identity:
            why = f"--gold {run.record.identity['gold']['spec']}"
        if why is None:
            whole.append(run)
        else:
            left_out.append(f"{run.record.model} on {task.name} ({run.record.run_id}): {why}")
    if not whole:
        return []
    # The same data and seed for all: what most records have; among equals the first in sorting order.
    count = Counter((r.record.identity["data"], r.record.identity["seed"]) for r in whole)
    common = min(count, key=lambda key: (-count[key], key))
    chosen: dict[str, StoredRun] = {}
    for run in whole:
        if (run.record.identity["data"], run.record.identity["seed"]) != common:
            left_out.append(f"{run.record.model} on {task.name} ({run.record.run_id}): other data or seed")
            continue
        chosen.setdefault(row_name(run, runs), run)
    return [(run, name) for name, run in chosen.items()]
