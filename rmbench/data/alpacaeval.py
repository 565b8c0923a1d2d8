"""AlpacaEval's annotations: a judge's probability that a model's answer beats the reference's.

`results/<model>/<annotator>/annotations.json`, in a folder or in the `.tar.xz`. `preference` is in [1, 2] and
`preference - 1` is P(output_2 beats output_1), output_1 being the reference's. Two ways to read it:

pool   One item per instruction: every model's answer with gold `preference - 1`, a best-of-N pool.
pairs  One item per model and instruction: (answer, reference) with gold (p, 1 - p), a soft label.

The reference as a candidate and the generators made to fool the judge are left out unless asked for; those of
the latter that are asked for carry the tag `adversarial`.
"""

import json
import lzma
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path, PurePosixPath
from typing import Any

from rmbench.canon import prompt_cluster
from rmbench.data import fields
from rmbench.data.rows import BadRows, FoundItem, Row
from rmbench.errors import DataError
from rmbench.types import Item, Response, Turn

ADVERSARIAL = ("NullModel", "gpt4_gamed")
"""Generators that win by fooling the judge, not by answering."""

FILE = "annotations.json"
DRAW = 0.5


@dataclass(frozen=True, slots=True)
class _Verdict:
    row: Row
    model: str
    reference: str
    instruction: str
    output: str
    reference_output: str
    p: float
    dataset: str


