"""PPE (arXiv 2410.14872): 32 responses per question, right or wrong, and the arena's human preferences."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rmbench.canon import prompt_cluster
from rmbench.data import fields
from rmbench.data.rows import BadRows, FoundItem, Row, items_of
from rmbench.metrics.ppe import CATEGORIES, CONFLICTS, ENGLISH, conflict_text
from rmbench.types import Item, Response

_SET = re.compile(r"PPE-(.+)-Best-of-K", re.IGNORECASE)
_RESPONSE = re.compile(r"response_([1-9]\d*)")
_GOLD = {"model_a": (1.0, 0.0), "model_b": (0.0, 1.0)}


def read_correctness(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"question_id", "prompt", "response_1", ..., "scores": [true, ...], "model_name"}`.

    The set is the name of the data set that a file lies in (`PPE-MATH-Best-of-K`), else that of the file.
    `sampled_conflict_pairs`, pairs of places of a right and a wrong response, are kept for PPE's accuracy.
    """
    del options
    return items_of(files, bad, lambda r: _item(r, set_name(r.path), bad))


def read_preference(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"question_id", "prompt", "response_1", "response_2", "winner", "language", "hard_prompt", ...}`.

    Human ties are left out and counted. Replies are as published, empty or identical ones included: leaving
    more out would change the published number.
    """
    del options
    return items_of(files, bad, lambda r: _preference(r, bad))


def set_name(path: Path) -> str:
    """Return `MATH` for a file of `PPE-MATH-Best-of-K`, whatever the file itself is called."""
    found = (_SET.search(part) for part in reversed(path.parts))
    return next((match[1] for match in found if match), path.name.split(".")[0])


def _item(row: Row, name: str, bad: BadRows) -> Item:
    prompt = fields.prompt(row, "prompt", fields.required(row, "prompt"))
    numbers = sorted(int(m[1]) for key in row.value if (m := _RESPONSE.fullmatch(key)))
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) < 2:
        raise row.error(
            "expected response_1, response_2, ... without a gap", "response_1", "responses do not fit"
        )
    gold = fields.required(row, "scores")
    if not isinstance(gold, list) or len(gold) != len(numbers):
        raise row.error(f"expected a list of {len(numbers)}, one per response", "scores", "scores do not fit")
    for k, value in enumerate(gold):
        if not isinstance(value, bool):
            raise row.error(f"{value!r}; expected true or false", f"scores[{k}]", "scores do not fit")
    strata = {"set": name, "generator": str(row.value.get("model_name") or "")}
    if row.value.get("sampled_conflict_pairs"):
        strata[CONFLICTS] = conflict_text(_conflicts(row, gold, bad))
    return Item(
        id=f"{name}:{fields.identifier(row, 'question_id')}",
        prompt=prompt,
        responses=tuple(
            # An empty answer was given too, and is right or wrong as any other.
            Response(fields.reply(row, f"response_{n}"), float(gold[n - 1]))
            for n in numbers
        ),
        cluster=prompt_cluster(prompt),
        strata=strata,
    )


def _conflicts(row: Row, gold: list[bool], bad: BadRows) -> list[tuple[int, int]]:
    """Return the published pairs as places of (right, wrong), in their order; some come twice."""
    key, places = "sampled_conflict_pairs", range(len(gold))
    pairs = []
    for k, pair in enumerate(fields.required(row, key)):
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or any(type(p) is not int or p not in places for p in pair)
        ):
            raise row.error(
                f"{pair!r}; expected two places from 0 to {len(gold) - 1}", f"{key}[{k}]", "pairs do not fit"
            )
        first, second = pair
        if gold[first] == gold[second]:
            bad.leave_out("sampled pairs that are both right or both wrong")
        else:
            pairs.append((first, second) if gold[first] else (second, first))
    return pairs


def _preference(row: Row, bad: BadRows) -> Item | None:
    winner = fields.text(row, "winner")
    if winner not in _GOLD and not winner.startswith("tie"):
        raise row.error(f"{winner!r}; expected model_a, model_b or a tie", "winner", "unknown label")
    prompt = fields.prompt(row, "prompt", fields.required(row, "prompt"))
    texts = [fields.reply(row, f"response_{n}") for n in (1, 2)]
    language = str(row.value.get("language") or "")
    strata = {"language_group": language if language in ("", ENGLISH) else f"non-{ENGLISH}"}
    strata |= {key: "yes" if _flag(row, key) else "no" for key in CATEGORIES if key in row.value}
    if winner not in _GOLD:
        bad.leave_out("human ties")
        return None
    models = [str(row.value.get(key) or "") for key in ("model_a", "model_b")]
    return Item(
        id=fields.identifier(row, "question_id"),
        prompt=prompt,
        responses=tuple(
            Response(text, gold, {"generator": model})
            for text, gold, model in zip(texts, _GOLD[winner], models, strict=True)
        ),
        cluster=prompt_cluster(prompt),
        strata=strata,
    )


def _flag(row: Row, key: str) -> bool:
    value = row.value[key]
    if not isinstance(value, bool):
        raise row.error(f"{value!r}; expected true or false", key, "row does not fit")
    return value
