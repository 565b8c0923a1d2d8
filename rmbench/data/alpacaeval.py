"""AlpacaEval's annotations: a judge's probability that a model's answer beats the reference's.

`results/<model>/<annotator>/annotations.json`, in a folder or in the `.tar.xz`. `preference` is in [1, 2] and
`preference - 1` is P(output_2 beats output_1), output_1 being the reference's. Two ways to read it:

pool   One item per instruction: every model's answer with gold `preference - 1`, a best-of-N pool.
pairs  One item per model and instruction: (answer, reference) with gold (p, 1 - p), a soft label.

The reference as a candidate and the generators made to fool the judge are left out unless asked for.
"""

import json
import lzma
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rmbench.canon import prompt_cluster
from rmbench.data import fields
from rmbench.data.rows import BadRows, FoundItem, Row
from rmbench.errors import DataError
from rmbench.types import Item, Response, Turn

ADVERSARIAL = ("NullModel", "gpt4_gamed")
"""Generators that win by fooling the judge, not by answering."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    row: Row
    model: str
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
    annotator = str(options.get("annotator") or "weighted_alpaca_eval_gpt4_turbo")
    for model, source, rows in _annotations(path, annotator):
        if model in ADVERSARIAL and not options.get("adversarial"):
            bad.leave_out("responses of adversarial generators", len(rows))
            continue
        numbered = (Row(value, source, n) for n, value in enumerate(rows, start=1))
        for verdict in bad.parse(numbered, lambda r, m=model: _verdict(r, m)):  # type: ignore[misc]
            if not verdict.output.strip() or not verdict.reference_output.strip():
                bad.leave_out("empty responses")
            elif verdict.model == verdict.row.value["generator_1"]:
                bad.leave_out("responses of the reference itself")
            else:
                yield verdict


def _annotations(path: Path, annotator: str) -> Iterator[tuple[str, Path, list[Any]]]:
    """Yield (model, where, rows) in the order of the models' names."""
    if path.is_dir():
        root = path / "results" if (path / "results").is_dir() else path
        found = sorted(root.glob(f"*/{annotator}/annotations.json"), key=lambda p: p.parent.parent.name)
        if not found:
            raise DataError(f"no results/<model>/{annotator}/annotations.json in it", path=path)
        for file in found:
            yield file.parent.parent.name, file, _rows(file.read_bytes(), file)
        return
    # Read as a stream and never extracted: names inside an archive are not trusted with paths.
    entries: dict[str, tuple[Path, list[Any]]] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                parts = PurePosixPath(member.name).parts
                if member.isfile() and parts[-2:] == (annotator, "annotations.json") and len(parts) >= 3:
                    where = path / member.name
                    handle = archive.extractfile(member)
                    entries[parts[-3]] = (where, _rows(handle.read() if handle else b"", where))
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError) as error:
        raise DataError(
            f"not an archive that can be read ({error}); expected a folder with results/ or a .tar.xz",
            path=path,
        ) from None
    if not entries:
        raise DataError(f"no results/<model>/{annotator}/annotations.json in it", path=path)
    for model in sorted(entries):
        yield model, *entries[model]


def _rows(raw: bytes, where: Path) -> list[Any]:
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise DataError(f"not valid JSON ({error})", path=where) from None
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise DataError("expected an array of objects", path=where)
    return value


def _verdict(row: Row, model: str) -> _Verdict:
    raw = fields.required(row, "preference")
    if raw is None:
        raise row.error("null; the judge gave no verdict", "preference", "no verdict")
    try:
        preference = float(raw)
    except (TypeError, ValueError):
        raise row.error(f"{raw!r}; expected a number in [1, 2]", "preference", "no verdict") from None
    if not 1.0 <= preference <= 2.0:
        raise row.error(f"{preference:g}; expected a number in [1, 2]", "preference", "no verdict")
    fields.text(row, "generator_1")
    return _Verdict(
        row=row,
        model=model,
        instruction=fields.text(row, "instruction"),
        output=fields.text(row, "output_2", allow_empty=True),
        reference_output=fields.text(row, "output_1", allow_empty=True),
        p=preference - 1.0,
        dataset=str(row.value.get("dataset") or ""),
    )


def _turns(verdict: _Verdict) -> tuple[Turn, ...]:
    return (Turn(role="user", content=verdict.instruction),)


def _pair(verdict: _Verdict) -> Item:
    prompt = _turns(verdict)
    cluster = prompt_cluster(prompt)
    return Item(
        id=f"{verdict.model}:{cluster}",
        prompt=prompt,
        responses=(
            Response(verdict.output, verdict.p, {"generator": verdict.model}),
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
        responses = [Response(v.output, v.p, {"generator": v.model}) for v in pool]
        if options.get("reference"):
            responses.append(Response(first.reference_output, 0.5, {"generator": "reference"}))
        if len(responses) < 2:
            bad.leave_out("pools of a single response")
            continue
        prompt = _turns(first)
        cluster = prompt_cluster(prompt)
        item = Item(cluster, prompt, tuple(responses), cluster, {"dataset": first.dataset}, "graded")
        yield FoundItem(item, first.row)
