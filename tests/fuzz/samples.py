"""Valid inputs of every kind, each with commands that read it: what the campaign damages."""

import csv
import gzip
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

TESTS = Path(__file__).resolve().parent.parent
for place in (TESTS, TESTS / "benchmarks"):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

from rmbench.cli.main import run  # noqa: E402
from rmbench.models.builtin import TINY_FOLDER  # noqa: E402
from rmbench.results.influence import checksum_of  # noqa: E402
from rmbench.results.record import run_id, sealed  # noqa: E402

Mend = Callable[[Path, Path], None]
"""(folder of the case, damaged file): makes hashes right again, so that the damage comes through."""


@dataclass(frozen=True)
class Sample:
    """A folder with valid input, and commands that read it."""

    kind: str
    folder: Path
    files: Sequence[str]
    """Files that are damaged, as patterns below the folder."""
    commands: Sequence[Sequence[str]]
    """Arguments of `rmbench`; `{d}` stands for the folder."""
    mend: Mend | None = None
    weight: float = 1.0
    """How often it is drawn."""

    def paths(self, below: Path) -> list[Path]:
        """Return the files to damage in a copy of the folder."""
        return sorted(p for pattern in self.files for p in below.glob(pattern) if p.is_file())


OUT = ["--results", "{d}/out", "--store", "{d}/store", "-q"]
ROWS: list[dict[str, Any]] = [
    {"id": f"i{k}", "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": f"question {k}"}],
     "responses": ["a" * (k + 1), "bb" * (5 - k), '{"a": 1}', "7"], "gold": [0, 0.5, 1.0, 0.25], "gold_kind": "graded",
     "cluster": f"c{k}", "strata": {"family": f"f{k % 2}"}, "tags": [{"t": "x"}, {}, {}, {"t": "y"}],
     "logprobs": [-1.0, -2.5, -0.1, -9], "sampling": {"policy": "p"}}
    for k in range(5)
]  # fmt: skip
PAIRS: list[dict[str, Any]] = [
    {"id": f"p{k}", "prompt": f"What is {k}?", "chosen": "Paris " * (k + 1), "rejected": "9 " * (6 - k),
     "strength": k + 1, "subset": f"s{k % 2}", "votes": [3, 1, 0], "strata": {"a": "b"}}
    for k in range(12)
]  # fmt: skip
CHATS: list[dict[str, Any]] = [
    {"id": f"p{k}", "p_chosen": 0.75,
     "chosen": [{"role": "user", "content": f"Q{k}"}, {"role": "assistant", "content": "yes" * (k + 1)}],
     "rejected": [{"role": "user", "content": f"Q{k}"}, {"role": "assistant", "content": "no"}]}
    for k in range(4)
]  # fmt: skip
CHECKED: list[dict[str, Any]] = [
    {"id": f"v{k}", "prompt": f"1+{k}?", "responses": [str(1 + k), "\\frac{2}{1}", '{"a": 1}'], "answer": 1 + k,
     "pattern": r"^\d+$", "schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
     "checks": [{"name": "lowercase"}], "tests": "assert True"}
    for k in range(3)
]  # fmt: skip
HH = [{"chosen": f"\n\nHuman: Q{k}\n\nAssistant: good", "rejected": f"\n\nHuman: Q{k}\n\nAssistant: bad one"} for k in range(3)]  # fmt: skip
TASK: dict[str, Any] = {
    "name": "mine", "version": 1, "kinds": ["preference", "calibration"], "summary": "A task.",
    "source": "https://example.org", "license": "MIT", "data": {"reader": "pairs"}, "primary": "accuracy",
    "params": {"ties": "half"}, "strata": ["subset"],
}  # fmt: skip
BOARD: dict[str, Any] = {
    "name": "test", "title": "A board", "summary": "For the campaign.", "rank_by": ["accuracy", "win"],
    "columns": [{"id": "accuracy", "task": "preference", "metric": "accuracy", "label": "accuracy"},
                {"id": "win", "task": "bon", "metric": "win_rate@max", "label": "win rate"}],
}  # fmt: skip
STUDY: dict[str, Any] = {
    "name": "tiny", "summary": "A study.", "bases": {"small": {"path": "{here}/base", "train": {"max_length": 32}}},
    "data": [{"name": "pairs", "source": "{here}/pairs.jsonl", "part": "0:1", "pairs_per_prompt": 1, "limit": 12, "on_bad": "fail"}],
    "methods": [{"name": "bradley-terry"}, {"name": "thresholded", "loss": "confidence-margin", "options": {"threshold": "mean", "cap": 2}}],
    "seeds": 1,
    "train": {"freeze_backbone": True, "epochs": 1, "batch_size": 4, "max_length": 64, "learning_rate": 0.01},
    "evaluate": [{"task": "mine.yaml", "data": "{here}/pairs.jsonl", "part": "0:1", "limit": 8}],
    "reference": "bradley-terry", "versus": [["thresholded", "bradley-terry"]], "batch_sizes": [4],
}  # fmt: skip


