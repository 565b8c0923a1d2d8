"""Training data in the columns that people publish: prompt, answers, preference.

Unlike a task's reader this one skips columns that it does not know, and takes rows without a prompt: training
data is compared with, never measured on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError, DataError, UnknownNameError
from rmbench.tasks import fields
from rmbench.tasks.layouts.columns import Names
from rmbench.tasks.layouts.conversation import reply_of, turns_of
from rmbench.tasks.layouts.read import read as read_layout
from rmbench.tasks.layouts.reading import LayoutOptions
from rmbench.tasks.layouts.recognise import layout_of
from rmbench.tasks.own import gold_of
from rmbench.tasks.rows import BadRows, FoundItem, Row, rows_of
from rmbench.tasks.spec import TaskSpec, list_tasks, load_task
from rmbench.types import Response, Turn

CHOSEN, REJECTED, UNLABELLED = LABELS = ("chosen", "rejected", "unlabelled")
"""A response of the highest gold among its prompt's, one of lower gold, one of which that is not known."""

Prompt = tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer that a model was shown in training."""

    text: str
    label: str
    asked: tuple[int, ...]
    """Which of the row's prompts it answers."""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """All that one row of a training set shows a model."""

    path: Path
    line: int
    prompts: tuple[Prompt, ...]
    """Whole prompts; where a conversation has several replies, what stands before each."""
    contexts: tuple[Prompt, ...]
    """Those that hold the words of all prompts."""
    replies: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns that training sets come in."""

    name: str
    keys: tuple[str, ...]
    """All that are read."""
    needed: tuple[tuple[str, ...], ...]
    """A row is in this layout if it has one key of each of these."""
    parse: Callable[[Row], TrainingRow]

    def fits(self, row: Row) -> bool:
        """Say whether a row has this layout's columns; null counts as absent."""
        return all(any(row.value.get(key) is not None for key in one_of) for one_of in self.needed)


def training_split(source: str, where: str) -> TaskSpec | None:
    """Return the training split that `TASK:train` means, as a task; None where `source` is a path.

    Args:
        source: `TASK:train`, or a path.
        where: What to name in an error, such as the option.

    Raises:
        ConfigError: If the task has no training split.
        UnknownNameError: If there is neither such a task nor such a path.
    """
    name, _, split = source.rpartition(":")
    if split != "train":
        return None
    if name not in list_tasks():
        if "/" in name:
            return None  # a path, or a data set on the Hub
        if not Path(source).exists():
            raise UnknownNameError("task", name, list_tasks(), where)
        return None
    spec = load_task(name)
    if spec.data.train is None:
        with_train = [t for t in list_tasks() if load_task(t).data.train is not None]
        raise ConfigError(f"task {name!r} has no training split; these have: {', '.join(with_train)}")
    part: dict[str, Any] = {"files": spec.data.train} if spec.data.hub else {"path": spec.data.train}
    return replace(spec, data=replace(spec.data, sha256=None, **part))


def training_rows(
    path: Path, layout: str, bad: BadRows, options: LayoutOptions | None = None
) -> Iterator[TrainingRow]:
    """Yield the rows of one training file.

    Args:
        path: JSON Lines, a JSON array or Parquet.
        layout: A name in `LAYOUTS`, or `auto`: the first that the file's first row fits.
        bad: What becomes of rows that do not fit.
        options: Which column is which, where their names do not say it.

    Raises:
        DataError: If the file cannot be read or has no column that is known, or at a row that does not fit.
    """
    if options is not None and options != LayoutOptions():
        yield from rows_of_items(read_layout([path], options, bad))
        return
    rows = rows_of(path, bad)
    first = next(rows, None)
    if first is None:
        return
    fits = next((each for each in LAYOUTS.values() if each.fits(first)), None)
    if layout == "auto" and (fits is None or _is_told_by_columns(first)):
        if layout_of(Names.read(first.value, {}), first.value) is None:
            raise _unknown(first, bad.option)
        yield from rows_of_items(read_layout([path], LayoutOptions(), bad))
    else:
        parse = (LAYOUTS[layout] if fits is None or layout != "auto" else fits).parse
        yield from bad.parse(chain([first], rows), parse)


def rows_of_items(found: Iterable[FoundItem]) -> Iterator[TrainingRow]:
    """Yield items that a model was trained on as training rows."""
    for entry in found:
        item, row = entry.item, entry.row
        labels = labels_of(item.responses)
        replies = tuple(Reply(r.text, n, (0,)) for r, n in zip(item.responses, labels, strict=True))
        yield TrainingRow(row.path, row.line, (item.prompt,), (item.prompt,), replies)


def labels_of(responses: Sequence[Response]) -> tuple[str, ...]:
    """Return the label of each response to one prompt: without two different golds nothing is chosen."""
    return _labels([r.gold for r in responses])


def _labels(gold: Sequence[float | None]) -> tuple[str, ...]:
    known = [g for g in gold if g is not None]
    if not known or min(known) == max(known):
        return (UNLABELLED,) * len(gold)
    best = max(known)
    return tuple(UNLABELLED if g is None else CHOSEN if g == best else REJECTED for g in gold)


def _is_told_by_columns(row: Row) -> bool:
    """Say whether a row has replies in columns that `LAYOUTS` does not know, such as a second one."""
    layout = layout_of(Names.read(row.value, {}), row.value)
    return layout is not None and layout.replies not in (("chosen", "rejected"), ("responses",))


