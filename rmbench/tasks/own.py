"""Readers of rmbench's own JSON Lines and of plain preference pairs, also as a JSON array or Parquet."""

from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, cast

from rmbench.models.messages import more_of, tools_of
from rmbench.tasks import fields
from rmbench.tasks.messages import SHOWN_KEYS, tools_in, with_tools
from rmbench.tasks.rows import BadRows, FoundItem, Row, items_of
from rmbench.types import GOLD_KINDS, GoldKind, Item, Response, Turn

EXPECTED_KEYS = ("answer", "checks", "pattern", "schema", "tests", *SHOWN_KEYS)
"""Keys that verifiers compare responses with, or that judges may be shown."""
ITEM_KEYS = (
    "id", "prompt", "responses", "gold", "gold_kind", "cluster", "strata", "tags", "logprobs", "sampling",
    "votes", "tools", *EXPECTED_KEYS,
)  # fmt: skip
"""Keys of an item row. Of `sampling`, how responses were made, only the policy's name is read."""

_LOGPROB_ROUNDING = 1e-4
"""Log-probabilities added up in float32 may end this far above 0 nats."""

PAIR_KEYS = (
    "id", "prompt", "chosen", "rejected", "strength", "p_chosen", "cluster", "strata", "subset", "votes",
    "tools", *SHOWN_KEYS,
)  # fmt: skip


