"""Task files: every shipped one is sound, and a wrong one stops with file and key."""

import os
from pathlib import Path

import pytest
import yaml

from rmbench.boards.definition import board_folder
from rmbench.cli.main import run
from rmbench.errors import ConfigError
from rmbench.metrics import KINDS
from rmbench.tasks import read_task_items
from rmbench.tasks.rows import READERS
from rmbench.tasks.spec import apply_params, list_tasks, load_task, parameter_help, parameter_names

ROOT = Path(__file__).resolve().parents[2]
PLANNED = {
    "preference", "calibration", "bon", "hh-harmless", "hh-helpful", "rm-bench", "judgebench", "pandalm",
    "rewardbench", "rewardbench2", "ppe-correctness", "alpacaeval-bon", "alpacaeval-calibration", "summeval-bon", "gsm8k-bon",
    "helpsteer2-preference", "helpsteer3", "ultrafeedback",
    "m-rewardbench", "reward-math", "rmb", "rag-rewardbench", "memory-rewardbench", "plan-rewardbench",
    "ppe-preference", "shp", "summarize", "webgpt", "pku-safe-rlhf",
}  # fmt: skip

SOUND = {
    "name": "mine",
    "version": 1,
    "kinds": ["preference", "calibration"],
    "summary": "A task.",
    "source": "https://example.org",
    "license": "MIT",
    "data": {"reader": "jsonl"},
    "primary": "accuracy",
}


def test_the_planned_tasks_are_there() -> None:
    assert set(list_tasks()) >= PLANNED


@pytest.mark.parametrize("name", sorted(PLANNED))
def test_every_task_names_its_source_licence_and_a_reader(name: str) -> None:
    spec = load_task(name)
    assert spec.source.startswith("https://")
    assert spec.license
    assert spec.data.reader in READERS.names()
    assert all(kind in KINDS.names() for kind in spec.kinds)
    assert all(line.count(": ") >= 1 for line in parameter_help(spec))
    if "preference" in spec.kinds:
        assert "calibration" in spec.kinds, "one record holds both"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nam": "x"}, "key 'nam'.*Did you mean 'name'"),
        ({"name": "other"}, "expected the file's stem 'mine'"),
        ({"version": 0}, "key 'version': 0; expected a whole number from 1"),
        ({"version": True}, "key 'version'"),
        ({"version": "1"}, "key 'version'"),
        ({"kinds": []}, "key 'kinds': empty"),
        ({"kinds": "preference"}, "expected a list of texts"),
        ({"kinds": ["preferense"]}, "Did you mean 'preference'"),
        ({"summary": " "}, "key 'summary'"),
        ({"license": None}, "key 'license'"),
        ({"data": {}}, "key 'reader' is missing"),
        ({"data": {"reader": "jsonl", "pth": "x"}}, "Did you mean 'path'"),
        ({"data": {"reader": "jsonl", "hub": "org/name"}}, "expected org/name@<40-hex commit>"),
        ({"data": {"reader": "jsonl", "hub": "org/name@main"}}, "expected org/name@<40-hex commit>"),
        ({"data": {"reader": "jsonl", "sha256": "abc"}}, "expected 64 hex digits"),
        ({"data": ["jsonl"]}, "expected a mapping"),
        ({"params": {"tie": "half"}}, "Did you mean 'ties'"),
        ({"params": {"ties": "whole"}}, "fractional, half, zero"),
        ({"params": {"bins": 1}}, "is 1; expected a whole number from 2"),
        ({"strata": "family"}, "expected a list of texts"),
        ({"sizes": {"items": 0}}, "key 'items': 0; expected a whole number from 1"),
        ({"sizes": {"items": "many"}}, "key 'items': 'many'; expected a whole number from 1 or 'about 8210'"),
        ({"sizes": [3]}, "expected a mapping"),
        ({"data": {"reader": "jsonl", "hub": ["org/name@main"]}}, "expected org/name@<40-hex commit>"),
        ({"data": {"reader": "jsonl", "hub": 3}}, "key 'hub': 3; expected org/name@<40-hex commit>"),
        ({"data": {"reader": "jsonl", "github": "org/name"}}, "key 'github': 'org/name'; expected org/name@"),
    ],
)
def test_a_wrong_task_file_stops_with_file_and_key(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**SOUND, **change}))
    with pytest.raises(ConfigError, match=rf"(?s)mine\.yaml.*{said}|{said}.*mine\.yaml"):
        load_task(str(path))


@pytest.mark.parametrize("key", list(SOUND))
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in SOUND.items() if k != key}))
    with pytest.raises(ConfigError, match=f"key '{key}' is missing"):
        load_task(str(path))


@pytest.mark.parametrize(
    "text", ["", "- a\n", "a: [", "name: mine\nname: mine\n", "a: !!python/object:os.system x"]
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_task(str(path))


def test_a_reader_nobody_registered_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**SOUND, "data": {"reader": "jsonll"}}))
    with pytest.raises(ConfigError, match=r"mine\.yaml, key 'reader'.*Did you mean 'jsonl'"):
        load_task(str(path))


