"""The command line, as a user meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rmbench import __version__
from rmbench.cli.main import COMMANDS, run
from rmbench.core.files import to_jsonl_gz


def rows(n: int = 40) -> list[dict[str, Any]]:
    return [
        {
            "id": f"i{k}",
            "prompt": f"question {k}",
            "responses": ["a" * (1 + k % 5), "b" * (1 + (k * 3) % 7), "c" * (1 + (k * 5) % 11)],
            "gold": [k % 3, (k + 1) % 3, (k + 2) % 3],
            "gold_kind": "graded",
            "strata": {"family": "odd" if k % 2 else "even"},
        }
        for k in range(n)
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return path


@pytest.fixture
def evaluated(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    results = tmp_path / "results"
    for task in ("preference", "bon"):
        code = run(
            [
                "eval",
                "-m",
                "length",
                "-m",
                "shortest",
                "-m",
                "random",
                "-t",
                task,
                "--data",
                str(data),
                "--results",
                str(results),
                "-q",
            ]
        )
        assert code == 0
    capsys.readouterr()
    return results


def test_help_and_version_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
    assert run(["--help"]) == 0
    overview = capsys.readouterr().out
    for name in COMMANDS:
        assert name in overview
        assert run([name, "--help"]) == 0
        assert "Usage: rmbench" in capsys.readouterr().out


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Usage: rmbench")
    assert "Commands:" in shown.splitlines()


def test_help_starts_without_heavy_libraries() -> None:
    code = (
        "import sys; from rmbench.cli.main import run; run(['--help']); run(['tasks']); run(['models'])\n"
        "heavy = {'torch', 'transformers', 'vllm', 'sklearn', 'datasets', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_eval_prints_a_table_and_writes_records(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    arguments = ["eval", "-m", "length", "-t", "bon", "--data", str(data), "--results", str(results)]
    assert run(arguments) == 0
    shown = capsys.readouterr()
    assert "win_rate@3" in shown.out
    assert "40 items, 120 responses" in shown.out
    found = list(results.glob("length/bon@1/*.json"))
    assert len(found) == 1
    before = found[0].read_bytes()
    assert run(arguments) == 0
    assert "1 complete before, nothing done" in capsys.readouterr().err
    assert found[0].read_bytes() == before


def test_json_goes_to_stdout_alone(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(
        [
            "eval",
            "-m",
            "length",
            "-t",
            "preference",
            "-t",
            "bon",
            "--data",
            str(data),
            "--results",
            str(tmp_path / "results"),
            "--json",
        ]
    )
    records = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [r["task"] for r in records] == ["preference", "bon"]
    accuracy = records[0]["metrics"]["accuracy"]
    assert set(accuracy) == {"value", "ci95", "stderr", "n", "n_clusters", "unit", "higher_is_better"}
    assert accuracy["n_clusters"] == 40
    assert records[0]["strata"]["family"]["even"]["accuracy"]["n_clusters"] == 20
    assert records[0]["counts"]["responses"] == 120


PREFERENCE = {
    "accuracy", "accuracy_macro", "accuracy_length_controlled", "longer_wins_length_controlled", "longer_wins",
    "ece", "ece_debiased", "ece_debiased_scaled", "ece_equal_width",
    "brier", "brier_reliability", "brier_resolution", "brier_uncertainty", "nll", "auroc_margin", "aurc",
    "temperature", "ece_scaled", "brier_scaled", "nll_scaled", "kendall_tau", "spearman", "margin_mean",
    "margin_median",
    "share_negative",
}  # fmt: skip
BON = {
    f"{name}@{n}"
    for name in ("gold", "win_rate", "recovery", "regret", "oracle", "kl_bound")
    for n in (1, 2, 3)
}
BON |= {"best_n", "overoptimization_drop"}


def test_every_promised_metric_is_there_or_says_why(evaluated: Path) -> None:
    for task, promised in (("preference", PREFERENCE), ("bon", BON)):
        for path in evaluated.glob(f"*/{task}@1/*.json"):
            record = json.loads(path.read_text())
            assert set(record["metrics"]) | set(record["undefined"]) == promised
            assert not set(record["metrics"]) & set(record["undefined"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evl"], "unknown command 'evl'. Did you mean 'eval'?"),
        (["eval", "-m", "lenght", "-t", "bon"], "Did you mean 'length'?"),
        (["eval", "-m", "length", "-t", "bonn"], "unknown task 'bonn'. Did you mean 'bon'?"),
        (["eval", "-m", "length", "-t", "bon", "--sed", "1"], "--seed"),
        (["eval", "-m", "length", "-t", "preference", "-T", "tie=half"], "Did you mean 'ties'?"),
        (["eval", "-m", "length", "-t", "preference", "-T", "ties=hlaf"], "Did you mean 'half'?"),
        (["eval", "-m", "length", "-t", "preference", "-T", "ties"], "expected key=value"),
        (["eval", "-m", "random", "-M", "sed=1", "-t", "bon"], "Did you mean 'seed'?"),
        (["eval", "-M", "seed=1", "-m", "length", "-m", "random", "-t", "bon"], "-M"),
        (["eval", "-m", "length", "-t", "hh-harmless"], "give --data"),
        (["eval", "-m", "length", "-t", "hh-harmless", "--data", "absent.jsonl"], "absent.jsonl"),
        (["eval", "-m", "length", "-t", "bon", "--dtype", "fp32"], "float32"),
        (["tasks", "preferense"], "Did you mean 'preference'?"),
        (["leaderboard", "--results", "absent"], "absent"),
        (["remeasure", "absent"], "absent"),
        (["export", "-t", "judgbench"], "Did you mean 'judgebench'?"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    message = capsys.readouterr().err.strip()
    assert said in message
    assert len(message.splitlines()) == 1
    assert not list(tmp_path.iterdir()), "something was written"


def test_a_malformed_line_stops_before_anything_is_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = data.read_text().splitlines()
    lines[6] = '{"id": "x", "prompt": "p", "responses": ["a", "b"], "gold": [1]}'
    data.write_text("\n".join(lines) + "\n")
    results = tmp_path / "results"
    arguments = ["eval", "-m", "length", "-t", "bon", "--data", str(data), "--results", str(results)]
    assert run(arguments) == 2
    message = capsys.readouterr().err
    assert "items.jsonl, line 7, key 'gold': 1 values; expected one per response, 2" in message
    assert not results.exists()
    assert run([*arguments, "--on-bad", "skip"]) == 0
    assert "left out of the data: 1 for gold and responses differ in length" in capsys.readouterr().out


def test_a_model_that_fails_exits_with_1(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "broken.py"
    model.write_text(
        "class Broken:\n"
        "    def fingerprint(self):\n        return {'kind': 'broken'}\n"
        "    def score(self, batch):\n        return [float('nan')] * len(batch)\n"
    )
    arguments = ["eval", "-m", f"{model}:Broken", "-t", "preference", "--data", str(data)]
    arguments += ["--results", str(tmp_path / "results")]
    assert run(arguments) == 1
    message = capsys.readouterr().err
    assert "120 of 120 rewards are not finite" in message
    assert "-T invalid=drop" in message
    assert not list((tmp_path).rglob("results/**/*.json"))
    assert run(["check", "-m", f"{model}:Broken"]) == 1
    assert "FAIL count and range" in capsys.readouterr().out
    assert run([*arguments, "-T", "invalid=wrong"]) == 0
    record = json.loads(next(tmp_path.rglob("results/**/*.json")).read_text())
    assert record["metrics"]["accuracy"]["value"] == 0.0
    assert record["counts"]["invalid"] == 120


def test_limit_is_a_seeded_sample_and_recorded(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for seed in ("0", "0", "1"):
        arguments = ["eval", "-m", "length", "-t", "bon", "--data", str(data), "--limit", "10", "--json"]
        assert run([*arguments, "--seed", seed, "--results", str(tmp_path / f"r{len(found)}")]) == 0
        found.append(json.loads(capsys.readouterr().out)[0])
    assert found[0]["counts"]["items"] == 10
    assert found[0]["identity"]["limit"] == 10
    assert found[0]["run_id"] == found[1]["run_id"] != found[2]["run_id"]


def test_export_and_scores_close_the_circle(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, scores = tmp_path / "items.out.jsonl", tmp_path / "outside.jsonl"
    assert run(["export", "-t", "bon", "--data", str(data), "--out", str(out)]) == 0
    items = [json.loads(line) for line in out.read_text().splitlines()]
    assert set(items[0]) == {"id", "prompt", "responses"}
    scores.write_text(
        "".join(
            json.dumps({"id": item["id"], "rewards": [len(r) for r in item["responses"]]}) + "\n"
            for item in items
        )
    )
    base = ["--data", str(data), "-t", "bon", "--json", "--results", str(tmp_path / "results")]
    capsys.readouterr()
    assert run(["eval", "-m", f"scores:{scores}", "-m", "length", *base]) == 0
    outside, inside = json.loads(capsys.readouterr().out)
    assert outside["metrics"] == inside["metrics"]


def test_compare_shows_paired_differences_and_items(
    evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--results", str(evaluated), "--task", "preference"]
    assert run(["compare", "length", "shortest", *base]) == 0
    shown = capsys.readouterr().out
    assert "difference (paired)" in shown
    assert "disagree most" in shown
    assert run(["compare", "length", "length", *base, "--json"]) == 0
    same = json.loads(capsys.readouterr().out)
    assert same["metrics"]["accuracy"]["difference"]["value"] == 0
    assert same["metrics"]["accuracy"]["p_value"] == 1
    assert same["disagreements"] == []
    assert run(["compare", "length", "shortst", *base]) == 2
    assert "Did you mean 'shortest'" in capsys.readouterr().err


def test_models_on_other_data_are_not_compared(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows(12)))
    run(["eval", "-m", "constant", "-t", "bon", "--data", str(other), "--results", str(evaluated), "-q"])
    assert run(["compare", "length", "constant", "--task", "bon", "--results", str(evaluated)]) == 2
    assert "not measured on the same items" in capsys.readouterr().err


def test_remeasure_gives_the_same_bytes(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.read_bytes() for p in evaluated.rglob("*") if p.is_file()}
    assert run(["remeasure", str(evaluated)]) == 0
    assert "6 records measured again, 0 changed" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in evaluated.rglob("*") if p.is_file()} == before


def test_remeasure_finds_a_changed_number_and_puts_it_right(
    evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(evaluated.glob("length/preference@1/*.json"))
    before = path.read_text()
    record = json.loads(before)
    record["metrics"]["accuracy"]["value"] = 0.99
    path.write_text(json.dumps(record, indent=1) + "\n")
    assert run(["remeasure", str(evaluated)]) == 0
    assert "length on preference: changed: accuracy" in capsys.readouterr().out
    assert path.read_text() == before


def test_damaged_rewards_are_an_error(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(evaluated.glob("length/preference@1/*.rewards.jsonl.gz"))
    path.write_bytes(to_jsonl_gz([{"id": "i0", "rewards": [1, 2, 3]}]))
    assert run(["remeasure", str(evaluated)]) == 1
    assert "damaged or changed" in capsys.readouterr().err


def test_an_edited_identity_is_no_record(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(evaluated.glob("length/preference@1/*.json"))
    record = json.loads(path.read_text())
    record["identity"]["seed"] = 7
    path.write_text(json.dumps(record))
    assert run(["remeasure", str(evaluated)]) == 2
    assert "run_id does not follow from the identity" in capsys.readouterr().err


def test_environment_variables_set_defaults(data: Path, tmp_path: Path) -> None:
    results = tmp_path / "by-env"
    done = subprocess.run(
        [sys.executable, "-m", "rmbench", "eval", "-m", "length", "-t", "bon", "--data", str(data), "-q"],
        env={**os.environ, "RMBENCH_RESULTS": str(results), "RMBENCH_SEED": "5"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(next(results.rglob("*.json")).read_text())
    assert record["identity"]["seed"] == 5


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_RMBENCH_COMPLETE" in capsys.readouterr().out


def test_completion_completes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from rmbench.cli.main import cli; cli(prog_name='rmbench')"],
        env={
            **os.environ,
            "_RMBENCH_COMPLETE": "bash_complete",
            "COMP_WORDS": "rmbench lea",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "leaderboard" in done.stdout
