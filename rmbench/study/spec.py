"""Study files: methods, bases, data, tasks and settings in YAML. Unknown keys are refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from rmbench.core.options import Help, Option, options_of, parse_part
from rmbench.core.yaml import read_yaml
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.tasks.spec import load_task

_KEYS = ("name", "summary", "bases", "data", "methods", "seeds", "train", "evaluate", "reference")
_OPTIONAL = ("batch_sizes", "versus")


@dataclass(frozen=True)
class _Train:
    """The key `train`."""

    epochs: Annotated[float, Help("passes over the pairs", low=0.0)] = 1.0
    learning_rate: Annotated[float | None, Help("peak rate; by default the trainer's")] = None
    batch_size: Annotated[int, Help("pairs per optimiser step", low=2)] = 32
    micro_batch: Annotated[int, Help("pairs per forward pass", low=1)] = 8
    max_length: Annotated[int, Help("tokens per conversation", low=8)] = 1024
    freeze_backbone: Annotated[bool, Help("train the last layer alone")] = False
    lora: Annotated[int | None, Help("rank of LoRA adapters; by default all weights", low=1)] = None
    precision: Annotated[Literal["auto", "float32", "bfloat16"], Help("of matrix products")] = "auto"
    eval_every: Annotated[int, Help("steps between evaluations", low=1)] = 50
    eval_limit: Annotated[
        int | None, Help("held-out pairs at most, drawn by seed; by default all", low=1)
    ] = None


_TRAIN = options_of(_Train)
_ON_BAD = Option("on_bad", Literal["fail", "skip"], "fail")


@dataclass(frozen=True, slots=True)
class Base:
    """A base model of the study."""

    path: str
    """Folder or `org/name`."""
    train: Mapping[str, Any]
    """The study's settings, overridden by those of this base."""


@dataclass(frozen=True, slots=True)
class DataSource:
    """Pairs to train on."""

    name: str
    sources: tuple[str, ...]
    """Paths, or `TASK:train`; joined."""
    like: str | None
    """The task whose reader is used."""
    part: tuple[float, float] | None
    """Share of prompts, by hash: only these are used."""
    pairs_per_prompt: int | None
    limit: int | None
    on_bad: str = "fail"
    eval_limit: int | None = None
    """Held-out pairs at most; of the key `train`."""


