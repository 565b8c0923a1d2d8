"""Damaged command lines: values of options, and paths that are no files."""

import os
import random
import socket
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from rmbench.cli.main import cli

VALUES = [
    "", " ", "=", "==", "=x", "x", "a=", "a=b=c", "0", "-0", "-1", "1", "2", "1.5", "-1.5", "1e999", "nan", "inf", "-inf",
    "9" * 400, "-" + "9" * 400, "9" * 5000, "0." + "9" * 400, "1e-400", "1_0", "١٢", "²", "0x10", " 5 ", "5\n", "+5", "1e3", "1,5",
    "\udc80\udcff", "\udcff/x", "é", "\u202eabc", "\x1b[31m", "x" * 100_000, "true", "None", "null", "[]", "{}", "..", "*", "?", "[a]",
    "{x}", "{0}", "%s", "~", "-", "--", "-h", "{d}/dev/zero", "{d}/dev/null", "{d}/dev/full", "{d}", "{d}/nothing", "{d}/nothing/at/all", "0:0.5",
    "0.5:0", "nan:1", "0:inf", ":", "::", "0:1:2", "1e-300:1e-299", "org/name", "org/name@" + "0" * 40, "a:b", "hf:", "scores:", "process:{d}",
    "dpo:policy={d},ref=", "dpo:", "ensemble:", "ensemble:length,length", "ensemble:,", "ensemble:" + "length," * 500, "vllm:{d}", "judge:http://[",
    "judge:http://127.0.0.1:9/v1", "builtin:", "builtin:../x", "verifier:", "verifier:math", "x.py:Y", "{d}/x.py:", ".py:", "preference:train",
    "bon", "length", "accuracy", "win_rate@max", "gold@99999999999999999999", "gold@-1", "gold@x", "@", "model.kind", "model.",
]  # fmt: skip
KEYS = {
    "-T": ["invalid", "ties", "gold_ties", "adversarial", "annotator", "max_n", "n", "bins", "weights", "aspect", "reference", "label", "x"],
    "-M": ["name", "label", "max_length", "chat_template", "weights", "fresh_head", "attn", "share_prompts", "gguf_file", "dtype", "seed", "0.name",
           "2.key", "model", "mode", "timeout", "concurrency", "temperature", "prompt", "data", "base", "out", "beta", "x"],
    "-G": ["schema", "pattern", "seconds", "tolerance", "strip", "whole", "name", "label", "memory_mb", "x"],
    "-L": ["threshold", "cap", "warmup", "margin", "quantile", "scale", "x"],
}  # fmt: skip
"""Options of tasks, models, gold and losses."""


def option_case(command: Sequence[str], rng: random.Random) -> tuple[list[str], str]:
    """Return a command with one option of a bad value, and which."""
    found = cli.get_command(click.Context(cli), command[0])
    assert found is not None
    names = [p.opts[-1] for p in found.params if isinstance(p, click.Option) and not p.is_flag]
    words, value = list(command), rng.choice(VALUES)
    if not names:  # only arguments
        return [*words[:-1], value], f"{words[0]} {value[:80]!r}"
    name = rng.choice([n for n in names if n != "--executor"])
    short = {"--model-option": "-M"}.get(name, name)
    if rng.random() < 0.3 and (keyed := [k for k in KEYS if any(k in p.opts for p in found.params)]):
        short = rng.choice(keyed)
        value = f"{rng.choice(KEYS[short])}={value}"
    if short == "--workers" and value.strip().isdecimal() and len(value) < 400:
        value = "0"  # a valid number of processes is no bad input
    given = [k for k, word in enumerate(words) if word == short]
    if given and rng.random() < 0.7:
        words[given[0] + 1] = value
    else:
        words += [short, value]
    return words, f"{short} {value[:80]!r}"


def _link(path: Path, to: str) -> None:
    path.symlink_to(to)


def devices(folder: Path) -> None:
    """Make devices of their own in `folder`: what a command replaced would be gone for everybody.

    Without the right to make one, pipes stand in for them.
    """
    (folder / "dev").mkdir()
    for name, number in (("zero", 5), ("null", 3), ("full", 7)):
        try:
            os.mknod(folder / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(1, number))
        except OSError:
            os.mkfifo(folder / "dev" / name)


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 10**10)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": lambda path: (path / "in").mkdir(parents=True),
    "an empty file": lambda path: path.touch(),
    "a file of zeros": lambda path: path.write_bytes(bytes(2000)),
    "a huge file with nothing in it": _huge,
    "a link to nothing": lambda path: _link(path, "nothing"),
    "a link to itself": lambda path: _link(path, path.name),
    "a link to a device": lambda path: _link(path, "dev/zero"),
    "a link to its folder": lambda path: _link(path, "."),
    "a socket": _socket,
    "nothing": lambda path: None,
}
NAMES = ["{d}/dev/zero", "{d}/dev/null", "{d}/dev/full", "/proc/self/fd/0", "/proc/self/mem", "/proc/self/environ", "", ".", "..", "{d}/" + "x" * 300,
         "{d}/" + "y/" * 3000, "{d}/a\udc80b", "{d}/a\nb", "{d}/-", "{d}/a b?*[c]", "{d}/\u202e", "http://127.0.0.1:9/x", "file:///proc/self/mem", "s3://a/b"]  # fmt: skip


def path_case(command: Sequence[str], folder: Path, rng: random.Random) -> tuple[list[str], str]:
    """Return a command with one path that is no file, made in `folder`, and which."""
    words = list(command)
    k = rng.choice([k for k, word in enumerate(words) if "{d}" in word])
    before, _, old = words[k].partition("{d}")
    old = old.strip("/")
    if rng.random() < 0.4:
        new = rng.choice(NAMES)
        told = repr(new[:40])
    elif rng.random() < 0.2:
        new, told = "{d}/a file/" + old, "below a file"
        (folder / "a file").touch()
    else:
        told = rng.choice(list(SPECIAL))
        place = folder / f"special{''.join(Path(old.split(':')[0]).suffixes)}"
        SPECIAL[told](place)
        new = "{d}/" + place.name
    words[k] = before + new
    option = words[k - 1] if k and words[k - 1].startswith("-") else ""
    return words, f"{command[0]} {option} {before}{old} is {told}"