SIDES = [{"role": "assistant", "content": "good"}], [{"role": "assistant", "content": "bad, bad"}]
LAYOUTS: dict[str, dict[str, Any]] = {
    "trl": {"prompt": "Q", "chosen": "good", "rejected": "bad, bad", "margin": 2.5, "source": "s"},
    "messages": {"prompt": [{"role": "user", "content": "Q"}], "chosen": SIDES[0], "rejected": SIDES[1]},
    "swift": {"messages": [{"role": "user", "content": "Q"}, *SIDES[0]], "rejected_response": "bad, bad"},
    "sharegpt": {"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "good"},
                 "rejected": {"from": "gpt", "value": "bad, bad"}},
    "winner": {"system": "s", "prompt": "Q", "response_a": "good", "response_b": "bad, bad", "winner": "model_a"},
    "scores": {"instruction": "Q", "input": "x", "completions": [{"response": "good", "rating": 5}, {"response": "b", "rating": 1}]},
    "ranks": {"prompt": "Q", "responses": ["good", "b", "c"], "ranks": [1, 2, 3]},
}  # fmt: skip


def jsonl(path: Path, rows: Sequence[Any]) -> Path:
    """Write JSON Lines, packed or as an array or a table by the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
        return path
    if path.suffix == ".arrow":
        import pyarrow

        table = pyarrow.Table.from_pylist(list(rows))
        with pyarrow.OSFile(str(path), "wb") as out, pyarrow.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table)
        return path
    text = "".join(json.dumps(r) + "\n" for r in rows) if ".jsonl" in path.name else json.dumps(rows)
    if path.suffix in (".csv", ".tsv"):
        lines = io.StringIO()
        writer = csv.writer(lines, delimiter="\t" if path.suffix == ".tsv" else ",")
        cells = [[v if isinstance(v, str) else json.dumps(v) for v in row.values()] for row in rows]
        writer.writerows([list(rows[0]), *cells])
        text = lines.getvalue()
    raw = text.encode()
    if path.suffix == ".zst":
        import pyarrow

        raw = pyarrow.compress(raw, codec="zstd", asbytes=True)
    if path.suffix == ".xz":
        import lzma

        raw = lzma.compress(raw)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def evaluated(task: str, data: str) -> list[list[str]]:
    """Return commands that read a task's data."""
    given = ["-t", task, "--data", f"{{d}}/{data}"]
    found = [
        ["eval", "-m", "length", *given, *OUT],
        ["eval", "-m", "builtin:linear", *given, *OUT, "--on-bad", "skip"],
        ["export", *given, "--out", "{d}/out.jsonl"],
    ]
    if task in ("bon", "preference", "hh-harmless", "ultrafeedback"):
        train = ["contamination", "--train", f"{{d}}/{data}", "-t", task]
        found.append([*train, "--data", f"{{d}}/{data}", "--out", "{d}/found.jsonl", "-q"])
    if task in ("preference", "hh-harmless", "shp", "judgebench"):
        found.append(["power", *given])
    return found


