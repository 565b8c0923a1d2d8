"""`rmbench.evaluate`: the command line's numbers, its identities and its errors."""

import inspect
import json
import linecache
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_origin, get_type_hints

import click
import pytest

import rmbench
from rmbench.cli.main import cli, run
from rmbench.core.options import parameters_of
from rmbench.errors import ConfigError, ScoringError, UnknownNameError
from rmbench.evaluation.options import EvalKeywords, EvalOptions
from rmbench.models.resolve import given_model


class Counting:
    """Reward: the length of a reply. Counts what it is asked."""

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign
        self.asked = 0

    def fingerprint(self) -> Mapping[str, str]:
        return {"kind": "counting", "sign": str(self.sign)}

    def score(self, batch: Sequence[Any]) -> list[float]:
        self.asked += len(batch)
        return [self.sign * len(turns[-1]["content"]) for turns in batch]


def numbers(path: Path) -> dict[str, Any]:
    """Return a record without its provenance, which has times, and without the hash over all of it."""
    record = json.loads(path.read_text())
    del record["provenance"], record["sha256"]
    return dict(record)


@pytest.mark.parametrize(
    ("more", "keywords"),
    [
        ([], {}),
        (["-T", "ties=zero", "-T", "bins=5"], {"params": {"ties": "zero", "bins": 5}}),
        (["--limit", "7", "--seed", "3"], {"limit": 7, "seed": 3}),
        (["--part", "0.2:0.9"], {"part": (0.2, 0.9)}),
        (["--gold", "length"], {"gold": "length"}),
        (["--workers", "2", "--convention", "clean"], {"n_workers": 2, "convention": "clean"}),
    ],
    ids=["plain", "params", "limit", "part", "gold", "workers"],
)
def test_the_same_numbers_as_the_command_line(
    tmp_path: Path, pairs: Path, more: list[str], keywords: dict[str, Any]
) -> None:
    tasks = ["preference", "bon"]
    asked = [word for task in tasks for word in ("--task", task)]
    by_hand = ["eval", "--model", "builtin:linear", *asked, "--data", str(pairs), "--results"]
    assert run([*by_hand, str(tmp_path / "cli"), *more]) == 0
    records = rmbench.evaluate("builtin:linear", tasks, data=pairs, results=tmp_path / "api", **keywords)
    assert [r.task for r in records] == tasks
    paths = sorted((tmp_path / "cli").rglob("*.json"))
    assert len(paths) == 2
    for path in paths:
        other = tmp_path / "api" / path.relative_to(tmp_path / "cli")
        assert numbers(other) == numbers(path)
        rewards = path.with_name(f"{path.stem}.rewards.jsonl.gz")
        assert other.with_name(rewards.name).read_bytes() == rewards.read_bytes()


def test_an_object_of_a_file_is_the_model_that_the_command_line_makes_of_it(
    tmp_path: Path, pairs: Path, model_file: Callable[[str], Path]
) -> None:
    path = model_file("len(text)")
    by_hand = ["eval", "--model", f"{path}:Mine", "--task", "preference", "--data", str(pairs)]
    assert run([*by_hand, "--results", str(tmp_path / "cli")]) == 0
    code = (
        f"import rmbench, {path.stem}\n"
        f"(record,) = rmbench.evaluate({path.stem}.Mine(), 'preference', data={str(pairs)!r},\n"
        f"    results={str(tmp_path / 'api')!r}, quiet=True)\n"
        "print(record.record.run_id, record.record.provenance['computed'])\n"
    )
    where = os.environ | {"PYTHONPATH": os.pathsep.join([str(path.parent), str(Path(__file__).parents[2])])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=where)
    (other,) = (tmp_path / "cli").rglob("*.json")
    assert done.stdout.split() == [other.stem, "0"], "the store knew it all"


