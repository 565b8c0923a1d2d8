"""`--model`: an ordered list of rules, of which the first that applies decides; and models made in Python.

The identity of a user's own model includes a hash of its code. The lists of `rmbench models` are made here
too.
"""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rmbench.core.address import without_secrets
from rmbench.core.files import digest
from rmbench.core.loaded import code_of
from rmbench.core.options import REQUIRED, accepts, argument_help, parameters_of
from rmbench.core.schema import from_text, typed_options, written
from rmbench.core.user_file import import_file
from rmbench.errors import ConfigError, RmbenchError, ScoringError, UnknownNameError
from rmbench.models import MODELS, SCHEMES
from rmbench.models.pair import says_pair
from rmbench.models.runtime import Runtime
from rmbench.models.schedule import FULL, KINDS, Schedule
from rmbench.types import AnyModel, PairwiseModel, PrecomputedRewards, RatingJudge, RewardModel

_RULES = """\
The first rule that applies decides which model --model means:
  1. path/to/my_rm.py:MyRM  that class or function; the hash of its code joins the model's identity
  2. scheme:argument        {schemes}
  3. an existing folder     with a config.json: a Hugging Face model, yours or anyone's (hf:, or pair: where
                            its config names a class that compares two replies)
  4. a registered name      length, shortest, random, constant, @register_reward_model("..."), or another
                            package's entry point in the group rmbench.models
  5. org/name[@revision]    a model on the Hugging Face Hub
-M key=value passes options, typed by the model's constructor; -M name=NAME is its name in tables,
-M comparisons=N asks a pairwise model N pairs an item (-M schedule=circular|sampled says which),
-M 2.key=value the option of an ensemble's second member."""


def rules() -> str:
    """Return the rules of `--model` for people; each scheme says its own part."""
    said = ", ".join(SCHEMES.get(name).rule for name in SCHEMES)
    indent = " " * 28
    lines = textwrap.wrap(said, 108 - len(indent), break_long_words=False, break_on_hyphens=False)
    return _RULES.format(schemes=f"\n{indent}".join(lines))


_FILE = re.compile(r"^(?P<path>.+\.py):(?P<attribute>[A-Za-z_]\w*)$", re.DOTALL)
_SCHEME = re.compile(r"^(?P<scheme>[a-z][a-z0-9_]+):(?P<argument>.+)$", re.DOTALL)
_HUB = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?$")
_RESERVED = frozenset({"runtime"})


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with its name in tables and its text of `--model`."""

    name: str
    """Short display name: `length`, `builtin:linear`, a folder's name, `org/name`."""
    model: AnyModel
    spec: str
    identity: Mapping[str, str] = field(default_factory=dict)
    """Further keys of the fingerprint, e.g. {"source_sha256": ...}."""
    schedule: Schedule = FULL
    """Pairs that a pairwise model is asked. Part of a run's identity, not of the score store's: a pair's
    answer does not depend on the other pairs."""


def load_model(
    spec: str, options: Mapping[str, str] | None = None, runtime: Runtime | None = None
) -> LoadedModel:
    """Return the model that `spec` means, by the rules that `rules` returns.

    Args:
        spec: The text of `--model`.
        options: `-M key=value` texts; typed by the constructor's signature. `name` is every model's,
            `comparisons` and `schedule` are every pairwise model's.
        runtime: Device, dtype, length and the like; a constructor with a parameter `runtime` receives it.

    Raises:
        UnknownNameError: If no rule applies, or an option is unknown.
        ConfigError: If the model cannot be made, or is no reward model.
    """
    runtime = runtime or Runtime()
    options = dict(options or {})
    factory, arguments, name, identity = _find(spec)
    chosen_name = options.get("name")
    # A scheme's own argument may be called so (`builtin:NAME`); it is no option.
    # An instance that was registered as it is takes nothing.
    known = list(inspect.signature(factory).parameters) if callable(factory) else []
    if not (known and accepts(factory, "name")) or "name" in known[: len(arguments)]:
        options.pop("name", None)
    own = parameters_of(factory) if callable(factory) else {}
    planned: dict[str, str] = {
        key: options.pop(key) for key in ("comparisons", "schedule") if key in options and key not in own
    }
    model = _make(factory, arguments, options, runtime, spec)
    schedule = _schedule(planned, model, runtime.seed, f"--model {without_secrets(spec)}")
    name = chosen_name or str(getattr(model, "display_name", name))
    if identity:  # foreign code may forget an option in its fingerprint: what it was made with always counts
        identity |= {f"option:{key}": value for key, value in options.items() if key != "name"}
    return LoadedModel(
        name=checked_name(name, f"--model {without_secrets(spec)}"),
        model=model,
        spec=spec,
        identity=identity,
        schedule=schedule,
    )


