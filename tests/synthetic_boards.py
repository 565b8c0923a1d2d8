"""Boards made up for tests of pages: large ones, and ones whose every text is hostile."""

from pathlib import Path

from rmbench.boards import BoardCell, BoardRow, BoardSpec, ColumnSpec, Leaderboard
from rmbench.results.run import Facts
from rmbench.tasks.spec import load_task
from rmbench.types import Estimate

HOSTILE = (
    "<script>document.title='owned'</script>",
    "\"><img src=x onerror=document.title='owned'>",
    "' onmouseover='document.title=1' x='",
    "a | b | `c` [d](javascript:alert(1)) *e*",
    "=cmd|' /C calc'!A0",
    "\u202egnp.exe\u202c left \u200f right",
    "</script></style></title><h1>owned</h1>",
    "{{ 7 * 7 }}{% raw %}",
    "long" * 2500,
    "&lt;b&gt; &amp; \x00\x1b[31m\ud800",
)
KINDS = ("preference", "best_of_n", "calibration")


def estimate(value: float, half: float = 0.02, *, higher: bool = True) -> Estimate:
    interval = (value - half, value + half)
    return Estimate(
        value=value, ci95=interval, stderr=half / 2, n=900, n_clusters=300, higher_is_better=higher
    )


def facts(n: int, **changes: object) -> Facts:
    values = {
        "command": f"rmbench eval --model org/model-{n} --task preference",
        "tokens_per_s": None if n % 5 == 4 else 900.0 * 1.7 ** (n % 11),
        "tokens": 10_000,
        "machine": "x86_64",
        "parameters": None if n % 7 == 6 else 10_000_000 * (1 + n % 13),
        "self_gold": False,
    }
    return Facts(**{**values, **changes})  # type: ignore[arg-type]


def spec(n_columns: int, *, title: str = "A made-up board", name: str = "made-up") -> BoardSpec:
    task = load_task("preference")
    columns = tuple(ColumnSpec(f"c{k}", task, "accuracy", f"column {k}") for k in range(n_columns))
    return BoardSpec(
        name, title, "For tests.", columns, tuple(c.id for c in columns[:2]), Path("made-up.yaml")
    )


def synthetic(n_models: int = 12, n_columns: int = 6, names: tuple[str, ...] = ()) -> Leaderboard:
    """Return a board: every third model of the first nine is a shortcut, the second is contaminated."""
    board_spec = spec(n_columns)
    per_group = max(1, n_columns // len(KINDS))
    kinds = {c.id: KINDS[min(k // per_group, 2)] for k, c in enumerate(board_spec.columns)}
    rows = []
    for n in range(n_models):
        value = 0.9 - 0.5 * n / n_models
        cells = {
            c.id: BoardCell(
                # Neither in the order of the rows nor in that of the column before.
                estimate((value + 0.37 * k + 0.11 * (n * (k + 3) % 7)) % 1.0, higher=kinds[c.id] != KINDS[2]),
                f"{n * n_columns + k:016x}",
                0,
                0,
                3 if n == 1 and k == 0 else 0,
                facts(n),
                "ab" if n % 2 else "a",
            )
            for k, c in enumerate(board_spec.columns)
            if (n + k) % 23 != 22
        }
        ranked = "c0" in cells
        rows.append(
            BoardRow(
                model=names[n] if n < len(names) else f"org/model-{n}",
                shortcut=n < 9 and n % 3 == 2,
                cells=cells,
                undefined={c.id: "every margin is 0" for c in board_spec.columns if c.id not in cells},
                score=estimate(value) if ranked else None,
                rank=n + 1 if ranked else None,
                rank_range=(max(1, n - 1), min(n_models, n + 3)) if ranked else None,
                group="ab" if ranked else "",
            )
        )
    metrics = {c.id: "accuracy" for c in board_spec.columns}
    sizes = {c.id: (900, 300) for c in board_spec.columns}
    return Leaderboard(board_spec, tuple(rows), metrics, kinds, sizes, (), ())
