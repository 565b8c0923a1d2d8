"""Records, boards and comparisons as a notebook has them."""

import sys
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import rmbench
from rmbench.cli.main import run
from rmbench.errors import ConfigError, DataError, StoreError, UnknownNameError
from rmbench.report.tables import record_tables

HOSTILE = "<img src=x onerror=alert(1)> & \u202e"


class Fixed:
    """Reward: how often a letter occurs."""

    def __init__(self, letter: str) -> None:
        self.letter = letter

    def fingerprint(self) -> Mapping[str, str]:
        return {"kind": "fixed", "letter": self.letter}

    def score(self, batch: Sequence[Any]) -> list[float]:
        return [float(turns[-1]["content"].count(self.letter)) for turns in batch]


@pytest.fixture
def records(pairs: Path, tmp_path: Path) -> rmbench.Records:
    models = {"few": Fixed("x"), "many": Fixed("e")}
    return rmbench.evaluate(models, ["preference", "bon"], data=pairs, results=tmp_path / "results")


def test_they_are_a_sequence(records: rmbench.Records) -> None:
    assert len(records) == 4
    assert records[0].model == "few"
    assert [r.model for r in records[2:]] == ["many", "many"]
    assert isinstance(records[:1], rmbench.Records)
    assert len(records + records) == 4
    assert repr(records) == "<Records: 4, of 2 models on preference, bon>"
    assert repr(records[:1]) == "<Records: 1, of one model on preference>"
    assert repr(rmbench.Records([])) == str(rmbench.Records([])) == "<Records: none>"
    assert str(records) == record_tables(records)


def test_they_are_filtered_by_model_and_task(records: rmbench.Records) -> None:
    assert [r.task for r in records.filter(model="many")] == ["preference", "bon"]
    assert [r.model for r in records.filter(task="bon")] == ["few", "many"]
    assert len(records.filter(model=["few", "many"], task=("bon",))) == 2
    assert records.one("many", "bon") is records[3]
    with pytest.raises(UnknownNameError, match="Did you mean 'many'"):
        records.filter(model=["few", "mny"])
    with pytest.raises(UnknownNameError, match="unknown task 'calibration'"):
        records.filter(task="calibration")


def test_a_row_per_record_and_metric(records: rmbench.Records) -> None:
    rows = records.to_rows()
    assert len(rows) == sum(len(r.metrics) for r in records)
    row = next(r for r in rows if (r["model"], r["task"], r["metric"]) == ("many", "preference", "accuracy"))
    estimate = records[2].metrics["accuracy"]
    assert estimate.ci95 is not None
    assert (row["value"], row["low"], row["high"]) == (estimate.value, *estimate.ci95)
    assert (row["n"], row["n_clusters"], row["run_id"]) == (12, 12, records[2].record.run_id)
    odd = [r for r in records.to_rows(strata=True) if (r["stratum"], r["part"]) == ("family", "odd")]
    assert {r["n"] for r in odd if r["metric"] == "accuracy"} == {6}


def test_a_data_frame_of_them(records: rmbench.Records) -> None:
    frame = records.to_pandas()
    assert list(frame.columns[:7]) == ["model", "task", "version", "metric", "value", "low", "high"]
    assert frame.to_dict("records")[0]["value"] == records.to_rows()[0]["value"]
    assert len(frame) == len(records.to_rows())
    assert list(rmbench.Records([]).to_pandas().columns) == list(frame.columns)
    assert list(records.to_pandas(strata=True).columns[3:5]) == ["stratum", "part"]


