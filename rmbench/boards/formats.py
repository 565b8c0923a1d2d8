"""How a board is written, for those who have one in the hand."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from rmbench.files import write_atomic

if TYPE_CHECKING:
    from rmbench.boards.board import Board


class BoardFormats:
    """Methods that give a board as text. Rendering knows boards, so it is imported when it is used."""

    __slots__ = ()

    def to_markdown(self) -> str:
        """Return the board as `rmbench leaderboard` writes and prints it."""
        return self._files()[".md"]

    def to_csv(self) -> str:
        """Return the board as CSV, with columns for the ends of intervals."""
        return self._files()[".csv"]

    def to_latex(self) -> str:
        """Return the board's table for a paper (package booktabs), with caption and label."""
        return self._files()[".tex"]

    def to_html(self) -> str:
        """Return the board as a page: one file that opens from disk and asks no network."""
        return self._files()[".html"]

    def save(self, folder: Path | str) -> None:
        """Write the board into `folder` in all its formats."""
        for suffix, content in self._files().items():
            write_atomic(Path(folder) / f"{self._board().spec.name}{suffix}", content)

    def _repr_html_(self) -> str:
        """Return the table as notebooks show it; `to_html` is the whole page."""
        from rmbench.boards.render import board_table

        return board_table(self._board())

    def __str__(self) -> str:
        return self.to_markdown()

    def _board(self) -> "Board":
        return cast("Board", self)

    def _files(self) -> dict[str, str]:
        from rmbench.boards.render import render_board

        board = self._board()
        return {name.removeprefix(board.spec.name): text for name, text in render_board(board).items()}
