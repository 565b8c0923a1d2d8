"""Libraries in place of code of our own, measured: what docs/contributing.md says of them.

Usage: python benchmarks/libraries.py maths DATA    verifier:math and math-verify (pip install math-verify)
       python benchmarks/libraries.py parquet       pyarrow and `datasets`, on a file of 100,000 rows
       python benchmarks/libraries.py grams         n-grams of a trained model and of rmbench contamination

DATA has gsm8k_pools/pools.jsonl.xz, reward_math/results/Rewardbench/ and processbench/processbench.parquet.
"""

import json
import logging
import lzma
import random
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from contamination import Texts
from tabulate import tabulate

from rmbench.contamination.grams import GramIndex, Rows
from rmbench.core.overlap import TrainingPrompts, words
from rmbench.gold.maths import Math, clean, find_answer, read_number
from rmbench.tasks.rows import BadRows, rows_of
from rmbench.types import Turn

N = 13
"""Words of an n-gram."""


def main() -> None:
    """Measure what the first argument names."""
    match sys.argv[1:]:
        case ["maths", data]:
            maths(Path(data))
        case ["parquet"]:
            parquet()
        case ["grams"]:
            grams()
        case _:
            raise SystemExit(__doc__)


def maths(data: Path) -> None:
    """Print how often each verdict is right, the comparisons that differ, and the time of a verdict."""
    from math_verify import parse, verify

    def theirs(response: str, answer: str) -> float:
        return float(verify(parse(rf"\boxed{{{answer}}}"), parse(response)))

    def mixed(response: str, answer: str) -> float:
        found = find_answer(response)
        return 0.0 if found is None else theirs(rf"\boxed{{{found}}}", answer)

    def ours(response: str, answer: str) -> float | None:
        return verifier.verify(response, {"answer": answer}).gold

    logging.disable(logging.CRITICAL)
    verifier = Math()
    ways: dict[str, Callable[[str, str], float | None]] = {
        "verifier:math": ours, "math-verify": theirs, "its comparison, our reading": mixed,
    }  # fmt: skip
    right: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: dict[str, list[float]] = defaultdict(list)
    for source, response, answer, truth in (*solutions(data), *changed_answers(data)):
        right[source]["verdicts"] += 1
        found = {}
        for name, way in ways.items():
            started = time.perf_counter()
            found[name] = way(response, answer)
            seconds[name].append(time.perf_counter() - started)
            right[source][name] += found[name] == truth
        if found["verifier:math"] != found["its comparison, our reading"]:
            print(f"{source}: {find_answer(response)!r} for {answer!r}: {found}, truth {truth:g}")
    heads = ["", "verdicts", *ways]
    print(tabulate([[source, *(n[head] for head in heads[1:])] for source, n in right.items()], heads))
    for name, each in seconds.items():
        print(f"{name}: mean {1e3 * np.mean(each):.2f} ms, median {1e3 * np.median(each):.2f} ms")


