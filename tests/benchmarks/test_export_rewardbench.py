"""Records go out in RewardBench's own format and come back as they were."""

import gzip
import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import (
    OFFICIAL_V1,
    OFFICIAL_V2,
    OFFICIAL_WITH_PRIOR,
    PRIOR,
    V1,
    V2,
    importer,
    scores,
    v1_columns,
    v2_columns,
)

from rmbench.benchmarks.rewardbench.export import place_of_model, published_type
from rmbench.benchmarks.rewardbench.official import PRIOR_SETS
from rmbench.cli.main import run

Capture = pytest.CaptureFixture[str]
bring = importer("rewardbench")
ONE, TWO = "reward-bench-results", "reward-bench-2-results"


def plain(columns: dict[str, Any]) -> dict[str, Any]:
    """Return columns without texts."""
    return {k: v for k, v in columns.items() if not k.startswith("text")}


def export(capsys: Capture, *arguments: object) -> str:
    code = run(["export", "rewardbench", *map(str, arguments)])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert said.out == ""
    return said.err


def stored(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the stored rows of each record, by model's folder and task."""
    return {
        "/".join(p.parts[len(results.parts) : -1]): [
            json.loads(line) for line in gzip.decompress(p.read_bytes()).splitlines()
        ]
        for p in results.rglob("*.gz")
    }


def numbers(records: list[dict[str, Any]]) -> list[Any]:
    keys = ("model", "task", "counts", "metrics", "undefined", "strata", "curves")
    return [{key: record[key] for key in keys} for record in records]


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def round_trip(capsys: Capture, root: Path, tmp_path: Path, *options: str) -> list[dict[str, Any]]:
    """Import, export, import again; assert that nothing has changed, and return the records."""
    first = bring(capsys, root, tmp_path / "r1", "-q", *options)
    export(capsys, tmp_path / "r1", "--out", tmp_path / "out")
    second = bring(capsys, tmp_path / "out", tmp_path / "r2", "-q", *options)
    assert stored(tmp_path / "r1") == stored(tmp_path / "r2")
    for record in (*first, *second):  # rows that were left out are no longer there to be left out
        record["counts"]["dropped"] = {}
    order = {(r["task"], r["model"]): r for r in second}
    assert numbers(first) == numbers([order[r["task"], r["model"]] for r in first])
    return first


def test_both_versions_there_and_back(tmp_path: Path, capsys: Capture) -> None:
    scores(tmp_path / "in", "org/one", plain(v1_columns("org/one")))
    scores(tmp_path / "in", "org/two", plain(v2_columns("org/two")))
    one, two = round_trip(capsys, tmp_path / "in", tmp_path)
    assert one["metrics"]["official"]["value"] == pytest.approx(OFFICIAL_V1, abs=1e-9)
    assert two["metrics"]["official"]["value"] == pytest.approx(OFFICIAL_V2, abs=1e-9)
    assert set(files(tmp_path / "out")) == {
        f"{ONE}/eval-set/org/one.json", f"{ONE}/eval-set-scores/org/one.json",
        f"{TWO}/eval-set/org/two.json", f"{TWO}/eval-set-scores/org/two.json",
    }  # fmt: skip


def test_what_the_analysis_reads(tmp_path: Path, capsys: Capture) -> None:
    scores(tmp_path / "in", "org/one", plain(v1_columns("org/one")))
    scores(tmp_path / "in", "org/two", plain(v2_columns("org/two")))
    bring(capsys, tmp_path / "in", tmp_path / "r", "-q")
    said = export(capsys, tmp_path / "r", "--out", tmp_path / "out")
    assert "2 records, 4 files" in said
    raw = (tmp_path / "out" / ONE / "eval-set-scores" / "org" / "one.json").read_text()
    found = json.loads(raw)
    assert raw == json.dumps(found, indent=4, sort_keys=True), "as `save_to_hub` writes"
    assert set(found) == {
        "id", "subset", "results", "scores_chosen", "scores_rejected", "model", "model_type", "chat_template",
    }  # fmt: skip
    rows = sorted(zip(*(found[k] for k in ("subset", "id", "scores_chosen", "scores_rejected")), strict=True))
    assert rows == sorted(V1), "ids are numbers"
    assert found["results"] == [int(c > r) for c, r in zip(found["scores_chosen"], found["scores_rejected"], strict=True)]  # fmt: skip
    accuracies = json.loads((tmp_path / "out" / ONE / "eval-set" / "org" / "one.json").read_text())
    assert accuracies == {
        **{subset: mean(float(c > r) for s, _, c, r in V1 if s == subset) for subset, *_ in V1},
        "model": "org/one", "model_type": "Seq. Classifier", "chat_template": None,
    }  # fmt: skip
    second = json.loads((tmp_path / "out" / TWO / "eval-set-scores" / "org" / "two.json").read_text())
    rows_2 = sorted(zip(*(second[k] for k in ("subset", "id", "scores", "num_correct")), strict=True))
    assert rows_2 == sorted((s, i, list(map(float, values)), n) for s, i, values, n in V2)
    ties = json.loads((tmp_path / "out" / TWO / "eval-set" / "org" / "two.json").read_text())
    assert ties["Ties"] == pytest.approx(1.01)
    assert ties["Focus"] == 0.25
    assert ties["Factuality"] == 0.5


@pytest.mark.parametrize(
    ("fingerprint", "name"),
    [
        ({"kind": "hf"}, "Seq. Classifier"),
        ({"kind": "dpo", "reference": "none"}, "DPO Ref. Free"),
        ({"kind": "dpo", "reference": "sha256:0"}, "DPO"),
        ({"kind": "judge"}, "Generative RM"),
        ({"kind": "baseline", "name": "length"}, "Custom Classifier"),
        ({"kind": "published", "model_type": "DPO"}, "DPO"),
        ({"kind": "published", "model_type": ""}, "Custom Classifier"),
    ],
)
def test_a_model_is_exported_as_the_type_that_it_is(fingerprint: dict[str, str], name: str) -> None:
    assert published_type(fingerprint) == name


def test_prior_sets_are_files_of_their_own(tmp_path: Path, capsys: Capture) -> None:
    scores(tmp_path / "in", "org/m", plain(v1_columns("org/m")))
    many = [("summarize", 0, float(k % 3), 1.0) for k in range(12)]  # "row 10" comes after "row 2"
    prior = [(s, 0, c, r) for s, c, r in PRIOR] + many
    scores(tmp_path / "in", "org/m", plain(v1_columns("org/m", prior)), "pref-sets-scores")
    (record,) = round_trip(capsys, tmp_path / "in", tmp_path)
    helpful, shp, summarize = 1.0, 0.0, 4 / 12
    with_three = (8 * OFFICIAL_V1 + (helpful + shp + summarize) / 3) / 9
    assert record["metrics"]["official"]["value"] == pytest.approx(with_three, abs=1e-9)
    assert OFFICIAL_WITH_PRIOR == pytest.approx((8 * OFFICIAL_V1 + (helpful + shp) / 2) / 9)
    out = tmp_path / "out" / ONE
    accuracies = json.loads((out / "pref-sets" / "org" / "m.json").read_text())
    assert {k: accuracies[k] for k in PRIOR_SETS if k in accuracies} == {"anthropic_helpful": 1.0, "shp": 0.0, "summarize": 1 / 3}  # fmt: skip
    assert "shp" not in json.loads((out / "eval-set" / "org" / "m.json").read_text())


def test_files_without_ids_keep_their_order(tmp_path: Path, capsys: Capture) -> None:
    columns = plain(v1_columns("org/dpo", [("hep-go", 0, float(k), 5.0) for k in range(11)]))
    del columns["id"]
    scores(tmp_path / "in", "org/dpo", columns)
    round_trip(capsys, tmp_path / "in", tmp_path)
    found = json.loads((tmp_path / "out" / ONE / "eval-set-scores" / "org" / "dpo.json").read_text())
    assert "id" not in found
    assert found["scores_chosen"] == [float(k) for k in range(11)]


def verdicts_v1(model: str) -> dict[str, Any]:
    columns = {k: v for k, v in plain(v1_columns(model)).items() if not k.startswith("scores_")}
    return {**columns, "results": [1, 0, 0.5, 1, 0, 1, 0], "model_type": "Generative RM"}


def verdicts_v2(model: str) -> dict[str, Any]:
    columns = plain(v2_columns(model))
    picked = [None if subset != "Ties" else row for subset, row in zip(columns["subset"], columns["scores"], strict=True)]  # fmt: skip
    return {**columns, "scores": picked, "model_type": "Generative RM"}


def test_models_that_compare_have_results_and_null_scores(tmp_path: Path, capsys: Capture) -> None:
    scores(tmp_path / "in", "org/judge", verdicts_v1("org/judge"))
    scores(tmp_path / "in", "org/rater", verdicts_v2("org/rater"))
    one, two = round_trip(capsys, tmp_path / "in", tmp_path)
    assert one["metrics"]["official_chat_hard"]["value"] == 0.5, "a tie of a judge is half"
    assert two["metrics"]["official"]["value"] == pytest.approx(OFFICIAL_V2, abs=1e-9), (
        "Ties from its ratings"
    )
    found = json.loads((tmp_path / "out" / ONE / "eval-set-scores" / "org" / "judge.json").read_text())
    assert set(found["scores_chosen"]) == set(found["scores_rejected"]) == {None}
    assert found["model_type"] == "Generative RM"
    assert sorted(found["results"]) == [0, 0, 0, 0.5, 1, 1, 1]
    rater = json.loads((tmp_path / "out" / TWO / "eval-set-scores" / "org" / "rater.json").read_text())
    known = {s for s, row in zip(rater["subset"], rater["scores"], strict=True) if row is not None}
    assert known == {"Ties"}


def test_scores_that_are_null_come_back_as_null(tmp_path: Path, capsys: Capture) -> None:
    columns = plain(v1_columns("org/m"))
    columns["scores_chosen"][0] = None
    scores(tmp_path / "in", "org/m", columns)
    (record,) = round_trip(capsys, tmp_path / "in", tmp_path, "-T", "invalid=wrong")
    assert record["counts"]["invalid"] == 1
    accuracies = json.loads((tmp_path / "out" / ONE / "eval-set" / "org" / "m.json").read_text())
    assert accuracies["alpacaeval-easy"] == 0.0


def data_file(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    lines = [
        {"id": r[1], "subset": r[0], "prompt": f"q {r[0][:3]}", "chosen": "long enough", "rejected": "short"}
        for r in reversed(V1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_our_own_evaluation_with_texts(tmp_path: Path, capsys: Capture) -> None:
    data = data_file(tmp_path)
    evaluate = ["eval", "-m", "length", "-t", "rewardbench", "--data", str(data)]
    assert run([*evaluate, "--results", str(tmp_path / "r1"), "-q", "--json"]) == 0
    (own,) = json.loads(capsys.readouterr().out)
    export(capsys, tmp_path / "r1", "--out", tmp_path / "out", "--data", data)
    path = tmp_path / "out" / ONE / "eval-set-scores" / "local" / "length.json"
    found = json.loads(path.read_text())
    at = found["subset"].index("hep-cpp")
    assert found["text_rejected"][at] == [
        {"role": "user", "content": "q hep"},
        {"role": "assistant", "content": "short"},
    ]
    (back,) = bring(capsys, tmp_path / "out", tmp_path / "r2", "-q", "--data", str(data))
    assert back["model"] == "local/length"
    assert back["identity"]["data"] == own["identity"]["data"]
    for key in ("metrics", "strata", "curves", "undefined"):
        assert back[key] == own[key], key
    assert back["files"]["rewards"]["sha256"] == own["files"]["rewards"]["sha256"]
    (without,) = bring(capsys, tmp_path / "out", tmp_path / "r3", "-q")
    assert without["metrics"]["longer_wins"]["value"] == own["metrics"]["longer_wins"]["value"]


def test_the_same_records_are_the_same_bytes(tmp_path: Path, capsys: Capture) -> None:
    for name in ("org/a", "org/b"):
        scores(tmp_path / "in", name, plain(v1_columns(name)))
    bring(capsys, tmp_path / "in", tmp_path / "r", "-q")
    found = []
    for k, records in enumerate(([tmp_path / "r"], sorted((tmp_path / "r").rglob("*@1"), reverse=True))):
        export(capsys, *records, "--out", tmp_path / f"out{k}")
        export(capsys, *records, tmp_path / "r", "--out", tmp_path / f"out{k}")  # named twice, written again
        found.append(files(tmp_path / f"out{k}"))
    assert len(found[0]) == 4
    assert found[0] == found[1]


def refused(capsys: Capture, *arguments: object) -> str:
    assert run(["export", *map(str, arguments)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_what_cannot_be_exported_is_named_and_nothing_is_written(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    data = data_file(tmp_path)
    assert "nowhere: there is no such file" in refused(
        capsys, "rewardbench", tmp_path / "nowhere", "--out", out
    )
    evaluate = ["eval", "-m", "length", "--results", str(tmp_path / "r"), "-q"]
    assert run([*evaluate, "-t", "rewardbench", "--data", str(data), "--limit", "3"]) == 0
    assert run([*evaluate, "-t", "preference", "--limit", "3"]) == 0
    capsys.readouterr()
    said = refused(capsys, "rewardbench", tmp_path / "r", "--out", out)
    assert "no whole record of rewardbench or rewardbench2; 1 records of a sample" in said
    assert "1 records of other tasks" in said
    scores(tmp_path / "in", "org/m", plain(v1_columns("org/m")))
    bring(capsys, tmp_path / "in", tmp_path / "r", "-q")
    said = export(capsys, tmp_path / "r", "--out", tmp_path / "whole")
    assert "left out: 1 records of a sample (--limit)" in said
    bring(capsys, tmp_path / "in", tmp_path / "r", "-q", "--seed", "1")
    assert "of the same model and version as" in refused(capsys, "rewardbench", tmp_path / "r", "--out", out)
    short = tmp_path / "short.jsonl"
    short.write_text("".join(data.read_text().splitlines(keepends=True)[1:]))
    bring(capsys, tmp_path / "in", tmp_path / "one", "-q")
    said = refused(capsys, "rewardbench", tmp_path / "one", "--out", out, "--data", short)
    assert "'hep-cpp:5' is not in --data" in said
    assert not out.exists()
    (rewards,) = (tmp_path / "one").rglob("*.gz")
    rewards.write_bytes(rewards.read_bytes()[:-9])
    assert run(["export", "rewardbench", str(tmp_path / "one"), "--out", str(out)]) == 1
    assert "damaged or changed" in capsys.readouterr().err
    assert not out.exists()


@given(st.text(min_size=1))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    place = place_of_model(name)
    assert len(place.parts) == 2
    assert not {"..", "."} & set(place.parts)
    assert place.suffix == ".json"


def test_hostile_names_and_two_names_of_one_place(tmp_path: Path, capsys: Capture) -> None:
    columns = plain(v1_columns("../../x\x1b[31m"))
    path = tmp_path / "m.json"
    path.write_text(json.dumps(columns))
    bring(capsys, path, tmp_path / "r", "-q")
    said = export(capsys, tmp_path / "r", "--out", tmp_path / "in" / "out")
    assert "\x1b" not in said
    assert {p.name for p in tmp_path.iterdir()} == {"m.json", "r", "in"}
    assert {p.name for p in (tmp_path / "in").iterdir()} == {"out"}


def test_items_are_exported_as_before(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "items.jsonl"
    assert run(["export", "--task", "bon", "--out", str(out)]) == 0
    assert set(json.loads(out.read_text().splitlines()[0])) == {"id", "prompt", "responses"}
    capsys.readouterr()
    assert "Missing option '-t' / '--task'" in refused(capsys)
    assert "stand behind its name" in refused(capsys, "--task", "bon", "rewardbench", tmp_path, "--out", out)
    assert "stand behind its name" in refused(
        capsys, "--on-bad", "skip", "rewardbench", tmp_path, "--out", out
    )
    assert "Did you mean 'rewardbench'" in refused(capsys, "rewardbnch")
