"""`rmbench leaderboard`: make leaderboards from records."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmbench.cli.options import eval_options, output_options, print_blocks
from rmbench.cli.results.report_command import ITEMS
from rmbench.errors import ConfigError, RunError

if TYPE_CHECKING:
    from rmbench.boards import Leaderboard
    from rmbench.results.run import Run

_ENDS = {"markdown": "md", "csv": "csv", "latex": "tex", "json": "json"}
"""Output format -> suffix of the board's file in that format."""


@click.command("leaderboard")
@click.argument("boards", nargs=-1, metavar="[BOARD]...")
@eval_options("results")
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
    help="Folder to write the boards to.",
)
@click.option(
    "--reports",
    metavar="FOLDER|URL",
    help="Where the models' pages are that their names link to.  [default: <out>/reports, if it is there]",
)
@click.option(
    "--with-reports",
    is_flag=True,
    help="Also write the models' pages: into --reports FOLDER, or <out>/reports.",
)
@click.option(
    "--check",
    "check_only",
    is_flag=True,
    help="Write nothing; fail if a text differs, or a number by more than 1e-6 of it.",
)
@output_options
def command(
    boards: tuple[str, ...],
    results: Path,
    boards_dir: Path | None,
    out: Path,
    reports: str | None,
    with_reports: bool,
    check_only: bool,
    output: str,
) -> None:
    """Regenerate leaderboards (all, or those named) as Markdown, CSV, LaTeX, JSON and HTML.

    A board is a pure function of its definition (leaderboards/<board>.yaml), the task files and the records:
    the same input gives the same bytes. Models are ranked by the mean of the board's ranking columns, with
    significance groups; a model with a missing task is listed without a rank. An empty board never replaces
    one with models: that is an error, and nothing is written.

    <board>.html is one file that opens from disk and needs no network: sort, search, filter a column (>0.6),
    hide shortcuts, contaminated models or columns of a kind, and see each interval as a bar. It shows the
    commands that made each model's records. It plots score against tokens per second and against parameters
    if the records hold them. Without JavaScript it is the plain table.

    <board>.tex is a table for a paper (package booktabs): sub- and superscripts are the ends of the interval.
    Numbers that the paired tests do not separate from the best of their column are bold; if they separate no
    numbers of a column, none is bold.

    On the page, a model's name links to its report, and each number to the section of its task: <model>.html
    in --reports. --with-reports writes these files (like `rmbench report MODEL`, all records on one page). If
    --reports is a folder, models with a file there have links; if it is an address, all models have.

    \b
    Examples:
      rmbench leaderboard                      # all boards, into leaderboards/
      rmbench leaderboard main --out site      # one board, elsewhere
      rmbench leaderboard main --with-reports --out site
      rmbench leaderboard main --reports https://example.org/rm/reports
      rmbench leaderboard main --latex > table.tex
      rmbench leaderboard --check              # in CI: do the committed boards follow from the records?
    """
    from rmbench.boards import render_board
    from rmbench.boards.page import report_links
    from rmbench.core.digits import same_text
    from rmbench.core.files import write_atomic

    made, runs = _boards(boards, boards_dir, results, out, keep=not check_only)
    stale: list[str] = []

    def put(path: Path, content: str) -> None:
        if not check_only:
            write_atomic(path, content)
        elif not path.is_file() or not same_text(path.read_bytes().decode("utf-8", "replace"), content):
            stale.append(str(path))

    # Pages, then boards, are all made before the first is written: an error leaves the folder as it was.
    for path, page in list(_reports(made, runs, reports, out)) if with_reports else ():
        put(path, page)
    own: dict[str, str] = {}
    for board in made:
        links = report_links(board, reports, out)
        if reports is not None or with_reports:
            n_linked = sum(column == "" for _, column in links)
            click.echo(
                f"{board.spec.name}: {n_linked} of {len(board.rows)} models link to a report", err=True
            )
        own |= render_board(board, links)
    files = {out / name: content for name, content in own.items()}
    for path, content in files.items():
        put(path, content)
    if output != "text" or not check_only:
        _show(made, own, output, out)
    if stale:
        raise RunError(f"out of date: {', '.join(stale)}; run `rmbench leaderboard` and commit the result")
    if check_only:
        click.echo(f"{len(made)} boards are up to date", err=True)


def _show(made: Sequence["Leaderboard"], files: Mapping[str, str], output: str, out: Path) -> None:
    """Print the boards: fitted to the terminal, or as one of their files."""
    from rmbench.boards.render import terminal_block

    if output == "text":
        print_blocks([terminal_block(board, out) for board in made])
        return
    for board in made:
        click.echo(files[f"{board.spec.name}.{_ENDS[output]}"], nl=output == "markdown")


def _boards(
    names: Sequence[str], boards_dir: Path | None, results: Path, out: Path, *, keep: bool
) -> tuple[list["Leaderboard"], list["Run"]]:
    """Return the named boards (all without a name), and all records; `keep` influence that is measured."""
    from rmbench.boards import list_boards, load_board, make_board
    from rmbench.boards.board import require_none_emptied, require_rows
    from rmbench.boards.definition import board_folder
    from rmbench.results.read import runs_at, with_tasks_of
    from rmbench.tasks.spec import list_tasks

    folder = boards_dir or board_folder()
    list_tasks()  # a folder without tasks is an error, even if the records hold the tasks
    known = list_boards(folder)
    wanted = names or known
    runs = [replace(run, keeps_influence=keep) for run in runs_at(results)]
    with with_tasks_of(runs):
        specs = [load_board(folder, name) for name in wanted]
    made = [make_board(spec, runs) for spec in specs]
    asked = made if names else [max(made, key=lambda board: (len(board.rows), len(board.left_out)))]
    for board in asked:
        require_rows(board)
    require_none_emptied(made, out)
    for board in made:
        if not board.rows:
            click.echo(f"{board.spec.name}: it is empty, no record is of its tasks", err=True)
    return made, runs


def _reports(
    boards: Sequence["Leaderboard"], runs: Sequence["Run"], reports: str | None, out: Path
) -> Iterator[tuple[Path, str]]:
    """Yield the path and the page of each model of the boards."""
    from rmbench.boards.page import REPORTS, report_file
    from rmbench.core.progress import Bar
    from rmbench.report.numbers import sections_of
    from rmbench.report.page import make_report
    from rmbench.results.run import shown_name

    if reports is not None and "://" in reports:
        raise ConfigError(f"--with-reports writes pages into a folder; --reports {reports} is an address")
    folder = out / REPORTS if reports is None else Path(reports)
    shown: dict[str, set[str]] = {}
    for row in (row for board in boards for row in board.rows):
        shown.setdefault(row.model, set()).update(cell.run_id for cell in row.cells.values())
    with Bar("reports", "models") as bar:
        for n, (model, on_board) in enumerate(shown.items()):
            bar.step(n, len(shown), model)
            own = [run for run in runs if shown_name(run, runs) == model]
            own.sort(key=lambda run: run.record.run_id not in on_board)  # links lead to what the board shows
            name = report_file(model)
            command = ["rmbench", "report", *(str(run.path) for run in own), "--out", name]
            report = make_report(sections_of(own), n_items=ITEMS, data={}, command=command)
            yield folder / name, report.html
