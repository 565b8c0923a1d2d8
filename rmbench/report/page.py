"""The report page (`rmbench.format.pages`): one HTML file. Same records, same bytes."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from rmbench import __version__
from rmbench.core.digits import Digits, significant
from rmbench.core.escape import one_line
from rmbench.core.files import canonical_json
from rmbench.errors import ConfigError
from rmbench.format.pages import LONGEST_NAME, anchor, render_page, text_block
from rmbench.gold.source import describe_gold
from rmbench.metrics.selection import BEST, rule_of
from rmbench.models.messages import text_of
from rmbench.plot import Source
from rmbench.report.compare_page import compared_part
from rmbench.report.numbers import Section, all_rows, count_rows, headline_rows, notes_of
from rmbench.report.pictures import Picture, pictures_of
from rmbench.report.worst import Texts, Worst, margin_of, picks, read_texts, worst_items
from rmbench.results.compare import comparable
from rmbench.results.run import facts_of, shown_name
from rmbench.results.verdict import Decision, decide
from rmbench.types import Item

_EXCERPT = 110


@dataclass(frozen=True, slots=True)
class Report:
    """A page and a summary of its sections."""

    html: str
    sections: tuple[Mapping[str, Any], ...]
    """Per section: `tasks`, `models`, `figures`, `missing` (figure -> why), `items`, `texts` (reason),
    `verdicts`."""


def make_report(
    sections: Sequence[Section],
    *,
    n_items: int,
    data: Mapping[str, Path],
    command: Sequence[str],
    decisions: Sequence[Decision | None] | None = None,
) -> Report:
    """Return the report of sections. Models of a section are also compared with each other.

    Args:
        sections: Models by the items that they were measured on.
        n_items: Largest number of wrong items shown per model, and of items on which models disagree.
        data: Task -> path of its data, for tasks whose data is not in the package.
        command: Command that makes this page again, shown on the page.
        decisions: The comparison of each section; None: made here, of the tasks' headlines.

    Raises:
        ConfigError: If matplotlib is not installed, or there is nothing to report on.
        StoreError: If the rewards of a record are missing or damaged.
        RmbenchError: If data that was given cannot be read.
    """
    if not sections:
        raise ConfigError("no record to report on")
    runs = [source for section in sections for source in section.sources]
    models = list(dict.fromkeys(shown_name(run, runs) for run in runs))
    if decisions is None:
        decisions = [decision_of(section, n_items) for section in sections]
    shown, summaries, taken = [], [], set[str]()
    for section, decision in zip(sections, decisions, strict=True):
        pictures, missing = pictures_of(section)
        worst = [worst_items(source, n_items) for source in section.sources]
        wanted = {w.item for items in worst for w in items}
        parted = {d.item for d in decision.report.disagreements} if decision else set[str]()
        path = next((data[task] for task in section.tasks if task in data), None)
        texts = read_texts(section.sources[0], wanted | parted, path)
        compared = compared_part(decision, section.key, texts) if decision else None
        # A link to a task leads to the first section on it.
        anchors = [name for name in map(anchor, section.tasks) if name not in taken]
        taken.update(anchors)
        part = _section(section, anchors, pictures, missing, worst, texts)
        shown.append({**part, "compared": compared})
        summaries.append(
            {
                "tasks": list(section.tasks),
                "models": [source.label for source in section.sources],
                "figures": [p.name for p in pictures],
                "missing": missing,
                "items": [len(items) for items in worst],
                "texts": texts.why,
                "verdicts": [v.sentence() for v in decision.verdicts] if decision else [],
            }
        )
    html = render_page(
        "report",
        title=", ".join(one_line(m, LONGEST_NAME) for m in models[:4]) + (", …" if len(models) > 4 else ""),
        models=models,
        sections=shown,
        n_items=n_items,
        version=__version__,
        command=shlex.join(command),
    )
    return Report(html, tuple(summaries))


def decision_of(section: Section, n_items: int) -> Decision | None:
    """Return the comparison of a section's models; None of one model, or of settings that differ."""
    if len(section.sources) < 2 or not comparable(section.sources):
        return None
    return decide(section.sources, n_items=n_items)


