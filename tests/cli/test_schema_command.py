"""`rmbench schema`: shipped files fit their schema, wrong ones do not, and editors get help and choices."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from rmbench.cli.main import run
from rmbench.cli.tasks_command import FILES

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = {
    "task": [*ROOT.glob("tasks/*.yaml"), ROOT / "studies/embedded.yaml", ROOT / "studies/alpacaeval.yaml"],
    "board": list(ROOT.glob("leaderboards/*.yaml")),
    "study": list(ROOT.glob("studies/margins*.yaml")),
    "judge": list(ROOT.glob("rmbench/_data/judges/*.yaml")),
    "record": list(ROOT.glob("results/**/*.json")),
}


def loaded(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)


@pytest.fixture(scope="module")
def checkers() -> dict[str, jsonschema.Draft202012Validator]:
    import contextlib
    import io

    found = {}
    for file in FILES:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert run(["schema", file]) == 0
        schema = json.loads(printed.getvalue())
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        jsonschema.Draft202012Validator.check_schema(schema)
        found[file] = jsonschema.Draft202012Validator(schema)
    return found


@pytest.mark.parametrize("file", FILES)
def test_every_shipped_file_fits(file: str, checkers: dict[str, jsonschema.Draft202012Validator]) -> None:
    assert SHIPPED[file]
    for path in SHIPPED[file]:
        errors = list(checkers[file].iter_errors(loaded(path)))
        assert not errors, (path.name, errors[0].message)


def changed(file: str, name: str, **changes: Any) -> dict[str, Any]:
    path = next(p for p in SHIPPED[file] if p.stem == name or not name)
    return {**loaded(path), **changes}


@pytest.mark.parametrize(
    ("file", "name", "changes"),
    [
        ("task", "bon", {"nam": "x"}),
        ("task", "bon", {"version": 0}),
        ("task", "bon", {"kinds": []}),
        ("task", "bon", {"kinds": ["bonn"]}),
        ("task", "bon", {"summary": " "}),
        ("task", "bon", {"params": {"selecct": "best"}}),
        ("task", "bon", {"params": {"select": "bst"}}),
        ("task", "preference", {"params": {"bins": 1}}),
        ("task", "bon", {"data": {"reader": "jsonll"}}),
        ("task", "bon", {"data": {"reader": "jsonl", "hub": "org/name@main"}}),
        ("task", "bon", {"data": {"reader": "jsonl", "options": {"mode": "pool"}}}),
        ("task", "alpacaeval-bon", {"data": {"reader": "alpacaeval", "options": {"mode": "pol"}}}),
        ("task", "bon", {"sizes": {"items": "many"}}),
        ("board", "main", {"columns": []}),
        ("board", "main", {"columns": [{"id": "a", "task": "bon", "metric": "x", "lable": "y"}]}),
        ("study", "margins", {"seeds": 0}),
        ("study", "margins", {"train": {"epoch": 3}}),
        ("study", "margins", {"train": {"precision": "bf16"}}),
        ("study", "margins", {"evaluate": [{"data": "x"}]}),
        ("judge", "rating", {"usr": "x"}),
        ("judge", "rating", {"user": 3}),
        ("judge", "rm-r1", {"asks": "pairs"}),
        ("judge", "rm-r1", {"sampling": {"temprature": 0}}),
        ("record", "", {"counts": {}}),
        ("record", "", {"model": 3}),
    ],
)
def test_a_wrong_file_does_not_fit(
    file: str, name: str, changes: dict[str, Any], checkers: dict[str, jsonschema.Draft202012Validator]
) -> None:
    assert checkers[file].is_valid(changed(file, name))
    assert not checkers[file].is_valid(changed(file, name, **changes))


def test_a_kind_and_a_reader_from_a_file_fit_with_parameters_of_their_own(
    checkers: dict[str, jsonschema.Draft202012Validator],
) -> None:
    own = {
        "kinds": ["my_metric.py:topgap"],
        "params": {"width": 3},
        "data": {"reader": "my.py:read", "options": {"a": 1}},
    }
    assert checkers["task"].is_valid(changed("task", "bon", **own))


def test_editors_get_help_choices_and_defaults(checkers: dict[str, jsonschema.Draft202012Validator]) -> None:
    keys = checkers["task"].schema["properties"]
    assert keys["version"]["description"] == "Raised when any number could change."
    assert "bon" in keys["kinds"]["items"]["anyOf"][0]["enum"]
    assert keys["params"]["properties"]["bins"]["default"] == 15
    assert "length-penalty" in keys["params"]["properties"]["select"]["enum"]
    column = checkers["board"].schema["properties"]["columns"]["items"]["properties"]
    assert column["task"]["description"] == "The task's name, or its file."
    assert checkers["study"].schema["properties"]["train"]["properties"]["epochs"]["default"] == 1.0


def test_another_word_is_told_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "tasks"]) == 2
    assert "'task', 'board', 'study', 'judge', 'record'" in capsys.readouterr().err