def rows(root: Path) -> list[Sample]:
    """Return the data of every reader, in the containers that it takes."""
    found = []

    def add(task: str, name: str, values: Sequence[Any], commands: Sequence[Sequence[str]] = ()) -> None:
        folder = root / f"rows-{task}-{name}"
        jsonl(folder / name, values)
        found.append(Sample(f"rows {task}", folder, [name], commands or evaluated(task, name)))

    for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.xz", "a.json", "a.json.gz", "a.parquet"):
        add("bon", name, ROWS)
        add("preference", name, ROWS)
    for name, values in (("pairs.jsonl", PAIRS), ("chats.json", CHATS)):
        folder = root / f"rows-{name}"
        jsonl(folder / name, values)
        (folder / "mine.yaml").write_text(yaml.safe_dump(TASK))
        found.append(Sample("rows pairs", folder, [name], evaluated("{d}/mine.yaml", name), weight=3))
    for name in ("a.jsonl", "a.json"):
        add("hh-harmless", name, HH)
    for layout, row in LAYOUTS.items():
        for kind in ("jsonl", "csv", "tsv", "arrow", "jsonl.zst", "parquet"):
            add("preference", f"{layout}.{kind}", [row | {"id": f"{k}"} for k in range(4)])
    for verifier in ("math", "exact", "regex", "json-schema", "instruction"):
        given = ["-t", "bon", "--data", "{d}/v.jsonl", "--gold", f"verifier:{verifier}", *OUT]
        add("verifiers", f"v-{verifier}/v.jsonl", CHECKED)
        found[-1] = Sample(f"gold {verifier}", found[-1].folder / f"v-{verifier}", ["v.jsonl"], [["eval", "-m", "length", *given]])  # fmt: skip
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    folder = root / "schema"
    jsonl(folder / "v.jsonl", CHECKED)
    (folder / "s.json").write_text(json.dumps(schema))
    given = [
        "-t",
        "bon",
        "--data",
        "{d}/v.jsonl",
        "--gold",
        "verifier:json-schema",
        "-G",
        "schema={d}/s.json",
        *OUT,
    ]
    found.append(Sample("schema file", folder, ["s.json"], [["eval", "-m", "length", *given]]))
    for place in sorted((TESTS / "fixtures").iterdir()):
        files = sorted(p for p in place.rglob("*") if p.is_file())
        folder = root / f"rows-{place.name}"
        shutil.copytree(place, folder)
        data = files[0].relative_to(place).as_posix() if len(files) == 1 else "."
        if place.name == "rewardbench":
            data = "filtered.jsonl"
            (folder / "prior.jsonl").unlink()
        found.append(Sample(f"rows {place.name}", folder, ["**/*"], evaluated(place.name, data)))
    return [*found, *further(root)]


def further(root: Path) -> list[Sample]:
    """Return the data of readers without a fixture."""
    found = []
    base = {"instruction": "Do", "input": "this", "response1": "a", "response2": "bb", "motivation_app": "x"}
    ratings = {"coherence": 1, "consistency": 5, "fluency": 4, "relevance": 2}
    summaries = [{"text": "x" * k, "system": f"s{k}", **ratings, "fluency": k} for k in (1, 2, 3)]
    small = {
        "pandalm": ("testset-v1.json", [
            {**base, "idx": k, "annotator1": 1, "annotator2": 1 + k % 2, "annotator3": k % 3} for k in range(4)]),
        "summeval-bon": ("s.jsonl", [{"id": f"a{k}", "article": f"A{k}", "summaries": summaries} for k in range(3)]),
    }  # fmt: skip
    for task, (name, values) in small.items():
        jsonl(root / f"rows-{task}" / name, values)
        found.append(Sample(f"rows {task}", root / f"rows-{task}", [name], evaluated(task, name)))
    folder = root / "rows-alpacaeval"
    for model, preference in {"strong": 1.9, "weak": 1.1, "gpt4_1106_preview": 1.5}.items():
        values = [
            {"instruction": q, "output_1": "reference", "output_2": f"by {model}", "generator_1": "gpt4_1106_preview",
             "generator_2": model, "preference": preference, "dataset": "d", "annotator": "weighted_alpaca_eval_gpt4_turbo"}
            for q in "QRST"
        ]  # fmt: skip
        jsonl(folder / "results" / model / "weighted_alpaca_eval_gpt4_turbo" / "annotations.json", values)
    for task in ("alpacaeval-bon", "alpacaeval-calibration"):
        commands = [c for c in evaluated(task, ".") if c[0] != "contamination"]
        found.append(Sample(f"rows {task}", folder, ["**/*.json"], commands))
    return found


