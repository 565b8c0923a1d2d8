"""AlpacaEval's annotations: a judge's probability that a model's answer beats the reference's.

The files are `results/<model>/<annotator>/annotations.json`, in a folder or in the `.tar.xz`. `preference` is
in [1, 2]; `preference - 1` is P(output_2 beats output_1), and output_1 is the reference's. Two modes:

pool   One item per instruction: every model's answer with gold `preference - 1`, a best-of-N pool.
pairs  One item per model and instruction: (answer, reference) with gold (p, 1 - p), a soft label.

By default the reference's own answers and the generators made to fool the judge are left out. If adversarial
generators are requested, their answers have the tag `adversarial`.

Published results: a generator's win rate is its published number, over all its rows. A judge's verdicts are
rewards on the task `alpacaeval-calibration`; the gold is another judge's verdicts.
"""

import lzma
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, isnan, nan
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np

from rmbench.core.files import digest, parse_json, prompt_cluster, read_whole, require_file
from rmbench.core.options import Option
from rmbench.errors import DataError, UnknownNameError
from rmbench.models.pairwise import rewards_from_preferences
from rmbench.results.published import (
    FORMATS,
    Import,
    PublishedRow,
    PublishedRun,
    WinRate,
    check_finite,
    left_out,
    reward_row,
)
from rmbench.results.record import SELF_GOLD
from rmbench.stats import mean
from rmbench.stats.clusters import Floats
from rmbench.tasks import ItemSet, fields, read_task_items
from rmbench.tasks.items import hash_items
from rmbench.tasks.rows import BadRows, FoundItem, Row, register_reader
from rmbench.tasks.spec import TaskSpec
from rmbench.types import Item, Response, Turn

ADVERSARIAL = ("NullModel", "gpt4_gamed")
"""Generators that win by fooling the judge, not by answering."""

FILE = "annotations.json"
DRAW = 0.5
_Mode: TypeAlias = Literal["r:", "r:xz", "r:gz", "r:bz2"]
_PACKED: Mapping[bytes, _Mode] = {b"\xfd7zXZ\x00": "r:xz", b"\x1f\x8b": "r:gz", b"BZh": "r:bz2"}
"""How a packed archive begins -> the mode to open it in. To try all would read a file three times."""
_LARGEST_ARCHIVE = 2 * 2**30
"""Bytes of an archive, unpacked; more is refused."""
_LARGEST = 128 * 2**20
"""Bytes of annotations of one model; more is refused."""


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


@dataclass(frozen=True)
class Options:
    """Options of the reader."""

    mode: Annotated[
        Literal["pool", "pairs"], Option("all models as one pool per prompt, or each against the reference")
    ] = "pool"
    reference: Annotated[bool, Option("put the reference's own answer into the pool, gold 0.5")] = False
    adversarial: Annotated[
        bool, Option("keep the generators made to fool the judge, marked as such: NullModel, gpt4_gamed")
    ] = False
    annotator: Annotated[str, Option("folder of annotations to read")] = "weighted_alpaca_eval_gpt4_turbo"


@register_reader("alpacaeval", options=Options, whole_path=True)
def read(files: list[Path], options: Options, bad: BadRows) -> Iterator[FoundItem]:
    """Read the annotations below `files[0]`, according to the options."""
    verdicts = list(_verdicts(files[0], options, bad))
    if options.mode == "pairs":
        yield from (FoundItem(_pair(v), v.row) for v in verdicts)
    else:
        yield from _pools(verdicts, options, bad)


def _verdicts(path: Path, options: Options, bad: BadRows) -> Iterator[_Verdict]:
    reference: str | None = None
    for model, source, rows in annotations(path, options.annotator):
        if model in ADVERSARIAL and not options.adversarial:
            bad.leave_out("responses of adversarial generators", len(rows))
            continue
        numbered = (Row(value, source, n) for n, value in enumerate(rows, start=1))
        for verdict in bad.parse(numbered, lambda r, m=model: _verdict(r, m)):  # type: ignore[misc]
            reference = reference or verdict.reference
            if verdict.reference != reference:
                problem = (
                    f"{verdict.reference!r}; other rows are against {reference!r}, and are not comparable"
                )
                bad.add(verdict.row.error(problem, "generator_1", "another reference"))
            elif verdict.model == verdict.reference:
                bad.leave_out("responses of the reference itself")
            else:
                yield verdict


