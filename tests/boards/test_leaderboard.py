"""Leaderboards: a pure function of definition and records, safe for hostile names."""

import csv
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rmbench.boards import load_board, make_board, render_board
from rmbench.boards.board import SHORTCUT_KIND, SHORTCUTS
from rmbench.cli.main import run
from rmbench.errors import ConfigError
from rmbench.models import MODELS
from rmbench.results.read import runs_at

BOARD = """
name: test
title: Test board
summary: A board for tests.
columns:
  - {id: accuracy, task: preference, metric: accuracy, label: accuracy}
  - {id: win, task: bon, metric: win_rate@max, label: win rate}
  - {id: ece, task: preference, metric: ece, label: ECE}
rank_by: [accuracy, win]
"""

BOARDS = sorted((Path(__file__).resolve().parents[2] / "leaderboards").glob("*.md"))
HOSTILE = "<script>alert(1)</script>|`x`[a](javascript:1)"


def write_items(path: Path, n: int = 60) -> list[dict[str, object]]:
    rng = random.Random(3)
    rows: list[dict[str, object]] = [
        {
            "id": f"i{k}",
            "prompt": f"question {k}",
            "responses": ["x" * rng.randint(1, 60) for _ in range(4)],
            "gold": [float(rng.randint(0, 4)) for _ in range(4)],
            "gold_kind": "graded",
        }
        for k in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of six models: an oracle, a good and its exact copy, chance, a baseline, one without bon."""
    folder = tmp_path_factory.mktemp("board")
    rows = write_items(folder / "items.jsonl")
    rng = random.Random(1)
    noise = {(r["id"], k): rng.gauss(0, 1) for r in rows for k in range(4)}

    def scores(name: str, weight: float) -> str:
        path = folder / f"{name}.jsonl"
        path.write_text(
            "".join(
                json.dumps(
                    {
                        "id": r["id"],
                        "rewards": [weight * g + noise[r["id"], k] for k, g in enumerate(r["gold"])],  # type: ignore[arg-type]
                    }
                )
                + "\n"
                for r in rows
            )
        )
        return f"scores:{path}"

    base = ["--data", str(folder / "items.jsonl"), "--results", str(folder / "results"), "-q"]
    both = ["-t", "preference", "-t", "bon"]
    store = ["--store", str(folder / "store")]
    assert run(["eval", "-m", "length", "-m", "random", *both, *base, *store]) == 0
    for name, weight in (("oracle", 50.0), ("good", 1.0)):
        assert run(["eval", "-m", scores(name, weight), *both, *base, *store]) == 0
    rewards = (folder / "good.jsonl").read_text()
    other = json.dumps({"id": "of no item", "rewards": [0.0]})  # the same rewards, and still another model
    (folder / "copy.jsonl").write_text(f"{rewards}{other}\n")
    copy = ["eval", "-m", f"scores:{folder}/copy.jsonl", "-M", f"name={HOSTILE}"]
    assert run([*copy, *both, *base, *store]) == 0
    assert run(["eval", "-m", "shortest", "-t", "preference", *base, *store]) == 0
    boards = folder / "boards"
    boards.mkdir()
    (boards / "test.yaml").write_text(BOARD)
    return folder


def regenerate(folder: Path, out: Path, *more: str, results: Path | None = None) -> int:
    return run(
        ["leaderboard", "--boards-dir", str(folder / "boards"), "--out", str(out), *more]
        + ["--results", str(results or folder / "results")]
    )


@pytest.fixture(scope="module")
def board(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("out")
    assert regenerate(made, out) == 0
    return dict(json.loads((out / "test.json").read_text()))


def row_of(board: dict[str, object], model: str) -> dict[str, object]:
    return next(r for r in board["rows"] if r["model"] == model)  # type: ignore[attr-defined]


def test_ranks_follow_the_mean_of_the_ranking_columns(board: dict[str, object]) -> None:
    rows = [r for r in board["rows"] if r["rank"] is not None]  # type: ignore[attr-defined]
    assert rows[0]["model"] == "oracle"
    for r in rows:
        mean = (r["cells"]["accuracy"]["value"] + r["cells"]["win"]["value"]) / 2
        assert r["score"]["value"] == pytest.approx(mean, abs=1e-10)
    values = [r["score"]["value"] for r in rows]
    assert values == sorted(values, reverse=True)


def test_equal_models_share_rank_and_group(board: dict[str, object]) -> None:
    good, copy = row_of(board, "good"), row_of(board, HOSTILE)
    assert (good["rank"], good["group"]) == (copy["rank"], copy["group"]) == (2, good["group"])


def test_clearly_different_models_share_no_letter(board: dict[str, object]) -> None:
    oracle, good, chance = (row_of(board, m)["group"] for m in ("oracle", "good", "random"))
    assert not set(oracle) & set(good)  # type: ignore[call-overload]
    assert not set(good) & set(chance)  # type: ignore[call-overload]
    assert row_of(board, "oracle")["rank_range"] == [1, 1]


def test_a_model_with_a_missing_task_is_listed_unranked(board: dict[str, object]) -> None:
    shortest = row_of(board, "shortest")
    assert shortest["rank"] is None
    assert shortest["score"] is None
    assert "accuracy" in shortest["cells"]  # type: ignore[operator]
    assert board["rows"][-1]["model"] == "shortest"  # type: ignore[index]


def test_baselines_are_marked(board: dict[str, object]) -> None:
    assert {r["model"] for r in board["rows"] if r["shortcut"]} == {"length", "random", "shortest"}  # type: ignore[attr-defined]


def test_shortcuts_that_have_no_rank_are_named(board: dict[str, object]) -> None:
    assert board["missing_shortcuts"] == ["shortest", "markdown", "constant"]


WITHOUT_SHORTCUTS = {
    "reward-math": "the published files hold no texts, so nothing can be said about length",
    "processbench": "three readings of one model, which ranks no models",
}


@pytest.mark.parametrize("path", BOARDS, ids=lambda p: p.stem)
def test_every_board_of_the_project_has_the_shortcut_rows(path: Path) -> None:
    missing = json.loads(path.with_suffix(".json").read_text())["missing_shortcuts"]
    assert bool(missing) == (path.stem in WITHOUT_SHORTCUTS)


def test_the_same_records_give_the_same_bytes_wherever_they_lie(made: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(made / "results", moved)
    assert regenerate(made, tmp_path / "a") == 0
    assert regenerate(made, tmp_path / "b", results=moved) == 0
    for name in ("test.md", "test.csv", "test.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_check_notices_one_byte(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert regenerate(made, tmp_path) == 0
    assert regenerate(made, tmp_path, "--check") == 0
    path = tmp_path / "test.csv"
    path.write_text(path.read_text().replace("0.", "1.", 1))
    capsys.readouterr()
    assert regenerate(made, tmp_path, "--check") == 1
    assert "test.csv" in capsys.readouterr().err
    assert "test.md" not in capsys.readouterr().err


def test_check_writes_nothing(made: Path, tmp_path: Path) -> None:
    results, out = tmp_path / "results", tmp_path / "out"
    shutil.copytree(made / "results", results)
    assert regenerate(made, out, results=results) == 0
    for path in results.rglob("*.influence.npz"):
        path.unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert regenerate(made, out, "--check", results=results) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_limited_run_is_left_out_and_named(made: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(made / "results", results)
    base = ["--data", str(made / "items.jsonl"), "--results", str(results), "-q"]
    assert run(["eval", "-m", "constant", "-t", "bon", "-t", "preference", "--limit", "5", *base]) == 0
    assert regenerate(made, tmp_path, results=results) == 0
    board = json.loads((tmp_path / "test.json").read_text())
    assert "constant" not in {r["model"] for r in board["rows"]}
    assert any("constant on bon" in line and "--limit 5" in line for line in board["left_out"])


def test_a_run_against_another_gold_is_left_out_and_named(made: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(made / "results", results)
    base = ["--data", str(made / "items.jsonl"), "--results", str(results), "-q"]
    assert run(["eval", "-m", "constant", "-t", "bon", "--gold", "shortest", *base]) == 0
    assert regenerate(made, tmp_path, results=results) == 0
    board = json.loads((tmp_path / "test.json").read_text())
    assert "constant" not in {r["model"] for r in board["rows"]}
    assert any("constant on bon" in line and "--gold shortest" in line for line in board["left_out"])


def test_hostile_names_are_only_text(made: Path, tmp_path: Path) -> None:
    assert regenerate(made, tmp_path) == 0
    markdown = (tmp_path / "test.md").read_text()
    assert "<script>" not in markdown
    assert "](javascript" not in markdown
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = {line.replace("\\|", "").count("|") for line in table}
    assert len(cells) == 1, "a name broke the table"
    with (tmp_path / "test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["model"] for r in rows} >= {"oracle", HOSTILE}


def test_a_metric_without_value_is_a_dash_with_its_reason(made: Path, tmp_path: Path) -> None:
    results, boards = tmp_path / "results", tmp_path / "boards"
    shutil.copytree(made / "results", results)
    boards.mkdir()
    (boards / "test.yaml").write_text(BOARD.replace("metric: ece,", "metric: ece_scaled,"))
    base = ["--data", str(made / "items.jsonl"), "--results", str(results), "-q"]
    assert run(["eval", "-m", "constant", "-t", "preference", "-t", "bon", *base]) == 0
    command = ["leaderboard", "--boards-dir", str(boards), "--out", str(tmp_path)]
    assert run([*command, "--results", str(results)]) == 0
    board = json.loads((tmp_path / "test.json").read_text())
    assert "ece" not in row_of(board, "constant")["cells"]  # type: ignore[operator]
    assert row_of(board, "constant")["rank"] is not None, "it does not rank by that column"
    assert board["undefined"] == ["no ECE for constant: every margin is 0"]
    assert "- no ECE for constant: every margin is 0" in (tmp_path / "test.md").read_text()
    assert "-0.000" not in (tmp_path / "test.md").read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("rank_by: [accuracy, win]", "rank_by: [accuracy, wins]"), "Did you mean 'win'?"),
        (("task: bon", "task: bonn"), "Did you mean 'bon'?"),
        (("metric: win_rate@max", "metric: win_rat@max"), "win_rat@max"),
        (("rank_by: [accuracy, win]", "rank_by: [ece]"), "cannot rank"),
        (("label: ECE", "lable: ECE"), "Did you mean 'label'?"),
        (("name: test", "name: tset"), "expected the file's stem 'test'"),
    ],
)
def test_a_wrong_definition_is_exit_code_2(
    made: Path, tmp_path: Path, change: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    boards = tmp_path / "boards"
    boards.mkdir()
    (boards / "test.yaml").write_text(BOARD.replace(*change))
    capsys.readouterr()
    code = run(
        ["leaderboard", "--boards-dir", str(boards), "--out", str(tmp_path / "out")]
        + ["--results", str(made / "results")]
    )
    assert code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["test", "--boards-dir", "empty"], "no boards found in empty. Searched: empty (no *.yaml). "),
        (["--boards-dir", "absent"], "no boards found in absent. Searched: absent (no such folder). "),
        (["--results", "empty"], "no record in empty; run `rmbench eval` first"),
        (
            ["main", "--results", "other"],
            "board 'main': no record is whole and of its tasks (preference, bon, ",
        ),
        (
            ["--results", "part"],
            "(preference, bon, calibration). Left out: length on bon (PART): --limit 3. Run ",
        ),
    ],
    ids=["no definition", "no folder", "no record", "of other tasks", "a sample"],
)
def test_a_board_without_models_is_an_error_and_is_not_written(
    command: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_items(tmp_path / "items.jsonl", 5)
    assert run(["eval", "-m", "length", "-t", "bon", "--limit", "3", "--results", "part", "-q"]) == 0
    (tmp_path / "task.yaml").write_text(
        "{name: task, version: 1, kinds: [preference], summary: s, source: s, license: s,"
        " data: {reader: jsonl}, primary: accuracy}"
    )
    other = ["-t", "task.yaml", "--data", "items.jsonl", "--results", "other"]
    assert run(["eval", "-m", "length", *other, "-q"]) == 0
    (part,) = (tmp_path / "part").rglob("*.json")
    capsys.readouterr()
    assert run(["leaderboard", *command]) == 2
    assert said.replace("PART", part.stem) in capsys.readouterr().err
    assert not (tmp_path / "leaderboards").exists()


def test_of_all_boards_the_empty_ones_are_named(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boards = tmp_path / "boards"
    boards.mkdir()
    (boards / "test.yaml").write_text(BOARD)
    (boards / "other.yaml").write_text(OF_JUDGEBENCH)
    command = ["leaderboard", "--boards-dir", str(boards), "--out", str(tmp_path / "out")]
    capsys.readouterr()
    assert run([*command, "--results", str(made / "results")]) == 0
    assert capsys.readouterr().err == "other: it is empty, no record is of its tasks\n"


OF_JUDGEBENCH = (
    BOARD.replace("name: test", "name: other").replace("preference", "judgebench").replace("bon", "judgebench")
    .replace("win_rate@max", "auroc_margin")
)  # fmt: skip


@pytest.mark.parametrize(
    ("more", "damage"),
    [
        ([], None), (["--check"], None), (["--with-reports"], "{"), (["--json"], "missing"), ([], "{"),
        (["--check"], "missing"),
    ],
    ids=str,
)  # fmt: skip
def test_a_board_with_models_is_never_replaced_by_an_empty_one(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], damage: str | None
) -> None:
    boards, out, results = tmp_path / "boards", tmp_path / "out", str(made / "results")
    boards.mkdir()
    command = ["leaderboard", "--boards-dir", str(boards), "--results", results, "--out", str(out)]
    (boards / "other.yaml").write_text(BOARD.replace("name: test", "name: other"))
    assert run(command) == 0
    # Now the other board's tasks are ones that no record is of, and there is a board that has records.
    (boards / "other.yaml").write_text(OF_JUDGEBENCH)
    (boards / "test.yaml").write_text(BOARD)
    if damage == "missing":
        (out / "other.json").unlink()
    elif damage is not None:
        (out / "other.json").write_text(damage)
    before = {path: path.read_bytes() for path in out.rglob("*")}
    for named in ([], ["other"], ["test", "other"]):
        capsys.readouterr()
        assert run([*command, *named, *more]) == 2
        assert capsys.readouterr().err.startswith("error: board 'other': no record is whole and of its tasks")
        assert {path: path.read_bytes() for path in out.rglob("*")} == before
    empty = out / "other.json"
    for path in out.glob("other.*"):
        path.unlink()
    for _ in range(2):  # an empty board may be written where none is, and again
        assert run(command) == 0
        assert json.loads(empty.read_text())["rows"] == []


def test_a_folder_without_records_leaves_all_boards_as_they_are(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert regenerate(made, tmp_path) == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "empty").mkdir()
    boards = ["--boards-dir", str(made / "boards"), "--out", str(tmp_path)]
    for place, said in (("empty", "no record in"), ("absent", "there is no file or folder")):
        for more in ([], ["test"], ["--check"]):
            capsys.readouterr()
            assert run(["leaderboard", *boards, *more, "--results", str(tmp_path / place)]) == 2
            assert said in capsys.readouterr().err
    (tmp_path / "empty").rmdir()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_in_python_too_an_empty_board_replaces_none_that_has_models(made: Path, tmp_path: Path) -> None:
    (tmp_path / "test.yaml").write_text(BOARD)
    runs = runs_at(made / "results")
    make_board(load_board(tmp_path, "test"), runs).save(tmp_path)
    with pytest.raises(ConfigError, match=r"test\.md has models"):
        make_board(load_board(tmp_path, "test"), []).save(tmp_path)
    assert len(json.loads((tmp_path / "test.json").read_text())["rows"]) == 6


@pytest.mark.parametrize(
    ("seen", "shown"), [(None, None), ({"exact": 0, "ngram": 0}, 0), ({"exact": 2, "ngram": 1}, 3)]
)
def test_prompts_trained_on_are_unknown_or_a_number(
    made: Path, tmp_path: Path, seen: dict[str, int] | None, shown: int | None
) -> None:
    (tmp_path / "test.yaml").write_text(BOARD)
    runs = [
        replace(run, record=replace(run.record, counts={**run.record.counts, "trained_on": seen}))
        for run in runs_at(made / "results")
    ]
    board = make_board(load_board(tmp_path, "test"), runs)
    cells = [
        cell for row in json.loads(render_board(board)["test.json"])["rows"] for cell in row["cells"].values()
    ]
    assert {cell["trained_on"] for cell in cells} == {shown}
    assert all(row.contaminated == bool(shown) for row in board.rows)


def test_the_committed_boards_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).resolve().parents[2]
    code = run(
        ["leaderboard", "--check", "--boards-dir", str(root / "leaderboards")]
        + ["--out", str(root / "leaderboards"), "--results", str(root / "results")]
    )
    assert code == 0, capsys.readouterr().err


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_a_board_says_nothing_twice(board: Path) -> None:
    lines = [line for line in board.read_text(encoding="utf-8").splitlines() if line.startswith("- ")]
    assert sorted(set(lines)) == sorted(lines)


def test_the_shortcuts_are_the_baselines_that_there_are() -> None:
    names = [name for name in MODELS if MODELS.source(name).startswith("rmbench.models.baselines:")]
    prints = [MODELS.get(name)().fingerprint() for name in names]
    assert {p["name"] for p in prints} == set(SHORTCUTS)
    assert {p["kind"] for p in prints} == {SHORTCUT_KIND}


def test_a_column_counts_once_in_the_ranking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test.yaml").write_text(
        BOARD.replace("rank_by: [accuracy, win]", "rank_by: [accuracy, accuracy]")
    )
    assert run(["leaderboard", "--boards-dir", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "key 'rank_by': 'accuracy' is given twice" in capsys.readouterr().err