def solutions(data: Path) -> Iterator[tuple[str, str, str, float]]:
    """Yield (source, response, expected answer, whether it is right)."""
    with lzma.open(data / "gsm8k_pools" / "pools.jsonl.xz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            for response, gold in zip(row["responses"], row["gold"], strict=True):
                yield "GSM8K pools", response, row["answer"], float(gold)
    texts: dict[str, dict[str, str]] = defaultdict(dict)
    path = data / "reward_math" / "results" / "Rewardbench" / "rewardbench_Math_Shepherd.json"
    for row in json.loads(path.read_text(encoding="utf-8")):
        texts[row["problem_id"]][row["solution_type"]] = "\n".join(row["eval_solution"])
    for pair in texts.values():
        answer = boxed(pair["chosen"])
        if answer is not None:
            yield "RewardBench maths, chosen", pair["chosen"], answer, 1.0
            yield "RewardBench maths, rejected", pair["rejected"], answer, 0.0
    problems: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for row in processbench(data):
        problems[row["problem"]].append(("\n".join(row["steps"]), row["final_answer_correct"]))
    for known in problems.values():
        # The answer of a solution that is marked as right is what the others should have.
        first = next((k for k, (text, is_right) in enumerate(known) if is_right and boxed(text)), None)
        if first is not None:
            expected = boxed(known[first][0]) or ""
            for text, is_right in known[:first] + known[first + 1 :]:
                yield "ProcessBench", text, expected, float(is_right)


def changed_answers(data: Path) -> Iterator[tuple[str, str, str, float]]:
    """Yield answers that are no numbers, as they are and with one sign, digit, letter or bracket changed."""
    rng = random.Random(0)
    boxes = sorted({boxed("\n".join(row["steps"])) or "" for row in processbench(data)})
    for answer in (a for a in boxes if 0 < len(a) <= 120 and read_number(clean(a)) is None):
        yield "an answer and itself", rf"\boxed{{{answer}}}", answer, 1.0
        for _ in range(3):
            other = changed(answer, rng)
            if clean(other) != clean(answer):
                yield "an answer and it changed", rf"\boxed{{{other}}}", answer, 0.0


def changed(text: str, rng: random.Random) -> str:
    """Return a text with one sign, digit, lone small letter or opening bracket in place of another."""
    places = list(re.finditer(r"[-+(\[\d]|(?<![\\A-Za-z])[a-z](?![a-z])", text))
    if not places:
        return text
    at = rng.choice(places)
    kind = next(kind for kind in ("-+", "([", "0123456789", "abkmnpqrstuvwxyz", at[0]) if at[0] in kind)
    others = [sign for sign in kind if sign != at[0]] or [at[0]]
    return text[: at.start()] + rng.choice(others) + text[at.end() :]


def processbench(data: Path) -> list[dict[str, Any]]:
    """Return the rows of ProcessBench."""
    bad = BadRows(skip=False)
    return [dict(row.value) for row in rows_of(data / "processbench" / "processbench.parquet", bad)]


def boxed(text: str) -> str | None:
    """Return what stands in the last box of a text; None where there is no box."""
    return find_answer(text) if r"\boxed" in text else None


def parquet() -> None:
    """Print the seconds that reading a file takes."""
    import datasets
    import pyarrow
    from pyarrow.parquet import write_table

    def by_datasets(path: Path) -> int:
        rows = datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        return sum(1 for _ in rows)

    with tempfile.TemporaryDirectory() as folder:
        path, texts = Path(folder) / "a.parquet", Texts(0)
        rows = [texts.pair() for _ in range(1000)] * 100
        write_table(pyarrow.Table.from_pylist(rows), path)
        print(f"{path.stat().st_size / 1e6:.0f} MB, {len(rows)} rows")
        timed("pyarrow", lambda: sum(1 for _ in rows_of(path, BadRows(skip=False))))
        timed("datasets", partial(by_datasets, path))


def grams() -> None:
    """Print the seconds that looking up the n-grams of 3,000 training rows in a task of 3,000 items takes."""

    def asked(text: list[str]) -> list[Turn]:
        return [Turn(role="user", content=" ".join(text))]

    task, train = (
        [words(text) for _ in range(3000) for text in texts.pair().values()] for texts in (Texts(1), Texts(5))
    )
    known = timed("hashes: index", lambda: TrainingPrompts.of(map(asked, task)))
    timed("hashes: look up", lambda: known.count(map(asked, train)))
    numbers: dict[str, int] = {}

    def index() -> GramIndex:
        flat = [n for text in task for n in (*(numbers.setdefault(w, len(numbers) + 1) for w in text), 0)]
        each = np.arange(len(task))
        of_text = np.repeat(each, [len(text) + 1 for text in task])
        rows = Rows.of(each, each, len(task))
        return GramIndex(
            np.array(flat, dtype=np.uint32), of_text, rows, n=N, most_common=10, n_words=len(numbers)
        )

    found = timed("arrays: index", index)
    flat = (numbers.get(w, 0) for text in train for w in (*text, ""))
    timed("arrays: look up", lambda: len(found.find(np.fromiter(flat, dtype=np.uint32))[0]))


def timed(what: str, work: Callable[[], Any]) -> Any:
    """Return what `work` returns, its CPU time printed."""
    started = time.process_time()
    found = work()
    print(f"{what}: {time.process_time() - started:.2f} s")
    return found


if __name__ == "__main__":
    main()