def definitions(root: Path) -> list[Sample]:
    """Return task and judge files."""
    folder = root / "task"
    jsonl(folder / "pairs.jsonl", PAIRS)
    (folder / "mine.yaml").write_text(yaml.safe_dump(TASK))
    given = ["-t", "{d}/mine.yaml", "--data", "{d}/pairs.jsonl"]
    commands = [
        ["eval", "-m", "length", *given, *OUT],
        ["tasks", "{d}/mine.yaml"],
        ["export", *given, "-o", "{d}/o.jsonl"],
    ]
    found = [Sample("task file", folder, ["mine.yaml"], commands, weight=6)]
    judge = root / "judge"
    shutil.copytree(folder, judge)
    for kind in ("pairwise", "rating"):
        shutil.copy(TESTS.parent / "rmbench" / "_data" / "judges" / f"{kind}.yaml", judge)
        mode = {"pairwise": "verdict", "rating": "rating"}[kind]
        options = [
            "-M",
            "model=m",
            "-M",
            f"mode={mode}",
            "-M",
            f"prompt={{d}}/{kind}.yaml",
            "-M",
            "retries=0",
        ]
        options += ["-M", "stop_after=1", "-M", "reasks=0"]
        given = ["-t", "{d}/mine.yaml", "--data", "{d}/pairs.jsonl", "--limit", "2"]
        commands = [["eval", "-m", "judge:http://127.0.0.1:9/v1", *options, *given, *OUT]]
        found.append(Sample("judge file", judge, [f"{kind}.yaml"], commands, weight=2))
    return found


def study(root: Path) -> list[Sample]:
    """Return a study file, with a base and pairs."""
    study = root / "study"
    shutil.copytree(checkpoint(root, head=False), study / "base")
    (study / "mine.yaml").write_text(yaml.safe_dump(TASK))
    jsonl(study / "pairs.jsonl", PAIRS)
    (study / "tiny.yaml").write_text(yaml.safe_dump(STUDY))
    command = ["study", "{d}/tiny.yaml", "--place", "here={d}", "--models-dir", "{d}/runs", "--out", "{d}/o", *OUT, "--device", "cpu"]  # fmt: skip
    return [Sample("study file", study, ["tiny.yaml"], [command], weight=3)]


def records(root: Path) -> list[Sample]:
    """Return records with rewards and influence, their board, a score store and a file of scores."""
    folder = root / "records"
    jsonl(folder / "items.jsonl", ROWS)
    (folder / "boards").mkdir()
    (folder / "boards" / "test.yaml").write_text(yaml.safe_dump(BOARD))
    models = ["-m", "length", "-m", "builtin:linear"]
    given = [*models, "-t", "preference", "-t", "bon", "--data", f"{folder}/items.jsonl", "-q"]
    assert run(["eval", *given, "--results", f"{folder}/results", "--store", f"{folder}/store", "--csv"]) == 0
    results = ["--results", "{d}/results"]
    board = ["leaderboard", *results, "--boards-dir", "{d}/boards", "--out", "{d}/o"]
    again = [
        "eval",
        "-m",
        "length",
        "-t",
        "preference",
        "--data",
        "{d}/items.jsonl",
        "--store",
        "{d}/store",
        "-q",
    ]
    quick = [board, ["compare", "length", "builtin:linear", "-t", "preference", *results], ["remeasure", "{d}/results"], [*again, *results]]  # fmt: skip
    commands = [
        *(quick * 4),
        [*board, "--with-reports"],
        ["compare", "length", "builtin:linear", "-t", "bon", *results, "--data", "{d}/items.jsonl", "--html", "{d}/c.html"],
        ["report", "length", "builtin:linear", *results, "--data", "preference={d}/items.jsonl", "--out", "{d}/r.html"],
        ["power", "length", "builtin:linear", "-t", "preference", *results, "--difference", "0.02"],
        ["curve", "{d}/results", "--out", "{d}/curves"],
    ]  # fmt: skip
    found = [
        Sample("record", folder, ["results/**/*.json"], commands, mend_record, 8),
        Sample("record, unmended", folder, ["results/**/*.json"], commands),
        Sample("rewards", folder, ["results/**/*.rewards.jsonl.gz"], commands, mend_rewards, 6),
        Sample("influence", folder, ["results/**/*.npz"], commands, mend_influence, 3),
        Sample("board file", folder, ["boards/*.yaml"], [board], weight=5),
        Sample("score store", folder, ["store/*.sqlite"], [[*again, "--results", "{d}/out"]], weight=3),
    ]
    scores = root / "scores"
    jsonl(scores / "items.jsonl", ROWS)
    for name in ("s.jsonl", "s.jsonl.gz"):
        jsonl(scores / name, [{"id": r["id"], "rewards": [0.5, -1, 2, None]} for r in ROWS])
        command = ["eval", "-m", f"scores:{{d}}/{name}", "-t", "bon", "--data", "{d}/items.jsonl", "-T", "invalid=drop", *OUT]  # fmt: skip
        found.append(Sample("scores file", scores, [name], [command], weight=2))
    return found


