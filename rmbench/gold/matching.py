"""The verifiers `exact`, `regex`, `instruction` and `json-schema`.

`exact` and `regex` compare the text itself. `instruction` gives the share of an item's checks that a response
passes; the embedded data has such checks. `json-schema` checks the JSON in a response.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rmbench.core.files import read_json
from rmbench.errors import ConfigError, DataError
from rmbench.gold.bounded import Bounded, OutOfLimits
from rmbench.gold.instruction import verify
from rmbench.gold.instruction.structured import find_json
from rmbench.gold.verifier import NO_ANSWER, Verdict, needed, register_verifier
from rmbench.types import GoldKind


@register_verifier("exact")
class Exact:
    """The response equals the item's `answer`, character by character.

    Args:
        strip: Ignore whitespace around both.
        ignore_case: Ignore the case of letters.
    """

    version = "1"
    gold_kind: GoldKind = "label"

    def __init__(self, strip: bool = True, ignore_case: bool = False) -> None:
        self._strip, self._ignore_case = strip, ignore_case

    def verify(self, response: str, expected: Mapping[str, Any]) -> Verdict:
        """Return 1 if both are equal, else 0."""
        return Verdict(float(self._plain(response) == self._plain(str(needed(expected, "answer")))))

    def _plain(self, text: str) -> str:
        text = text.strip() if self._strip else text
        return text.casefold() if self._ignore_case else text


@register_verifier("regex")
class Regex:
    """A regular expression (Python's) is found in the response: the option's, else the item's `pattern`.

    Args:
        pattern: The expression; without it, each item's own.
        whole: The expression must match the whole response, except whitespace around it.
        seconds: Time limit of one search; beyond it the gold is unknown.
    """

    version = "1"
    gold_kind: GoldKind = "label"

    def __init__(self, pattern: str | None = None, whole: bool = False, seconds: float = 5.0) -> None:
        self._pattern, self._whole = pattern, whole
        if pattern is not None:
            compiled(pattern)
        self._search = Bounded(search, seconds)

    def verify(self, response: str, expected: Mapping[str, Any]) -> Verdict:
        """Return 1 if the expression is found, else 0."""
        pattern = str(needed(expected, "pattern")) if self._pattern is None else self._pattern
        try:
            return Verdict(float(self._search.ask(pattern, response, self._whole)))
        except OutOfLimits as error:
            return Verdict(None, str(error))


def compiled(pattern: str) -> re.Pattern[str]:
    """Return a compiled expression.

    Raises:
        ConfigError: If it is not a regular expression.
    """
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"{pattern[:80]!r} is no regular expression: {error}") from None


def search(pattern: str, text: str, whole: bool) -> bool:
    """Return whether `pattern` is found in `text`. The function runs inside `rmbench.gold.bounded`."""
    expression = compiled(pattern)
    return bool(expression.fullmatch(text.strip()) if whole else expression.search(text))


@register_verifier("instruction")
class Instruction:
    """The share of the item's `checks` that the response passes, from 0 to 1."""

    version = "1"
    gold_kind: GoldKind = "graded"

    def verify(self, response: str, expected: Mapping[str, Any]) -> Verdict:
        """Return the share."""
        return Verdict(verify(response, needed(expected, "checks")))


@register_verifier("json-schema")
class JsonSchema:
    """The JSON of the response follows a JSON schema: the option's file, else the item's `schema`.

    Args:
        schema: A file with the schema; without it, each item's own.
        seconds: Time limit of one response; beyond it the gold is unknown.
    """

    version = "1"
    gold_kind: GoldKind = "label"

    def __init__(self, schema: Path | None = None, seconds: float = 5.0) -> None:
        self._schema = None if schema is None else _read(schema)
        self._check = Bounded(valid, seconds)

    def verify(self, response: str, expected: Mapping[str, Any]) -> Verdict:
        """Return 1 if the JSON follows the schema, 0 if it does not or there is no JSON."""
        schema = needed(expected, "schema") if self._schema is None else self._schema
        try:
            valid = self._check.ask(schema, response)
        except OutOfLimits as error:
            return Verdict(None, str(error))
        return Verdict(0.0, NO_ANSWER) if valid is None else Verdict(float(valid))


def _read(path: Path) -> Any:
    schema = read_json(path, "schema")
    if not isinstance(schema, dict | bool):
        found = f"{type(schema).__name__}; expected a JSON schema, an object, true or false"
        raise DataError(found, path=f"schema: {path}")
    return schema


def prepare() -> None:
    """Import the library now, so that no response spends its time limit on it.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        import jsonschema  # noqa: F401
        import referencing  # noqa: F401
    except ImportError:
        raise ConfigError("schemas are checked by jsonschema: pip install 'rmbench[verifiers]'") from None


def valid(schema: Any, response: str) -> bool | None:
    """Return whether the JSON of `response` follows `schema`; None without JSON.

    The function runs inside `rmbench.gold.bounded`. A schema that refers to another document is an error:
    nothing is fetched.

    Raises:
        ConfigError: If the schema is not valid.
    """
    import jsonschema
    import referencing.exceptions

    if isinstance(schema, dict) and not isinstance(schema.get("$schema", ""), str):
        raise ConfigError(f"the schema is no JSON schema: its $schema is {str(schema['$schema'])[:40]!r}")
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
        validator = kind(schema, registry=referencing.Registry())
        found = find_json(response)
        return None if found is None else bool(validator.is_valid(found))
    except jsonschema.SchemaError as error:
        raise ConfigError(f"the schema is no JSON schema: {error.message}") from None
    except referencing.exceptions.Unresolvable as error:
        raise ConfigError(f"the schema refers to {error.ref!r}, which it does not hold") from None