def read(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read the annotations below `files[0]`, as the options say."""
    verdicts = list(_verdicts(files[0], options, bad))
    if options.get("mode", "pool") == "pairs":
        yield from (FoundItem(_pair(v), v.row) for v in verdicts)
    else:
        yield from _pools(verdicts, options, bad)


def _verdicts(path: Path, options: Mapping[str, Any], bad: BadRows) -> Iterator[_Verdict]:
    for model, source, rows in annotations(path, annotator_of(options)):
        if model in ADVERSARIAL and not options.get("adversarial"):
            bad.leave_out("responses of adversarial generators", len(rows))
            continue
        numbered = (Row(value, source, n) for n, value in enumerate(rows, start=1))
        for verdict in bad.parse(numbered, lambda r, m=model: _verdict(r, m)):  # type: ignore[misc]
            if verdict.model == verdict.reference:
                bad.leave_out("responses of the reference itself")
            else:
                yield verdict


def annotator_of(options: Mapping[str, Any]) -> str:
    """Return the annotator whose verdicts are gold."""
    return str(options.get("annotator") or "weighted_alpaca_eval_gpt4_turbo")


def annotators(path: Path) -> list[str]:
    """Return the names of the annotators whose verdicts are below `path`, sorted.

    Raises:
        DataError: If there are none.
    """
    if path.is_dir():
        found = {p.parent.name for p in _root(path).glob(f"*/*/{FILE}")}
    else:
        found = {annotator for _, annotator, _, _ in _members(path, None)}
    if not found:
        raise DataError(f"no results/<model>/<annotator>/{FILE} in it", path=path)
    return sorted(found)


def annotations(path: Path, annotator: str) -> Iterator[tuple[str, Path, list[Any]]]:
    """Yield (model, where, rows) of an annotator's files in the order of the models' names.

    Raises:
        DataError: If there are none, or one cannot be read.
    """
    if path.is_dir():
        found = sorted(_root(path).glob(f"*/{annotator}/{FILE}"), key=lambda p: p.parent.parent.name)
        if not found:
            raise DataError(f"no results/<model>/{annotator}/{FILE} in it", path=path)
        for file in found:
            yield file.parent.parent.name, file, _rows(file.read_bytes(), file)
        return
    found_in_archive = [
        (model, where, _rows(raw, where)) for model, _, where, raw in _members(path, annotator)
    ]
    if not found_in_archive:
        raise DataError(f"no results/<model>/{annotator}/{FILE} in it", path=path)
    yield from sorted(found_in_archive, key=lambda entry: entry[0])


def _root(path: Path) -> Path:
    return path / "results" if (path / "results").is_dir() else path


def _members(path: Path, annotator: str | None) -> Iterator[tuple[str, str, Path, bytes]]:
    """Yield (model, annotator, where, content) of an archive's files; with None, of all, without content.

    It is read as a stream and never extracted: names inside an archive are not trusted with paths.
    """
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                parts = PurePosixPath(member.name).parts
                if not member.isfile() or len(parts) < 3 or parts[-1] != FILE:
                    continue
                if annotator in (None, parts[-2]):
                    handle = archive.extractfile(member) if annotator else None
                    yield parts[-3], parts[-2], path / member.name, handle.read() if handle else b""
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError) as error:
        raise DataError(
            f"not an archive that can be read ({error}); expected a folder with results/ or a .tar.xz",
            path=path,
        ) from None


def _rows(raw: bytes, where: Path) -> list[Any]:
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise DataError(f"not valid JSON ({error})", path=where) from None
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise DataError("expected an array of objects", path=where)
    return value


def preference_of(row: Row) -> float:
    """Return `preference - 1`, P(the model's answer is better); NaN for null or NaN, which is no verdict.

    0 is an old way to write a draw.
    """
    value = fields.required(row, "preference")
    if value is None:
        return nan
    try:
        number = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = -1.0
    if number == 0.0:
        return DRAW
    if isnan(number) or 1.0 <= number <= 2.0:
        return number - 1.0
    raise row.error(f"{value!r}; expected a number in [1, 2], 0 or null", "preference", "no verdict")


def _verdict(row: Row, model: str) -> _Verdict:
    p = preference_of(row)
    if isnan(p):
        raise row.error("null or NaN; the judge gave no verdict", "preference", "no verdict")
    return _Verdict(
        row=row,
        model=model,
        reference=fields.text(row, "generator_1"),
        instruction=fields.text(row, "instruction"),
        output=fields.reply(row, "output_2"),
        reference_output=fields.reply(row, "output_1"),
        p=p,
        dataset=str(row.value.get("dataset") or ""),
    )


def _turns(verdict: _Verdict) -> tuple[Turn, ...]:
    return (Turn(role="user", content=verdict.instruction),)


def pair_id(model: str, cluster: str) -> str:
    """Return the id of the pair of a model's answer to a prompt and the reference's."""
    return f"{model}:{cluster}"


def _answer(verdict: _Verdict) -> Response:
    tags = {"generator": verdict.model, "example": _example(verdict.row), "reference": verdict.reference}
    if verdict.model in ADVERSARIAL:
        tags["adversarial"] = "yes"
    return Response(verdict.output, verdict.p, tags)


def _example(row: Row) -> str:
    """Return the number of the example in the benchmark, from 0: its own, else its place in the file."""
    number = row.value.get("id")
    return str(number if isinstance(number, int) and not isinstance(number, bool) else row.line - 1)


def _pair(verdict: _Verdict) -> Item:
    prompt = _turns(verdict)
    cluster = prompt_cluster(prompt)
    return Item(
        id=pair_id(verdict.model, cluster),
        prompt=prompt,
        responses=(
            _answer(verdict),
            Response(verdict.reference_output, 1.0 - verdict.p, {"generator": "reference"}),
        ),
        cluster=cluster,
        strata={"dataset": verdict.dataset},
        gold_kind="probability",
    )


def _pools(verdicts: list[_Verdict], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    pools: dict[str, list[_Verdict]] = {}
    for verdict in verdicts:
        pools.setdefault(verdict.instruction, []).append(verdict)
    for pool in pools.values():
        first = pool[0]
        responses = [_answer(v) for v in pool]
        if options.get("reference"):
            responses.append(Response(first.reference_output, 0.5, {"generator": "reference"}))
        if len(responses) < 2:
            bad.leave_out("pools of a single response")
            continue
        prompt = _turns(first)
        cluster = prompt_cluster(prompt)
        item = Item(cluster, prompt, tuple(responses), cluster, {"dataset": first.dataset}, "graded")
        yield FoundItem(item, first.row)
