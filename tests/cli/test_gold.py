"""`--gold`: another gold than the data's, from the command line to the record."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run

SELF = "it is the model that is evaluated"


@pytest.fixture
def pools(tmp_path: Path) -> Path:
    """Twelve questions with four solutions each; two are right, one says nothing."""
    path = tmp_path / "pools.jsonl"
    rows = [
        {
            "id": f"q{k}",
            "prompt": f"How much is {k} + 1?",
            "responses": [f"{k} + 1 = {k + 1}", "I do not know.", f"It is {k}.", f"\\boxed{{{k + 1}.0}} is the answer"],
            "gold": [0, 0, 0, 0],
            "answer": k + 1,
            "checks": [{"name": "words", "at_most": 4}, {"name": "ends_with", "text": "."}],
        }
        for k in range(12)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def evaluate(data: Path, *more: str, model: str = "length", task: str = "bon") -> int:
    results = data.parent / "results"
    return run(["eval", "-m", model, "-t", task, "--data", str(data), "--results", str(results), "-q", *more])


def records(data: Path) -> list[dict[str, Any]]:
    found = sorted((data.parent / "results").rglob("*.json"), key=lambda p: p.stat().st_mtime_ns)
    return [json.loads(p.read_text()) for p in found]


def stored_gold(data: Path) -> list[Any]:
    import gzip

    path = next((data.parent / "results").rglob("*.rewards.jsonl.gz"))
    return [json.loads(line)["gold"] for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_a_verifier_replaces_the_gold(pools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(pools, "--gold", "verifier:math") == 0
    shown = capsys.readouterr().out
    assert "gold: verifier:math (version 2, seconds 10.0, tolerance 0.0)" in shown
    assert "gold of 12 responses: no answer found" in shown
    assert stored_gold(pools) == [[1.0, 0.0, 0.0, 1.0]] * 12
    (record,) = records(pools)
    assert record["identity"]["gold"] == {
        "spec": "verifier:math", "kind": "verifier", "gold_kind": "label", "name": "math", "version": "2",
        "options": {"seconds": "10.0", "tolerance": "0.0"},
    }  # fmt: skip
    assert record["counts"]["gold"] == {"no answer found": 12}
    assert record["metrics"]["gold@1"]["value"] == 0.5


def test_instruction_gold_is_graded(pools: Path) -> None:
    assert evaluate(pools, "--gold", "verifier:instruction") == 0
    assert stored_gold(pools)[0] == [0.5, 1.0, 1.0, 0.5]
    assert records(pools)[0]["identity"]["gold"]["gold_kind"] == "graded"


def test_instruction_gives_the_embedded_data_its_own_gold(tmp_path: Path) -> None:
    arguments = ["eval", "-m", "length", "-t", "bon", "--limit", "20", "--results", str(tmp_path), "-q"]
    assert run(arguments) == 0
    assert run([*arguments, "--gold", "verifier:instruction"]) == 0
    a, b = (json.loads(p.read_text()) for p in tmp_path.rglob("*.json"))
    assert a["metrics"] == b["metrics"]
    assert a["run_id"] != b["run_id"]


def test_identity_and_data_follow_the_gold(pools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(pools) == 0
    for gold in (
        ["verifier:math"], ["verifier:math", "-G", "tolerance=0.5"], ["verifier:exact"], ["shortest"], ["random"],
    ):  # fmt: skip
        assert evaluate(pools, "--gold", *gold) == 0
    found = records(pools)
    assert len({r["run_id"] for r in found}) == 6
    assert len({r["identity"]["data"] for r in found}) == 6
    assert "gold" not in found[0]["identity"]
    assert "gold" not in found[0]["counts"]
    capsys.readouterr()
    ids = [r["run_id"] for r in found]
    paths = [next((pools.parent / "results").rglob(f"{i}.json")) for i in (ids[0], ids[3])]
    assert run(["compare", *map(str, paths), "-t", "bon"]) == 2
    assert "not measured on the same items" in capsys.readouterr().err


def test_another_model_gives_graded_gold(pools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(pools, "--gold", "builtin:linear") == 0
    assert "gold: the scores of builtin:linear (" in capsys.readouterr().out
    (record,) = records(pools)
    assert record["identity"]["gold"]["gold_kind"] == "graded"
    assert record["identity"]["gold"]["model"]["kind"]
    gold = stored_gold(pools)
    assert len({value for row in gold for value in row}) > 12
    assert record["provenance"]["gold_computed"] == record["counts"]["distinct_texts"]


ASKED = """
import pathlib
LOG = pathlib.Path(__file__).with_suffix(".log")
class Logged:
    def __init__(self, factor: float = 1.0, bad: bool = False):
        self.factor, self.bad = factor, bad
    def fingerprint(self):
        return {"kind": "logged", "factor": str(self.factor)}
    def score(self, batch):
        with LOG.open("a") as file:
            file.write("asked\\n" * len(batch))
        if self.bad:
            raise RuntimeError("out of order")
        return [self.factor * len(t[-1]["content"]) for t in batch]
