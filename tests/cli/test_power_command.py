"""`rmbench power`: from records of two models, of one, and from data alone, in every format."""

import csv
import io
import json
import random
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import nct
from scipy.stats import t as student_t
from strict_latex import read_latex

from rmbench.cli.main import run
from rmbench.report.power_tables import Asked, Case, Resolutions, as_json_values
from rmbench.stats import Resolution

Capture = pytest.CaptureFixture[str]
N = 60


def write_items(path: Path, sizes: list[int]) -> None:
    """Write one prompt for each of `sizes`, with as many responses, each of another gold."""
    rows = [
        {
            "id": f"i{k}",
            "prompt": f"question {k}",
            "responses": [f"{j} " * (1 + (k * (j + 3)) % 7) for j in range(size)],
            "gold": list(range(size)),
            "gold_kind": "graded",
        }
        for k, size in enumerate(sizes)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("power")
    write_items(folder / "pairs.jsonl", [2] * N)
    base = ["--data", str(folder / "pairs.jsonl"), "--results", str(folder / "results"), "-q"]
    base += ["--store", str(folder / "store"), "-t", "preference", "-t", "calibration"]
    for n, name in enumerate(("a", "b", "c")):
        rng = random.Random(n)
        rows = [{"id": f"i{k}", "rewards": [0.0, rng.gauss(0.6 + k % 2, 1)]} for k in range(N)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert run(["eval", "-m", f"scores:{folder / name}.jsonl", *base]) == 0
    return folder


def power(made: Path, capsys: Capture, *arguments: str) -> str:
    capsys.readouterr()
    task = [] if "-t" in arguments else ["-t", "preference"]
    assert run(["power", *arguments, *task, "--results", str(made / "results")]) == 0
    return capsys.readouterr().out


def rows_of(made: Path, capsys: Capture, *arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(power(made, capsys, *arguments, "--json"))["rows"]
    return rows


def refused(made: Path, capsys: Capture, *arguments: str) -> str:
    capsys.readouterr()
    task = [] if "-t" in arguments else ["-t", "preference"]
    assert run(["power", *arguments, *task, "--results", str(made / "results")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def chance(difference: float, stderr: float, freedom: float, alpha: float = 0.05) -> float:
    critical = student_t.isf(alpha / 2, freedom)
    shift = difference / stderr
    return float(nct.sf(critical, freedom, shift) + nct.cdf(-critical, freedom, shift))


def test_two_records_have_the_power_of_their_paired_test(made: Path, capsys: Capture) -> None:
    (row,) = rows_of(made, capsys, "a", "b", "--metric", "accuracy", "--difference", "0.05")
    compared = ["compare", "a", "b", "-t", "preference", "--metric", "accuracy", "--json"]
    assert run([*compared, "--results", str(made / "results")]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]["accuracy"]
    assert row["stderr"] == pytest.approx(found["difference"]["stderr"])
    assert row["shows_from"] == row["shows_from_holm"] == found["shows_from"] == found["shows_from_alone"]
    assert chance(row["shows_from"], row["stderr"], N - 1) == pytest.approx(0.8, abs=1e-4)
    needed = row["prompts_needed"]
    for n, enough in ((needed, True), (needed - 1, False)):
        assert (chance(0.05, row["stderr"] * sqrt(N / n), n - 1) > 0.8) == enough
    (more,) = rows_of(made, capsys, "a", "b", "--metric", "accuracy", "--power", "0.95")
    assert chance(more["shows_from"], more["stderr"], N - 1) == pytest.approx(0.95, abs=1e-4)


def test_every_pair_of_many_is_there_and_the_family_is_that_of_compare(made: Path, capsys: Capture) -> None:
    metrics = ["--metric", "accuracy", "--metric", "brier", "--metric", "nll"]
    report = json.loads(power(made, capsys, "a", "b", "c", *metrics, "--json", "-t", "calibration"))
    assert [(r["metric"], r["first"], r["second"]) for r in report["rows"]] == [
        (m, *pair) for m in ("accuracy", "brier", "nll") for pair in (("a", "b"), ("a", "c"), ("b", "c"))
    ]
    assert report["tests"] == 6
    for row in report["rows"]:
        found = chance(row["shows_from_holm"], row["stderr"], row["freedom"], 0.05 / 6)
        assert found == pytest.approx(0.8, abs=2e-4)
    more = json.loads(power(made, capsys, "a", "b", "c", "--tests", "45", "--json"))
    assert more["tests"] == 45
    assert "5% / 45, for a family of 45 tests" in power(made, capsys, "a", "b", "--tests", "45")


def test_one_record_assumes_what_it_says(made: Path, capsys: Capture) -> None:
    shown = power(made, capsys, "a", "--metric", "accuracy")
    assert "a correlation of 0.5 between the two over prompts (--correlation)" in " ".join(shown.split())
    (half,) = rows_of(made, capsys, "a", "--metric", "accuracy")
    (none,) = rows_of(made, capsys, "a", "--metric", "accuracy", "--correlation", "0")
    assert none["stderr"] == pytest.approx(sqrt(2) * half["stderr"])
    record = next(p for p in (made / "results").rglob("*.json") if '"a"' in p.read_text())
    alone = json.loads(record.read_text())["metrics"]["accuracy"]["stderr"]
    assert half["stderr"] == pytest.approx(alone), "2 (1 - 0.5) is one"


def test_data_alone_assume_what_they_say(made: Path, capsys: Capture) -> None:
    data = ["--data", str(made / "pairs.jsonl")]
    (row,) = rows_of(made, capsys, *data, "--accuracy", "0.6", "--correlation", "0.25")
    discordance = 2 * 0.6 * 0.4 * 0.75
    assert (row["stderr"], row["prompts"]) == (pytest.approx(sqrt(discordance / N)), N)
    assert chance(row["shows_from"], row["stderr"], N - 1) == pytest.approx(0.8, abs=1e-4)
    (same,) = rows_of(made, capsys, *data, "--discordance", str(discordance))
    assert same == pytest.approx(row)
    shown = power(made, capsys, *data, "--difference", "0.02")
    assert "two models of accuracy 0.7, a correlation of 0.5 over pairs" in " ".join(shown.split())
    assert "one alone is right on 0.21 of the pairs" in " ".join(shown.split())
    assert f"{N} pairs of {N} prompts." in shown


def test_pairs_of_one_prompt_are_bracketed(made: Path, tmp_path: Path, capsys: Capture) -> None:
    write_items(tmp_path / "pools.jsonl", [2, 3, 4] * 10)
    free, copies = rows_of(made, capsys, "--data", str(tmp_path / "pools.jsonl"), "--discordance", "0.2")
    pairs = [1, 3, 6] * 10
    assert free["stderr"] == pytest.approx(sqrt(0.2 / sum(pairs)))
    assert copies["stderr"] == pytest.approx(sqrt(0.2 * sum(n * n for n in pairs)) / sum(pairs))
    assert "The truth lies between" in power(made, capsys, "--data", str(tmp_path / "pools.jsonl"))


def test_it_is_in_every_format(made: Path, capsys: Capture) -> None:
    arguments = ("a", "b", "c", "--metric", "accuracy", "--difference", "0.02")
    found = rows_of(made, capsys, *arguments)
    rows = list(csv.DictReader(io.StringIO(power(made, capsys, *arguments, "--csv"))))
    for row, expected in zip(rows, found, strict=True):
        assert row["second"] == expected["second"]
        assert int(row["prompts_needed_holm"]) == expected["prompts_needed_holm"]
        assert float(row["shows_from_holm"]) == pytest.approx(expected["shows_from_holm"], rel=1e-5)
    (table,) = read_latex(power(made, capsys, *arguments, "--latex"))
    assert len(table.rows) == 4
    assert "80\\% power" in table.caption or "80% power" in table.caption
    lines = [x for x in power(made, capsys, *arguments, "--markdown").splitlines() if x.startswith("|")]
    assert len(lines) == 5
    assert len({line.count("|") for line in lines}) == 1


def test_what_cannot_be_is_a_dash_with_its_reason(made: Path, tmp_path: Path, capsys: Capture) -> None:
    (row,) = rows_of(made, capsys, "a", "b", "--metric", "accuracy", "--difference", "1.5")
    assert (row["prompts_needed"], row["prompts_needed_holm"]) == (None, None)
    small = ("a", "b", "--metric", "accuracy", "--metric", "ece", "--difference", "1e-9")
    assert [r["prompts_needed"] for r in rows_of(made, capsys, *small)] == [None, None], "more than 10^12"
    assert "more than 1,000,000,000,000 prompts" in power(made, capsys, *small)
    write_items(tmp_path / "few.jsonl", [2, 2, 2])
    few = ["--data", str(tmp_path / "few.jsonl"), "--accuracy", "0.5", "--correlation", "0"]
    assert rows_of(made, capsys, *few)[0]["shows_from"] is None
    assert "A dash: no difference that is possible would be found" in power(made, capsys, *few)


def test_wrong_use_is_one_line(made: Path, tmp_path: Path, capsys: Capture) -> None:
    assert "--accuracy is for no model" in refused(made, capsys, "a", "b", "--accuracy", "0.6")
    assert "--data is for no model" in refused(made, capsys, "a", "--data", str(made / "pairs.jsonl"))
    assert "--correlation is for one model or none" in refused(made, capsys, "a", "b", "--correlation", "0")
    assert "--metric needs a model" in refused(made, capsys, "--metric", "accuracy")
    assert "rmbench power MODEL --task bon" in refused(made, capsys, "-t", "bon")
    assert "leave --accuracy" in refused(made, capsys, "--discordance", "0.1", "--accuracy", "0.6")
    assert "Did you mean 'accuracy'" in refused(made, capsys, "a", "--metric", "acuracy")
    assert "difference" in refused(made, capsys, "a", "b", "--difference", "0")
    for option in ("--difference", "--power", "--accuracy", "--correlation", "--discordance"):
        for value in ("nan", "inf"):
            assert f"'{option}'" in refused(made, capsys, option, value)
    assert "--power" in refused(made, capsys, "a", "b", "--power", "1")
    assert "unknown model 'd'" in refused(made, capsys, "a", "d")
    write_items(tmp_path / "one.jsonl", [3])
    assert "expected two or more" in refused(made, capsys, "--data", str(tmp_path / "one.jsonl"))


def test_a_row_without_an_error_has_the_same_keys_as_one_with() -> None:
    shown = Resolutions(
        "t", "", (Case("m", "a", "b", None), Case("m", "a", "b", Resolution(0.1, 9.0, 10))), 1
    )
    for difference in (None, 0.1):
        without, known = as_json_values(shown, Asked(difference, 0.8, 1))["rows"]
        assert without.keys() == known.keys()