def annotators(path: Path) -> list[str]:
    """Return the names of the annotators whose verdicts are below `path`, sorted.

    Raises:
        DataError: If there is no annotator.
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
        DataError: If there are no files, or one cannot be read.
    """
    if path.is_dir():
        named = (p for p in _root(path).glob(f"*/*/{FILE}") if p.parent.name == annotator)  # no pattern
        found = sorted(named, key=lambda p: p.parent.parent.name)
        if not found:
            raise DataError(f"no results/<model>/{annotator}/{FILE} in it", path=path)
        for file in found:
            yield file.parent.parent.name, file, _rows(read_whole(file, _LARGEST), file)
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
    """Yield (model, annotator, where, content) of an archive's files; with None: all files, without content.

    The archive is read as a stream and never extracted: names inside an archive are not trusted as paths.
    """
    with require_file(path).open("rb") as file:
        head = file.read(8)
    mode: _Mode = next((mode for start, mode in _PACKED.items() if head.startswith(start)), "r:")
    try:
        with tarfile.open(path, mode) as archive:
            for member in archive:
                if member.offset_data + member.size > _LARGEST_ARCHIVE:
                    raise DataError(f"more than {_LARGEST_ARCHIVE:,} bytes, unpacked", path=path)
                parts = PurePosixPath(member.name).parts
                if not member.isfile() or len(parts) < 3 or parts[-1] != FILE:
                    continue
                if annotator in (None, parts[-2]):
                    if member.size > _LARGEST:
                        problem = f"{member.size:,} bytes; expected at most {_LARGEST:,}"
                        raise DataError(problem, path=path / member.name)
                    handle = archive.extractfile(member) if annotator else None
                    yield parts[-3], parts[-2], path / member.name, handle.read() if handle else b""
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"not an archive that can be read ({error}); expected a folder with results/ or a .tar.xz",
            path=path,
        ) from None


def _rows(raw: str | bytes, where: Path) -> list[Any]:
    try:
        text = raw if isinstance(raw, str) else raw.decode("utf-8")
        value = parse_json(text.removeprefix("\ufeff"))
    except ValueError as error:
        raise DataError(f"not valid JSON ({error})", path=where) from None
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise DataError("expected an array of objects", path=where)
    return value


def preference_of(row: Row) -> float:
    """Return `preference - 1`, P(the model's answer is better); NaN for null or NaN, which are no verdict.

    0 is an old notation for a draw.
    """
    value = fields.required(row, "preference")
    if value is None:
        return nan
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else -1.0
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
        dataset=fields.label(row, "dataset"),
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
    """Return the number of the example in the benchmark, from 0: its id, else its place in the file."""
    number = row.value.get("id")
    return str(row.line - 1 if number is None else fields.whole(row, "id", number, 0, 10**9))


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


def _pools(verdicts: list[_Verdict], options: Options, bad: BadRows) -> Iterator[FoundItem]:
    pools: dict[str, list[_Verdict]] = {}
    for verdict in verdicts:
        pools.setdefault(verdict.instruction, []).append(verdict)
    for pool in pools.values():
        first = pool[0]
        responses = [_answer(v) for v in pool]
        if options.reference:
            responses.append(Response(first.reference_output, 0.5, {"generator": "reference"}))
        if len(responses) < 2:
            bad.leave_out("pools of a single response")
            continue
        prompt = _turns(first)
        cluster = prompt_cluster(prompt)
        item = Item(cluster, prompt, tuple(responses), cluster, {"dataset": first.dataset}, "graded")
        yield FoundItem(item, first.row)


_TASK = "alpacaeval-calibration"
_MODELS = (
    "gpt-4o-mini", "gpt4_turbo", "gpt4.1", "gpt5_nano", "gpt4", "chatgpt", "claude_3_opus", "claude_2",
    "claude", "llama3_70b", "text_davinci_003",
)  # fmt: skip
"""Parts of annotators' names that name the judge's model; the longest names first."""


@dataclass(frozen=True, slots=True)
class _PublishedVerdict:
    p: float
    """P(the model's answer is better); NaN without a verdict."""
    texts: str
    """Hash of the compared texts: the model's answer and the reference's."""


@FORMATS.register("alpacaeval")
def read_published(path: Path, request: Import) -> list[PublishedRun]:
    """Return a run for every judge below `path` except the gold judge; add win rates to `request`.

    Raises:
        DataError: If there are no annotations, or one does not fit.
        UnknownNameError: If the gold's annotator has no verdict there.
    """
    if not path.exists():
        raise DataError("there is no such file or folder", path=path)
    spec = request.spec(_TASK)
    spec = replace(spec, data=replace(spec.data, options={**spec.data.options, "mode": "pairs"}))
    known, gold = annotators(path), str(spec.data.options["annotator"])
    if gold not in known:
        raise UnknownNameError("annotator", gold, known, f"{path}, -T annotator")
    request.win_rates.extend(_win_rates(path, gold))
    others = [name for name in known if name != gold]
    if not others:
        return []
    pairs = read_task_items(spec, path, on_bad="skip" if request.skip else None, offline=True)
    return list(
        request.each(
            others,
            lambda name: _run(path, spec, name, pairs, same=judging_model(name) == judging_model(gold)),
        )
    )


