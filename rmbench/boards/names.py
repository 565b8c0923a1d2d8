"""One name for each model of a board: the same identity under two names would be two rows."""

from collections.abc import Sequence
from dataclasses import replace

from rmbench.core.files import digest
from rmbench.results.run import Run


def under_one_name(runs: Sequence[Run], left_out: list[str]) -> list[Run]:
    """Return the runs with one name per model: of a model that was renamed, the name of its newest record.

    A record that is there under both names counts once. Records with gold of a model or a verifier are left
    alone: they have names of their own on purpose.

    Args:
        runs: All records.
        left_out: Gets a line for each record that is not shown under its own name.
    """
    names: dict[str, set[str]] = {}
    newest: dict[str, tuple[str, str]] = {}
    prints = [digest(run.fingerprint) if run.gold is None else "" for run in runs]
    for run, own in zip(runs, prints, strict=True):
        names.setdefault(own, set()).add(run.model)
        made = (str(run.record.provenance.get("time") or ""), run.model)
        newest[own] = max(newest.get(own, ("", "")), made)
    kept: dict[tuple[str, str], Run] = {}
    for run, own in zip(runs, prints, strict=True):
        name = newest[own][1]
        if not own or len(names[own]) == 1 or run.model == name:
            kept[run.model, run.record.run_id] = run
    for run, own in zip(runs, prints, strict=True):
        name = newest[own][1]
        if (run.model, run.record.run_id) in kept:
            continue
        left_out.append(
            f"{run.model} on {run.task} ({run.record.run_id}): the same model as {name}, which is shown"
        )
        kept.setdefault((name, run.record.run_id), replace(run, record=replace(run.record, model=name)))
    return list(kept.values())