def read_pairs(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"prompt", "chosen", "rejected"}`, strings or message lists, with `strength` or `p_chosen`."""

    def compared(row: Row) -> Item | None:
        item = pair_of(row)
        problem = fields.no_comparison(*(response.content for response in item.responses))
        if problem is not None:
            bad.leave_out(problem, row=row)
        return None if problem else item

    return items_of(files, bad, compared)


def item_of(row: Row) -> Item:
    """Return the item of a row of rmbench's own JSON Lines.

    Raises:
        DataError: If a key is unknown or a value does not fit.
    """
    fields.known_keys(row, ITEM_KEYS)
    prompt = prompt_of(row)
    texts = fields.required(row, "responses")
    if not isinstance(texts, list) or len(texts) < 2:
        raise row.error("expected a list of at least two responses", "responses", "fewer than two responses")
    said = [_response(row, f"responses[{k}]", value) for k, value in enumerate(texts)]
    gold = gold_of(row, len(texts))
    tags = _tags(row, len(texts))
    kind = "label" if row.value.get("gold_kind") is None else row.value["gold_kind"]
    if kind not in GOLD_KINDS:
        raise row.error(
            f"{kind!r}; expected one of {', '.join(GOLD_KINDS)}", "gold_kind", "unknown gold_kind"
        )
    if kind == "probability":
        _check_probabilities(row, gold)
    labels = fields.strata(row)
    if policy := _policy(row):
        labels.setdefault("policy", policy)
    columns = zip(said, gold, tags, _logprobs(row, len(texts)), strict=True)
    responses = tuple(Response(s["content"], g, t, p, more_of(s)) for s, g, t, p in columns)
    return Item(
        id=fields.identifier(row),
        prompt=prompt,
        responses=responses,
        cluster=fields.cluster_of(row, prompt),
        strata=labels,
        gold_kind=cast(GoldKind, kind),
        expected=expected_of(row),
        votes=fields.votes(row, len(texts)),
    )


def prompt_of(row: Row) -> tuple[Turn, ...]:
    """Return the prompt of a row, with the tools that the row declares.

    Raises:
        DataError: If one of them does not fit.
    """
    turns = fields.prompt(row, "prompt", fields.required(row, "prompt"))
    return with_tools(turns, tools_in(row, "tools", row.value.get("tools")))


def _response(row: Row, key: str, value: Any) -> Turn:
    """Return a response: text, or a message of the assistant's."""
    if not isinstance(value, Mapping):
        return Turn(role="assistant", content=fields.reply(row, key, value))
    (found,) = fields.turns(row, key, [value])
    if found["role"] != "assistant":
        raise row.error(f"a message of the {found['role']}; expected the assistant's", key, "no reply")
    return found


def _policy(row: Row) -> str | None:
    """Return which policy wrote the responses, as `rmbench sample` says it; None where nothing says it."""
    sampling = row.value.get("sampling")
    if sampling is None:
        return None
    if not isinstance(sampling, Mapping) or not isinstance(policy := sampling.get("policy"), str | None):
        expected = "expected an object, as `rmbench sample` writes it, whose 'policy' is text"
        raise row.error(expected, "sampling", "sampling does not fit")
    return policy or None


def expected_of(row: Row) -> dict[str, Any]:
    """Return what a verifier needs of the row: those of `EXPECTED_KEYS` that are given.

    Raises:
        DataError: If one of them does not fit.
    """
    found: dict[str, Any] = {}
    if row.value.get("answer") is not None:
        found["answer"] = fields.answer(row)
    for key in ("pattern", "tests"):
        if row.value.get(key) is not None:
            found[key] = fields.text(row, key)
    found |= shown_of(row)
    if (checks := row.value.get("checks")) is not None:
        if not isinstance(checks, list) or not all(isinstance(c, Mapping) and "name" in c for c in checks):
            raise row.error("expected a list of objects with 'name'", "checks", "checks do not fit")
        found["checks"] = checks
    if (schema := row.value.get("schema")) is not None:
        if not isinstance(schema, Mapping):
            raise row.error("expected a JSON schema, an object", "schema", "schema does not fit")
        found["schema"] = schema
    return found


def shown_of(row: Row, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what a judge may be shown of the row: those of `SHOWN_KEYS` that are given.

    Args:
        row: The row.
        names: Key -> column, where the columns have other names; None: the keys' own.

    Raises:
        DataError: If one of them is neither text nor a list or an object.
    """
    found = {}
    for key, column in (names or {key: key for key in SHOWN_KEYS}).items():
        value = row.value.get(column)
        if value is None or value == "":
            continue
        if not isinstance(value, str | list | Mapping):
            raise row.error(f"{fields.kind_of(value)}; expected text", column, f"{key} is not text")
        found[key] = value
    return found


def gold_of(row: Row, n: int) -> list[float | None]:
    """Return `gold`, one value per response; None each where the row has none.

    Raises:
        DataError: If it is no list of `n` finite numbers.
    """
    value = row.value.get("gold")
    if value is None:
        return [None] * n
    if not isinstance(value, list) or len(value) != n:
        found = f"{len(value)} values" if isinstance(value, list) else "no list"
        raise row.error(
            f"{found}; expected one per response, {n}", "gold", "gold and responses differ in length"
        )
    return [fields.finite(row, f"gold[{k}]", v) for k, v in enumerate(value)]


def _tags(row: Row, n: int) -> list[dict[str, str]]:
    value = row.value.get("tags")
    if value is None:
        return [{} for _ in range(n)]
    if not isinstance(value, list) or len(value) != n or not all(isinstance(t, Mapping) for t in value):
        raise row.error(f"expected a list of {n} objects, one per response", "tags", "tags do not fit")
    return [{str(k): str(v) for k, v in t.items() if v is not None} for t in value]


def _logprobs(row: Row, n: int) -> list[float | None]:
    value = row.value.get("logprobs")
    if value is None:
        return [None] * n
    if not isinstance(value, list) or len(value) != n:
        found = f"{len(value)} values" if isinstance(value, list) else "no list"
        raise row.error(f"{found}; expected one per response, {n}", "logprobs", "logprobs do not fit")
    numbers: list[float | None] = []
    for k, v in enumerate(value):
        known = isinstance(v, int | float) and not isinstance(v, bool) and isfinite(v)
        if not known or v > _LOGPROB_ROUNDING:
            problem = f"{v!r}; expected a finite number of nats, at most 0"
            raise row.error(problem, f"logprobs[{k}]", "logprob is no log-probability")
        numbers.append(min(float(v), 0.0))
    return numbers


def _check_probabilities(row: Row, gold: list[float | None]) -> None:
    known = [g for g in gold if g is not None]
    if len(known) != 2 or min(known) < 0.0 or abs(sum(known) - 1.0) > 1e-9:
        raise row.error(
            "gold_kind 'probability' needs two values in [0, 1] that sum to 1",
            "gold",
            "gold is no probability",
        )


def pair_of(row: Row) -> Item:
    """Return the item of a row with a prompt, `chosen` and `rejected`.

    Raises:
        DataError: If a key is unknown or a value does not fit.
    """
    fields.known_keys(row, PAIR_KEYS)
    if "prompt" in row.value and row.value["prompt"] is not None:
        prompt = prompt_of(row)
        replies = [_reply(row, key, prompt) for key in ("chosen", "rejected")]
    else:
        for key in ("chosen", "rejected"):
            if isinstance(row.value.get(key), str):
                raise row.error(f"missing, and {key!r} is plain text without one", "prompt", "missing key")
        prompt, *replies = fields.shared_prompt(row)
        prompt = with_tools(prompt, tools_in(row, "tools", row.value.get("tools")))
    gold, kind = _preference(row)
    labels = fields.strata(row)
    if row.value.get("subset") is not None:
        labels.setdefault("subset", fields.text(row, "subset"))
    return Item(
        id=fields.identifier(row),
        prompt=prompt,
        responses=(Response.of(replies[0], gold[0]), Response.of(replies[1], gold[1])),
        cluster=fields.cluster_of(row, prompt),
        strata=labels,
        gold_kind=kind,
        expected=shown_of(row),
        votes=fields.votes(row, 2),
    )


def _reply(row: Row, key: str, prompt: tuple[Turn, ...]) -> Turn:
    """Return the reply under `key`: text, one assistant message, or the whole conversation."""
    value = fields.required(row, key)
    if isinstance(value, str):
        return Turn(role="assistant", content=fields.reply(row, key, value))
    found = fields.turns(row, key, value)
    if found[-1]["role"] != "assistant":
        raise row.error("does not end with an assistant turn", key, "no reply at the end")
    if len(found) > 1 and with_tools(found[:-1], tools_of(prompt)) != prompt:
        raise row.error("its conversation differs from 'prompt'", key, "prompts differ")
    return found[-1]


def _preference(row: Row) -> tuple[tuple[float, float], GoldKind]:
    strength, p_chosen = row.value.get("strength"), row.value.get("p_chosen")
    if strength is not None and p_chosen is not None:
        raise row.error("given together with 'p_chosen'; one of them says it", "strength", "two golds")
    if strength is not None:
        value = fields.finite(row, "strength", strength)
        if value <= 0:
            raise row.error(f"{value:g}; expected a number above 0", "strength", "strength is not positive")
        return (value, 0.0), "graded"
    if p_chosen is not None:
        value = fields.finite(row, "p_chosen", p_chosen)
        if not 0.0 <= value <= 1.0:
            raise row.error(
                f"{value:g}; expected a number in [0, 1]", "p_chosen", "p_chosen is no probability"
            )
        return (value, 1.0 - value), "probability"
    return (1.0, 0.0), "label"