def _unknown(row: Row, option: str) -> DataError:
    known = "; ".join(f"{name}: {_needs(layout)}" for name, layout in LAYOUTS.items())
    has = ", ".join(sorted(map(str, row.value))[:12]) or "none"
    return DataError(
        f"no columns that are known as training data ({known}); it has: {has}. Say which is which: {option}"
        " columns=prompt:COLUMN,chosen:COLUMN,rejected:COLUMN",
        path=row.path,
    )


def _needs(layout: Layout) -> str:
    return " and ".join(" or ".join(one_of) for one_of in layout.needed)


def _row(row: Row, prompts: Sequence[Prompt], replies: Sequence[Reply]) -> TrainingRow:
    return TrainingRow(row.path, row.line, tuple(prompts), tuple(prompts), tuple(replies))


def _pair(row: Row) -> TrainingRow:
    prompts = _given_prompt(row)
    n_given, replies = len(prompts), []
    for key, label in (("chosen", CHOSEN), ("rejected", REJECTED)):
        before, said = reply_of(row, key, fields.required(row, key))
        if before and before not in prompts:
            prompts.append(before)
        asked = {*range(n_given), *([prompts.index(before)] if before else [])}
        replies.append(Reply(said["content"], label, tuple(sorted(asked))))
    return _row(row, prompts, replies)


def _pool(row: Row) -> TrainingRow:
    prompts = _given_prompt(row)
    texts = fields.required(row, "responses")
    if not isinstance(texts, list):
        raise row.error("expected a list of texts", "responses", "responses are no list")
    texts = [fields.reply(row, f"responses[{k}]", t) for k, t in enumerate(texts)]
    labels = _labels(gold_of(row, len(texts)))
    asked = (0,) if prompts else ()
    return _row(row, prompts, [Reply(t, n, asked) for t, n in zip(texts, labels, strict=True)])


def _conversation(row: Row) -> TrainingRow:
    """Every turn of the assistant's is a reply that is learned from, to all that stands before it."""
    key = "messages" if row.value.get("messages") is not None else "conversations"
    turns = turns_of(row, key, fields.required(row, key))
    ends = [k for k, turn in enumerate(turns) if turn["role"] == "assistant"]
    prompts: list[Prompt] = []
    replies = []
    for k in ends:
        if k > 0:
            prompts.append(turns[:k])
        replies.append(Reply(turns[k]["content"], UNLABELLED, (len(prompts) - 1,) if k > 0 else ()))
    if not ends or ends[-1] < len(turns) - 1:
        prompts.append(turns)
    return TrainingRow(row.path, row.line, tuple(prompts), tuple(prompts[-1:]), tuple(replies))


def _instruction(row: Row) -> TrainingRow:
    asked = fields.text(row, "instruction", allow_empty=True)
    more = row.value.get("input")
    text = _text_of(row, ("output", "response"))
    if more is None or not fields.text(row, "input", more, allow_empty=True).strip():
        return _row(row, [_user(asked)], [Reply(text, UNLABELLED, (0,))])
    # Trainers join the two with one line break or with two.
    prompts = [_user(f"{asked}\n\n{more}"), _user(f"{asked}\n{more}")]
    return TrainingRow(
        row.path, row.line, tuple(prompts), tuple(prompts[:1]), (Reply(text, UNLABELLED, (0, 1)),)
    )


def _completion(row: Row) -> TrainingRow:
    prompts = _given_prompt(row)
    key = next((k for k in ("completion", "response") if row.value.get(k) is not None), "completion")
    _, said = reply_of(row, key, fields.required(row, key))
    return _row(row, prompts, [Reply(said["content"], UNLABELLED, (0,) if prompts else ())])


def _text(row: Row) -> TrainingRow:
    """Nobody says what of a plain text is prompt and what is reply: it is compared with both."""
    text = fields.text(row, "text", allow_empty=True)
    return _row(row, [_user(text)], [Reply(text, UNLABELLED, ())])


def _user(text: str) -> Prompt:
    return (Turn(role="user", content=text),)


def _given_prompt(row: Row) -> list[Prompt]:
    """Return what `prompt` holds: text, messages or a transcript; nothing where it is missing or blank."""
    value = row.value.get("prompt")
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    turns = turns_of(row, "prompt", value)
    asked = turns[:-1] if turns[-1] == Turn(role="assistant", content="") else turns
    return [asked] if asked else []


def _text_of(row: Row, keys: Sequence[str]) -> str:
    key = next((k for k in keys if row.value.get(k) is not None), keys[0])
    return fields.reply(row, key)


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("pairs", ("prompt", "chosen", "rejected"), (("chosen",), ("rejected",)), _pair),
        Layout("items", ("prompt", "responses", "gold"), (("responses",),), _pool),
        Layout("messages", ("messages", "conversations"), (("messages", "conversations"),), _conversation),
        Layout(
            "instruction", ("instruction", "input", "output", "response"),
            (("instruction",), ("output", "response")), _instruction,
        ),
        Layout(
            "completion", ("prompt", "completion", "response"),
            (("prompt",), ("completion", "response")), _completion,
        ),
        Layout("text", ("text",), (("text",),), _text),
    )
}  # fmt: skip
"""In the order in which a file is tried; `prompt` may be missing, and is then counted as missing."""
