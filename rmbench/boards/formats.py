"""A board for those who have one in the hand: it gives itself as text, page and files."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from rmbench.boards.board import Board
from rmbench.boards.render import board_table, render_board
from rmbench.files import write_atomic


@dataclass(frozen=True, slots=True)
class Leaderboard(Board):
    """A board with the formats that `rmbench leaderboard` writes."""

    @classmethod
    def of(cls, board: Board) -> Self:
        """Return a board with its formats."""
        return cls(**{field.name: getattr(board, field.name) for field in fields(board)})

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
            write_atomic(Path(folder) / f"{self.spec.name}{suffix}", content)

    def _repr_html_(self) -> str:
        """Return the table as notebooks show it; `to_html` is the whole page."""
        return board_table(self)

    def __str__(self) -> str:
        return self.to_markdown()

    def _files(self) -> dict[str, str]:
        return {name.removeprefix(self.spec.name): text for name, text in render_board(self).items()}
