"""Quality against cost: the board's score against tokens per second, and against parameters.

Both are the records' own numbers; a record that lacks them is not drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10
from typing import Any

from rmbench.boards.board import BoardRow, Leaderboard
from rmbench.core.digits import Digits
from rmbench.core.escape import one_line
from rmbench.format.pages import Scale, scale_of

WIDTH, HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 548, 12, 276
_LINE = 13
"""Height of a line of labels."""
_MANY = 15
"""Points above which only those of the frontier have labels; the others show their name under the pointer."""


@dataclass(frozen=True, slots=True)
class _Point:
    row: BoardRow
    value: float
    y: float
    machine: str
    """Values are comparable within one machine; empty for values that do not depend on it."""


def plots_of(board: Leaderboard) -> list[dict[str, Any]]:
    """Return the two plots for the template; a plot without points only says what is missing."""
    return [
        _plot(
            board,
            title="Score against speed",
            x_label="tokens per second, of the machine that made the record",
            find=_speed,
            more=True,
            missing="their records have no speed: rewards came from the store, the model counts no tokens, "
            "or the results are published ones",
            note="Speeds are those of the records, by processor kind; two machines of one kind may differ.",
        ),
        _plot(
            board,
            title="Score against size",
            x_label="parameters",
            find=_size,
            more=False,
            missing="their records do not say how many parameters the model has",
            note="",
        ),
    ]


def _speed(row: BoardRow) -> tuple[float, str] | None:
    """Return the speed over the most tokens, and its machine."""
    found = [cell.facts for cell in row.cells.values() if cell.facts.tokens_per_s]
    best = max(found, key=lambda f: (f.tokens, f.tokens_per_s or 0.0), default=None)
    return (best.tokens_per_s, best.machine) if best and best.tokens_per_s else None


def _size(row: BoardRow) -> tuple[float, str] | None:
    found = [cell.facts.parameters for cell in row.cells.values() if cell.facts.parameters]
    return (float(max(found)), "") if found else None


def _plot(
    board: Leaderboard,
    *,
    title: str,
    x_label: str,
    find: Callable[[BoardRow], tuple[float, str] | None],
    more: bool,
    missing: str,
    note: str,
) -> dict[str, Any]:
    """Return one plot. `more`: a larger x is better."""
    ranked = [row for row in board.rows if row.score is not None]
    points = [
        _Point(row, found[0], row.score.value, found[1])
        for row in ranked
        if row.score is not None and (found := find(row)) is not None
    ]
    left_out = len(ranked) - len(points)
    plot: dict[str, Any] = {
        "title": title,
        "x_label": x_label,
        "missing": f"{left_out} of {len(ranked)} ranked models are not drawn: {missing}." if left_out else "",
        "note": note if points else "",
        "points": [],
    }
    if not points:
        return plot
    y = scale_of(board.estimates("score"))
    x = _log_scale([p.value for p in points])
    best = _frontier(points, more)
    return plot | {
        "bar": _best_shortcut(ranked, y),
        "points": _marks(points, x, y, best, board.digits("score")),
        "frontiers": [
            _steps([p for p in best if p.machine == m], x, y) for m in sorted({p.machine for p in best})
        ],
        "x_ticks": [{"at": _x(x, 10.0**n), "text": _power(n)} for n in range(ceil(x.low), floor(x.high) + 1)],
        "y_ticks": [{"at": _y(y, v), "text": text} for v, text in _ticks(y)],
    }


def _best_shortcut(ranked: Sequence[BoardRow], y: Scale) -> dict[str, Any] | None:
    """Return the line of the best shortcut; `ranked` is by falling score."""
    row = next((row for row in ranked if row.shortcut), None)
    if row is None or row.score is None:
        return None
    return {"at": _y(y, row.score.value), "text": f"best shortcut: {one_line(row.model, 30)}"}


def _log_scale(values: Sequence[float]) -> Scale:
    """Return a scale of base-10 logarithms that holds the values and at least one whole decade."""
    return Scale(float(floor(min(map(log10, values)))), float(floor(max(map(log10, values))) + 1))


def _x(scale: Scale, value: float) -> float:
    return round(_LEFT + scale.share(log10(value)) * (_RIGHT - _LEFT), 1)


def _y(scale: Scale, value: float) -> float:
    return round(_BOTTOM - scale.share(value) * (_BOTTOM - _TOP), 1)


def _frontier(points: Sequence[_Point], more: bool) -> list[_Point]:
    """Return the points that no point of the same machine beats in both numbers, by rising x.

    Shortcuts, contaminated models and scores on fewer items beat nobody, and are not on it.
    """
    fair = [p for p in points if not (p.row.shortcut or p.row.contaminated or p.row.partial)]
    sign = 1.0 if more else -1.0

    def beaten(p: _Point) -> bool:
        return any(
            o.machine == p.machine
            and sign * o.value >= sign * p.value
            and o.y >= p.y
            and (o.value != p.value or o.y > p.y)
            for o in fair
        )

    return sorted((p for p in fair if not beaten(p)), key=lambda p: (p.value, p.y))


def _steps(points: Sequence[_Point], x: Scale, y: Scale) -> str:
    """Return the path of a frontier as stairs, by rising x."""
    places = [(_x(x, p.value), _y(y, p.y)) for p in points]
    parts = [f"M{places[0][0]} {places[0][1]}"]
    for (_, before), (at_x, at_y) in pairwise(places):
        # The corner lies at the lower score of the two (y grows downwards).
        parts.append(f"H{at_x}V{at_y}" if at_y < before else f"V{at_y}H{at_x}")
    return "".join(parts)


def _marks(
    points: Sequence[_Point], x: Scale, y: Scale, best: Sequence[_Point], digits: Digits
) -> list[dict[str, Any]]:
    """Return the points by falling score, with labels that do not overlap."""
    on = {id(p) for p in best}
    taken: list[tuple[float, float]] = []
    marks = []
    for p in sorted(points, key=lambda p: (-p.y, p.value, p.row.model)):
        at_x, at_y = _x(x, p.value), _y(y, p.y)
        low, high = p.row.score.ci95 or (p.y, p.y) if p.row.score else (p.y, p.y)
        label, text_y = "", at_y + 4
        if len(points) <= _MANY or id(p) in on:
            label = one_line(p.row.model, 30)
            while any(abs(text_y - other) < _LINE and abs(at_x - beside) < 170 for beside, other in taken):
                text_y = round(text_y + 1, 1)
            taken.append((at_x, text_y))
        left = at_x > (_LEFT + _RIGHT) / 2
        marks.append(
            {
                "x": at_x,
                "y": at_y,
                "low": _y(y, low),
                "high": _y(y, high),
                "kind": "shortcut" if p.row.shortcut else "contaminated" if p.row.contaminated else "model",
                "label": label,
                "label_x": round(at_x + (-9 if left else 9), 1),
                "label_y": round(text_y, 1),
                "anchor": "end" if left else "start",
                "title": _told(p, digits),
            }
        )
    return marks


def _told(p: _Point, digits: Digits) -> str:
    return f"{one_line(p.row.model, 200)}: score {digits.write(p.y)}, {p.value:,.0f} {p.machine}".strip()


def _ticks(scale: Scale) -> list[tuple[float, str]]:
    """Return round values within a scale, four to ten of them."""
    step = 10.0 ** floor(log10((scale.high - scale.low) / 2))
    step = next(s for s in (step, step / 2, step / 5) if (scale.high - scale.low) / s >= 4 or s == step / 5)
    digits = max(0, -floor(log10(step)))
    first = ceil(scale.low / step)
    return [(n * step, f"{n * step:.{digits}f}") for n in range(first, floor(scale.high / step) + 1)]


def _power(n: int) -> str:
    names = {3: "thousand", 6: "million", 9: "billion", 12: "trillion"}
    if n < 3:
        return f"{10.0**n:g}"
    base = min(n // 3 * 3, 12)
    return f"{10 ** (n - base)} {names[base]}"