"""


def test_a_second_run_asks_neither_model(pools: Path) -> None:
    proxy, gold = pools.with_name("proxy.py"), pools.with_name("gold.py")
    for file in (proxy, gold):
        file.write_text(ASKED + f"NAME = {file.stem!r}\n")
    arguments = ["--gold", f"{gold}:Logged", "-G", "factor=-1"]
    assert evaluate(pools, *arguments, model=f"{proxy}:Logged") == 0
    asked = [file.with_suffix(".log").read_text() for file in (proxy, gold)]
    assert [text.count("asked") for text in asked] == [48, 48]
    assert evaluate(pools, *arguments, model=f"{proxy}:Logged") == 0
    shutil.rmtree(pools.parent / "results")  # the stores alone answer
    assert evaluate(pools, *arguments, model=f"{proxy}:Logged") == 0
    assert [file.with_suffix(".log").read_text() for file in (proxy, gold)] == asked
    # The gold of a run is kept where the model then fails, and the next run goes on from it.
    assert evaluate(pools, *arguments, "-M", "bad=yes", "-M", "factor=3", model=f"{proxy}:Logged") == 1
    assert gold.with_suffix(".log").read_text() == asked[1]


def test_self_gold_is_refused_or_said(pools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(pools, "--gold", "length") == 2
    assert SELF in capsys.readouterr().err
    # The same model by another name is known by its fingerprint.
    file = pools.with_name("own.py")
    file.write_text(ASKED)
    other = pools.with_name("sub") / ".." / "own.py"
    other.parent.parent.mkdir()
    assert evaluate(pools, "--gold", f"{other}:Logged", model=f"{file}:Logged") == 2
    shown = capsys.readouterr().err
    assert SELF in shown
    assert len(shown.strip().splitlines()) == 1
    assert not records(pools)
    assert evaluate(pools, "--gold", "length", "--self-gold") == 0
    assert "length (self-gold)" in capsys.readouterr().out
    (record,) = records(pools)
    assert record["identity"]["gold"]["relation"] == "self-gold"
    assert record["model"] == "length (self-gold)"
    assert evaluate(pools, "--gold", "length", "--self-gold") == 0
    assert len(records(pools)) == 1


def test_a_verifier_that_fails_leaves_the_gold_unknown(
    pools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = pools.with_name("fails.py")
    file.write_text(
        "from rmbench.gold.verifier import Verdict\n"
        "class Fails:\n"
        "    version, gold_kind = '1', 'label'\n"
        "    def verify(self, response, expected):\n"
        "        if expected['answer'] == '1':\n"
        "            return Verdict(None, 'timed out')\n"
        "        return Verdict(float('know' in response))\n"
    )
    assert evaluate(pools, "--gold", f"verifier:{file}:Fails") == 0
    assert "gold of 4 responses: unknown: timed out" in capsys.readouterr().out
    (record,) = records(pools)
    assert record["counts"]["best_of_n"]["items_without_gold"] == 1
    assert record["counts"]["best_of_n"]["pools"] == 11
    assert stored_gold(pools)[0] == [None] * 4
    assert len(record["identity"]["gold"]["source_sha256"]) == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gold", "verifier:maths"], "Did you mean 'math'"),
        (["--gold", "verifier:math", "-G", "toleranc=1"], "Did you mean 'tolerance'"),
        (["--gold", "verifier:python"], "allow_execution=yes"),
        (["--gold", "verifier:regex"], "item 'q0': the item has no 'pattern'"),
        (["--gold", "lenght"], "Did you mean 'length'"),
        (["-G", "a=1"], "belong to --gold"),
        (["--self-gold"], "belong to --gold"),
        (["--gold", "shortest", "-G", "a"], "expected key=value"),
    ],
)
def test_what_does_not_fit_is_one_line(
    pools: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert evaluate(pools, *arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown.strip().splitlines()) == 1
    assert not (pools.parent / "results").exists()


def test_a_verifier_that_raises_is_named(pools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = pools.with_name("raises.py")
    file.write_text(
        "class Raises:\n"
        "    version, gold_kind = '1', 'label'\n"
        "    def verify(self, response, expected):\n"
        "        raise KeyError('x')\n"
        "class Wrong(Raises):\n"
        "    def verify(self, response, expected):\n"
        "        return 1.0\n"
    )
    assert evaluate(pools, "--gold", f"verifier:{file}:Raises") == 1
    assert "item 'q0': it raised KeyError" in capsys.readouterr().err
    assert evaluate(pools, "--gold", f"verifier:{file}:Wrong") == 1
    assert "expected a Verdict" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("answer", True, "expected text"),
        ("answer", [], "expected text"),
        ("checks", [{"exactly": 1}], "objects with 'name'"),
        ("schema", "x", "a JSON schema"),
        ("pattern", 3, "expected text"),
    ],
)
def test_what_an_item_expects_is_checked(
    pools: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any, message: str
) -> None:
    rows = [json.loads(line) for line in pools.read_text().splitlines()]
    rows[3][key] = value
    pools.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert evaluate(pools) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "line 4" in shown


def test_a_record_with_another_gold_is_remeasured_to_the_same_bytes(
    pools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(pools, "--gold", "verifier:math") == 0
    before = records(pools)
    assert run(["remeasure", str(pools.parent / "results")]) == 0
    assert records(pools) == before


def test_verifiers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verifiers"]) == 0
    shown = capsys.readouterr().out
    assert "isolation" in shown
    assert "share the kernel" in shown
    assert run(["verifiers", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    own = {"exact", "instruction", "json-schema", "math", "python", "regex"}
    assert own <= set(rows)
    allowed, *_ = rows["python"]["options"]
    assert (allowed["name"], allowed["type"], allowed["default"]) == ("allow_execution", "yes|no", "False")
    assert all(option["summary"] for name in own for option in rows[name]["options"])


def test_programs_are_isolated_and_the_record_says_how(pools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [json.loads(line) for line in pools.read_text().splitlines()]
    for row in rows:
        row["responses"] = ["def f():\n    return 1\n", "import os\nos._exit(96)\n"]
        row |= {"gold": [0, 0], "tests": "assert f() == 1"}
    pools.write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    allowed = ("--gold", "verifier:python", "-G", "allow_execution=yes")
    monkeypatch.setattr("rmbench.gold.program.problem_of", lambda kind: "" if kind == "none" else "forbidden")
    assert evaluate(pools, *allowed) == 2
    assert evaluate(pools, *allowed, "-G", "isolation=none") == 0
    assert stored_gold(pools) == [[1.0, 0.0]] * 2
    (record,) = records(pools)
    assert record["identity"]["gold"]["options"]["isolation"] == "none"
    assert record["provenance"]["gold"] == {"isolation": "none"}


def test_kinds_of_isolation_are_one_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    from rmbench.gold.source import VerifierGold, load_gold
    from rmbench.models.runtime import Runtime

    monkeypatch.setattr("rmbench.gold.program.problem_of", lambda kind: "")
    told = []
    for kind in ("auto", "unshare", "bwrap", "none"):
        gold = load_gold("verifier:python", {"allow_execution": "yes", "isolation": kind}, Runtime())
        assert isinstance(gold, VerifierGold)
        told.append(gold.identity["options"])
    assert told[0] == told[1] == told[2] != told[3]
    assert "isolation" not in told[0]
