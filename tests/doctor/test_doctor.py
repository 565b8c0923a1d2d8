"""`rmbench doctor`: what a bug report needs, without secrets, on any installation."""

import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run
from rmbench.core.options import parameters_of
from rmbench.core.versions import installed_version
from rmbench.doctor import folders, packages, settings
from rmbench.models.memory import all_memory, container_limit, free_memory
from rmbench.sampling.policy import Decoding
from rmbench.train.settings import TrainSettings

ROOT = Path(__file__).resolve().parents[2]
FOR_WORK_ON_RMBENCH = {"all", "bench", "docs", "dev"}


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(["doctor", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def text(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["doctor", *arguments]) == 0
    return capsys.readouterr().out


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the extra hf: an import of torch or transformers fails."""

    def version(name: str) -> str | None:
        return None if name in ("torch", "transformers") else installed_version(name)

    for name in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    for module in ("machine", "packages"):
        monkeypatch.setattr(f"rmbench.doctor.{module}.installed_version", version)


def test_a_whole_installation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import torch

    found = report(capsys, "--results", str(tmp_path))
    assert found["packages"]["torch"] == torch.__version__
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert found["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert {extra["name"]: extra["missing"] for extra in found["extras"]}["hf"] == []
    assert found["problems"] == []


def test_it_works_without_torch_and_names_the_extra(
    without_torch: None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report(capsys)
    assert found["machine"]["threads"] is None
    lacks = {extra["name"]: (extra["missing"], extra["install"]) for extra in found["extras"]}
    assert lacks["hf"] == (["torch", "transformers"], "pip install 'rmbench[hf]'")
    assert lacks["train"] == (["torch", "transformers"], "pip install 'rmbench[train]'")
    assert lacks["verifiers"] == ([], "")
    assert found["problems"] == [], "a missing extra is no problem"
    printed = text(capsys)
    assert "torch is missing, transformers is missing: pip install 'rmbench[hf]'" in printed
    assert "no problem was found" in printed


def test_a_library_that_does_not_import_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (problem,) = report(capsys)["problems"]
    assert problem.startswith("torch: ")
    assert problem.endswith("it is installed but does not import; install it again")


def test_a_version_that_is_too_old_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "rmbench.doctor.packages.installed_version",
        lambda name: "1.2" if name == "matplotlib" else installed_version(name),
    )
    assert "matplotlib 1.2 (needs >=3.8); pip install --upgrade 'rmbench[plot]'" in report(capsys)["problems"]


def test_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(packages.EXTRAS) == set(project["optional-dependencies"]) - FOR_WORK_ON_RMBENCH


def test_variables_are_those_that_options_read() -> None:
    read = {
        parameter.option.env
        for options in (Decoding, TrainSettings)
        for parameter in parameters_of(options).values()
        if parameter.option.env
    }
    assert read <= settings.OWN
    assert "RMBENCH_STORE" in settings.OWN


def test_no_secret_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_hidden1")
    monkeypatch.setenv("https_proxy", "http://me:hidden2@proxy:1")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example/hidden3")
    monkeypatch.setenv("RMBENCH_KEY", "hidden4")
    for printed in (text(capsys), json.dumps(report(capsys))):
        assert "hidden" not in printed
        assert "HF_TOKEN" in printed
    assert report(capsys)["settings"]["HTTPS_PROXY"] == "(set)"


def test_home_and_user_name_are_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home = tmp_path / "people" / "mary"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", "mary")
    monkeypatch.setenv("RMBENCH_STORE", str(tmp_path / "scratch" / "mary" / "scores"))
    found = report(capsys, "--results", str(home / "results"))
    assert "mary" not in json.dumps(found)
    paths = {folder["what"]: folder["path"] for folder in found["folders"]}
    assert paths["results"] == "~/results"
    assert paths["score stores"].endswith("/scratch/USER/scores")
    assert "mary" not in text(capsys, "--results", str(home / "results"))
    # A folder beside home whose name begins alike is another one.
    other = report(capsys, "--results", str(tmp_path / "people" / "mary-ann"))
    assert other["folders"][0]["path"].endswith("people/mary-ann")


def test_settings_that_are_refused_or_not_read_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("RMBENCH_DTYPE", "float61")
    monkeypatch.setenv("RMBENCH_TASKS_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("RMBENCH_STOER", "x")
    found = report(capsys)
    assert found["problems"][0].startswith("RMBENCH_DTYPE: unknown dtype 'float61'")
    assert "RMBENCH_TASKS_DIR" in found["problems"][1]
    assert "RMBENCH_STORE?" in found["settings"]["RMBENCH_STOER"]


def test_offline_flags(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("RMBENCH_OFFLINE", raising=False)
    assert report(capsys)["offline"]["rmbench"] is False
    monkeypatch.setenv("RMBENCH_OFFLINE", "1")
    assert report(capsys)["offline"]["rmbench"] is True
    assert "offline       yes: rmbench" in text(capsys)


def test_folders_are_counted_and_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "one").write_bytes(bytes(1_000))
    (tmp_path / "two").write_bytes(bytes(500))
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    found = folders.look("results", tmp_path, "--results")
    assert (found.files, found.size, found.whole, found.problem) == (2, 1_500, True, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "two"], "the trial left something"

    (tmp_path / "file").write_text("x")
    told = report(capsys, "--results", str(tmp_path / "file" / "results"))
    assert told["problems"][0].startswith("--results ")
    assert "cannot be written" in text(capsys, "--results", str(tmp_path / "file" / "results"))
    assert "not there yet, can be made" in text(capsys, "--results", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_folder_of_very_many_files_is_not_counted_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(folders, "MOST_FILES", 2)
    for name in "abc":
        (tmp_path / name).write_text("")
    found = folders.look("results", tmp_path, "--results")
    assert (found.files, found.whole) == (2, False)
    assert "more than 2 files" in text(capsys, "--results", str(tmp_path))


def test_memory_is_that_of_this_machine() -> None:
    assert 0 < free_memory() < all_memory()
    limit = container_limit()
    assert limit is None or limit < all_memory()
