"""`rmbench curve`: best-of-n curves of records, as figures and tables."""

import json
from pathlib import Path

import click

from rmbench.cli.options import json_option
from rmbench.core.escape import one_line


@click.command("curve")
@click.argument("records", metavar="RECORDS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write to."
)
@click.option("--rows", default="task", show_default=True, help="Meaning of the rows of panels.")
@click.option("--columns", help="Meaning of the columns of panels.  [default: one column]")
@click.option("--lines", default="model", show_default=True, help="Meaning of the lines of a panel.")
@json_option
def command(
    records: tuple[Path, ...], out: Path, rows: str, columns: str | None, lines: str, as_json: bool
) -> None:
    """Draw best-of-n curves: gold and win rate against n, the root of KL and the proxy's reward.

    A line is a model. RECORDS are records or folders of them; records of tasks other than best of n are left
    out. No model and no data set is needed. The command writes figures (SVG, PNG), curves.csv, fits.csv, and
    curves.tex: tables for a paper (package booktabs).

    Rows, columns and lines are each one of: task, model, size (parameters), data (hash), source (name of the
    data's file), gold (its source), seed, rule, model.KEY (of the model's fingerprint), or a stratum of the
    items. They are in the order of RECORDS; sizes are in increasing order. These commands draw proxies of
    several sizes on several policies. The items name their policy under `strata` (as pools of `rmbench
    sample` do), or each policy has a file of pools:

    \b
    rmbench curve results --out curves --rows size --columns policy
    rmbench curve results --out curves --columns policy --rows model --lines rule
    rmbench curve results --out curves --columns source
    """
    from rmbench.core.files import write_atomic
    from rmbench.plot.curve_figures import draw_curves
    from rmbench.plot.curves import Layout, curves_csv, curves_json, curves_latex, fits_csv, gather, notes_of

    series, left = gather(records, Layout(rows, columns, lines))
    notes = notes_of(series)
    files: dict[str, str | bytes] = {
        **draw_curves(series),
        "curves.csv": curves_csv(series),
        "fits.csv": fits_csv(series),
        "curves.tex": curves_latex(series),
    }
    for name, content in files.items():
        write_atomic(out / name, content)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "curves": curves_json(series),
                    "left_out": [{"what": entry.what, "why": entry.why} for entry in left],
                    "notes": notes,
                    "files": sorted(files),
                },
                indent=1,
            )
        )
        return
    for note in notes:
        click.echo(f"note: {one_line(note)}", err=True)
    reasons: dict[str, list[str]] = {}
    for entry in left:
        reasons.setdefault(entry.why, []).append(entry.what)
    for why, found in reasons.items():
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        click.echo(f"left out, {one_line(why)}: {one_line(', '.join(found[:3]))}{more}", err=True)
    click.echo(f"{len(series)} curves in {one_line(str(out))}: {', '.join(sorted(files))}")
