"""A judge on every task kind: both orders asked, averaged, flips reported, the same numbers from the record."""

import json
from pathlib import Path

import pytest

from rmbench.cli.main import run

JUDGE = '''
import json

class Judge:
    """Prefers the reply with more "good"; with `bias`, also whatever is shown first. Writes down what it is asked."""

    def __init__(self, bias: float = 0.0, log: str = ""):
        self.bias, self.log = bias, log

    def fingerprint(self):
        return {"kind": "test-judge", "bias": str(self.bias)}

    def prefer(self, batch):
        if self.log:
            with open(self.log, "a") as file:
                file.writelines(json.dumps([p.first, p.second]) + "\\n" for p in batch)
        z = [p.first.count("good") - p.second.count("good") + self.bias for p in batch]
        return [1 / (1 + 2.718281828459045 ** -v) for v in z]
'''


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "judge.py").write_text(JUDGE)
    rows = [
        {
            "id": f"i{k}",
            "prompt": f"question {k}",
            "responses": [f"{'good ' * n}{k}" for n in ((0, 1, 2) if k % 2 else (2, 0, 1))],
            "gold": [0.0, 1.0, 2.0] if k % 4 else [2.0, 1.0, 0.0],
            "gold_kind": "graded",
        }
        for k in range(24)
    ]
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def evaluate(data: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, object]]:
    folder = data.parent
    command = ["eval", "--model", f"{folder}/judge.py:Judge", *options, "--data", str(data), "--json", "-q"]
    tasks = ["-t", "preference", "-t", "calibration", "-t", "bon"]
    assert (
        run([*command, *tasks, "--results", str(folder / "results"), "--store", str(folder / "store")]) == 0
    )
    return list(json.loads(capsys.readouterr().out))


def test_a_fair_judge_never_flips_and_is_asked_each_order_once(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = data.parent / "asked.jsonl"
    records = evaluate(data, capsys, "-M", f"log={log}")
    asked = [tuple(json.loads(line)) for line in log.read_text().splitlines()]
    assert len(asked) == len(set(asked)) == 24 * 6, "three tasks on the same data share the answers"
    assert {(b, a) for a, b in asked} == set(asked)
    for record in records:
        flips = record["metrics"]["flip_rate"]  # type: ignore[index]
        assert (flips["value"], flips["higher_is_better"]) == (0.0, False)
        assert flips["n"] == 24 * 3


def test_rewards_of_a_judge_are_its_log_odds(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import gzip

    record = evaluate(data, capsys)[0]
    (path,) = data.parent.glob(f"results/*/*/{record['run_id']}.rewards.jsonl.gz")
    first = json.loads(gzip.decompress(path.read_bytes()).splitlines()[0])
    # Differences of "good" counts are the logits, and least squares recovers them exactly: 2, 0, 1 less 1.
    assert first["rewards"] == pytest.approx([1.0, -1.0, 0.0], abs=1e-9)


def test_a_judge_that_likes_the_first_place_flips_and_ranks_the_same(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fair, biased = evaluate(data, capsys), evaluate(data, capsys, "-M", "bias=1.5")
    for a, b in zip(fair, biased, strict=True):
        # Of three pairs with differences 1, 1 and 2, a bias of 1.5 turns the two of difference 1.
        assert b["metrics"]["flip_rate"]["value"] == pytest.approx(2 / 3)  # type: ignore[index]
        primary = a["primary"] if a["primary"] != "ece" else "accuracy"
        assert b["metrics"][primary]["value"] == pytest.approx(a["metrics"][primary]["value"])  # type: ignore[index]


def test_remeasure_and_compare_work_on_a_judges_records(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(data, capsys)
    results = data.parent / "results"
    before = {p: p.read_bytes() for p in results.rglob("*.json")}
    assert run(["remeasure", str(results)]) == 0
    assert {p: p.read_bytes() for p in results.rglob("*.json")} == before
    assert (
        run(["eval", "-m", "length", "-t", "bon", "--data", str(data), "--results", str(results), "-q"]) == 0
    )
    capsys.readouterr()
    assert run(["compare", "judge:Judge", "length", "--task", "bon", "--results", str(results)]) == 0
    assert "win_rate@" in capsys.readouterr().out
