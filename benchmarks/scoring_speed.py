"""Texts per second of rmbench's engine against the procedure of RewardBench's pipeline: ratios in one run.

Usage: python benchmarks/scoring_speed.py DECODER ENCODER --data FOLDER [--rounds N] [--check | --save]

The baseline is that procedure, not its code: texts in the order of the data, batches of 8 or of 64 padded to
their longest, chosen and rejected in separate passes, a forward pass with its cache and all its inputs, no
store. Both read the same token ids with the same weights, and tokenising is part of both. Each engine runs
in a process of its own, one after the other; a round is all of them on its own part of the items (the K-th of
N rounds takes every N-th item), and ratios are within a round, to the better of the two baselines. Printed
are the median round, the least and the greatest.

FOLDER holds the public data sets in their upstream layout. DECODER and ENCODER are folders of models; one
without a head gets a random one, which costs the same.
"""

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from tabulate import tabulate

from rmbench.models.hf.classifier import HFRewardModel
from rmbench.models.hf.forward import padded
from rmbench.models.hf.load import NoHeadError, torch
from rmbench.models.resolve import load_model
from rmbench.models.runtime import Dtype, Runtime
from rmbench.scoring import open_store, score_items
from rmbench.tasks import read_task_items
from rmbench.tasks.spec import load_task
from rmbench.types import Conversation, Item, Response, Turn

SAVED = Path(__file__).with_name("scoring_speed.json")
REGRESSION = 0.2
"""A ratio may be so much lower than the saved one before `--check` fails, as a fraction."""
ENGINES = ("rmbench", "batch 8", "batch 64")
WORDS = ("granite", "orbit", "lantern", "velvet", "compass", "harvest", "mirror", "thunder", "willow")
WORKS = {
    "hh-harmless": ("decoder", 3.0),
    "best of 32": ("decoder", 5.0),
    "alpacaeval-bon": ("decoder", 2.0),
    "rm-bench": ("encoder", 1.4),
}
"""Work -> which model reads it, and the ratio that is aimed at."""
HEADS = ("work", "dtype", "times as fast", "texts/s", "tokens read / by the better baseline",
         "largest difference", "share of peak", "second run", "beside the model", "aim")  # fmt: skip


