"""RewardBench's best-of-n results on AlpacaEval: a reward model's score of each sample of one generator.

`best-of-n/alpaca_eval/<generator>/<org>/<model>.json`: rows of `id` ([example, sample]), `scores` (x or [x]),
`model` (who wrote the sample) and more, one pretty-printed object after the other. The judge's verdicts are
published elsewhere, in AlpacaEval's layout, where each sample is a generator of its own:
`<writer>.<sample>/<annotator>/annotations.json`. Schema and join as in `scripts/run_bon.py` and
`bon_eval/rm_bon_eval.py` of the benchmark's repository.
"""

from collections import Counter
from pathlib import Path

from rmbench.data import ItemSet
from rmbench.errors import ConfigError, DataError
from rmbench.published.rewardbench_scores import score_of
from rmbench.published.run import Import, PublishedRow, PublishedRun, check_finite, left_out, reward_row
from rmbench.published.tables import Table, read_table
from rmbench.specs import TaskSpec, apply_params
from rmbench.types import Response

_TASK = "alpacaeval-bon"
_SUMMARIES = ("bon_eval_results.json", "eval_results")
"""What lies beside the scores: win rates, of which the rows are not known."""


def read(path: Path, request: Import) -> list[PublishedRun]:
    """Return the runs at `path`: one scores file, or a generator's folder of them.

    Raises:
        ConfigError: If the candidates' gold is not given as `--data`.
        DataError: If there is no scores file, or one does not fit.
    """
    files = _files(path)
    items = request.items(_TASK)
    if items is None:
        layout = "<writer>.<sample>/<annotator>/annotations.json"
        raise ConfigError(f"{path}: scores without gold; give --data FOLDER with {layout}")
    if not items.items:
        raise ConfigError(f"{items.source}: no candidate is left, only {dict(items.dropped)}")
    spec = request.spec(_TASK)
    if "gold_meaning" not in request.task_options:
        reference = items.items[0].responses[0].tags["reference"]
        spec = apply_params(spec, {"gold_meaning": f"P(beats {reference})"})
    return list(request.each(files, lambda file: _run(file, path, spec, items)))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError("there is no such file or folder", path=path)
    below = [p for p in path.rglob("*.json") if not set(p.relative_to(path).parts) & set(_SUMMARIES)]
    files = sorted((p for p in below if not p.name.startswith(".")), key=lambda p: p.as_posix())
    if not files:
        raise DataError("no scores file; looked for <org>/<model>.json", path=path)
    return files


def _run(file: Path, start: Path, spec: TaskSpec, items: ItemSet) -> PublishedRun:
    table = read_table(file)
    scores = _scores(table)
    rows, wanted = list[PublishedRow](), list[tuple[int, int]]()
    for item in items.items:
        places = [_place(table, response) for response in item.responses]
        wanted += places
        rows.append(reward_row(item, tuple(scores[place] for place in places if place in scores)))
    if missing := [place for place in wanted if place not in scores]:
        problem = f"no score for {len(missing):,} of {len(wanted):,} responses of {items.source}"
        raise DataError(
            f"{problem}, first {list(missing[0])}", path=file, key="id", reason="rows are missing"
        )
    check_finite(file, spec, rows)
    extra = Counter({"scores of responses that the data does not have": len(scores.keys() - set(wanted))})
    return PublishedRun(
        model=_name(file, start),
        spec=spec,
        rows=rows,
        data_hash=items.data_hash,
        source=file.name,
        format="rewardbench-bon",
        facts={},
        dropped={**items.dropped, **left_out(extra)},
    )


def _name(file: Path, start: Path) -> str:
    """Return the model's name: its path below the generator's folder."""
    parts = file.parts
    if "alpaca_eval" in parts[:-2]:
        below = parts[len(parts) - parts[::-1].index("alpaca_eval") + 1 :]
        if below:
            return "/".join(below).removesuffix(".json")
    below = file.relative_to(start).parts if start.is_dir() else (file.name,)
    return "/".join(below).removesuffix(".json")


def _scores(table: Table) -> dict[tuple[int, int], float]:
    """Return (example, sample) -> score; NaN for null."""
    found: dict[tuple[int, int], float] = {}
    values = table.required("scores")
    for k, place in enumerate(table.required("id")):
        if (
            not isinstance(place, list)
            or len(place) != 2
            or not all(isinstance(n, int) and not isinstance(n, bool) for n in place)
        ):
            raise table.error(k, "id", f"{place!r}; expected [example, sample], two whole numbers")
        key = (place[0], place[1])
        if key in found:
            raise table.error(k, "id", f"{place!r} occurs twice")
        found[key] = score_of(table, k, "scores", values[k], allow_null=True)
    return found


def _place(table: Table, response: Response) -> tuple[int, int]:
    """Return (example, sample) of a candidate, whose writer must be the one whose samples were scored.

    Numbers of examples and samples are the same for every writer: they would fit those of another one too.
    """
    writer, _, sample = response.tags["generator"].rpartition(".")
    if not sample.isdecimal():
        problem = f"--data has the generator {response.tags['generator']!r}; expected <writer>.<sample>"
        raise DataError(problem, path=table.path, key="id")
    scored = table.fact("model") or ""
    if scored.rpartition("/")[2] != writer:
        problem = f"{scored!r}, but --data has samples of {writer!r}"
        raise DataError(problem, path=table.path, key="model", reason="another generator")
    return int(response.tags["example"]), int(sample)
