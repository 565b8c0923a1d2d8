"""`docs/benchmarks.md`: every task, from the task files and from what the kinds say of themselves."""

import inspect
import sys
from collections.abc import Sequence

from rmbench.escape import for_markdown, one_line
from rmbench.metrics import KINDS
from rmbench.specs import TaskSpec

_HEADS = ("task", "what", "official number", "clean numbers", "published size", "licence", "data")
_NOTHING = "nothing yet"
_INTRODUCTION = """\
# Benchmarks

Made by `rmbench tasks --page` from the task files in `tasks/`; do not edit. *Official* numbers follow a
benchmark's own published definition, quirks included; *clean* ones are the same for every benchmark and have
95% intervals clustered by prompt. Of each task it says what was compared with which publication, and what was
not. Data is read from `--data PATH`, or from a pinned revision on the hub where one is named; a repository is
for you to clone.

"""


def benchmarks_page(specs: Sequence[TaskSpec]) -> str:
    """Return the page as Markdown. The same task files give the same bytes."""
    lines = [
        *_INTRODUCTION.splitlines(),
        _row(_HEADS),
        _row(["---"] * len(_HEADS)),
        *[_row(_summary(spec)) for spec in specs],
    ]
    for spec in specs:
        lines += ["", *_section(spec)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _summary(spec: TaskSpec) -> list[str]:
    return [
        f"[`{spec.name}`](#{spec.name})",
        for_markdown(spec.summary),
        ", ".join(f"`{kind}`" for kind in spec.kinds_of("official")) or "–",
        ", ".join(spec.kinds_of("clean")) or "–",
        for_markdown(spec.size),
        for_markdown(spec.license),
        spec.data.where,
    ]


def _section(spec: TaskSpec) -> list[str]:
    lines = [
        f"## {spec.name}",
        "",
        f"{one_line(spec.summary)} Version {spec.version}; source: <{spec.source}>.",
        "",
    ]
    fetched = spec.data.hub_files or spec.data.files or "*"
    lines += [f"- data: `{name}`, files `{fetched}`" for name in spec.data.hub]
    if spec.data.github:
        lines.append(f"- repository: `{spec.data.github}` (`{spec.data.to_get}`, then `--data` the folder)")
    lines.append(f"- headline: `{spec.primary}`" + (f"; by {', '.join(spec.strata)}" if spec.strata else ""))
    lines += [f"- official, `{kind}`: {_definition(kind)}" for kind in spec.kinds_of("official")]
    for head, said in (("reproduced", spec.reproduced), ("not checked", spec.unchecked)):
        lines += [
            f"- {head}: {one_line(text)}" for text in said or (_NOTHING,) if said or head == "reproduced"
        ]
    return lines


def _definition(kind: str) -> str:
    """Return what the kind's module says it computes, and where the definition is from."""
    told = inspect.getdoc(sys.modules[KINDS.get(kind).__module__]) or ""
    return " ".join(told.split())