def main() -> None:
    """Measure, print the tables, and save or check the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("decoder", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--works", nargs="*", default=list(WORKS), choices=list(WORKS))
    parser.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"])
    parser.add_argument("--items", type=int, help="items of each work in all, in place of its own number")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true", help=f"write the ratios to {SAVED.name}")
    parser.add_argument("--check", action="store_true", help="fail where a ratio fell by more than a fifth")
    parser.add_argument("--engine", help=argparse.SUPPRESS)  # what a process of its own is asked
    given = parser.parse_args()
    if given.engine:
        print(json.dumps(measure(given, **json.loads(given.engine))))
        return
    rows, ratios, seconds = [], dict[str, float](), dict[tuple[str, str], float]()
    for work in given.works:
        for dtype in given.dtypes:
            rounds = [
                {
                    name: in_a_process({"name": name, "work": work, "dtype": dtype, "part": k})
                    for name in ENGINES
                }
                for k in track(range(given.rounds), f"{work}, {dtype}", console=Console(stderr=True))
            ]
            found = [min(r["batch 8"]["s"], r["batch 64"]["s"]) / r["rmbench"]["s"] for r in rounds]
            ratios[f"{work}, {dtype}"] = statistics.median(found)
            rows.append([work, dtype, *described(rounds, found), WORKS[work][1]])
            seconds[work, dtype] = statistics.median(r["rmbench"]["s"] for r in rounds)
    print(f"{platform.machine()}, {given.threads} threads, torch {torch.__version__}, {given.rounds} rounds")
    print(tabulate(rows, HEADS, disable_numparse=True))
    for work in given.works:
        if {(work, "float32"), (work, "bfloat16")} <= seconds.keys():
            gain = seconds[work, "float32"] / seconds[work, "bfloat16"]
            print(f"{work}: bfloat16 is {gain:.2f} times as fast as float32")
    settle(ratios, given)


def settle(ratios: dict[str, float], given: argparse.Namespace) -> None:
    """Save the ratios beside those of other works, or compare them with the saved ones."""
    saved: dict[str, float] = json.loads(SAVED.read_text()) if SAVED.is_file() else {}
    if given.check:
        if unknown := ratios.keys() - saved.keys():
            raise SystemExit(f"{SAVED.name} has no ratio of {', '.join(sorted(unknown))}: save one first")
        lost = [
            f"{name}: {ratio:.2f}, saved {saved[name]:.2f}"
            for name, ratio in ratios.items()
            if ratio < (1 - REGRESSION) * saved[name]
        ]
        if lost:
            raise SystemExit("slower than saved: " + "; ".join(lost))
    if given.save:
        saved |= {name: round(ratio, 3) for name, ratio in ratios.items()}
        SAVED.write_text(json.dumps(saved, indent=1, sort_keys=True) + "\n")


def described(rounds: Sequence[dict[str, dict[str, Any]]], ratios: Sequence[float]) -> list[str]:
    """Return what the table says of one work."""
    ours = [r["rmbench"] for r in rounds]
    better = min(("batch 8", "batch 64"), key=lambda name: rounds[0][name]["s"])
    other = rounds[0][better]
    gap = max(abs(a - b) for a, b in zip(ours[0]["rewards"], other["rewards"], strict=True))
    peak = [r["flop"] / r["s"] / r["peak"] for r in ours if r["flop"]]
    return [
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        f"{statistics.median(len(r['rewards']) / r['s'] for r in ours):.1f}",
        f"{ours[0]['tokens']:,} / {other['tokens']:,}",
        f"{gap:.1e}",
        f"{100 * statistics.median(peak):.0f}%" if peak else "",
        f"{statistics.median(r['s'] / r['warm_s'] for r in ours):,.0f} x",
        f"{100 * statistics.median(1 - r['model_s'] / r['s'] for r in ours):.1f}%",
    ]


def in_a_process(question: dict[str, Any]) -> dict[str, Any]:
    """Measure one engine once, in a process of its own."""
    done = subprocess.run(
        [sys.executable, *sys.argv, "--engine", json.dumps(question)], check=True, stdout=subprocess.PIPE
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(given: argparse.Namespace, name: str, work: str, dtype: Dtype, part: int) -> dict[str, Any]:
    """Return seconds, tokens read, rewards, and what else one engine is asked."""
    torch.set_num_threads(given.threads)
    items = items_of(work, given.data, given.items)[part :: given.rounds]
    model = load(getattr(given, WORKS[work][0]), dtype)
    warm_up = [(Turn(role="user", content="warm"), Turn(role="assistant", content="up"))]
    if name != "rmbench":  # which never sees what the engine sets up: the allocator is left as it is
        plain_forward(model, warm_up)
        return baseline(model, items, int(name.split()[1]))
    model.score(warm_up)
    return ours(model, items, dtype)


def load(folder: Path, dtype: Dtype) -> HFRewardModel:
    """Return the model, with a random head where it has none."""
    runtime = Runtime(device="cpu", offline=True, dtype=dtype)
    try:
        model = load_model(f"hf:{folder}", {}, runtime).model
    except NoHeadError:
        model = load_model(f"hf:{folder}", {"fresh_head": "0"}, runtime).model
    assert isinstance(model, HFRewardModel)
    return model


def ours(model: HFRewardModel, items: Sequence[Item], dtype: str) -> dict[str, Any]:
    """Score with rmbench: plan, share, store; and once more with a warm store."""
    spans: list[tuple[float, float]] = []
    forward = model.numbers
    n_read = count_tokens(model)

    def timed(rows: Any) -> list[float]:
        started = time.perf_counter()
        found = forward(rows)
        spans.append((started, time.perf_counter()))
        return found

    model.numbers = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder), {"kind": "speed"}) as store:
        started = time.perf_counter()
        scoring = score_items(model, items, store)
        seconds = time.perf_counter() - started
        warm = score_items(model, items, store).wall_s
    distinct = model.joint_length([i.conversation(k) for i in items for k in range(len(i.responses))])
    weights = sum(p.numel() for n, p in model.model.named_parameters() if "embed" not in n)
    return {
        "s": seconds,
        "warm_s": warm,
        "model_s": covered(spans),
        "tokens": n_read[0],
        "rewards": [x for row in scoring.rewards for x in row],
        "flop": 2 * weights * (distinct or 0),
        "peak": matrix_peak(model, dtype),
    }


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Return the seconds in which at least one of some spans was on: batches are computed side by side."""
    total = end = 0.0
    for first, last in sorted(spans):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