@dataclass(frozen=True, slots=True)
class Method:
    """A loss with options, under its own name."""

    name: str
    loss: str
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A task on which every trained model is evaluated."""

    task: str
    data: str | None
    part: tuple[float, float] | None
    limit: int | None
    on_bad: str = "fail"


@dataclass(frozen=True, slots=True)
class StudySpec:
    """A parsed study file."""

    name: str
    summary: str
    bases: Mapping[str, Base]
    data: tuple[DataSource, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    evaluate: tuple[Evaluation, ...]
    reference: str
    """The method that the others are compared with."""
    batch_sizes: tuple[int, ...]
    """Pairs per step at which the batch margin is recorded; empty for none."""
    versus: tuple[tuple[str, str], ...]
    """Comparisons with a method other than the reference: (method, the other)."""


def load_study(path: Path, places: Mapping[str, str]) -> StudySpec:
    """Return the study in `path`.

    Args:
        path: The YAML file.
        places: Value for each `{name}` in the file's paths: where bases and data are on this machine.

    Raises:
        ConfigError: With file and key, if something does not fit.
    """
    raw = read_yaml(path)
    for key in raw:
        if key not in (*_KEYS, *_OPTIONAL):
            raise UnknownNameError("key", str(key), (*_KEYS, *_OPTIONAL), str(path))
    for key in _KEYS:
        if key not in raw:
            raise ConfigError(f"{path}: key {key!r} is missing")
    train = _train(_mapping(raw["train"], path, "train"), f"{path}, key 'train'")
    train = {key: train.get(key, param.default) for key, param in _TRAIN.items()}
    watched = train.pop("eval_limit")
    bases = {k: _base(v, train, places, path) for k, v in _mapping(raw["bases"], path, "bases").items()}
    data = tuple(
        replace(_data(e, places, path), eval_limit=watched) for e in _entries(raw["data"], path, "data")
    )
    methods = tuple(_method(e, path) for e in _entries(raw["methods"], path, "methods"))
    evaluations = tuple(_evaluation(e, places, path) for e in _entries(raw["evaluate"], path, "evaluate"))
    names = [m.name for m in methods]
    if raw["reference"] not in names:
        raise UnknownNameError("method", str(raw["reference"]), names, f"{path}, key 'reference'")
    for what, found in (("methods", names), ("data", [d.name for d in data])):
        if len(set(found)) < len(found):
            raise ConfigError(f"{path}, key {what!r}: two entries have the same name")
    seeds = raw["seeds"]
    if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
        raise ConfigError(f"{path}, key 'seeds': {seeds!r}; expected how many, a whole number from 1")
    return StudySpec(
        name=str(raw["name"]), summary=str(raw["summary"]).strip(), bases=bases, data=data, methods=methods,
        seeds=tuple(range(seeds)),
        evaluate=evaluations, reference=str(raw["reference"]),
        batch_sizes=_batch_sizes(raw.get("batch_sizes") or [], path),
        versus=_versus(raw.get("versus") or [], names, path),
    )  # fmt: skip


def _base(raw: Any, train: Mapping[str, Any], places: Mapping[str, str], path: Path) -> Base:
    where = f"{path}, key 'bases'"
    entry = dict(raw) if isinstance(raw, Mapping) else {"path": raw}
    _known(entry, ("path", "train"), ("path",), where)
    own = _train(_mapping(entry.get("train", {}), path, "bases"), where)
    if "eval_limit" in own:
        raise ConfigError(f"{where}: eval_limit is the same for all bases; say it under 'train'")
    return Base(_placed(str(entry["path"]), places, where), {**train, **own})


def _data(raw: Mapping[str, Any], places: Mapping[str, str], path: Path) -> DataSource:
    where = f"{path}, key 'data'"
    known = ("name", "source", "like", "part", "pairs_per_prompt", "limit", "on_bad")
    _known(raw, known, ("name", "source"), where)
    given = raw["source"] if isinstance(raw["source"], list) else [raw["source"]]
    sources = tuple(_placed(str(s), places, where) for s in given)
    if raw.get("like"):
        load_task(str(raw["like"]))
    return DataSource(
        str(raw["name"]), sources, raw.get("like"), _part(raw, where), raw.get("pairs_per_prompt"),
        raw.get("limit"), _on_bad(raw, where),
    )  # fmt: skip


def _part(raw: Mapping[str, Any], where: str) -> tuple[float, float] | None:
    return None if raw.get("part") is None else parse_part(str(raw["part"]), f"{where}, key 'part'")


def _on_bad(raw: Mapping[str, Any], where: str) -> str:
    return str(_ON_BAD.parse(str(raw.get("on_bad", "fail")), f"{where}, key 'on_bad'"))


def _batch_sizes(raw: Any, path: Path) -> tuple[int, ...]:
    if not isinstance(raw, list) or not all(isinstance(n, int) and n > 1 for n in raw):
        raise ConfigError(f"{path}, key 'batch_sizes': {raw!r}; expected a list of whole numbers from 2")
    return tuple(raw)


def _versus(raw: Any, methods: Sequence[str], path: Path) -> tuple[tuple[str, str], ...]:
    where = f"{path}, key 'versus'"
    if not isinstance(raw, list) or not all(isinstance(e, list) and len(e) == 2 for e in raw):
        raise ConfigError(f"{where}: {raw!r}; expected a list of pairs [METHOD, OTHER]")
    for name in (str(name) for pair in raw for name in pair):
        if name not in methods:
            raise UnknownNameError("method", name, methods, where)
    return tuple((str(method), str(other)) for method, other in raw)


def _method(raw: Mapping[str, Any], path: Path) -> Method:
    _known(raw, tuple(f.name for f in fields(Method)), ("name",), f"{path}, key 'methods'")
    options = {str(k): str(v) for k, v in (raw.get("options") or {}).items()}
    return Method(str(raw["name"]), str(raw.get("loss") or raw["name"]), options)


def _evaluation(raw: Mapping[str, Any], places: Mapping[str, str], path: Path) -> Evaluation:
    where = f"{path}, key 'evaluate'"
    _known(raw, tuple(f.name for f in fields(Evaluation)), ("task",), where)
    task = str(raw["task"])
    if task.endswith(".yaml") and not Path(task).is_absolute():
        task = str(path.parent / task)
    load_task(task)
    data = raw.get("data")
    placed = None if data is None else _placed(str(data), places, where)
    return Evaluation(task, placed, _part(raw, where), raw.get("limit"), _on_bad(raw, where))


def _train(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the settings in `raw`."""
    _known(raw, tuple(_TRAIN), (), where)
    return {key: _TRAIN[key].parse(str(value), f"{where}, key {key!r}") for key, value in raw.items()}


def _placed(text: str, places: Mapping[str, str], where: str) -> str:
    """Return `text` with each `{name}` replaced by its place."""
    try:
        return text.format_map(dict(places))
    except KeyError as error:
        name = str(error.args[0])
        raise ConfigError(f"{where}: {text!r} needs a place; say --place {name}=PATH") from None
    except (ValueError, IndexError, AttributeError) as error:
        raise ConfigError(f"{where}: {text!r} is no path with {{places}} ({error})") from None


def _known(raw: Mapping[str, Any], known: tuple[str, ...], needed: tuple[str, ...], where: str) -> None:
    for key in raw:
        if key not in known:
            raise UnknownNameError("key", str(key), known, where)
    for key in needed:
        if key not in raw:
            raise ConfigError(f"{where}: an entry lacks {key!r}")


def _mapping(raw: Any, path: Path, key: str) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}, key {key!r}: expected a mapping")
    return {str(k): v for k, v in raw.items()}


def _entries(raw: Any, path: Path, key: str) -> list[dict[str, Any]]:
    if not isinstance(raw, list) or not raw or not all(isinstance(e, Mapping) for e in raw):
        raise ConfigError(f"{path}, key {key!r}: expected a list of mappings")
    return [dict(e) for e in raw]
