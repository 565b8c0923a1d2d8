"""Train `builtin:tiny`, a small transformer, on the embedded training split alone. Seeded, resumable.

    python scripts/tiny/make.py --out runs/tiny --fold 0 --pack rmbench/_data/builtin/tiny

1. A tokenizer of whole words, learned from the training split (`text.py`).
2. Warm-up (`warm_up.py`): a decoder of random weights learns to rank pools that are composed or relabelled by
   the checks of their prompts (`relabel.py`, `compose.py`), and a few other things about them (`auxiliary.py`).
3. `rmbench train` on pairs of the training split as it is: the project's own trainer and loss.

Nothing here reads the test split. `--fold K` leaves every tenth training prompt, from the K-th, out of all
three steps and prints accuracy and best-of-N win rate on them: that is how settings were chosen.

About 65 minutes of one core. A killed run goes on where it stopped. The trainer of the tokenizer breaks ties at
random: a second run from the beginning has other ids, two other tokens of 6,000, and so other weights.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import transformers
from safetensors.torch import load_file, save_file
from text import make_tokenizer
from warm_up import Plan, Size, WarmUp

from rmbench.data import read_task_items
from rmbench.files import iter_jsonl, write_atomic
from rmbench.metrics.panel import panel_of
from rmbench.metrics.suite import measure_suite, resolve_metric
from rmbench.models.hf import load_hf
from rmbench.models.runtime import Runtime
from rmbench.overlap import TrainingPrompts
from rmbench.specs import load_task
from rmbench.train.fit import TrainSettings
from rmbench.train.pairs import read_training_data
from rmbench.train.run import train
from rmbench.types import Conversation, Item, Turn

REPO = Path(__file__).resolve().parent.parent.parent
ROWS = REPO / "rmbench" / "_data" / "embedded" / "train.jsonl.xz"
CARD = """\
---
library_name: transformers
pipeline_tag: text-classification
license: apache-2.0
tags: [reward-model, rmbench]
---
# builtin:tiny

A decoder of {millions:.1f} million parameters from random weights, a reward model for verifiable instructions and
nothing else: it knows no facts, no harm and no help. Trained by `scripts/tiny/make.py` of rmbench on the embedded
training split (instructions, replies of SmolLM2-135M-Instruct, checkers) and on prompts composed by a grammar;
last step: `rmbench train` with the loss `confidence-margin`, see `rmbench.json`. The held-out numbers there are of
prompts that the warm-up had seen. `training_prompts.npz` holds hashes of all prompts, composed ones included.
"""
CPU = Runtime(device="cpu", offline=True)
_SHIPPED = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "rmbench.json",
)  # fmt: skip


def tune(base: Path, rows: Sequence[Mapping[str, Any]], given: argparse.Namespace) -> Path:
    """Train `base` on pairs of `rows` with the project's trainer; return the finished folder."""
    pairs = write_rows(given.out / "pairs.jsonl", rows)
    settings = TrainSettings(
        base=str(base), method=given.method, epochs=1.0, learning_rate=given.tune_rate, batch_size=64,
        micro_batch=16, max_length=384, seed=given.seed, eval_every=20,
    )  # fmt: skip
    data = read_training_data(str(pairs), pairs_per_prompt=40, seed=given.seed, offline=True)
    done = train(settings, data, given.out / "tuned", runtime=CPU)
    print(f"held out by the trainer: {done.record['held_out']}")
    return done.folder


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON Lines."""
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path


def quality(rewards: Callable[[Sequence[Conversation]], Sequence[float]], items: Sequence[Item]) -> str:
    """Return accuracy and win rate on `items`, as the harness measures them."""
    found = [rewards([item.conversation(k) for k in range(len(item.responses))]) for item in items]
    params = {**load_task("preference").params, **load_task("bon").params, "seed": 0}
    metrics = measure_suite(panel_of(items, found), ("preference", "best_of_n"), params).metrics
    told = []
    for name in ("accuracy", resolve_metric("win_rate@max", metrics)):
        estimate = metrics[name].estimate()
        low, high = estimate.ci95 or (float("nan"), float("nan"))
        told.append(f"{name} {estimate.value:.3f} [{low:.3f}, {high:.3f}]")
    return f"{', '.join(told)} on {len(items)} prompts"


def pack(folder: Path, to: Path, prompts: Sequence[str]) -> None:
    """Copy what loads a model into the package, weights as float16, with hashes of all that it has seen."""
    to.mkdir(parents=True, exist_ok=True)
    for name in _SHIPPED:
        shutil.copyfile(folder / name, to / name)
    TrainingPrompts.of([(Turn(role="user", content=prompt),) for prompt in prompts]).save(to)
    halves = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    millions = sum(tensor.numel() for tensor in halves.values()) / 1e6
    write_atomic(to / "README.md", CARD.format(millions=millions))
    save_file(halves, to / "model.safetensors", {"format": "pt"})
    print(f"{to}: {sum(p.stat().st_size for p in to.iterdir()):,} bytes")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="working folder; a killed run goes on there")
    parser.add_argument(
        "--fold", type=int, help="leave every tenth prompt out, from this one, and report on them"
    )
    parser.add_argument("--steps", type=int, default=Plan().steps, help="of the warm-up, 64 texts each")
    parser.add_argument("--rate", type=float, default=Plan().rate, help="peak learning rate of the warm-up")
    parser.add_argument("--composed", type=float, default=Plan().composed, help="share of composed prompts")
    parser.add_argument("--hidden", type=int, default=Size().hidden)
    parser.add_argument("--layers", type=int, default=Size().layers)
    parser.add_argument("--vocabulary", type=int, default=6000)
    parser.add_argument("--method", default="confidence-margin", help="loss of the last step")
    parser.add_argument("--tune-rate", type=float, default=1e-4)
    parser.add_argument("--pack", type=Path, help="copy the finished model there, as float16")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Do the steps that are not done."""
    given = arguments()
    rows = [row for _, row in iter_jsonl(ROWS)]
    left_out = [row for k, row in enumerate(rows) if given.fold is not None and k % 10 == given.fold]
    rows = [row for row in rows if row not in left_out]
    items: Sequence[Item] = ()
    if left_out:
        path = write_rows(given.out / "left_out.jsonl", left_out)
        items = read_task_items(load_task("bon"), path, on_bad="fail", offline=True).items
    texts = [text for row in rows for text in (row["prompt"], *row["responses"])]
    base = given.out / "warm"
    if not (base / "tokenizer.json").is_file():
        make_tokenizer(texts, given.vocabulary, base)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    size, plan = (
        Size(hidden=given.hidden, layers=given.layers),
        Plan(steps=given.steps, rate=given.rate, composed=given.composed),
    )
    warm = WarmUp(rows, tokenizer, size, plan, given.seed, given.out / "state.safetensors")
    warm.run((lambda: quality(warm.rewards, items)) if items else str)
    if not (base / "config.json").is_file():
        warm.model.save_pretrained(base)
    tuned = tune(base, rows, given)
    if items:
        model = load_hf(str(tuned), runtime=CPU)
        print("after the last step:", quality(lambda batch: [s.reward for s in model.score(batch)], items))
    if given.pack is not None:
        pack(tuned, given.pack, [*(row["prompt"] for row in rows), *warm.prompts()])


if __name__ == "__main__":
    main()
