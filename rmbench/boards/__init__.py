"""Leaderboards: a pure function of board definition and records."""

from rmbench.boards.board import BoardCell, BoardRow, Leaderboard, make_board
from rmbench.boards.definition import BoardSpec, ColumnSpec, list_boards, load_board
from rmbench.boards.render import render_board

__all__ = [
    "BoardCell",
    "BoardRow",
    "BoardSpec",
    "ColumnSpec",
    "Leaderboard",
    "list_boards",
    "load_board",
    "make_board",
    "render_board",
]
