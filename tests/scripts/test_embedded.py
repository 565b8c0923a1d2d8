"""The embedded default set: gold recomputed from text, honest splits, a card that says what is there."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rmbench.core.files import iter_jsonl
from rmbench.gold.instruction import VERIFIERS, verify

pytestmark = pytest.mark.long

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "rmbench" / "_data" / "embedded"
SCRIPTS = REPO / "scripts" / "embedded"
N_REPLIES = 32


def _script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict[str, Any]]]:
    return {s: [row for _, row in iter_jsonl(FOLDER / f"{s}.jsonl.xz")] for s in ("train", "test")}


@pytest.fixture(scope="module")
def rows(splits: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return splits["train"] + splits["test"]


def test_every_gold_is_recomputed_from_the_text(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row["gold"] == [verify(reply, row["checks"]) for reply in row["responses"]], row["id"]


def test_rows_are_whole(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert len(row["responses"]) == len(row["gold"]) == len(row["tags"]) == N_REPLIES
        assert all(reply == reply.strip() != "" for reply in row["responses"])
        assert {tag["finish"] for tag in row["tags"]} <= {"stop", "length"}
        assert row["gold_kind"] == "graded"
        assert 2 <= len(row["checks"]) <= 5


def test_splits_share_no_prompt_and_balance_families(splits: dict[str, list[dict[str, Any]]]) -> None:
    ids = [row["id"] for rows in splits.values() for row in rows]
    prompts = [" ".join(row["prompt"].casefold().split()) for rows in splits.values() for row in rows]
    assert len(set(ids)) == len(ids) >= 300
    assert len(set(prompts)) == len(prompts)
    count = {s: dict.fromkeys({row["strata"]["family"] for row in rows}, 0) for s, rows in splits.items()}
    for split, rows in splits.items():
        assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
        for row in rows:
            count[split][row["strata"]["family"]] += 1
    assert len(count["train"]) == len(count["test"]) == 8
    assert all(abs(count["train"][f] - n) <= 1 and n >= 15 for f, n in count["test"].items())


def test_no_prompt_is_a_near_copy_of_another(rows: list[dict[str, Any]]) -> None:
    bags = [(row["id"], frozenset(row["prompt"].casefold().split())) for row in rows]
    close = [
        (left, right)
        for i, (left, a) in enumerate(bags)
        for right, b in bags[:i]
        if len(a & b) / len(a | b) >= 0.7
    ]
    assert close == []


def test_gold_varies_within_most_pools(rows: list[dict[str, Any]]) -> None:
    n_constant = sum(len(set(row["gold"])) == 1 for row in rows)
    assert n_constant <= 0.25 * len(rows)


def test_the_shipped_rows_hold_the_prompts_beside_the_script(rows: list[dict[str, Any]]) -> None:
    written = {row["id"]: row for _, row in iter_jsonl(SCRIPTS / "prompts.jsonl")}
    shipped = {
        row["id"]: {
            "id": row["id"],
            "family": row["strata"]["family"],
            "prompt": row["prompt"],
            "checks": row["checks"],
        }
        for row in rows
    }
    assert shipped == written
    assert {check["name"] for row in rows for check in row["checks"]} <= set(VERIFIERS.names())


def test_the_set_is_small_and_its_card_names_the_licences() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 4_000_000
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "Apache-2.0" in card
    assert "SmolLM2-135M-Instruct" in card


def test_the_card_holds_the_numbers_of_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = _script("dataset", monkeypatch)
    assert dataset.card_numbers(FOLDER) in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_script_writes_the_shipped_rows_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "embedded"
    shutil.copytree(FOLDER, out)
    card = (out / "README.md").read_text(encoding="utf-8")
    command = [sys.executable, str(SCRIPTS / "make.py"), "--regold", "--out", str(out)]
    subprocess.run(command, check=True, timeout=120)
    assert _script("dataset", monkeypatch).read_splits(out) == _script("dataset", monkeypatch).read_splits(
        FOLDER
    )
    # The size of an xz file depends on the library that wrote it; everything else is the same.
    again = (out / "README.md").read_text(encoding="utf-8")
    assert [line for line in again.split("\n") if "bytes" not in line] == [
        line for line in card.split("\n") if "bytes" not in line
    ]