def _schedule(options: Mapping[str, str], model: AnyModel, seed: int, where: str) -> Schedule:
    """Return the schedule that `-M comparisons=` and `-M schedule=` ask for."""
    if not options:
        return FULL
    if not isinstance(model, PairwiseModel):
        raise UnknownNameError("option", next(iter(options)), (), f"{where}, which compares no pairs")
    if "comparisons" not in options:
        raise ConfigError(f"{where}: option 'schedule' needs comparisons=N, the pairs asked of an item")
    text, kind = options["comparisons"], options.get("schedule", KINDS[0])
    n = from_text(int, text, f"{where}: option 'comparisons'")
    if n < 1:
        raise ConfigError(f"{where}: option 'comparisons' is {n}; expected pairs of an item, 1 or more")
    if kind not in KINDS:
        raise UnknownNameError("schedule", kind, KINDS, where)
    return Schedule(n, kind, seed)


def options_of(spec: str) -> tuple[Any, list[inspect.Parameter]]:
    """Return what makes the model of `spec` (or of all models of a scheme), and its options.

    Raises:
        UnknownNameError: If no rule applies.
    """
    factory: Any
    factory, arguments = (SCHEMES.get(spec).load, ("",)) if spec in SCHEMES else _find(spec)[:2]
    if not callable(factory):  # an instance that was registered as it is
        return factory, []
    parameters = list(inspect.signature(factory).parameters.values())[len(arguments) :]
    return factory, [p for p in parameters if p.name not in _RESERVED and p.kind is not p.VAR_POSITIONAL]


def check_spec(spec: str) -> None:
    """Raise as `load_model` would if `spec` names nothing; nothing is loaded yet."""
    _find(spec)


def fingerprint_of(loaded: LoadedModel) -> dict[str, str]:
    """Return the model's whole identity: its own fingerprint and the further keys.

    Raises:
        ScoringError: If `fingerprint()` raises, or is not an unambiguous mapping of text to text.
    """
    try:
        own = loaded.model.fingerprint()
    except RmbenchError:
        raise
    except Exception as error:
        raise ScoringError(
            f"model {loaded.name!r}: fingerprint() raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(own, Mapping) or not own:
        raise ScoringError(
            f"model {loaded.name!r}: fingerprint() returned {type(own).__name__}; expected a mapping of text"
            ' to text that names whatever can change a score, e.g. {"kind": "my_rm", "version": "1"}'
        )
    for key, value in own.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ScoringError(
                f"model {loaded.name!r}: fingerprint() has {key!r}: {value!r}; expected text for both"
            )
    clash = sorted(set(own) & set(loaded.identity))
    if clash:
        raise ScoringError(f"model {loaded.name!r}: fingerprint() uses the reserved key {clash[0]!r}")
    return {**own, **loaded.identity}


def run_fingerprint_of(loaded: LoadedModel) -> dict[str, str]:
    """Return the model's identity in a run: its fingerprint, and its schedule unless every pair is asked.

    Raises:
        ScoringError: As `fingerprint_of`, or if the fingerprint has the schedule's key.
    """
    own, schedule = fingerprint_of(loaded), loaded.schedule.identity()
    if clash := sorted(own.keys() & schedule.keys()):
        raise ScoringError(f"model {loaded.name!r}: fingerprint() uses the reserved key {clash[0]!r}")
    return {**own, **schedule}


def model_hash(loaded: LoadedModel) -> str:
    """Return the model's identity as 16 hex digits."""
    return digest(fingerprint_of(loaded), 16)


def name_of(spec: str) -> str:
    """Return the name that the model of `spec` has by its text alone; raises as `check_spec` does.

    A model may know a better one, which is known only when it is loaded.
    """
    return _find(spec)[2]


def place_of(spec: str) -> Path | None:
    """Return the file or folder of this machine that `spec` names, absolute; None where it names none."""
    scheme = _SCHEME.match(spec)
    if scheme is not None and scheme["scheme"] in SCHEMES:
        path = Path(scheme["argument"]).expanduser()
    else:
        match = _FILE.match(spec)
        path = Path(match["path"] if match else spec).expanduser()
        if match is None and not _is_checkpoint(path):
            return None
    return path.resolve() if path.exists() else None


def _is_checkpoint(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))