def _section(
    section: Section,
    anchors: Sequence[str],
    pictures: Sequence[Picture],
    missing: Mapping[str, str],
    worst: Sequence[Sequence[Worst]],
    texts: Texts,
) -> dict[str, Any]:
    sources, first = section.sources, section.sources[0]
    rule = rule_of(first.params)
    meaning = describe_gold(first.record.identity) or first.params.get("gold_meaning") or ""
    labels = [one_line(s.label, LONGEST_NAME) for s in sources]
    return {
        "key": section.key,
        "anchors": anchors,
        "title": one_line(", ".join(section.tasks), LONGEST_NAME),
        "version": first.version,
        "labels": labels,
        "facts": _facts(sources),
        "gold": meaning,
        "rule": "" if rule == BEST else str(rule),
        "headlines": headline_rows(sources),
        "metrics": all_rows(sources),
        "notes": notes_of(sources),
        "pictures": pictures,
        "missing": missing,
        "counts": count_rows(sources),
        "picks": picks(sources[0]),
        "texts_why": texts.why,
        "worst": [
            {
                "label": label,
                "list": [_item(w, source, section, texts.items.get(w.item)) for w in items],
            }
            for label, source, items in zip(labels, sources, worst, strict=True)
        ],
        "runs": [_run(label, source) for label, source in zip(labels, sources, strict=True)],
    }


def _facts(sources: Sequence[Source]) -> str:
    return f"{sources[0].size()}; data {sources[0].data[:12]}"


def _item(worst: Worst, source: Source, section: Section, item: Item | None) -> dict[str, Any]:
    lead = f"gold lost {Digits().write(worst.loss)}" if picks(source) else f"margin {_reward(worst.margin)}"
    prompt = [(t["role"], text_of(t)) for t in item.prompt] if item else []
    others = [
        f"{one_line(other.label, LONGEST_NAME)}: {_judged(margin)}"
        for other in section.sources
        if other is not source and (margin := margin_of(other, worst)) is not None
    ]
    return {
        "item": one_line(worst.item, LONGEST_NAME),
        "lead": lead,
        "excerpt": one_line(prompt[-1][1], _EXCERPT) if prompt else "",
        "prompt": [{"role": role, "text": text_block(text)} for role, text in prompt],
        "responses": [
            {
                "what": shown.what,
                "place": shown.place + 1,
                "of": worst.n_responses,
                "reward": _reward(shown.reward),
                "gold": significant(shown.gold),
                "length": f"{shown.length:,} characters" if shown.length else "",
                "text": text_block(text_of(item.responses[shown.place].turn)) if item else None,
            }
            for shown in worst.responses
        ],
        "others": others,
    }


def _reward(value: float) -> str:
    return significant(value).replace("-", "−")


def _judged(margin: float) -> str:
    if not isfinite(margin):
        return "no finite reward"
    verdict = "right" if margin > 0 else "wrong" if margin < 0 else "tied"
    return f"{verdict} (margin {_reward(margin)})"


def _run(label: str, source: Source) -> dict[str, Any]:
    record, provenance = source.record, source.record.provenance
    settings = {k: v for k, v in source.params.items() if v is not None}
    facts = {
        "record": f"{source.task}@{source.version}/{record.run_id}",
        "task": f"{source.task}, version {source.version}, {source.task_digest}",
        "settings": _pairs(settings),
        "data": source.data,
        "read from": provenance.get("data"),
        "model": _pairs(source.fingerprint),
        "said of the model": "; ".join(map(str, provenance.get("remarks") or ())),
        "gold": describe_gold(record.identity),
        "limit": "all items" if source.limit is None else f"{source.limit:,} items",
        "seed": source.seed,
        "made": provenance.get("time"),
        "with": _pairs(provenance.get("versions")),
        "used": _pairs(provenance.get("used")),
    }
    return {
        "label": label,
        "facts": {name: str(value) for name, value in facts.items() if value not in (None, "")},
        "command": facts_of(source).command,
    }


def _pairs(value: Any) -> str:
    """Return a mapping of a record as text."""
    if not value:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{k} {v if isinstance(v, str | int | float) else canonical_json(v)}" for k, v in value.items()
        )
    return str(value)