def _loaded(path: Path) -> Any:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.loads(path.read_text())
    finally:
        sys.set_int_max_str_digits(limit)


def mend_record(folder: Path, path: Path) -> None:
    """Give a damaged record the hashes that its content asks for."""
    with suppress(Exception):  # it is no record any more
        record = _loaded(path)
        new = run_id(record["identity"])
        for beside in (".rewards.jsonl.gz", ".influence.npz"):
            path.with_name(f"{path.stem}{beside}").rename(path.with_name(f"{new}{beside}"))
        path.unlink()
        path = path.with_name(f"{new}.json")
        path.write_text(json.dumps(sealed(record | {"run_id": new})))


def mend_rewards(folder: Path, path: Path) -> None:
    """Write the hash of damaged rewards into their record."""
    record = path.with_name(path.name.replace(".rewards.jsonl.gz", ".json"))
    found = json.loads(record.read_text())
    found["files"]["rewards"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    record.write_text(json.dumps(sealed(found)))


def mend_influence(folder: Path, path: Path) -> None:
    """Give a damaged influence file the checksum of its content; damage one of its numbers, too."""
    from random import Random

    from mutations import damaged_value, written

    with suppress(Exception):  # it can no longer be read: it stays as it is
        with np.load(path, allow_pickle=False) as file:
            parts = {name: file[name] for name in ("head", "float64", "int64")}
        rng = Random(path.read_bytes())
        head, _ = damaged_value(json.loads(parts["head"].tobytes()), rng)
        parts["head"] = np.frombuffer(written(head).encode(), dtype=np.uint8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, checksum=checksum_of(parts), **parts)
        path.write_bytes(buffer.getvalue())


def imports(root: Path) -> list[Sample]:
    """Return published results in every format that `rmbench import` reads."""
    import test_import_alpacaeval as alpaca
    import test_import_judgebench as judgebench
    import test_import_rm_bench as rm_bench
    from layouts import scores, v1_columns, v2_columns

    found = []

    def add(kind: str, folder: Path, path: str, *options: str) -> None:
        given = ["import", kind, f"{{d}}/{path}", "--results", "{d}/out", *options]
        skip = [*given, "--on-bad", "skip"]
        found.append(
            Sample(
                f"import {kind}",
                folder,
                ["**/*.json", "**/*.jsonl"],
                [given, skip, [*given, "--json"]],
                weight=2,
            )
        )

    rewardbench = root / "import-rewardbench"
    scores(rewardbench / "in", "org/one", v1_columns("org/one"))
    scores(rewardbench / "in", "org/two", v2_columns("org/two"))
    add("rewardbench", rewardbench, "in")
    rm_bench.results_of(root / "import-rm-bench" / "in", "org/length", lambda text: float(len(text)))
    add("rm-bench", root / "import-rm-bench", "in")
    place = root / "import-judgebench"
    place.mkdir()
    verdicts = [judgebench.verdict("A>B"), judgebench.verdict("B>A")]
    judgebench.write(place / "j.jsonl", [judgebench.pair(k, verdicts) for k in range(5)])
    add("judgebench", place, "j.jsonl")
    scored = root / "import-judgebench-scores"
    scored.mkdir()
    values = [judgebench.scored(1.0 + k, 0.5), judgebench.scored(0.5, 1.5, "B>A")][:1] if (k := 1) else []
    judgebench.write(scored / "j.jsonl", [judgebench.pair(k, values, "reward_model") for k in range(5)])
    add("judgebench", scored, "j.jsonl")
    layout = root / "import-alpacaeval"
    for judge in (alpaca.GOLD, alpaca.OTHER):
        alpaca.layout(layout, judge, alpaca.PREFERENCES | {"b": [1.0, 2.0, 1.1, 1.25]})
    add("alpacaeval", layout, "results", "-T", "invalid=drop")
    best = root / "import-rewardbench-bon"
    alpaca.scores(best / "best-of-n" / "alpaca_eval" / "w" / "org" / "rm.json")
    alpaca.candidates(best / "gold")
    add("rewardbench-bon", best, "best-of-n/alpaca_eval/w", "--data", "{d}/gold")
    return found


def checkpoint(root: Path, *, head: bool = True, task: str = "SequenceClassification") -> Path:
    """Return a tiny checkpoint, made once."""
    from tiny_models import checkpoint_maker, train_tokenizer

    folder = f"made-{task}-{head}"
    if not (root / folder).exists():
        checkpoint_maker(root, {"bos": train_tokenizer("bos")})("llama", head=head, task=task, folder=folder)
    return root / folder


def models(root: Path) -> list[Sample]:
    """Return checkpoints, pairs to train on, prompts to sample for, and pools to continue."""
    found = []
    cpu = ["--device", "cpu"]
    classifier = root / "checkpoint"
    shutil.copytree(checkpoint(root), classifier / "rm")
    jsonl(classifier / "items.jsonl", ROWS[:2])
    shutil.copy(TINY_FOLDER / "training_prompts.npz", classifier / "rm")
    evaluate = ["eval", "-m", "{d}/rm", "-t", "bon", "--data", "{d}/items.jsonl", *cpu, *OUT]
    check = ["models", "{d}/rm"]
    files = ["rm/*"]
    found.append(Sample("checkpoint", classifier, files, [evaluate, check], weight=2))
    found.append(Sample("checkpoint, JSON", classifier, ["rm/*.json"], [evaluate], weight=3))
    found.append(Sample("training_prompts.npz", classifier, ["rm/*.npz"], [evaluate]))
    policy = root / "policy"
    shutil.copytree(checkpoint(root, task="CausalLM"), policy / "lm")
    jsonl(
        policy / "prompts.jsonl", [{"id": f"q{k}", "prompt": f"What is {k}?", "answer": k} for k in range(3)]
    )
    sample = ["sample", "--policy", "{d}/lm", "--prompts", "{d}/prompts.jsonl", "--out", "{d}/pool.jsonl", "-n", "2",
              "--max-tokens", "4", "--dtype", "float32", *cpu, "-q"]  # fmt: skip
    found.append(Sample("prompts", policy, ["prompts.jsonl"], [sample]))
    found.append(Sample("policy", policy, ["lm/*"], [sample]))
    pool = root / "pool"
    shutil.copytree(policy, pool)
    assert run([word.replace("{d}", str(pool)) for word in sample]) == 0
    jsonl(pool / "prompts.jsonl", [{"id": f"q{k}", "prompt": f"What is {k}?", "answer": k} for k in range(4)])
    found.append(Sample("pool", pool, ["pool.jsonl"], [sample]))
    training = root / "training"
    shutil.copytree(checkpoint(root, head=False), training / "base")
    train = ["train", "--base", "{d}/base", "--out", "{d}/o", "--batch-size", "4", "--micro-batch", "4", "--max-length",
             "32", "--max-steps", "1", *cpu, "-q", "--freeze-backbone", "--data"]  # fmt: skip
    for name in ("pairs.jsonl", "pairs.parquet", "pairs.json"):
        jsonl(training / name, PAIRS)
        again = [*train, f"{{d}}/{name}", "--method", "label-margin"]
        found.append(Sample("training pairs", training, [name], [[*train, f"{{d}}/{name}"], again], weight=1))
    found.append(Sample("base", training, ["base/*"], [[*train, "{d}/pairs.jsonl"]]))
    done = root / "trained"
    shutil.copytree(training, done)
    assert run([word.replace("{d}", str(done)) for word in [*train, "{d}/pairs.jsonl"]]) == 0
    scores = ["eval", "-m", "{d}/o", "-t", "bon", "--data", "{d}/items.jsonl", *cpu, *OUT]
    jsonl(done / "items.jsonl", ROWS[:2])
    found.append(Sample("trained model", done, ["o/*"], [scores, [*train, "{d}/pairs.jsonl"]]))
    return found


def all_samples(root: Path, *, with_models: bool = True) -> list[Sample]:
    """Make every sample below `root`."""
    made = [*rows(root), *records(root), *imports(root), *definitions(root)]
    return [*made, *study(root), *models(root)] if with_models else made