def test_a_second_call_does_no_work(tmp_path: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = Counting()
    first = rmbench.evaluate(model, ["preference"], data=pairs, results="results")
    assert model.asked == 24
    again = rmbench.evaluate(model, ["preference", "bon"], data=pairs, results="elsewhere")
    assert model.asked == 24
    assert again[0].metrics == first[0].metrics
    longer_is_right = 8 / 12
    assert first[0].metrics["accuracy"].value == pytest.approx(longer_is_right)


def test_without_a_results_folder_nothing_is_left_in_the_working_folder(
    tmp_path: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (record,) = rmbench.evaluate(Counting(), "bon", data=pairs)
    assert record.path.is_file()
    assert not list((tmp_path / "here").iterdir())


def test_several_models_keep_their_order_and_may_be_named(pairs: Path) -> None:
    models = {"up": Counting(), "down": Counting(-1.0), "linear": "builtin:linear"}
    records = rmbench.evaluate(models, "preference", data=pairs)
    assert records.models == ["up", "down", "linear"]
    values = [r.metrics["accuracy"].value for r in records]
    assert values[:2] == pytest.approx([8 / 12, 4 / 12])
    assert rmbench.evaluate(["length", Counting()], "bon", data=pairs).models == ["length", "Counting"]


def test_remarks_are_on_stderr_unless_it_is_quiet(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Noting(Counting):
        def notes(self) -> list[str]:
            return ["a remark\nof two lines"]

    rmbench.evaluate(Noting(), "preference", data=pairs)
    assert capsys.readouterr() == ("", "note: Noting: a remark of two lines\n")
    rmbench.evaluate(Noting(), "preference", data=pairs, quiet=True)
    assert capsys.readouterr() == ("", "")


NOTEBOOK = """
class Cell:
    def fingerprint(self):
        return {{"kind": "cell"}}

    def score(self, batch):
        return [{reward} for turns in batch]
"""


@pytest.mark.parametrize("source", [True, False], ids=["source", "bytecode"])
def test_a_class_of_a_notebook_that_is_changed_is_another_model(source: bool) -> None:
    def made(reward: str, name: str) -> Mapping[str, str]:
        code = NOTEBOOK.format(reward=reward)
        if source:  # as notebooks do, so that tracebacks have lines
            linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(code, name, "exec"), namespace)  # noqa: S102
        return given_model(namespace["Cell"]()).identity

    first = made("1.0", "<cell 1>")
    assert first
    assert made("1.0", "<cell 2>") == first
    others = [
        made(reward, f"<cell {n}>")
        for n, reward in enumerate(("2.0", "turns[0]", "sum([t['x'] in {'a', 'b'} for t in turns])"), 3)
    ]
    assert len({*(tuple(o.items()) for o in others), tuple(first.items())}) == 4


CHANGES = {
    "an attribute": ("words = {'a', 'b'}", "words = {'a', 'c'}"),
    "a base": ("return 1.0", "return 2.0"),
    "a static method": ("len(text)", "-len(text)"),
    "a property": ("return 3.0", "return 4.0"),
}


@pytest.mark.parametrize("source", [True, False], ids=["source", "bytecode"])
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_written_in_a_class_counts(change: str, source: bool) -> None:
    code = (
        "class Base:\n    def fingerprint(self):\n        return {'kind': 'x'}\n\n"
        "    def one(self):\n        return 1.0\n\n"
        "class Cell(Base):\n    words = {'a', 'b'}\n\n"
        "    @staticmethod\n    def size(text):\n        return len(text)\n\n"
        "    @property\n    def three(self):\n        return 3.0\n\n"
        "    def score(self, batch):\n        return [self.one() for _ in batch]\n"
    )
    assert CHANGES[change][0] in code
    found = []
    for n, text in enumerate((code, code, code.replace(*CHANGES[change]))):
        name = f"<{change} {n} {source}>"
        if source:
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(text, name, "exec"), namespace)  # noqa: S102
        found.append(given_model(namespace["Cell"]()).identity)
    assert found[0] == found[1] != found[2]
    assert list(found[0]) == ["bytecode_sha256"]


def test_a_model_of_the_package_is_the_one_that_the_command_line_names(pairs: Path) -> None:
    from rmbench.models.baselines import Length

    by_name, by_object = (rmbench.evaluate(m, "bon", data=pairs)[0] for m in ("length", Length()))
    assert by_name.record.run_id == by_object.record.run_id


class Lacking:
    def fingerprint(self) -> Mapping[str, str]:
        return {"kind": "lacking"}


@pytest.mark.parametrize(
    ("model", "keywords", "message"),
    [
        (Counting, {}, r"Counting: it is a class; expected an instance: Counting\(\.\.\.\)"),
        (Lacking(), {}, r"Lacking is no reward model: it lacks the method score\(batch\)"),
        (7, {}, "int is no reward model"),
        ([], {}, "model is empty"),
        ({}, {}, "model is empty"),
        ("lenght", {}, "Did you mean 'length'"),
        ([Counting(), Counting(-1.0)], {}, "two models are called 'Counting'"),
        ({" x": Counting()}, {}, "the name ' x' cannot be shown"),
        (Counting(), {"options": {"sign": 2}}, "options belong to one model"),
        (["length", "random"], {"options": {"a": 1}}, "options belong to one model"),
        ("length", {"options": {"depth": 2}}, "unknown option 'depth'"),
        ("length", {"params": {"tise": "half"}}, "Did you mean 'ties'"),
        ("length", {"limit": 0}, "rmbench.evaluate: option 'limit' is 0; expected a whole number from 1"),
        ("length", {"limit": True}, "option 'limit' is True"),
        ("length", {"seed": -1}, "option 'seed' is -1; expected a whole number from 0"),
        ("length", {"part": (0.5, 0.5)}, "option 'part': '0.5:0.5'; expected LOW:HIGH"),
        ("length", {"on_bad": "ignore"}, "option 'on_bad': unknown value 'ignore'.*fail, skip"),
        ("length", {"self_gold": True}, "belong to --gold"),
        ("length", {"device": "tpu"}, "unknown device 'tpu'"),
        ("length", {"dtype": "float3"}, "Did you mean 'float32'"),
        ("length", {"n_worker": 2}, r"rmbench.evaluate: unknown option 'n_worker'.*Did you mean 'n_workers'"),
        ("length", {"executor": "rey"}, "option 'executor': unknown value 'rey'.*Did you mean 'ray'"),
        ("length", {"offline": "no"}, "option 'offline' is 'no'; expected true or false"),
        ("length", {"convention": "official"}, "has no official convention"),
        (Counting(), {"n_workers": 2}, "Counting is an object of this process"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    pairs: Path, tmp_path: Path, model: Any, keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        rmbench.evaluate(model, "preference", data=pairs, results=tmp_path / "results", **keywords)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.json")) or "two models" in message


def test_the_keywords_are_the_options_of_the_command_line() -> None:
    hints = get_type_hints(EvalKeywords)
    fields = parameters_of(EvalOptions)
    assert hints.keys() == fields.keys()
    for name, field in fields.items():
        if field.kind in (int, bool, float, str) or get_origin(field.kind) is Literal:
            assert hints[name] == get_type_hints(field.owner)[name]
    command: Any = cli.get_command(click.Context(cli), "eval")
    named = {parameter.name for parameter in command.params}
    assert named - {"json", "markdown", "csv", "latex", "wide"} == {*fields, "models", "tasks"}
    shown = inspect.signature(rmbench.evaluate).parameters
    assert {name: p.default for name, p in shown.items() if name in fields} == {
        name: field.default for name, field in fields.items()
    }
    told = inspect.getdoc(rmbench.evaluate) or ""
    for name, field in fields.items():
        assert f"{name}: {field.help}" in told


def test_a_convention_is_what_records_show(tmp_path: Path, pairs: Path) -> None:
    task = tmp_path / "mine.yaml"
    task.write_text(
        "name: mine\nversion: 1\nkinds: [preference, judgebench]\nsummary: s\nsource: s\nlicense: own\n"
        "data: {reader: jsonl}\nprimary: accuracy\n"
    )
    both = rmbench.evaluate("length", task, data=pairs)
    clean = rmbench.evaluate("length", task, data=pairs, convention="clean")
    assert both[0].record.run_id == clean[0].record.run_id
    assert "official" in str(both)
    assert "official" not in str(clean)
    assert "official" not in str(clean.filter(model="length"))


SCRIPT = """
import rmbench

@rmbench.register_reward_model("mine")
class Mine:
    def fingerprint(self):
        return {"kind": "mine"}

    def score(self, batch):
        return [1.0 for _ in batch]

print(rmbench.evaluate("length", "bon", data="pairs.jsonl", n_workers=2, quiet=True)[0].metrics["gold@1"].n)
try:
    rmbench.evaluate("mine", "bon", data="pairs.jsonl", n_workers=2)
except rmbench.RmbenchError as error:
    print(error)
"""


def test_a_script_may_ask_for_workers_without_a_guard(tmp_path: Path, pairs: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(Path(rmbench.__file__).parents[1])},
    )  # fmt: skip
    first, second = done.stdout.splitlines()
    assert first == "12"
    assert second.startswith("--workers: mine is defined in the running script")


def test_an_unknown_task_stops_before_a_model_is_asked() -> None:
    model = Counting()
    with pytest.raises(UnknownNameError, match="Did you mean 'preference'"):
        rmbench.evaluate(model, ["bon", "preferense"])
    with pytest.raises(ConfigError, match="tasks is empty"):
        rmbench.evaluate(model, [])
    assert model.asked == 0


def test_a_model_that_breaks_its_contract_stops_the_run(pairs: Path) -> None:
    class Short(Counting):
        def score(self, batch: Sequence[Any]) -> list[float]:
            return super().score(batch)[1:]

    with pytest.raises(ScoringError, match="23 rewards for 24 conversations"):
        rmbench.evaluate(Short(), "bon", data=pairs)


def test_a_scheme_whose_argument_is_called_name_takes_the_option_name(tmp_path: Path, pairs: Path) -> None:
    by_hand = ["eval", "--model", "builtin:linear", "-M", "name=mine", "--task", "bon", "--data", str(pairs)]
    assert run([*by_hand, "--results", str(tmp_path / "results")]) == 0
    assert rmbench.load_records(tmp_path / "results").models == ["mine"]


def test_a_task_file_may_name_a_reader_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lines.py").write_text(
        "from rmbench.tasks.rows import FoundItem, Row\n"
        "from rmbench.types import Item, Response\n"
        "import rmbench\n\n\n"
        "@rmbench.register_reader('tabulated')\n"
        "def read(files, options, bad):\n"
        "    for path in files:\n"
        "        for n, line in enumerate(path.read_text().splitlines(), 1):\n"
        "            prompt, good, worse = line.split('\\t')\n"
        "            turns = ({'role': 'user', 'content': prompt},)\n"
        "            two = (Response(good, 1.0), Response(worse, 0.0))\n"
        "            yield FoundItem(Item(str(n), turns, two, prompt), Row({}, path, n))\n"
    )
    Path("mine.yaml").write_text(
        "name: mine\nversion: 1\nkinds: [preference]\nsummary: s\nsource: s\nlicense: own\n"
        "data: {reader: 'lines.py:tabulated'}\nprimary: accuracy\n"
    )
    Path("data.tsv").write_text("p\tlonger\tshort\nq\tx\tlonger\nr\tlonger\tx\n")
    (record,) = rmbench.evaluate("length", "mine.yaml", data="data.tsv")
    assert record.metrics["accuracy"].value == pytest.approx(2 / 3)
    Path("mine.yaml").write_text(Path("mine.yaml").read_text().replace("tabulated", "tabulate"))
    with pytest.raises(UnknownNameError, match=r"mine\.yaml, key 'reader'|Did you mean 'tabulated'"):
        rmbench.evaluate("length", "mine.yaml", data="data.tsv")


def test_a_part_in_whole_numbers_is_the_part_of_the_command_line() -> None:
    whole = rmbench.evaluate("length", "preference", part=(0, 1), limit=5)[0]
    assert (
        whole.record.run_id
        == rmbench.evaluate("length", "preference", part=(0.0, 1.0), limit=5)[0].record.run_id
    )


def test_compare_takes_no_negative_number_of_items_and_no_empty_list_of_metrics() -> None:
    records = rmbench.evaluate(["length", "shortest"], "preference", limit=5)
    with pytest.raises(ConfigError, match="n_items is -1"):
        rmbench.compare(records[0], records[1], n_items=-1)
    with pytest.raises(ConfigError, match="metrics is empty"):
        rmbench.compare(records[0], records[1], metrics=[])
