"""RewardBench's published results become records; every trap of their format is here."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from layouts import (
    OFFICIAL_V1,
    OFFICIAL_V2,
    OFFICIAL_WITH_PRIOR,
    PRIOR,
    V1,
    importer,
    scores,
    v1_columns,
    v2_columns,
    write,
)

from rmbench.cli.main import run

Capture = pytest.CaptureFixture[str]


bring = importer("rewardbench")


def refused(capsys: Capture, path: Path, results: Path, *options: str) -> str:
    assert run(["import", "rewardbench", str(path), "--results", str(results), *options]) == 2
    assert not list(results.rglob("*.json")), "nothing is written"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def value(record: dict[str, Any], metric: str) -> float:
    return float(record["metrics"][metric]["value"])


def test_both_versions_in_one_layout(tmp_path: Path, capsys: Capture) -> None:
    scores(tmp_path, "org/one", v1_columns("org/one"))
    scores(tmp_path, "org/two", v2_columns("org/two"))
    one, two = bring(capsys, tmp_path, tmp_path / "r", "-q")
    assert (one["model"], one["task"], two["model"], two["task"]) == ("org/one", "rewardbench", "org/two", "rewardbench2")  # fmt: skip
    assert value(one, "official") == pytest.approx(OFFICIAL_V1, abs=1e-9)
    assert value(two, "official") == pytest.approx(OFFICIAL_V2, abs=1e-9), (
        "Ties from scores, not from results"
    )
    assert value(one, "longer_wins") == 1.0, "templated texts differ by their replies alone"
    assert one["provenance"]["data"] == "eval-set-scores/org/one.json"


def test_unknown_prompts_are_said_where_no_data_is_given(tmp_path: Path, capsys: Capture) -> None:
    scores(tmp_path, "org/one", v1_columns("org/one"))
    assert run(["import", "rewardbench", str(tmp_path), "--results", str(tmp_path / "r")]) == 0
    assert "items that share one count as independent" in capsys.readouterr().err


def test_records_work_as_any_other(tmp_path: Path, capsys: Capture) -> None:
    for k, name in enumerate(("org/a", "org/b")):
        rows = V1 * 1 if k else [(*r[:2], r[3], r[2]) for r in V1]
        scores(tmp_path, name, v1_columns(name, rows))
    results = tmp_path / "r"
    a, b = bring(capsys, tmp_path, results, "-q")
    assert a["identity"]["data"] == b["identity"]["data"], "the texts of each model differ, the items do not"
    assert run(["compare", "org/a", "org/b", "-t", "rewardbench", "--results", str(results)]) == 0
    assert "official_chat_hard" in capsys.readouterr().out
    before = {p: p.read_bytes() for p in results.rglob("*.json")}
    assert run(["remeasure", str(results)]) == 0
    assert {p: p.read_bytes() for p in results.rglob("*.json")} == before
    board = {
        "name": "rb", "title": "RB", "summary": "s", "rank_by": ["o"],
        "columns": [{"id": "o", "task": "rewardbench", "metric": "official", "label": "official"}],
    }  # fmt: skip
    write(tmp_path / "boards" / "rb.yaml", board)
    capsys.readouterr()
    assert run(["leaderboard", "--boards-dir", str(tmp_path / "boards"), "--out", str(tmp_path / "out"), "--results", str(results), "--json"]) == 0  # fmt: skip
    made = json.loads(capsys.readouterr().out)
    assert [r["model"] for r in made["rows"]] == ["org/b", "org/a"]
    assert not made["left_out"]


def test_several_processes_write_what_one_does(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for k in range(3):
        scores(tmp_path / "in", f"org/m{k}", v1_columns(f"org/m{k}", shift=k / 8))
    one = bring(capsys, tmp_path / "in", tmp_path / "r1", "-q")
    two = bring(capsys, tmp_path / "in", tmp_path / "r2", "-q", "--workers", "2")
    assert [{**r, "provenance": 0, "sha256": 0} for r in one] == [
        {**r, "provenance": 0, "sha256": 0} for r in two
    ]
    assert "OMP_NUM_THREADS" not in os.environ, "only the other processes have one thread"


def test_a_second_import_changes_nothing(tmp_path: Path, capsys: Capture) -> None:
    path = scores(tmp_path, "org/one", v1_columns("org/one"))
    bring(capsys, path, tmp_path / "r", "-q")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "r").rglob("*") if p.is_file()}
    assert run(["import", "rewardbench", str(path), "--results", str(tmp_path / "r")]) == 0
    assert "1 records" in (said := capsys.readouterr().err)
    assert "1 there before" in said
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "r").rglob("*") if p.is_file()} == before


def test_scores_may_be_nested_and_a_column_may_be_unknown(tmp_path: Path, capsys: Capture) -> None:
    plain, nested = v1_columns("m"), v1_columns("m")
    for key in ("scores_chosen", "scores_rejected"):
        nested[key] = [[v] for v in nested[key]]
    nested["results"] = [[v] for v in nested["results"]]
    found = [
        bring(capsys, write(tmp_path / name / "m.json", columns), tmp_path / name / "r", "-q")[0]
        for name, columns in (("a", plain), ("b", nested))
    ]
    assert found[0]["identity"] == found[1]["identity"]


def test_a_model_that_only_compares_has_null_scores(tmp_path: Path, capsys: Capture) -> None:
    columns = v1_columns("judge")
    columns |= {"scores_chosen": [None] * 7, "scores_rejected": [None] * 7, "model_type": "Generative RM"}
    columns["results"][0] = 0.5
    path = write(tmp_path / "judge.json", columns)
    assert run(["import", "rewardbench", str(path), "--results", str(tmp_path / "r"), "--json"]) == 0
    said = capsys.readouterr()
    assert "verdicts without scores" in said.err
    (record,) = json.loads(said.out)
    assert value(record, "official_chat") == pytest.approx(0.5 * 100 / 140), "a judge's tie is one half"
    assert record["undefined"]["flip_rate"] == "no pair was compared in both orders"
    del columns["scores_chosen"], columns["scores_rejected"]
    (again,) = bring(capsys, write(tmp_path / "no-columns.json", columns), tmp_path / "r", "-q")
    assert again["metrics"] == record["metrics"]


def test_judges_of_the_second_version_publish_results_without_scores(tmp_path: Path, capsys: Capture) -> None:
    columns = v2_columns("judge")
    del columns["scores"]
    (record,) = bring(capsys, write(tmp_path / "judge.json", columns), tmp_path / "r", "-q")
    assert [value(record, f"official_{s}") for s in ("factuality", "precise_if", "math", "safety", "focus")] == [0.5, 1, 0, 1, 0.25]  # fmt: skip
    assert record["counts"]["dropped"] == {"rows of Ties without scores": 2}
    assert "no item of the subset Ties" in record["undefined"]["official"]


def test_dpo_files_have_no_ids_and_reference_free_runs_are_models_of_their_own(
    tmp_path: Path, capsys: Capture
) -> None:
    columns = v1_columns("org/dpo")
    del columns["id"]
    scores(tmp_path, "org/dpo", columns)
    scores(tmp_path, "org/dpo_ref_free", v1_columns("org/dpo", shift=1.0))
    assert run(["import", "rewardbench", str(tmp_path), "--results", str(tmp_path / "r"), "--json"]) == 0
    said = capsys.readouterr()
    assert "org/dpo: no ids" in said.err
    dpo, free = json.loads(said.out)
    assert (dpo["model"], free["model"]) == ("org/dpo", "org/dpo_ref_free")
    assert value(dpo, "official") == value(free, "official")


def test_the_template_that_a_file_names_is_not_believed(tmp_path: Path, capsys: Capture) -> None:
    # Published is what the command line said, also where the tokenizer's own template was used.
    found = []
    for name, template in (("a", "tulu"), ("b", "tokenizer"), ("c", None)):
        path = write(tmp_path / name / "m.json", {**v1_columns("m"), "chat_template": template})
        found += bring(capsys, path, tmp_path / name / "r", "-q")
    assert found[0]["identity"] == found[1]["identity"] == found[2]["identity"]
    assert "tulu" not in json.dumps(found)


def test_revisions_of_the_second_version_are_models_of_their_own(tmp_path: Path, capsys: Capture) -> None:
    scores(tmp_path, "org/m", v2_columns("org/m"))
    scores(tmp_path, "org/m-step_100", v2_columns("org/m"))
    found = bring(capsys, tmp_path, tmp_path / "r", "-q")
    assert {r["model"] for r in found} == {"org/m", "org/m-step_100"}, (
        "the path tells them apart, the file does not"
    )


def test_rows_of_the_command_line_tool_are_scores_too(tmp_path: Path, capsys: Capture) -> None:
    columns = v1_columns("m")
    rows = [
        {
            "prompt": "q", "results": columns["results"][k], "subset": columns["subset"][k],
            "scores_chosen": [columns["scores_chosen"][k]], "scores_rejected": [columns["scores_rejected"][k]],
            "text_chosen": columns["text_chosen"][k], "text_rejected": columns["text_rejected"][k],
            "chosen_model": "a", "rejected_model": "b", "id": columns["id"][k],
        }
        for k in range(7)
    ]  # fmt: skip
    path = tmp_path / "m_outputs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (record,) = bring(capsys, path, tmp_path / "r", "-q")
    assert value(record, "official") == pytest.approx(OFFICIAL_V1, abs=1e-9)


def test_prior_sets_are_joined_where_there_are_scores(tmp_path: Path, capsys: Capture) -> None:
    scores(tmp_path, "org/m", v1_columns("org/m"))
    rows = [(s, 0, c, r) for s, c, r in PRIOR] + [
        ("mtbench_gpt4", 0, 0.0, 1.0),
        ("summarize_prompted", 0, 0.0, 1.0),
    ]
    scores(tmp_path, "org/m", v1_columns("org/m", rows), "pref-sets-scores")
    (record,) = bring(capsys, tmp_path, tmp_path / "r", "-q")
    assert value(record, "official") == pytest.approx(OFFICIAL_WITH_PRIOR, abs=1e-9)
    assert record["counts"]["dropped"] == {"rows of other subsets": 2}
    (without,) = bring(capsys, tmp_path, tmp_path / "r", "-q", "--no-prior-sets")
    assert value(without, "official") == pytest.approx(OFFICIAL_V1, abs=1e-9)
    scores(tmp_path, "org/n", v1_columns("org/n"))
    write(tmp_path / "pref-sets" / "org/n.json", {"shp": 0.5, "anthropic": 0.1, "model": "org/n"})
    assert run(["import", "rewardbench", str(tmp_path), "--results", str(tmp_path / "r2")]) == 0
    assert "org/n: prior sets are published as accuracies only" in capsys.readouterr().err


def test_published_accuracies_and_results_are_checked_against_the_scores(
    tmp_path: Path, capsys: Capture
) -> None:
    columns = v1_columns("org/m")
    columns["results"][0] = 0
    scores(tmp_path, "org/m", columns)
    write(tmp_path / "eval-set" / "org/m.json", {"alpacaeval-easy": 0.0, "hep-cpp": 0.0, "model": "org/m"})
    scores(tmp_path, "org/v2", v2_columns("org/v2"))
    write(tmp_path / "eval-set" / "org/v2.json", {"Ties": 0.5, "Math": 0.0, "model": "org/v2"})
    assert run(["import", "rewardbench", str(tmp_path), "--results", str(tmp_path / "r")]) == 0
    said = capsys.readouterr().err
    assert "org/m: 1 published results are not what the scores say; the scores count" in said
    assert "org/m: alpacaeval-easy: published accuracy 0.0000, its scores give 1.0000" in said
    assert "hep-cpp" not in said
    assert "org/v2: official_ties: published 0.5000, its scores give 1.0100" in said
    assert "official_math" not in said


def test_concatenated_objects_and_lists_are_rows(tmp_path: Path, capsys: Capture) -> None:
    columns = v1_columns("m")
    rows = [{k: v[n] if isinstance(v, list) else v for k, v in columns.items()} for n in range(7)]
    (tmp_path / "cat.json").write_text(
        "\n".join(json.dumps(r, indent=4, sort_keys=True) for r in rows) + "\n"
    )
    (tmp_path / "list.json").write_text(json.dumps(rows))
    found = [
        bring(capsys, tmp_path / name, tmp_path / "r", "-q")[0]["identity"]
        for name in ("cat.json", "list.json")
    ]
    whole = bring(capsys, write(tmp_path / "whole.json", columns), tmp_path / "r", "-q")[0]["identity"]
    assert found == [whole, whole]


def test_joined_with_the_data_by_id_and_subset_never_by_text(tmp_path: Path, capsys: Capture) -> None:
    data = tmp_path / "data.jsonl"
    lines = [
        {"id": r[1], "subset": r[0], "prompt": f"q {r[0][:3]}", "chosen": "long enough", "rejected": "short"}
        for r in reversed(V1)
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = scores(tmp_path, "org/m", v1_columns("org/m"))
    results = tmp_path / "r"
    (record,) = bring(capsys, path, results, "-q", "--data", str(data))
    assert run(["eval", "-m", "length", "-t", "rewardbench", "--data", str(data), "--results", str(results), "-q", "--json"]) == 0  # fmt: skip
    (own,) = json.loads(capsys.readouterr().out)
    assert record["identity"]["data"] == own["identity"]["data"], "stands beside our own runs"
    assert value(record, "official") == pytest.approx(OFFICIAL_V1, abs=1e-9)
    assert run(["compare", "org/m", "length", "-t", "rewardbench", "--results", str(results)]) == 0
    capsys.readouterr()
    # Rows of another revision are missing: that is said, and nothing is guessed.
    shorter = v1_columns("org/old", V1[:-1])
    said = refused(capsys, scores(tmp_path, "org/old", shorter), tmp_path / "r2", "--data", str(data))
    assert "no row for 1 of 7 items" in said
    assert "'hep-cpp:5'" in said


def test_a_file_without_ids_follows_the_order_of_the_data_within_a_subset(
    tmp_path: Path, capsys: Capture
) -> None:
    rows = [
        ("hep-go", 7, 1.0, 0.0),
        ("hep-go", 3, 0.0, 1.0),
        ("math-prm", 1, 1.0, 0.0),
        ("hep-go", 9, 1.0, 0.0),
    ]
    data = tmp_path / "data.jsonl"
    lines = [
        {"id": r[1], "subset": r[0], "prompt": f"q {k}", "chosen": "a", "rejected": "b"}
        for k, r in enumerate(rows)
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with_ids, without = v1_columns("m", rows), v1_columns("m", rows)
    del without["id"]
    found = [
        bring(capsys, write(tmp_path / f"{k}.json", c), tmp_path / f"r{k}", "-q", "--data", str(data))[0]
        for k, c in enumerate((with_ids, without))
    ]
    assert found[0]["files"]["rewards"]["sha256"] == found[1]["files"]["rewards"]["sha256"]
    del without["text_chosen"]
    for column in without.values():
        if isinstance(column, list):
            column.pop()
    said = refused(capsys, write(tmp_path / "short.json", without), tmp_path / "r", "--data", str(data))
    assert "no row for 3 of 4 items" in said, "fewer rows than items: an order would be a guess"


def change(columns: dict[str, Any], **new: Any) -> dict[str, Any]:
    return {**columns, **new}


BAD = [
    (change(v1_columns("m"), id=[0, 1, 2, 3, 4, 5]), "columns differ in length: .*id 6"),
    (change(v1_columns("m"), id=[0] * 7, subset=["hep-go"] * 7), "line 2, key 'id': 'hep-go:0' occurs twice"),
    (change(v1_columns("m"), scores_chosen=[[1.0, 2.0]] * 7), "line 1, key 'scores_chosen': a list of 2; expected one number"),
    (change(v1_columns("m"), scores_chosen=["1.0"] * 7), "line 1, key 'scores_chosen': '1.0'; expected one number"),
    (change(v1_columns("m"), scores_chosen=[1.0, None] + [1.0] * 5), "1 of 7 items have a score that is null or not finite .first: 'mt-bench-med:1'.*-T invalid=wrong"),
    (change(v1_columns("m"), scores_chosen=[1.0, float("nan")] + [1.0] * 5), "null or not finite"),
    (change(v1_columns("m"), subset=["hep-ruby"] * 7), "no row of a known subset; found hep-ruby"),
    (change(v1_columns("m"), subset=[None] * 7), "key 'subset': the column is missing"),
    ({"alpacaeval-easy": 0.9, "model": "m"}, "accuracies, not scores.*eval-set-scores/"),
    (change(v2_columns("m"), num_correct=None), "num_correct"),
    (change(v2_columns("m"), id=["0"] * 8), "'Factuality:0' occurs twice"),
    (change(v2_columns("m"), id=[str(k) for k in range(8)]), "expected ref:N or tied:N"),
    (change(v2_columns("m"), scores=[[1.0]] * 8), "expected a list of more than 1 scores"),
    (change(v2_columns("m"), scores=None, results=[0.7] * 8), "0.7; expected 0 or 1/k"),
    (change(v1_columns("m"), scores_chosen=None, scores_rejected=None, results=[2] * 7), "2.0; expected 0, 0.5 or 1"),
    ([1, 2], "expected an object of columns"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "said"), BAD, ids=[s[:30] for _, s in BAD])
def test_what_does_not_fit_is_named(tmp_path: Path, capsys: Capture, content: Any, said: str) -> None:
    if isinstance(content, dict):
        content = {k: v for k, v in content.items() if v is not None}
    path = write(tmp_path / "m.json", content)
    found = refused(capsys, path, tmp_path / "r")
    assert "m.json" in found
    assert re.search(said, found), found


def test_a_truncated_download_is_named_and_may_be_left_out(tmp_path: Path, capsys: Capture) -> None:
    whole = scores(tmp_path, "org/a", v1_columns("org/a"))
    cut = scores(tmp_path, "org/b", v1_columns("org/b"))
    cut.write_bytes(cut.read_bytes()[:-40])
    said = refused(capsys, tmp_path, tmp_path / "r")
    assert "b.json: not valid JSON, or cut off after" in said
    cut.write_text("")
    assert "b.json: the file is empty" in refused(capsys, tmp_path, tmp_path / "r")
    assert (
        run(["import", "rewardbench", str(tmp_path), "--results", str(tmp_path / "r"), "--on-bad", "skip"])
        == 0
    )
    said = capsys.readouterr().err
    assert "left out: " in said
    assert "b.json" in said
    assert whole.exists()
    assert len(list((tmp_path / "r").rglob("*@1/*.json"))) == 1


def test_nan_is_taken_as_published_where_it_is_allowed(tmp_path: Path, capsys: Capture) -> None:
    columns = v1_columns("m")
    columns["scores_chosen"][0] = None
    path = write(tmp_path / "m.json", columns)
    (record,) = bring(capsys, path, tmp_path / "r", "-q", "-T", "invalid=wrong")
    assert value(record, "official_chat") == 0.0
    assert record["counts"]["invalid"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rewardbnch", "."], "unknown results format 'rewardbnch'. Did you mean 'rewardbench'"),
        (["rewardbench", "nowhere"], "nowhere: there is no such file or folder"),
        (["rewardbench", "."], "no scores file; looked for eval-set-scores/<org>/<model>.json"),
    ],
)
def test_wrong_usage_is_named(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["import", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_hostile_name_does_no_harm(tmp_path: Path, capsys: Capture) -> None:
    columns = v1_columns("../../x\x1b[31m|<b>")
    path = write(tmp_path / "in" / "m.json", columns)
    assert run(["import", "rewardbench", str(path), "--results", str(tmp_path / "in" / "r")]) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert {p.name for p in tmp_path.iterdir()} == {"in"}


def test_without_texts_there_is_no_number_about_length(tmp_path: Path, capsys: Capture) -> None:
    columns = {k: v for k, v in v1_columns("m").items() if not k.startswith("text_")}
    (record,) = bring(capsys, write(tmp_path / "m.json", columns), tmp_path / "r", "-q")
    assert record["undefined"]["longer_wins"] == "lengths of the responses are not known"
    assert "longer_wins" not in record["metrics"]