def _win_rates(path: Path, gold: str) -> list[WinRate]:
    """Return each generator's win rate: `mean(preference - 1)` over its rows with a preference.

    Rows without a preference do not count, as published (`describe_head2head` of AlpacaEval). Rows of one
    instruction are one cluster; usually there is one such row.
    """
    found: list[tuple[str, Floats, list[str]]] = []
    prompts: set[str] = set()
    for model, source, values in annotations(path, gold):
        rows = [(preference_of(row), prompt_cluster(_prompt(row))) for row in _numbered(values, source)]
        prompts.update(cluster for _, cluster in rows)
        kept = [(p, cluster) for p, cluster in rows if isfinite(p)]
        if not kept:
            raise DataError("no row has a preference", path=source, key="preference")
        found.append((model, np.array([p for p, _ in kept]), [cluster for _, cluster in kept]))
    return [win_rate_of(model, p, clusters, len(prompts)) for model, p, clusters in found]


def win_rate_of(model: str, p: Floats, clusters: list[str], n_prompts: int) -> WinRate:
    """Return a generator's win rate with its clustered interval.

    Args:
        model: Name of the generator.
        p: P(the generator's answer is better), shape (N,), without NaN.
        clusters: Prompt cluster of each verdict, N of them.
        n_prompts: Number of prompts that any generator has a row for.
    """
    names, codes = np.unique(np.array(clusters), return_inverse=True)
    return WinRate(
        generator=model,
        win_rate=mean(p, codes.astype(np.int64), len(names), bounded=True).estimate(),
        n_wins=int((p > DRAW).sum()),
        n_wins_base=int((p < DRAW).sum()),
        n_draws=int((p == DRAW).sum()),
        n_missing=n_prompts - len(names),
        adversarial=model in ADVERSARIAL,
    )


def _run(path: Path, spec: TaskSpec, judge: str, pairs: ItemSet, *, same: bool) -> PublishedRun:
    """Return the run of a judge on the pairs that it judged."""
    found: dict[str, _PublishedVerdict] = {}
    counts, kept, rows = Counter(pairs.dropped), list[int](), list[PublishedRow]()
    for name, verdict in _published_verdicts(path, judge):
        counts["further verdicts on the same pair"] += found.setdefault(name, verdict) is not verdict
    for place, item in enumerate(pairs.items):
        judged = found.pop(item.id, None)
        if judged is None:
            counts["pairs that this judge was not asked about"] += 1
        elif judged.texts != digest([r.text for r in item.responses], 32):
            counts["pairs of which this judge saw other texts"] += 1
        else:
            kept.append(place)
            rows.append(reward_row(item, _rewards(judged.p)))
    counts["verdicts on pairs without gold"] = len(found)
    if not rows:
        raise DataError(f"no verdict of {judge!r} on a pair that has gold", path=path)
    check_finite(path, spec, rows)
    notes = ["gold and verdicts are from the same model: no independent measure"] if same else []
    return PublishedRun(
        model=f"{judge} ({SELF_GOLD})" if same else judge,
        spec=spec,
        rows=rows,
        data_hash=hash_items(pairs.items.take(kept)),
        source=path.name,
        format="alpacaeval",
        facts={"gold": SELF_GOLD} if same else {},
        pairwise=True,
        dropped=left_out(counts),
        notes=notes,
    )


def _published_verdicts(path: Path, judge: str) -> Iterator[tuple[str, _PublishedVerdict]]:
    for model, source, values in annotations(path, judge):
        for row in _numbered(values, source):
            texts = [fields.reply(row, key) for key in ("output_2", "output_1")]
            name = pair_id(model, prompt_cluster(_prompt(row)))
            yield name, _PublishedVerdict(preference_of(row), digest(texts, 32))


def _rewards(p: float) -> tuple[float, float]:
    """Return rewards with the log-odds of the verdict as margin; only one order was shown."""
    if not isfinite(p):
        return nan, nan
    rewards, _, _ = rewards_from_preferences(np.array([[0.5, p], [1.0 - p, 0.5]]))
    return float(rewards[0]), float(rewards[1])


def _prompt(row: Row) -> tuple[Turn, ...]:
    return (Turn(role="user", content=fields.text(row, "instruction")),)


def _numbered(values: Sequence[Any], source: Path) -> Iterator[Row]:
    return (Row(value, source, number) for number, value in enumerate(values, start=1))


def judging_model(annotator: str) -> str:
    """Return the judge's model, as far as the annotator's name says it; else the annotator's name."""
    return next((name for name in _MODELS if name in annotator), annotator)
