"""Commands that the tests of training give, and what they look at afterwards."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch
from kills import wait_until
from safetensors.torch import load_file


def arguments(base: Path, pairs: Path, out: Path, **options: Any) -> list[str]:
    defaults = {
        "batch-size": 8, "micro-batch": 8, "epochs": 2, "learning-rate": 0.003, "eval-every": 4,
        "max-length": 64, "device": "cpu",
    }  # fmt: skip
    flat = [
        x
        for k, v in {**defaults, **{k.replace("_", "-"): v for k, v in options.items()}}.items()
        for x in (f"--{k}", str(v))
    ]
    return ["train", "--base", str(base), "--data", str(pairs), "--out", str(out), "-q", *flat]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, by path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def largest_difference(a: Path, b: Path) -> float:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    return max(float((first[k] - second[k]).abs().max()) for k in first)


def two_processes(*command: str) -> list[str]:
    """Return the command line that runs `command`, a script or `-m module` with arguments, in two processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return [sys.executable, *launcher, *command]


def has_checkpoint(out: Path) -> bool:
    return any((out / ".training").glob("checkpoint-*/complete"))


def kill_after_a_checkpoint(command: list[str], out: Path, **environment: str) -> None:
    """Start `command` and kill it and its children the hard way when its first checkpoint is complete."""
    process = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        # As many threads as here: sums in another order differ in their last bits.
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | environment,
    )  # fmt: skip
    wait_until(process, lambda: has_checkpoint(out))
    # A launcher gives its workers sessions of their own: whoever is not named here lives on, and writes.
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    assert not (out / "rmbench.json").exists()


def scores_of_the_folder(folder: Path, texts: list[str]) -> tuple[list[float], list[float]]:
    """Return rewards of replies as the harness reads them, and as plain transformers does."""
    from transformers import AutoModelForSequenceClassification

    from rmbench.models.resolve import load_model

    model: Any = load_model(str(folder)).model
    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ours, theirs = [], []
    for text in texts:
        turns = [{"role": "user", "content": "What is 3?"}, {"role": "assistant", "content": text}]
        ours.append(model.score([turns])[0].reward)
        encoded = model.encode([turns])[0]
        given = {"input_ids": torch.tensor([encoded.ids])}
        if encoded.type_ids is not None:
            given["token_type_ids"] = torch.tensor([encoded.type_ids])
        with torch.inference_mode():
            theirs.append(float(plain(**given).logits[0, 0]))
    return ours, theirs
