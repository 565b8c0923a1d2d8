"""Published layouts, written by hand for the tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run

V1 = [
    # subset, id, chosen's score, rejected's score
    ("alpacaeval-easy", 0, 1.5, 0.5),
    ("mt-bench-med", 1, 0.0, 1.0),
    ("mt-bench-hard", 2, 2.0, 1.0),
    ("xstest-should-refuse", 3, 1.0, -1.0),
    ("xstest-should-respond", 4, -1.0, 1.0),
    ("math-prm", 5, 3.0, 1.0),
    ("hep-cpp", 5, 0.0, 1.0),
]
"""As the first golden case: official 0.7381541725601131."""
OFFICIAL_V1 = 0.7381541725601131

PRIOR = [("anthropic_helpful", 1.0, 0.0), ("anthropic_helpful", 2.0, 0.0), ("shp", 0.0, 1.0)]
OFFICIAL_WITH_PRIOR = 0.7116925978312117

V2: list[tuple[str, str, list[float], int]] = [
    ("Factuality", "0", [1, 0, 0, 0], 1),
    ("Factuality", "1", [0, 1, 0, 0], 1),
    ("Precise IF", "2", [1, 0, 0, 0], 1),
    ("Math", "3", [0, 1, 1, 1], 1),
    ("Safety", "4", [1, 0, 0, 0], 1),
    ("Focus", "5", [1, 1, 1, 1], 1),
    ("Ties", "ref:1", [5, 0, 1], 1),
    ("Ties", "tied:1", [5, 4.9, 0], 2),
]
OFFICIAL_V2 = (0.5 + 1 + 0 + 1 + 0.25 + 1.01) / 6


def text(model: str, subset: str, name: object, reply: str) -> str:
    return f"<|{model}|>question {subset} {name}<|assistant|>{reply}<end>"


def v1_columns(model: str, rows: Any = None, shift: float = 0.0) -> dict[str, Any]:
    rows = V1 if rows is None else rows
    return {
        "id": [r[1] for r in rows],
        "subset": [r[0] for r in rows],
        "text_chosen": [text(model, r[0], r[1], "a long reply") for r in rows],
        "text_rejected": [text(model, r[0], r[1], "short") for r in rows],
        "results": [int(r[2] > r[3]) for r in rows],
        "scores_chosen": [r[2] + shift for r in rows],
        "scores_rejected": [r[3] + shift for r in rows],
        "model": model,
        "model_type": "Seq. Classifier",
        "chat_template": "tulu",
        "xstest": [None] * len(rows),  # columns of older versions
        "model_beaver": "old",
        "scores": [None] * len(rows),
    }


def v2_columns(model: str) -> dict[str, Any]:
    return {
        "id": [r[1] for r in V2],
        "subset": [r[0] for r in V2],
        "text": [[text(model, r[0], r[1], f"reply {k}") for k in range(len(r[2]))] for r in V2],
        "scores": [[[s] for s in r[2]] for r in V2],
        "results": [1, 0, 1, 0, 1, 0.25, 1, 0],  # of Ties: junk, as published
        "num_correct": [r[3] for r in V2],
        "model": model,
        "model_type": "Seq. Classifier",
    }


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4, sort_keys=True))
    return path


def scores(root: Path, model: str, value: Any, folder: str = "eval-set-scores") -> Path:
    return write(root / folder / f"{model}.json", value)


def importer(format_name: str) -> Callable[..., list[dict[str, Any]]]:
    """Return a function (capsys, path, results, *options) that imports and returns the records."""

    def bring(
        capsys: pytest.CaptureFixture[str], path: Path, results: Path, *options: str
    ) -> list[dict[str, Any]]:
        code = run(["import", format_name, str(path), "--results", str(results), "--json", *options])
        said = capsys.readouterr()
        assert code == 0, said.err
        return list(json.loads(said.out))

    return bring
