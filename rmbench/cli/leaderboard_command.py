"""`rmbench leaderboard`: boards from records."""

from pathlib import Path

import click

from rmbench.cli.options import output_options, results_option
from rmbench.errors import ConfigError, RunError

_ENDS = {"text": "md", "markdown": "md", "csv": "csv", "latex": "tex", "json": "json"}
"""What is printed -> the file that has it."""


@click.command("leaderboard")
@click.argument("boards", nargs=-1, metavar="[BOARD]...")
@results_option
@click.option(
    "--boards-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of board definitions.  [default: ./leaderboards, else the packaged ones]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("leaderboards"),
    show_default=True,
    help="Where the boards are written.",
)
@click.option(
    "--reports",
    metavar="FOLDER|URL",
    help="Where the models' pages are that their names link to.  [default: <out>/reports, if it is there]",
)
@click.option(
    "--check", "check_only", is_flag=True, help="Write nothing; fail if a file differs by one byte."
)
@output_options
def command(
    boards: tuple[str, ...],
    results: Path,
    boards_dir: Path | None,
    out: Path,
    reports: str | None,
    check_only: bool,
    output: str,
) -> None:
    """Regenerate leaderboards (all, or those named) as Markdown, CSV, LaTeX, JSON and HTML.

    A board is a pure function of its definition (leaderboards/<board>.yaml), the task files and the records:
    the same input gives the same bytes. Models are ranked by the mean of the board's ranking columns, with
    significance groups; a model with a missing task is listed without a rank.

    <board>.html is one file that opens from disk and asks no network: sort, search, filter a column (>0.6),
    hide shortcuts, contaminated models or columns of a kind, and see each interval as a bar. Of each model it
    holds the commands that made its records. Score against tokens per second and against parameters is
    plotted as far as the records say them. Without JavaScript it is the plain table.

    <board>.tex is a table for a paper (package booktabs): sub- and superscripts are the ends of the interval,
    bold is what the paired tests do not tell from the best of its column, and no number is bold in a column
    where they tell nothing apart.

    On the page, a model's name links to its report: <model>.html of --reports, the name as a file's name
    (`rmbench report MODEL --out FILE` writes one). Of a folder, models whose file is there have a link; below
    an address, every model has one.

    \b
    Examples:
      rmbench leaderboard                      # all boards, into leaderboards/
      rmbench leaderboard main --out site      # one board, elsewhere
      rmbench leaderboard main --reports https://example.org/rm/reports
      rmbench leaderboard main --latex > table.tex
      rmbench leaderboard --check              # in CI: do the committed boards follow from the records?
    """
    from rmbench.boards import list_boards, load_board, make_board, render_board
    from rmbench.boards.definition import board_folder
    from rmbench.boards.links import report_links
    from rmbench.files import write_atomic
    from rmbench.record_reader import find_records

    folder = boards_dir or board_folder()
    specs = [load_board(folder, name) for name in boards or list_boards(folder)]
    if not specs:
        raise ConfigError(f"no board is defined in {folder}")
    if not results.is_dir():
        raise ConfigError(f"there is no folder {results}; run `rmbench eval` first or give --results")
    runs = list(find_records(results))
    stale = []
    for spec in specs:
        board = make_board(spec, runs)
        links = report_links(board, reports, out)
        if reports is not None:
            click.echo(f"{spec.name}: {len(links)} of {len(board.rows)} models link to a report", err=True)
        files = render_board(board, links)
        for name, content in files.items():
            path = out / name
            if check_only:
                if not path.is_file() or path.read_bytes() != content.encode("utf-8"):
                    stale.append(str(path))
            else:
                write_atomic(path, content)
        if output != "text" or not check_only:
            click.echo(files[f"{spec.name}.{_ENDS[output]}"], nl=output in ("text", "markdown"))
    if stale:
        raise RunError(f"out of date: {', '.join(stale)}; run `rmbench leaderboard` and commit the result")
    if check_only:
        click.echo(f"{len(specs)} boards are up to date", err=True)
