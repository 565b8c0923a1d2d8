"""`rmbench study`: train a grid of models and compare them."""

from pathlib import Path

import click

from rmbench.cli.options import eval_options, key_values
from rmbench.errors import ConfigError


@click.command("study")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--place",
    "places",
    multiple=True,
    metavar="NAME=PATH",
    help="Path that {NAME} of the file stands for (repeat).",
)
@click.option(
    "--models-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder of trained models.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the tables.  [default: leaderboards/<name of the study>]",
)
@click.option(
    "--records",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.jsonl.xz",
    help="Also write all records into one file, a record per line.",
)
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the records.  [default: <models-dir>/<name of the study>/results]",
)
@eval_options("store", "device", "offline")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
def command(
    file: Path, places: tuple[str, ...], models_dir: Path, out: Path | None,
    records: Path | None, store: Path | None, device: str,
    offline: bool, results: Path | None, quiet: bool,
) -> None:  # fmt: skip
    """Train methods x bases x data x seeds, evaluate every model, and compare methods in pairs.

    \b
    rmbench study studies/margins.yaml --place bases=path/to/bases --place data=path/to/data

    The command writes study.html (the page to look at: the finding, the differences to the reference, tables
    and figures), study.md (what it prints), study.csv (a row per number), study.tex (each table for a paper,
    package booktabs) and the figures. The records go into a folder of the study's own, so that its models do
    not stand on your boards; --results changes that.

    After a kill, the same command continues: trained models and complete records are not made again.
    """
    try:
        from rmbench.study import batch_rows, load_study, packed_records, run_study, write_study
    except ImportError as error:
        missing = str(error).partition(";")[0]
        raise ConfigError(f"{missing}; training needs: pip install 'rmbench[train]'") from None
    from rmbench.core.files import require_writable, write_atomic
    from rmbench.core.progress import Bar
    from rmbench.models.runtime import Runtime
    from rmbench.scoring import default_store_folder

    if not file.is_file():
        raise ConfigError(f"there is no file {file}")
    spec = load_study(file, key_values(places, "--place"))
    runtime = Runtime(device=device, offline=offline)
    place = store or default_store_folder()
    folder = out or Path("leaderboards") / spec.name
    require_writable(folder, "--out")
    results = results or models_dir / spec.name / "results"
    with Bar("study", "models", enabled=not quiet) as bar:
        done = run_study(
            spec,
            models_dir / spec.name,
            results=results,
            store=place,
            runtime=runtime,
            tell=bar.step,
            tell_texts=bar.texts,
        )
    page = write_study(spec, done, batch_rows(spec, place, runtime), folder, _again(file, places, out))
    if records is not None:
        write_atomic(records, packed_records(outcome.run.record for outcome in done.outcomes.values()))
    click.echo(page)
    click.echo(f"Look at {folder / 'study.html'}. Records: {results}.", err=True)


def _again(file: Path, places: tuple[str, ...], out: Path | None) -> list[str]:
    """Return the command that makes the study again, without the folders of this machine."""
    named = [word for place in places for word in ("--place", f"{place.partition('=')[0]}=PATH")]
    return ["rmbench", "study", file.name, *named, *(["--out", out.name] if out else [])]
