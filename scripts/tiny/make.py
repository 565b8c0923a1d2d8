"""Train `builtin:tiny`, a small transformer, on the embedded training split alone. Seeded, resumable.

    python scripts/tiny/make.py --out runs/tiny --pack rmbench/_data/builtin/tiny

1. A tokenizer of whole words, made of the training split (`text.py`).
2. A decoder of random weights learns to rank pools that are composed or relabelled by the checks of their
   prompts (`warm_up.py`, `relabel.py`, `compose.py`), what the lexical model of the same split says of them
   (`teach.py`), and a few other things about them (`auxiliary.py`). The finished reward is the sum of the first two.

Nothing here reads the test split. `--fold K` leaves every tenth training prompt, from the K-th, out of all of it
and prints accuracy and best-of-N win rate on them: that is how settings were chosen.

About 95 minutes of one core with bfloat16 instructions. A killed run goes on where it stopped. The last bits of the weights depend on the processor.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import transformers
from safetensors.torch import load_file, save
from teach import lexical_teacher
from text import make_tokenizer
from warm_up import Plan, Size, WarmUp

from rmbench.core.files import iter_jsonl, write_atomic
from rmbench.core.overlap import TrainingPrompts
from rmbench.metrics.panel import panel_of
from rmbench.metrics.suite import measure_suite, resolve_metric
from rmbench.models.hf.classifier import load_hf
from rmbench.models.runtime import Runtime
from rmbench.tasks import read_task_items
from rmbench.tasks.spec import load_task
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
training split (instructions, replies of SmolLM2-135M-Instruct, checkers) and on prompts composed by a grammar,
with `builtin:linear` as one of its teachers. `training_prompts.npz` holds hashes of all prompts, composed ones
included.
"""
CPU = Runtime(device="cpu", offline=True)
_SHIPPED = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


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
    write_atomic(to / "model.safetensors", save(halves, {"format": "pt"}))  # with the usual permissions
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
    parser.add_argument(
        "--fp32", action="store_true", help="compute in float32, where bfloat16 is slow: other weights"
    )
    parser.add_argument("--composed", type=float, default=Plan().composed, help="share of composed prompts")
    parser.add_argument("--hidden", type=int, default=Size().hidden)
    parser.add_argument("--layers", type=int, default=Size().layers)
    parser.add_argument("--vocabulary", type=int, default=6000)
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
    folder = given.out / "model"
    if not (folder / "tokenizer.json").is_file():
        make_tokenizer(texts, given.vocabulary, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    size = Size(hidden=given.hidden, layers=given.layers)
    plan = Plan(steps=given.steps, rate=given.rate, composed=given.composed, bf16=not given.fp32)
    teacher = lexical_teacher(rows, given.seed)
    warm = WarmUp(rows, teacher, tokenizer, size, plan, given.seed, given.out / "state.safetensors")
    warm.run((lambda: quality(warm.rewards, items)) if items else str)
    warm.finish(folder)
    if items:
        model = load_hf(str(folder), runtime=CPU)
        print("as a folder:", quality(lambda batch: [s.reward for s in model.score(batch)], items))
    if given.pack is not None:
        pack(folder, given.pack, [*(row["prompt"] for row in rows), *warm.prompts()])


if __name__ == "__main__":
    main()
