"""A board's LaTeX: every number of the board, bold by the tests alone, hostile names as text."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from strict_latex import read_latex
from synthetic_boards import HOSTILE, spec, synthetic

from rmbench.boards import Leaderboard
from rmbench.boards.render import render_board
from rmbench.boards.separation import Standing, better_of, column_standings, standings
from rmbench.cli.main import run
from rmbench.core.digits import same_text
from rmbench.core.escape import one_line
from rmbench.stats import Statistic, mean

ROOT = Path(__file__).resolve().parents[2]
BOARDS = sorted(path.stem for path in (ROOT / "leaderboards").glob("*.yaml"))


def different(k: int, *pairs: tuple[int, int]) -> np.ndarray:
    found = np.zeros((k, k), dtype=bool)
    for i, j in pairs:
        found[i, j] = found[j, i] = True
    return found


def standing_of(apart: np.ndarray) -> list[Standing]:
    return standings(apart, better_of(apart, {}))


def test_who_leads_by_hand() -> None:
    # The second is not told from the first though the third, which is, is not told from the second.
    found = standing_of(different(3, (0, 2)))
    assert [(s.letters, s.leads) for s in found] == [("a", True), ("ab", True), ("b", False)]
    # Two are told apart below a best that is told from neither: none is behind it.
    assert [s.leads for s in standing_of(different(3, (1, 2)))] == [False] * 3
    assert [s.leads for s in standing_of(different(2))] == [False, False]
    assert [s.leads for s in standing_of(different(1))] == [False]
    assert standing_of(different(0)) == []


def test_the_best_is_the_smallest_where_lower_is_better() -> None:
    rng = np.random.default_rng(0)
    cells = {
        name: (replace(mean(rng.normal(at, 0.1, 50), np.arange(50), 50), higher_is_better=False), names)
        for name, at in (("worst", 2.0), ("best", 0.0), ("middle", 1.0))
        for names in [[f"p{k}" for k in range(50)]]
    }
    assert {name: s.leads for name, s in column_standings(cells).items()} == {
        "worst": False, "best": True, "middle": False,
    }  # fmt: skip
    blind: Statistic = replace(cells["best"][0], influence=None)
    assert column_standings({**cells, "blind": (blind, cells["best"][1])}) == {}, "no test, no standing"


def leading(board: Leaderboard) -> Leaderboard:
    """Let the first cell of each column lead."""
    first, *rest = board.rows
    cells = {c: replace(cell, leads=True) for c, cell in first.cells.items()}
    return replace(board, rows=(replace(first, cells=cells, leads=True), *rest))


def test_every_cell_has_its_number_interval_and_weight() -> None:
    board = leading(synthetic(30, 5))
    (table,) = read_latex(render_board(board)["made-up.tex"])
    assert table.label == "made-up"
    assert table.rows[0] == ["ranks", "rank", "model", "score", "group", *(f"column {k}" for k in range(5))]
    for row, read in zip(board.rows, table.rows[1:], strict=True):
        assert read[2] == f"{row.model} (shortcut)" if row.shortcut else row.model
        for column, shown in zip(board.spec.columns, read[5:], strict=True):
            cell = row.cells.get(column.id)
            if cell is None:
                assert shown == "--"
                continue
            assert cell.estimate.ci95 is not None
            low, high = cell.estimate.ci95
            value = f"{cell.estimate.value:.3f}"
            value = rf"\mathbf{{{value}}}" if cell.leads else value
            mark = "†" if cell.trained_on else ""
            assert shown == f"${value}_{{{low:.3f}}}^{{{high:.3f}}}${mark}"
    assert sum(r"\mathbf" in cell for row in table.rows[1:] for cell in row) == 6
    assert "Bold: not told apart from the best of its column" in table.caption
    assert "column 0: accuracy of task preference" in table.notes
    assert "†: the model was trained on prompts" in table.notes


def test_hostile_names_are_text_and_what_is_left_out_is_counted() -> None:
    board = synthetic(len(HOSTILE), 3, HOSTILE)
    board = replace(
        board,
        spec=replace(spec(3), title="100% \\input{/etc/passwd} #1_x^2"),
        left_out=("a: --limit 5", "b: other data"),
    )
    (table,) = read_latex(render_board(board)["made-up.tex"])
    assert table.caption.startswith("100% \\input{/etc/passwd} #1_x^2. Score: ")
    shown = [row[2].removesuffix(" (shortcut)") for row in table.rows[1:]]
    for name, read in zip(HOSTILE, shown, strict=True):
        whole = one_line(name)
        assert read == whole or (read.endswith("…") and whole.startswith(read[:-1]))
    assert "Records left out: 2, see made-up.md" in table.notes


@pytest.mark.parametrize("name", BOARDS)
def test_bold_is_what_the_letters_say_on_the_committed_boards(name: str) -> None:
    (table,) = read_latex((ROOT / "leaderboards" / f"{name}.tex").read_text(encoding="utf-8"))
    board = json.loads((ROOT / "leaderboards" / f"{name}.json").read_text(encoding="utf-8"))
    groups = [row["group"] for row in board["rows"]]
    group_place, rank_place = (table.rows[0].index(head) for head in ("group", "rank"))
    assert [row[group_place].replace("--", "") for row in table.rows[1:]] == groups
    best = set(groups[0])
    # Fewer than 26 groups: each letter is one.
    some = any(group and not best & set(group) for group in groups)
    for group, row in zip(groups, table.rows[1:], strict=True):
        assert (r"\mathbf" in row[3]) == (some and bool(best & set(group)))
    ranks = [int(row[rank_place].split()[0]) for row in table.rows[1:] if row[rank_place] not in ("--", "–")]
    assert all(a <= b for a, b in pairwise(ranks))


def test_check_covers_it_and_it_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["leaderboard", "main", "--boards-dir", str(ROOT / "leaderboards"), "--out", str(tmp_path)]
    base += ["--results", str(ROOT / "results")]
    assert run([*base, "--latex"]) == 0
    assert capsys.readouterr().out == (tmp_path / "main.tex").read_text(encoding="utf-8")
    committed = (ROOT / "leaderboards" / "main.tex").read_text(encoding="utf-8")
    assert same_text((tmp_path / "main.tex").read_text(encoding="utf-8"), committed)
    path = tmp_path / "main.tex"
    path.write_text(path.read_text(encoding="utf-8").replace("mathbf", "mathrm", 1), encoding="utf-8")
    assert run([*base, "--check"]) == 1
    error = capsys.readouterr().err
    assert "main.tex" in error
    assert "main.md" not in error
