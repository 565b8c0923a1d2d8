"""`rmbench remeasure`: compute the metrics of records again, from stored rewards."""

from pathlib import Path

import click

from rmbench.core.escape import one_line


@click.command("remeasure")
@click.argument("folder", metavar="RESULTS", type=click.Path(path_type=Path))
def command(folder: Path) -> None:
    """Compute the metrics of every record in RESULTS again, from the stored rewards.

    RESULTS is a results folder, a part of one, or one record. No model, data set or GPU is needed. Records
    whose numbers do not change keep their bytes. The numbers of a record that was edited by hand or damaged
    are mended; its name, counts and provenance cannot be.
    """
    from rmbench.metrics import METRICS_VERSION
    from rmbench.results.write import remeasure

    n_changed = n_total = 0
    for done in remeasure(folder):
        n_total += 1
        n_changed += bool(done.changed)
        record = done.run.record
        what = f"changed: {', '.join(done.changed)}" if done.changed else "the same"
        if done.edited:
            what += (
                "; it was not as it was written: its numbers are made anew, its name, counts and provenance"
                " are as they were found, and it has a new hash"
            )
        before = record.identity.get("metrics_version", 1)
        version = "" if before == METRICS_VERSION else f" (metrics version {before} to {METRICS_VERSION})"
        click.echo(f"{one_line(record.model)} on {one_line(record.task)}{version}: {what}")
    click.echo(f"{n_total} records measured again, {n_changed} changed", err=True)
