"""Study files: methods, bases, data, tasks and settings in YAML. Unknown keys are refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from rmbench.core.options import OnBad, Option, Part, Texts
from rmbench.core.schema import parse
from rmbench.core.yaml import Lines, read_yaml
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.tasks.spec import load_task
from rmbench.train.settings import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecipe(Recipe):
    """How bases are trained, and on how many held-out pairs checkpoints are compared."""

    batch_size: Annotated[int, Option(low=2)] = 32
    """Pairs per optimiser step."""
    eval_limit: Annotated[int | None, Option(low=1)] = None
    """Held-out pairs at most, drawn by seed; by default all."""


@dataclass(frozen=True, slots=True)
class Base:
    """A base model of the study."""

    path: str
    """Folder or `org/name`; `{name}` stands for a place that `--place` gives."""
    train: StudyRecipe = field(default_factory=StudyRecipe)
    """Settings that replace the study's for this base; all but `eval_limit`."""


@dataclass(frozen=True, slots=True)
class DataSource:
    """Pairs to train on."""

    name: str
    source: Annotated[tuple[str, ...], Option(low=1, single=True)]
    """A path or `TASK:train`, or a list of them; joined."""
    like: str | None = None
    """The task whose reader is used."""
    part: Part = None
    pairs_per_prompt: Annotated[int | None, Option(low=1)] = None
    limit: Annotated[int | None, Option(low=2)] = None
    on_bad: OnBad = "fail"


@dataclass(frozen=True, slots=True)
class Method:
    """A loss with options, under a name of its own."""

    name: str
    loss: str = ""
    """By default the loss called like the method."""
    options: Texts = field(default_factory=dict)
    """Options of the loss, as `-L` sets them."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A task on which every trained model is evaluated."""

    task: str
    """A task's name, or its file, from the study's folder."""
    data: str | None = None
    part: Part = None
    limit: Annotated[int | None, Option(low=1)] = None
    on_bad: OnBad = "fail"


@dataclass(frozen=True, slots=True)
class StudySpec:
    """A study: methods x bases x data x seeds."""

    name: str
    summary: str
    bases: Mapping[str, Annotated[Base, Option(short="path")]]
    """Name -> path, or path and settings of its own."""
    data: Annotated[tuple[DataSource, ...], Option(low=1)]
    methods: Annotated[tuple[Method, ...], Option(low=1)]
    seeds: Annotated[int, Option(low=1, high=1000)]
    """How many; they are 0, 1, 2, ..."""
    train: StudyRecipe
    evaluate: Annotated[tuple[Evaluation, ...], Option(low=1)]
    reference: str
    """The method that the others are compared with."""
    batch_sizes: tuple[Annotated[int, Option(low=2)], ...] = ()
    """Pairs per step at which the batch margin is recorded; empty for none."""
    versus: tuple[Annotated[tuple[str, str], Option(expected="a pair [METHOD, OTHER]")], ...] = ()
    """Comparisons with a method other than the reference: (method, the other)."""


def load_study(path: Path, places: Mapping[str, str]) -> StudySpec:
    """Return the study in `path`, places filled in and every base with all its settings.

    Args:
        path: The YAML file.
        places: `{name}` in paths of the file -> what stands there: where bases and data lie here.

    Raises:
        ConfigError: With file and key, if something does not fit.
    """
    raw = read_yaml(path)
    spec = parse(StudySpec, raw, str(path))
    names = [m.name for m in spec.methods]
    for key, asked in (
        ("reference", [spec.reference]),
        ("versus", [n for pair in spec.versus for n in pair]),
    ):
        for name in asked:
            if name not in names:
                raise UnknownNameError("method", name, names, f"{path}, key {key!r}")
    for key, found in (("methods", names), ("data", [d.name for d in spec.data])):
        if len(set(found)) < len(found):
            raise ConfigError(f"{path}, key {key!r}: two entries have the same name")
    return replace(
        spec,
        summary=spec.summary.strip(),
        bases={name: _base(name, base, raw, places, path) for name, base in spec.bases.items()},
        data=tuple(_data(entry, places, path) for entry in spec.data),
        methods=tuple(replace(m, loss=m.loss or m.name) for m in spec.methods),
        evaluate=tuple(_evaluation(entry, places, path) for entry in spec.evaluate),
    )


def _base(name: str, base: Base, raw: Lines, places: Mapping[str, str], path: Path) -> Base:
    """Return a base with the study's settings where it has none of its own."""
    where = f"{path}, key 'bases'"
    if base.train.eval_limit is not None:
        raise ConfigError(f"{where}: eval_limit is the same for all bases; say it under 'train'")
    given = raw["bases"][name]
    own = {} if isinstance(given, str) else given.get("train") or {}
    return Base(_placed(base.path, places, where), parse(StudyRecipe, {**raw["train"], **own}, where))


def _data(entry: DataSource, places: Mapping[str, str], path: Path) -> DataSource:
    if entry.like:
        load_task(entry.like)
    return replace(entry, source=tuple(_placed(s, places, f"{path}, key 'data'") for s in entry.source))


def _evaluation(entry: Evaluation, places: Mapping[str, str], path: Path) -> Evaluation:
    task = entry.task
    if task.endswith(".yaml") and not Path(task).is_absolute():
        task = str(path.parent / task)
    load_task(task)
    data = None if entry.data is None else _placed(entry.data, places, f"{path}, key 'evaluate'")
    return replace(entry, task=task, data=data)


def _placed(text: str, places: Mapping[str, str], where: str) -> str:
    """Return `text` with each `{name}` replaced by where it is here."""
    try:
        return text.format_map(dict(places))
    except KeyError as error:
        name = str(error.args[0])
        raise ConfigError(f"{where}: {text!r} needs a place; say --place {name}=PATH") from None
    except (ValueError, IndexError, AttributeError) as error:
        raise ConfigError(f"{where}: {text!r} is no path with {{places}} ({error})") from None