def baseline(model: HFRewardModel, items: Sequence[Item], batch: int) -> dict[str, Any]:
    """Score as RewardBench's pipeline does: for each place among the responses, a pass in data order."""
    n_read = count_tokens(model)
    rewards: dict[tuple[int, int], float] = {}
    started = time.perf_counter()
    for k in range(max(len(item.responses) for item in items)):
        column = [(i, item.conversation(k)) for i, item in enumerate(items) if k < len(item.responses)]
        for start in range(0, len(column), batch):
            part = column[start : start + batch]
            found = plain_forward(model, [turns for _, turns in part])
            rewards |= {(i, k): x for (i, _), x in zip(part, found, strict=True)}
    seconds = time.perf_counter() - started
    return {"s": seconds, "tokens": n_read[0], "rewards": [rewards[place] for place in sorted(rewards)]}


def plain_forward(model: HFRewardModel, batch: Sequence[Conversation]) -> list[float]:
    """Tokenise, pad to the longest, and run the whole classifier; a decoder keeps its cache."""
    rows = model.encode(batch)
    inputs = padded(rows, model.pad_id, model.model.device)
    with torch.inference_mode():
        if model.encoder:
            return [float(x) for x in model.model(**inputs).logits[:, 0]]
        hidden = model.model.base_model(**inputs, use_cache=True).last_hidden_state
        logits = model.model.score(hidden.float())[..., 0]  # of every token, as transformers does
        last = inputs["attention_mask"].sum(dim=1) - 1
        return [float(x) for x in logits[torch.arange(len(rows)), last]]


def count_tokens(model: HFRewardModel) -> list[int]:
    """Return a list whose one number grows with what the model reads, padding included."""
    n_read = [0]

    def add(_module: Any, arguments: Any, inputs: dict[str, Any]) -> None:
        n_read[0] += (arguments[0] if arguments else inputs["input_ids"]).numel()

    model.model.base_model.register_forward_pre_hook(add, with_kwargs=True)
    return n_read


def matrix_peak(model: HFRewardModel, dtype: str, n_tokens: int = 2048) -> float:
    """Return floating-point operations per second of plain products of the model's own shapes."""
    shapes = {tuple(m.weight.shape) for m in model.model.modules() if isinstance(m, torch.nn.Linear)}
    best = 0.0
    for _ in range(3):
        flop = seconds = 0.0
        for out, width in sorted(s for s in shapes if min(s) > 8):
            a, b = (torch.randn(n, width, dtype=getattr(torch, dtype)) for n in (n_tokens, out))
            started = time.perf_counter()
            torch.nn.functional.linear(a, b)
            seconds += time.perf_counter() - started
            flop += 2.0 * n_tokens * out * width
        best = max(best, flop / seconds if seconds else 0.0)
    return best


def items_of(work: str, data: Path, n_items: int | None) -> list[Item]:
    """Return the items of a work: the first ones of the data, as every engine gets them."""
    if work == "best of 32":
        return list(made_pools(n_items or 20))
    place, n = {
        "hh-harmless": ("hh_rlhf", 200),
        "alpacaeval-bon": ("alpaca_eval/results.tar.xz", 40),
        "rm-bench": ("rm_bench", 200),
    }[work]
    found = read_task_items(load_task(work), data / place, on_bad="skip").items
    return list(found[: n_items or n])


def made_pools(n_prompts: int) -> Iterator[Item]:
    """Yield prompts of about 300 tokens with 32 answers of about 60."""
    rng = random.Random(0)
    for k in range(n_prompts):
        prompt = " ".join(rng.choices(WORDS, k=rng.randint(170, 230)))
        texts = [" ".join(rng.choices(WORDS, k=rng.randint(25, 55))) for _ in range(32)]
        yield Item(
            f"made-{k}", (Turn(role="user", content=prompt),), tuple(Response(t) for t in texts), f"made-{k}"
        )


if __name__ == "__main__":
    main()
