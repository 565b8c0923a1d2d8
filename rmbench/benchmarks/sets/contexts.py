"""Pairs about a long context: RAG-RewardBench (arXiv 2412.13746), MemoryRewardBench (arXiv 2601.11969)."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from rmbench.core.files import prompt_cluster
from rmbench.tasks import fields
from rmbench.tasks.rows import BadRows, FoundItem, Row, items_of, register_reader
from rmbench.types import Item, Response, Turn


@register_reader("rag-rewardbench")
def read_rag(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"prompt", "question", "chosen", "reject", "subset", "chosen_model", "reject_model"}`.

    The references are in `prompt`; the question follows them, unless they hold it already.
    """
    return items_of(files, bad, _rag)


@register_reader("memory-rewardbench")
def read_memory(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"task", "subtask", "ctx_length", "question", "chosen", "rejected"}`."""
    return items_of(files, bad, _memory)


def _rag(row: Row) -> Item:
    references, question = fields.text(row, "prompt"), fields.text(row, "question")
    asked = references if question.strip() in references else f"{references}\n\n{question}"
    models = [str(row.value.get(key) or "") for key in ("chosen_model", "reject_model")]
    strata = {"subset": fields.text(row, "subset")}
    return _pair(row, fields.identifier(row), asked, ("chosen", "reject"), strata, models)


def _memory(row: Row) -> Item:
    strata = {key: fields.text(row, key) for key in ("task", "subtask", "ctx_length")}
    # A file per task, or, as the hub converts them, a folder per task with files of one name.
    name = f"{strata['task']}:{fields.identifier(row)}"
    return _pair(row, name, fields.text(row, "question"), ("chosen", "rejected"), strata, ["", ""])


def _pair(
    row: Row, name: str, asked: str, keys: tuple[str, str], strata: Mapping[str, str], models: list[str]
) -> Item:
    prompt = (Turn(role="user", content=asked),)
    return Item(
        id=name,
        prompt=prompt,
        responses=tuple(
            Response(fields.reply(row, key), gold, {"generator": model} if model else {})
            for key, gold, model in zip(keys, (1.0, 0.0), models, strict=True)
        ),
        cluster=prompt_cluster(prompt),
        strata=strata,
    )