def test_parameters_are_typed_and_change_the_digest() -> None:
    spec = load_task("preference")
    changed = apply_params(spec, {"bins": "20", "ties": "zero"})
    assert changed.params["bins"] == 20
    assert changed.digest() != spec.digest()
    assert apply_params(spec, {"bins": "15"}).digest() == spec.digest(), "the default, said aloud"
    assert {"ties", "convention", "bins", "invalid"} <= set(parameter_names(spec))


@pytest.mark.parametrize(
    ("task", "options", "said"),
    [
        ("preference", {"bin": "3"}, "Did you mean 'bins'"),
        ("preference", {"bins": "many"}, "is 'many'; expected a whole number"),
        ("bon", {"ties": "zero"}, "unknown parameter 'ties'"),
        ("alpacaeval-bon", {"adversarial": "maybe"}, "expected true or false"),
        ("alpacaeval-bon", {"mode": "pol"}, "Did you mean 'pool'"),
        ("summeval-bon", {"aspect": "coherense"}, "Did you mean 'coherence'"),
    ],
)
def test_wrong_parameters_are_named(task: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        apply_params(load_task(task), options)


def test_a_folder_of_ones_own_tasks_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SOUND))
    (tmp_path / "bon.yaml").write_text(yaml.safe_dump({**SOUND, "name": "bon"}))
    monkeypatch.setenv("RMBENCH_TASKS_DIR", str(tmp_path))
    assert "mine" in list_tasks()
    assert load_task("bon").kinds == ("preference", "calibration")
    monkeypatch.delenv("RMBENCH_TASKS_DIR")
    assert load_task("bon").kinds == ("best_of_n",)


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["absent"], "no tasks found in absent. Searched: absent (no such folder), "),
        (["empty"], "no tasks found in empty. Searched: empty (no *.yaml), "),
        (["mine", "empty"], "no tasks found in empty. Searched: mine (1 *.yaml), empty (no *.yaml), "),
        (["empty", "absent"], "no tasks found in empty, absent. Searched: "),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ["tasks"],
        ["tasks", "bon"],
        ["eval", "--model", "length", "--task", "bon"],
        ["eval", "--model", "length", "--task", "nothing-like-it"],
        ["leaderboard"],
    ],
    ids=" ".join,
)
def test_a_folder_without_tasks_is_an_error_that_names_all_that_were_searched(
    command: list[str],
    folders: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where the package has a task of that name: one's own of that name may be what was meant."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "task.yml").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.yaml").write_text(yaml.safe_dump(SOUND))
    monkeypatch.setenv("RMBENCH_TASKS_DIR", os.pathsep.join(folders))
    assert run(command) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert f"{ROOT / 'tasks'} ({len(list((ROOT / 'tasks').iterdir()))} *.yaml)" in printed.err
    assert "Set RMBENCH_TASKS_DIR" in printed.err


@pytest.mark.parametrize("command", [["tasks"], ["eval", "--model", "length", "--task", "bon"]], ids=" ".join)
def test_a_package_without_its_tasks_says_so_and_takes_no_stranger_s(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "site-packages" / "rmbench"
    package.mkdir(parents=True)
    monkeypatch.setattr("rmbench.core.yaml.PACKAGE", package)
    monkeypatch.chdir(tmp_path)
    stranger = package.parent / "tasks"  # another distribution's package of that name
    stranger.mkdir()
    (stranger / "bon.yaml").write_text(yaml.safe_dump({**SOUND, "name": "bon"}))
    assert run(command) == 2
    said = capsys.readouterr().err
    assert f"no tasks found in {package / '_tasks'}. Searched: " in said
    assert "install rmbench again" in said
    assert board_folder() == package / "_boards"
    (package.parent / "pyproject.toml").touch()  # a checkout
    assert list_tasks() == ["bon"]
    assert board_folder() == package.parent / "leaderboards"
    (package / "_tasks").mkdir()  # built
    (package / "_tasks" / "mine.yaml").write_text(yaml.safe_dump(SOUND))
    assert list_tasks() == ["mine"]


def test_every_task_but_the_embedded_says_how_large_it_is_and_most_at_which_commit() -> None:
    specs = [load_task(name) for name in list_tasks()]
    assert not [s.name for s in specs if not s.sizes]
    unpinned = {s.name for s in specs if not (s.data.path or s.data.hub or s.data.github)}
    # Pools put together by hand, and files whose commits could not be found: their tasks say so.
    assert unpinned == {"gsm8k-bon", "pm-bon", "processbench", "reward-math", "rewardbench-math"}


def test_a_size_that_is_not_known_exactly_says_so(tmp_path: Path) -> None:
    text = load_task("pku-safe-rlhf").path.read_text(encoding="utf-8")
    assert load_task("pku-safe-rlhf").size == "about 8,210 pairs"
    (tmp_path / "pku-safe-rlhf.yaml").write_text(text.replace("about 8210", "8211"), encoding="utf-8")
    assert load_task(str(tmp_path / "pku-safe-rlhf.yaml")).size == "8,211 pairs"


def test_data_in_a_repository_comes_with_the_commands_that_fetch_it(tmp_path: Path) -> None:
    spec = load_task("rmb")
    assert spec.data.github is not None
    name, _, commit = spec.data.github.partition("@")
    with pytest.raises(ConfigError) as raised:
        read_task_items(spec, None)
    assert (
        f"git clone https://github.com/{name} && git -C RMB-Reward-Model-Benchmark checkout {commit}"
        in str(raised.value)
    )