def _find(spec: str) -> tuple[Callable[..., Any], tuple[str, ...], str, dict[str, str]]:
    """Return (factory, positional arguments, default name, identity to add)."""
    scheme = _SCHEME.match(spec)
    is_known = scheme is not None and scheme["scheme"] in SCHEMES  # its argument may end in FILE.py:Class
    if (match := _FILE.match(spec)) and not is_known:
        return _from_file(Path(match["path"]).expanduser(), match["attribute"], spec)
    if scheme is not None:
        if not is_known:
            known = [f"{name}:" for name in SCHEMES]
            raise UnknownNameError(
                "model scheme", f"{scheme['scheme']}:", known, f"--model {without_secrets(spec)}"
            )
        name = scheme["scheme"]
        return SCHEMES.get(name).load, (scheme["argument"],), spec, SCHEMES.identity(name)
    folder = Path(spec).expanduser()
    if any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        scheme_name = "pair" if says_pair(folder) else "hf"
        return SCHEMES.get(scheme_name).load, (str(folder),), folder.resolve().name, {}
    if spec in MODELS:
        return MODELS.get(spec), (), spec, MODELS.identity(spec)
    if folder.exists():
        what = "a folder without config.json or adapter_config.json" if folder.is_dir() else "a file"
        raise ConfigError(
            f"--model {spec}: it is {what}; expected a Hugging Face folder, FILE.py:Class or scores:FILE"
        )
    _check_exists(spec, folder)
    if _HUB.match(spec):
        return SCHEMES.get("hf").load, (spec,), spec, {}
    schemes = [f"{name}:..." for name in SCHEMES if name != "builtin"]
    raise UnknownNameError("model", spec, [*MODELS, "builtin:linear", "builtin:tiny", *schemes])


def _check_exists(spec: str, folder: Path) -> None:
    """Raise ConfigError if `spec`, which does not exist, is the path of a folder and no name on the Hub."""
    parts = spec.split("/")
    is_name = _HUB.match(spec) is not None
    # `runs/final` may be a name on the Hub; beside a folder `runs` it is a folder that is missing.
    if len(parts) < 2 or (is_name and not (len(parts) == 2 and Path(parts[0]).is_dir())):
        return
    near = next((parent for parent in folder.parents if parent.is_dir()), None)
    held = sorted(p.name for p in near.iterdir() if p.is_dir()) if near is not None else []
    close = get_close_matches(folder.name, held, n=1)
    hint = f" Did you mean {near / close[0]}?" if near is not None and close else ""
    on_hub = f"; a model of that name on the Hub is hf:{spec}" if is_name else ""
    raise ConfigError(f"--model {spec}: there is no such folder or file here{on_hub}.{hint}")


def _from_file(
    path: Path, attribute: str, spec: str
) -> tuple[Callable[..., Any], tuple[str, ...], str, dict[str, str]]:
    module, source = import_file(path, f"--model {spec}")
    if not hasattr(module, attribute):
        public = [n for n in vars(module) if not n.startswith("_") and callable(getattr(module, n))]
        raise UnknownNameError("class", attribute, public, str(path))
    return getattr(module, attribute), (), f"{path.stem}:{attribute}", {"source_sha256": source}


def _make(
    factory: Any, arguments: tuple[str, ...], options: Mapping[str, str], runtime: Runtime, spec: str
) -> AnyModel:
    where = f"--model {without_secrets(spec)}"
    if not isinstance(factory, type) and not inspect.isroutine(factory) and problem_of(factory) is None:
        if options:
            raise UnknownNameError("option", next(iter(options)), (), where)
        return factory  # type: ignore[no-any-return]  # an instance that was registered as it is
    if not callable(factory):
        raise ConfigError(f"{where}: {factory!r} is neither a class, a function nor a reward model")
    # The positional arguments of a scheme come first in its signature.
    first = list(inspect.signature(factory).parameters)[: len(arguments)]
    keywords = typed_options(factory, options, where, _RESERVED | set(first))
    if accepts(factory, "runtime"):
        keywords["runtime"] = runtime
    try:
        model = factory(*arguments, **keywords)
    except RmbenchError:
        raise
    except Exception as error:
        raise ConfigError(f"{where}: it cannot be made: {type(error).__name__}: {error}") from error
    problem = problem_of(model)
    if problem is not None:
        raise ConfigError(f"{where}: {type(model).__name__} is no reward model: {problem}")
    return model  # type: ignore[no-any-return]


def problem_of(model: Any) -> str | None:
    """Return what is missing for `model` to be one of the three protocols; None if nothing is."""
    if isinstance(model, (RewardModel, PairwiseModel, PrecomputedRewards, RatingJudge)) and not isinstance(
        model, type
    ):
        for name in ("fingerprint", "score", "prefer", "rewards"):
            if hasattr(model, name) and not callable(getattr(model, name)):
                return f"{name} is not a method"
        return None
    missing = []
    if not hasattr(model, "fingerprint"):
        missing.append("fingerprint() -> mapping of text to text")
    if not any(hasattr(model, n) for n in ("score", "prefer", "rewards")):
        missing.append("score(batch) -> one reward per conversation (or prefer(batch) for a pairwise model)")
    return "it lacks the method " + " and the method ".join(missing) if missing else "it is a class"


