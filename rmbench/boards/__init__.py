"""Leaderboards: a pure function of board definition and records."""

from rmbench.boards.board import Board, Cell, Row, make_board
from rmbench.boards.definition import BoardSpec, ColumnSpec, list_boards, load_board
from rmbench.boards.render import Leaderboard, render_board

__all__ = [
    "Board",
    "BoardSpec",
    "Cell",
    "ColumnSpec",
    "Leaderboard",
    "Row",
    "list_boards",
    "load_board",
    "make_board",
    "render_board",
]
