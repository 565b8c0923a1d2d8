"""`rmbench sample` as a user meets it: pools, resume, kills, refusals."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from kills import wait_until

torch = pytest.importorskip("torch", reason="needs the extra hf")

from rmbench.cli.main import run  # noqa: E402
from rmbench.sampling.prompts import limited, read_prompts  # noqa: E402

ROWS: list[dict[str, Any]] = [
    {"id": f"q{k}", "prompt": f"What is {k} and {word}?"} for k, word in enumerate("abcdefgh")
]
Put = Callable[..., Path]


def arguments(policy: Path, prompts: Path, out: Path, *more: str) -> list[str]:
    given = ["-n", "4", "--max-tokens", "10", "--device", "cpu", "--dtype", "float32", "-q"]
    return ["sample", "--policy", str(policy), "--prompts", str(prompts), "--out", str(out), *given, *more]


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    for word in words:
        assert word in error


def test_a_pool_with_gold_is_data_for_best_of_n(
    policy: Path, put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me all."}]
    given = [
        ROWS[0], {"id": 7, "prompt": turns, "strata": {"kind": "chat"}, "cluster": "c", "topic": "all"},
        {"prompt": "0 1 2", "answer": "3"}, {"prompt": "0 1 2"},
    ]  # fmt: skip
    pool = tmp_path / "deep" / "pool.jsonl"
    assert run([*arguments(policy, put(given), pool, "--json")]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = rows_in(pool)
    assert [(r["id"], r["prompt"]) for r in rows[:2]] == [("q0", ROWS[0]["prompt"]), ("7", turns)]
    assert rows[1]["strata"] == {"kind": "chat"}
    assert rows[1]["cluster"] == "c"
    assert rows[2]["answer"] == "3"
    assert len(rows) == 3
    assert told["left_out"] == {"prompt stands before already": 1}
    assert "topic" in told["notes"][0]
    tags = [tag for r in rows for tag in r["tags"]]
    assert told["pool"] == {
        "prompts": 3, "responses": 12, "tokens": sum(int(t["tokens"]) for t in tags),
        "empty": sum(not text.strip() for r in rows for text in r["responses"]),
        "prompts_with_empty": sum(any(not text.strip() for text in r["responses"]) for r in rows),
        "cut": sum(t["finish"] == "length" for t in tags),
    }  # fmt: skip
    assert told["pool"]["cut"] > 0
    for row in rows:
        assert len(row["responses"]) == len(row["logprobs"]) == len(row["tags"]) == 4
        assert row["sampling"]["untempered_logprobs"] == row["logprobs"]
        assert {**row["sampling"], "untempered_logprobs": 0} == {**told["sampling"], "untempered_logprobs": 0}
        assert row["sampling"]["weights"].startswith("sha256:")
        row["gold"] = [len(text) for text in row["responses"]]
        row["responses"] = [text.strip() or "-" for text in row["responses"]]
    with_gold = put(rows, "gold.jsonl")
    evaluated = ["eval", "-m", "length", "-t", "bon", "--data", str(with_gold), "--json"]
    assert run([*evaluated, "--results", str(tmp_path / "results")]) == 0


def test_texts_depend_on_neither_batches_nor_order_nor_limit(policy: Path, put: Put, tmp_path: Path) -> None:
    prompts = put(ROWS)
    assert run(arguments(policy, prompts, tmp_path / "a.jsonl")) == 0
    texts = {r["id"]: r["responses"] for r in rows_in(tmp_path / "a.jsonl")}
    assert len({text for row in texts.values() for text in row}) > 25
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    for size, rows in (("1", ROWS), ("3", shuffled)):
        out = tmp_path / f"{size}.jsonl"
        assert run(arguments(policy, put(rows, "again.jsonl"), out, "--batch-size", size)) == 0
        assert [r["id"] for r in rows_in(out)] == [r["id"] for r in rows]
        assert {r["id"]: r["responses"] for r in rows_in(out)} == texts
    # More responses begin with those of fewer; a limit takes some of the prompts, a larger one adds some.
    grown = tmp_path / "grown.jsonl"
    for limit in ("2", "5"):
        assert run([*arguments(policy, prompts, grown, "--limit", limit), "-n", "6"]) == 0
    found = {r["id"]: r["responses"] for r in rows_in(grown)}
    assert len(found) == 5
    for name, responses in found.items():
        assert responses[:4] == texts[name]


@pytest.mark.long
def test_killed_in_the_middle_it_ends_with_the_same_bytes(
    policy: Path, put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = put([{"prompt": f"{a} {b} Tell me all."} for a in "abcdef" for b in "012345"])
    straight, killed = tmp_path / "straight.jsonl", tmp_path / "killed.jsonl"
    assert run(arguments(policy, prompts, straight)) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "rmbench", *arguments(policy, prompts, killed)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        # As many threads as here: sums in another order differ in their last bits.
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )  # fmt: skip
    wait_until(process, lambda: killed.exists() and killed.read_bytes().count(b"\n") >= 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = killed.read_bytes()
    n_lines = left.count(b"\n")
    assert 3 <= n_lines < 36
    assert straight.read_bytes().startswith(left)
    # A kill within a write, wherever it hits, is a prefix of what was to be written.
    end = left.rstrip(b"\n").rfind(b"\n") + 1
    killed.write_bytes(left[: end + 57])
    capsys.readouterr()
    assert run([*arguments(policy, prompts, killed), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["torn_bytes"] == 57
    assert told["finished_before"] == len(left[:end].splitlines())
    assert told["finished_before"] + told["sampled_now"] == told["pool"]["prompts"] == 36
    assert killed.read_bytes() == straight.read_bytes()
    assert run(arguments(policy, prompts, killed)) == 0
    assert "36 prompts were finished before, 0 sampled now" in capsys.readouterr().out
    assert killed.read_bytes() == straight.read_bytes()


def test_a_torn_first_line_is_cut_and_a_foreign_file_is_left(
    policy: Path, put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = put(ROWS[:2]), tmp_path / "pool.jsonl"
    assert run(arguments(policy, prompts, out)) == 0
    whole = out.read_bytes()
    for torn in (whole[:5], whole[:200]):
        out.write_bytes(torn)
        assert run(arguments(policy, prompts, out)) == 0
        assert "1 unfinished line" in capsys.readouterr().out
        assert out.read_bytes() == whole
    second = whole.splitlines(keepends=True)[1]
    for foreign, words in (
        (b"my notes", ("line 1", "give another --out")),
        (prompts.read_bytes(), ("line 1", "no row of a pool")),
        (b"{}\n" + second, ("line 1", "no row of a pool")),
        (second + b"{\n", ("line 2", "not valid JSON")),
        (second.replace(b'"q1"', b'"q0"'), ("'q0' has another prompt there", "line 1")),
    ):
        out.write_bytes(foreign)
        assert run(arguments(policy, prompts, out)) == 2
        refused(capsys, str(out), *words)
        assert out.read_bytes() == foreign


@pytest.mark.parametrize(
    ("option", "value", "key"),
    [("--temperature", "0.5", "temperature"), ("--seed", "1", "seed"), ("--system", "Hi.", "system"),
     ("-n", "5", "n is 4 there and 5 now"), ("--chat-template", "plain", "format")],
)  # fmt: skip
def test_other_settings_are_refused(
    policy: Path,
    put: Put,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    key: str,
) -> None:
    prompts, out = put(ROWS[:1]), tmp_path / "pool.jsonl"
    assert run(arguments(policy, prompts, out)) == 0
    before = out.read_bytes()
    capsys.readouterr()
    assert run(arguments(policy, put(ROWS), out, option, value)) == 2
    refused(capsys, f"{out}, line 1, key 'sampling'", key)
    assert out.read_bytes() == before


CARRIED: dict[str, Any] = {
    "answer": "42", "strata": {"kind": "maths"}, "cluster": "c", "pattern": "4.", "schema": {"type": "string"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [("answer", "43"), ("strata", {"kind": "chat"}), ("cluster", "d"), ("pattern", "5."), ("answer", None),
     ("schema", {"type": "integer"}), ("checks", [{"name": "lowercase"}]), ("prompt", "What else?")],
)  # fmt: skip
def test_other_keys_of_a_finished_prompt_are_refused(
    policy: Path, put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    rows, out = [ROWS[0], ROWS[1] | CARRIED], tmp_path / "pool.jsonl"
    assert run(arguments(policy, put(rows), out)) == 0
    before = out.read_bytes()
    capsys.readouterr()
    changed = {k: v for k, v in (rows[1] | {key: value}).items() if v is not None}
    assert run(arguments(policy, put([changed, ROWS[0], ROWS[2]]), out)) == 2
    refused(capsys, f"{out}, key '{key}'", f"the row 'q1' has another {key} there", "line 1", "another --out")
    assert out.read_bytes() == before
    assert run(arguments(policy, put([rows[1], ROWS[2], ROWS[0]]), out)) == 0, "another order is no change"
    assert [row["id"] for row in rows_in(out)] == ["q0", "q1", "q2"]
    assert {key: rows_in(out)[1][key] for key in CARRIED} == CARRIED


def test_other_weights_are_refused_and_two_processes_on_one_file_too(
    policy: Path,
    make_policy: Callable[..., Path],
    put: Put,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prompts, out = put(ROWS[:1]), tmp_path / "pool.jsonl"
    assert run(arguments(policy, prompts, out)) == 0
    make_policy(seed=1)  # in the same folder
    capsys.readouterr()
    assert run(arguments(policy, prompts, out)) == 2
    refused(capsys, "weights is 'sha256:")
    with FileLock(tmp_path / ".new.jsonl.lock"):
        assert run(arguments(policy, prompts, tmp_path / "new.jsonl")) == 2
    refused(capsys, "another process is sampling into it")
    assert not (tmp_path / "new.jsonl").exists()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"promt": "x"}, ("line 2", "'prompt'", "did you mean 'promt'")),
        ({"prompt": ""}, ("line 2", "'prompt'", "empty")),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, ("line 2", "ends with an assistant turn")),
        ({"prompt": [{"role": "usr", "content": "x"}]}, ("line 2", "'prompt[0].role'")),
        ({"id": "q0", "prompt": "x"}, ("line 2", "'id'", "the id of line 1")),
        ({"id": True, "prompt": "x"}, ("line 2", "'id'")),
        ({"prompt": "x", "strata": 3}, ("line 2", "'strata'")),
        ({"prompt": "x", "schema": "{}"}, ("line 2", "'schema'", "a JSON schema, an object")),
        ([], ("line 2", "expected an object")),
    ],
)
def test_bad_prompts_are_one_line_or_left_out(
    put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: Any, words: tuple[str, ...]
) -> None:
    prompts, out = put([ROWS[0], row]), tmp_path / "pool.jsonl"
    assert run(arguments(tmp_path / "no-such-policy", prompts, out)) == 2
    refused(capsys, str(prompts), *words)
    assert not out.exists()
    found = read_prompts(prompts, on_bad="skip")
    assert [p.id for p in found.prompts] == ["q0"]
    assert sum(found.left_out.values()) == 1


def test_prompts_that_the_policy_cannot_read(
    policy: Path, put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = put([ROWS[0], {"prompt": "word " * 300}]), tmp_path / "pool.jsonl"
    assert run(arguments(policy, prompts, out)) == 2
    refused(capsys, f"{prompts}, line 2", "256 positions")
    assert not out.exists()
    assert run(arguments(policy, prompts, out, "--on-bad", "skip")) == 0
    assert "left out: 1 for prompt does not fit the policy" in capsys.readouterr().out
    assert len(rows_in(out)) == 1


def test_policies_that_are_none(
    make_checkpoint: Callable[..., Path], put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = put(ROWS), tmp_path / "pool.jsonl"
    folders = (
        (make_checkpoint(folder="reward"), ("LlamaForSequenceClassification gives rewards",)),
        (make_checkpoint(folder="headless", head=False), ("no whole language model", "lm_head.weight")),
        (make_checkpoint("bert", folder="encoder", tokenizer="pair", head=False), ("bert is no decoder",)),
        (tmp_path / "nothing", ("there is no such folder",)),
    )
    capsys.readouterr()  # saving shows a bar
    for folder, words in folders:
        assert run(arguments(folder, prompts, out)) == 2
        refused(capsys, str(folder), *words)
    assert not out.exists()
    for given, words in (
        (["--out", "pool.jsonl.gz", "--prompts", str(prompts)], ("such as pool.jsonl",)),
        (["--out", str(out)], ("--prompts FILE or --task TASK",)),
        (["--out", str(out), "--prompts", str(prompts), "-T", "a=b"], ("belong to --task",)),
        (["--out", str(out), "--prompts", str(tmp_path / "none.jsonl")], ("there is no such file",)),
    ):
        assert run(["sample", "--policy", "x/y", *given]) == 2
        refused(capsys, *words)


def test_the_prompts_of_a_task_and_a_system_message(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for system in ([], ["--system", "Answer like a pirate."]):
        out = tmp_path / f"{len(system)}.jsonl"
        given = ["-t", "bon", "--limit", "2", "-n", "2", "--max-tokens", "6", "--device", "cpu", *system]
        assert run(["sample", "--policy", str(policy), "--out", str(out), *given]) == 0
        assert "generation_config.json asks for temperature 0.3" in capsys.readouterr().err
        assert all(isinstance(r["prompt"], str) for r in rows_in(out))
        texts.append([r["responses"] for r in rows_in(out)])
        assert all(
            r["cluster"] and r["sampling"].get("system") == (system or [None])[-1] for r in rows_in(out)
        )
    assert texts[0] != texts[1]
    own = [{"role": "system", "content": "Mine."}, {"role": "user", "content": "x"}]
    (tmp_path / "own.jsonl").write_text(json.dumps({"prompt": own}) + "\n")
    (prompt,) = read_prompts(tmp_path / "own.jsonl", system="Theirs.").prompts
    assert [turn["content"] for turn in prompt.turns] == ["Mine.", "x"]


def test_a_limit_is_drawn_by_content(put: Put) -> None:
    prompts = read_prompts(put(ROWS)).prompts
    few, more = limited(prompts, 3, 0), limited(prompts, 6, 0)
    assert len(few) == 3
    assert {p.id for p in few} < {p.id for p in more}
    assert [p.id for p in more] == sorted(p.id for p in more)
    assert {p.id for p in limited(prompts[::-1], 3, 0)} == {p.id for p in few}
    assert len({tuple(p.id for p in limited(prompts, 3, seed)) for seed in range(5)}) > 1
