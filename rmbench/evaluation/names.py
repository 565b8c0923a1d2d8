"""Names of models before any is loaded, and which model an option of `-M` belongs to."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.models.resolve import name_of, place_of

_OF_MODEL = re.compile(r"\[(?P<model>.+?)\](?P<key>[^\[\]]+)", re.DOTALL)


def options_by_model(specs: Sequence[str], options: Mapping[str, str]) -> list[dict[str, str]]:
    """Return each model's own options: `[A]key=value` is for the model A, `[2]key=value` for the second one.

    Args:
        specs: Texts of `--model`, in order.
        options: Texts of `-M`, keys as given. Without brackets an option is for the only model.

    Raises:
        UnknownNameError: If no model is called so.
        ConfigError: If there are several models, and an option does not say for which.
    """
    found: list[dict[str, str]] = [{} for _ in specs]
    for key, value in options.items():
        match = _OF_MODEL.fullmatch(key)
        if match is None:
            if len(specs) != 1:
                raise ConfigError(
                    f"-M {key}={value}: there are {len(specs)} models, and it does not say for which; give"
                    f" -M '[{specs[0]}]{key}={value}', or '[1]{key}=...' for the first"
                )
            found[0][key] = value
            continue
        who, own = match["model"], match["key"]
        places = [n for n, spec in enumerate(specs) if spec == who]
        if not places and who.isdigit() and 1 <= int(who) <= len(specs):
            places = [int(who) - 1]
        if len(places) > 1:
            raise ConfigError(f"-M {key}={value}: {who!r} is given {len(places)} times; name it by its place")
        if not places:
            raise UnknownNameError("model", who, specs, f"-M {key}={value}")
        if own in found[places[0]]:
            raise ConfigError(f"-M {own} is given twice for {who}")
        found[places[0]][own] = value
    return found


def distinct_names(asked: Sequence[tuple[str, Mapping[str, str]]]) -> list[str | None]:
    """Return the name to give to each model, so that no two have one name; None: its own will do.

    `runs/a/final` and `runs/b/final` become `a/final` and `b/final`: the shortest ends of their paths that
    differ. A name that was asked for (`-M name=`) is left alone.

    Args:
        asked: The text of `--model` and the options of each model.

    Raises:
        ConfigError: If two models have one name, and no folder tells them apart.
        UnknownNameError: If a text names no model.
    """
    if len(asked) < 2:
        return [None] * len(asked)
    likely = [options.get("name") or _likely_name(spec) for spec, options in asked]
    found: list[str | None] = [None] * len(asked)
    for name in dict.fromkeys(likely):
        group = [n for n, other in enumerate(likely) if other == name]
        if len(group) == 1:
            continue
        free = [n for n in group if "name" not in asked[n][1]]
        places = {n: place_of(asked[n][0]) for n in free}
        apart = _ends([place for place in places.values() if place is not None])
        if len(group) - len(free) > 1 or None in places.values() or apart is None:
            texts = ", ".join(asked[n][0] for n in group)
            raise ConfigError(
                f"two models are called {name!r} ({texts}); -M '[{group[-1] + 1}]name=NAME' gives the last"
                " one a name of its own"
            )
        for n, end in zip(free, apart, strict=True):
            found[n] = _named_like(asked[n][0], end)
    return found


def _likely_name(spec: str) -> str:
    place = place_of(spec)
    if place is None:
        return name_of(spec)
    return _named_like(spec, place.name)


def _named_like(spec: str, end: str) -> str:
    """Return the name of a model in files: the end of its path, with the scheme or the class of `spec`."""
    if (match := re.fullmatch(r"[^:]+\.py:(\w+)", spec)) is not None:
        return f"{end.removesuffix('.py')}:{match[1]}"
    scheme, colon, _ = spec.partition(":")
    return f"{scheme}:{end}" if colon and re.fullmatch(r"[a-z][a-z0-9_]+", scheme) and scheme != "hf" else end


def _ends(places: Sequence[Path]) -> list[str] | None:
    """Return the shortest ends of paths that differ from each other; None for two equal paths."""
    if len(set(places)) < len(places):
        return None
    depth = 1
    while len({place.parts[-depth:] for place in places}) < len(places):
        depth += 1
    return ["/".join(place.parts[-depth:]) for place in places]