def test_without_pandas_one_line_says_what_to_do(
    records: rmbench.Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas, or use to_rows") as error:
        records.to_pandas()
    assert "\n" not in str(error.value)


def test_they_are_saved_and_read_back(records: rmbench.Records, tmp_path: Path) -> None:
    saved = records.save(tmp_path / "kept")
    found = rmbench.load_records(tmp_path / "kept")
    assert {r.path for r in found} == {r.path for r in saved}
    for run_ in found:
        original = next(r for r in records if r.record.run_id == run_.record.run_id and r.model == run_.model)
        assert run_.path.read_bytes() == original.path.read_bytes()
        assert run_.rewards_path.read_bytes() == original.rewards_path.read_bytes()
    assert found.save(tmp_path / "kept").models == found.models  # onto itself: nothing is lost
    assert len(rmbench.load_records(saved[0].path)) == 1
    records[0].rewards_path.write_bytes(b"")
    with pytest.raises(StoreError, match="damaged or changed"):
        records.save(tmp_path / "again")


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file or folder"):
        rmbench.load_records(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no record in"):
        rmbench.load_records(tmp_path)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match="not a run record"):
        rmbench.load_records(tmp_path)


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[Any]) -> None:
        assert not attrs
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def test_what_notebooks_show_is_escaped_and_has_intervals(pairs: Path) -> None:
    named = {HOSTILE.replace("\u202e", "x"): Fixed("x"), "b": Fixed("e")}
    records = rmbench.evaluate(named, ["preference", "bon"], data=pairs)
    shown = [
        Tags(records._repr_html_()),
        Tags(rmbench.leaderboard(records)._repr_html_()),
        Tags(rmbench.compare(records[0], records[2])._repr_html_()),
    ]
    for page in shown:
        assert set(page.tags) <= {"div", "b", "small", "table", "thead", "tbody", "tr", "th", "td"}
        assert any(c.startswith("<img") for c in page.cells)
    low, high = records[0].metrics["accuracy"].ci95 or (0, 0)
    assert f"{records[0].metrics['accuracy'].value:.3f} [{low:.3f}, {high:.3f}]" in shown[0].cells
    assert rmbench.Records([])._repr_html_().count("<td>") == 0


def test_a_board_is_the_one_that_the_command_line_writes(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    models = ["shortest", "length"]
    records = rmbench.evaluate(models, ["preference", "bon"], data=pairs, results="results")
    assert run(["leaderboard", "main"]) == 0
    for board in (rmbench.leaderboard(records), rmbench.leaderboard("results", "main")):
        assert board.to_markdown() == str(board) == Path("leaderboards/main.md").read_text()
        assert board.to_csv() == Path("leaderboards/main.csv").read_text()
        assert board.to_html() == Path("leaderboards/main.html").read_text()
        assert [row.model for row in board.rows] == ["length", "shortest"]
    rmbench.leaderboard(records).save("copy")
    names = {p.name for p in Path("leaderboards").iterdir()}
    assert {p.name for p in Path("copy").iterdir()} == names
    for name in names:
        assert (Path("copy") / name).read_bytes() == (Path("leaderboards") / name).read_bytes()


def test_a_board_may_be_a_file_or_a_definition(records: rmbench.Records, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ntitle: Mine\nsummary: s\ncolumns:\n"
        "  - {id: a, task: preference, metric: accuracy, label: accuracy}\nrank_by: [a]\n"
    )
    board = rmbench.leaderboard(records, path)
    assert [row.model for row in board.rows] == ["many", "few"]
    assert rmbench.leaderboard(records, board.spec).to_csv() == board.to_csv()
    with pytest.raises(UnknownNameError, match="unknown leaderboard 'mian'"):
        rmbench.leaderboard(records, "mian")


def test_two_models_are_compared_by_record_or_by_name(records: rmbench.Records, tmp_path: Path) -> None:
    by_record = rmbench.compare(records[0], records[2])
    assert (by_record.first, by_record.second, by_record.task) == ("few", "many", "preference")
    assert rmbench.compare("few", "many", task="preference", records=records) == by_record
    assert rmbench.compare("few", "many", task="preference", records=tmp_path / "results") == by_record
    assert rmbench.compare(records.filter(model="few"), records[2], task="preference") == by_record
    assert rmbench.compare(str(records[0].path), records[2].path) == by_record
    accuracy = next(m for m in by_record.metrics if m.metric == "accuracy")
    values = [r.metrics["accuracy"].value for r in (records[0], records[2])]
    assert accuracy.paired.difference.value == pytest.approx(values[0] - values[1])
    (only,) = rmbench.compare(records[0], records[2], metrics=["auroc_margin"]).metrics
    assert only.metric == "auroc_margin"


@pytest.mark.parametrize(
    ("first", "keywords", "message"),
    [
        ("few", {}, "a model's name needs the task"),
        ("fewer", {"task": "bon"}, "Did you mean 'few'"),
        (slice(0, 2), {}, "2 records where one was expected"),
        (0, {"task": "bon"}, "is of task 'preference', not 'bon'"),
        (1, {}, "not measured on the same items"),
    ],
)
def test_what_cannot_be_compared_is_said(
    records: rmbench.Records, first: Any, keywords: dict[str, Any], message: str
) -> None:
    which = first if isinstance(first, str) else records[first]
    with pytest.raises(ConfigError, match=message):
        rmbench.compare(which, records[2], records=records, **keywords)
