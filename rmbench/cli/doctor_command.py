"""`rmbench doctor`: versions, devices, extras, folders and settings, for bug reports."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from rmbench.cli.options import eval_options, json_option
from rmbench.core.escape import one_line


@click.command("doctor")
@eval_options("results", "store")
@json_option
def command(results: Path, store: Path | None, as_json: bool) -> None:
    """Show versions, devices, extras, folders and settings, and what is wrong with them.

    Paste the output into a bug report. It has no keys and no tokens; your home folder is shown as ~. The
    network is not used, nothing is written, and torch need not be installed. Exit code 0 also with problems.
    """
    from rmbench.doctor import examine
    from rmbench.scoring import default_store_folder

    found = examine(results, store or default_store_folder()).to_json()
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for line in _lines(found):
        click.echo(one_line(line))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    program, machine = found["program"], found["machine"]
    yield _row("rmbench", f"{program['rmbench']}, {program['installed']}, {program['place']}")
    yield _row("python", f"{program['python']}, {program['program']}")
    yield _row("system", program["system"])
    yield _row("packages", ", ".join(f"{name} {version}" for name, version in found["packages"].items()))
    yield _row("plug-ins", "; ".join(found["plugins"]) or "none")
    yield from _devices(machine)
    for extra in found["extras"]:
        yield _row(f"[{extra['name']}]", _extra(extra))
    for folder in found["folders"]:
        yield _row(folder["what"], _folder(folder))
    flags = [who for who, is_on in found["offline"].items() if is_on]
    yield _row("offline", f"yes: {', '.join(flags)}" if flags else "no")
    yield _row(
        "settings", ", ".join(f"{name}={value}" for name, value in found["settings"].items()) or "none"
    )
    yield ""
    yield from (f"problem: {problem}" for problem in found["problems"])
    if not found["problems"]:
        yield "no problem was found"


def _row(name: str, text: str) -> str:
    return f"{name:13} {text}"


def _devices(machine: dict[str, Any]) -> Iterator[str]:
    n = machine["threads"]
    threads = "torch is not there" if n is None else f"torch uses {n} thread{'' if n == 1 else 's'}"
    fast = {True: "fast in bfloat16", False: "slow in bfloat16", None: "bfloat16 unknown"}
    cores = f"{machine['cores']} of {machine['all_cores']} cores"
    yield _row("cpu", f"{machine['processor']}, {cores}, {threads}, {fast[machine['fast_bfloat16']]}")
    limit = machine["memory_limit"]
    told = f"{_bytes(machine['free_memory'])} free of {_bytes(machine['memory'])}"
    yield _row("memory", told if limit is None else f"{told}; the container may use {_bytes(limit)}")
    build = machine["cuda_build"]
    why = f"none is seen; torch is built for CUDA {build}" if build else "none; torch is built without CUDA"
    yield _row("cuda", "; ".join(machine["cuda"]) or (why if n is not None else "unknown without torch"))
    yield _row("mps", "yes" if machine["mps"] else "no")


def _extra(extra: dict[str, Any]) -> str:
    lacks = [*(f"{name} is missing" for name in extra["missing"]), *extra["old"]]
    if not lacks:
        return f"complete ({extra['what']})"
    return f"{', '.join(lacks)}: {extra['install']}  ({extra['what']})"


def _folder(folder: dict[str, Any]) -> str:
    if folder["problem"]:
        return f"{folder['path']}: cannot be written"
    if not folder["exists"]:
        return f"{folder['path']}: not there yet, can be made"
    least = "" if folder["whole"] else "more than "
    files = f"{folder['files']:,} file{'' if folder['files'] == 1 else 's'}"
    return f"{folder['path']}: {least}{files}, {_bytes(folder['size'])}, can be written"


def _bytes(count: int) -> str:
    """Return a size with its unit: powers of 1000."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
