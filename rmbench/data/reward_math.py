"""RewardMATH (arXiv 2410.01729): one right and nine wrong solutions per problem, a row for each."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from rmbench.canon import prompt_cluster
from rmbench.data import fields
from rmbench.data.rows import BadRows, FoundItem, Row, rows_of
from rmbench.errors import DataError
from rmbench.types import Item, Response, Turn

WRONG = 9

_GOLD = {"chosen": 1.0, "rejected": 0.0}


def read(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"problem_id", "problem", "eval_solution": [steps], "solution_type", ...}` rows.

    Rows of a problem follow one another. A row that does not fit takes its problem with it: with fewer wrong
    solutions to beat, the problem would be an easier one.
    """
    del options
    for path in files:
        for _, rows in groupby(rows_of(path, bad), key=lambda r: repr(r.value.get("problem_id"))):
            of_problem = list(rows)
            try:
                found = _problem(of_problem)
            except DataError as error:
                bad.add(error)
                if len(of_problem) > 1:
                    bad.leave_out("other solutions of a problem that does not fit", len(of_problem) - 1)
                continue
            yield found


def _problem(rows: list[Row]) -> FoundItem:
    first = rows[0]
    identifier = str(fields.whole(first, "problem_id", fields.required(first, "problem_id"), 0, 10**9))
    prompt = (Turn(role="user", content=fields.text(first, "problem")),)
    found = [_solution(row, prompt) for row in rows]
    n_right = sum(response.gold == 1.0 for response in found)
    if n_right != 1 or len(found) != 1 + WRONG:
        raise first.error(
            f"{n_right} right and {len(found) - n_right} wrong solutions; expected 1 and {WRONG}",
            "problem_id",
            "solutions do not fit",
        )
    item = Item(
        id=identifier,
        prompt=prompt,
        responses=tuple(found),
        cluster=prompt_cluster(prompt),
        strata={"subject": str(first.value.get("subject") or ""), "level": str(first.value.get("level", ""))},
    )
    return FoundItem(item, first)


def _solution(row: Row, prompt: tuple[Turn, ...]) -> Response:
    if fields.text(row, "problem") != prompt[0]["content"]:
        raise row.error(
            "differs from the problem of the row before, which has this id", "problem", "prompts differ"
        )
    kind = fields.text(row, "solution_type")
    if kind not in _GOLD:
        raise row.error(f"{kind!r}; expected chosen or rejected", "solution_type", "unknown solution_type")
    steps = fields.required(row, "eval_solution")
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise row.error("expected a list of steps", "eval_solution", "text is not a string")
    # As the benchmark shows them to a classifier: one step after the other, without numbers.
    return Response(
        "\n".join(steps), _GOLD[kind], {"generator": str(row.value.get("solution_reference") or "")}
    )
