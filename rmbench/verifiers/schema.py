"""`json-schema`: the JSON in a response follows a schema."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError
from rmbench.types import GoldKind
from rmbench.verifiers.bounded import Bounded, OutOfLimits
from rmbench.verifiers.structured import find_json
from rmbench.verifiers.verdicts import NO_ANSWER, Verdict, needed


class JsonSchema:
    """The JSON of the response follows a JSON schema: the option's file, else the item's `schema`.

    Args:
        schema: A file with the schema; none: each item's own.
        seconds: Time limit of one response; beyond it the gold is unknown.
    """

    version = "1"
    gold_kind: GoldKind = "label"

    def __init__(self, schema: Path | None = None, seconds: float = 5.0) -> None:
        self._schema = None if schema is None else _read(schema)
        self._check = Bounded("json-schema", seconds)

    def verify(self, response: str, expected: Mapping[str, Any]) -> Verdict:
        """Return 1 where it follows, 0 where it does not or there is no JSON."""
        schema = needed(expected, "schema") if self._schema is None else self._schema
        try:
            valid = self._check.ask(schema, response)
        except OutOfLimits as error:
            return Verdict(None, str(error))
        return Verdict(0.0, NO_ANSWER) if valid is None else Verdict(float(valid))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no JSON schema: {error}") from None


def prepare() -> None:
    """Import the library now, so that no response's time goes into it.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        import jsonschema  # noqa: F401
        import referencing  # noqa: F401
    except ImportError:
        raise ConfigError("schemas are checked by jsonschema: pip install 'rmbench[verifiers]'") from None


def valid(schema: Any, response: str) -> bool | None:
    """Return whether the JSON of `response` follows `schema`; None without any.

    Runs inside `rmbench.verifiers.bounded`. A schema that refers to another document is wrong here: nothing
    is fetched.

    Raises:
        ConfigError: If the schema is none.
    """
    import jsonschema
    import referencing.exceptions

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