def checked_name(name: str, where: str) -> str:
    """Return `name` if tables can show it; else ConfigError, beginning with `where`."""
    if not name or len(name) > 120 or not name.isprintable() or name != name.strip():
        raise ConfigError(
            f"{where}: the name {name[:40]!r} cannot be shown; expected 1 to 120 printable characters"
        )
    return name


def given_model(model: Any, name: str | None = None) -> LoadedModel:
    """Return a model object as `load_model` returns one that it made.

    The model's fingerprint is joined by a hash of the code that is loaded, as that of `FILE.py:Class` is: a
    class that is changed in a notebook and run again is another model. See `code_of`. Objects that the code
    uses, such as weights, are for `fingerprint` to say.

    Raises:
        ConfigError: If it is no reward model, its name cannot be shown, or which code is loaded is not known.
    """
    kind = model if isinstance(model, type) else type(model)
    spec = f"{kind.__module__}:{kind.__qualname__}"
    problem = problem_of(model)
    if isinstance(model, type):
        raise ConfigError(f"model {spec}: it is a class; expected an instance: {kind.__name__}(...)")
    if problem is not None:
        raise ConfigError(f"model {spec}: {kind.__name__} is no reward model: {problem}")
    name = name or str(getattr(model, "display_name", kind.__name__))
    is_ours = kind.__module__.partition(".")[0] == "rmbench"
    identity = {} if is_ours else code_of(kind, kind.__module__, f"model {spec}")
    return LoadedModel(checked_name(name, f"model {spec}"), model, spec, identity)


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A value of `--model`, or a pattern of values."""

    name: str
    kind: str
    """`reward`, `pairwise`, `precomputed`, `factory`, `pattern`, or `broken` (its import failed)."""
    summary: str
    source: str
    """`module:attribute`."""


def list_models() -> list[ModelRow]:
    """Return every registered model, then the patterns; a plug-in that cannot be imported says why."""
    rows = [_row(name) for name in MODELS]
    for scheme in map(SCHEMES.get, SCHEMES):
        source = SCHEMES.source(scheme.name)
        rows += [ModelRow(name, scheme.kind, summary, source) for name, summary in scheme.patterns.items()]
    own = "your own class or function in any Python file"
    return [*rows, ModelRow("FILE.py:CLASS", "pattern", own, "rmbench.models.resolve:load_model")]


@dataclass(frozen=True, slots=True)
class OptionRow:
    """An option of a model (`-M`) or of a verifier (`-G`)."""

    name: str
    type: str
    default: str
    """Empty for an option that must be given."""
    summary: str


def describe_model(spec: str) -> tuple[str, list[OptionRow]]:
    """Return a summary of the model of `spec`, or of a scheme, and its options.

    Raises:
        UnknownNameError: If `spec` is neither.
    """
    factory, parameters = options_of(spec)
    known = {name: text for scheme in map(SCHEMES.get, SCHEMES) for name, text in scheme.patterns.items()}
    return known.get(spec) or summary_of(factory), describe_options(factory, parameters)


def describe_options(factory: Any, parameters: Iterable[inspect.Parameter]) -> list[OptionRow]:
    """Return parameters of `factory` as options, described by its signature and docstring."""
    known = parameters_of(factory) if callable(factory) else {}
    told = argument_help(inspect.getdoc(factory) or "")
    rows = []
    for p in parameters:
        if p.kind is p.VAR_KEYWORD:  # any option, called as its annotation says
            if names := getattr(p.annotation, "__metadata__", ()):
                rows.append(OptionRow(str(names[0]), "text", "none", told.get(p.name, "")))
            continue
        one = known[p.name]
        default = "" if one.default is REQUIRED else str(one.default)
        rows.append(OptionRow(one.name, written(one.hint), default, one.help))
    return rows


def summary_of(thing: Any) -> str:
    """Return the first paragraph of a docstring, as one line."""
    text = inspect.getdoc(thing) or ""
    return text.strip().split("\n\n")[0].replace("\n", " ")


def _row(name: str) -> ModelRow:
    source = MODELS.source(name)
    try:
        thing = MODELS.get(name)
    except ConfigError as error:
        return ModelRow(name, "broken", str(error), source)
    return ModelRow(name, _kind(thing), summary_of(thing), source)


def _kind(thing: Any) -> str:
    for method, kind in (("score", "reward"), ("prefer", "pairwise"), ("rewards", "precomputed")):
        if hasattr(thing, method):
            return kind
    return "factory"
