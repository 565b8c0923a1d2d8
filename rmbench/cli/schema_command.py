"""`rmbench schema`: JSON Schemas of the files that rmbench reads, for editors and other programs."""

import json
from typing import Any

import click

from rmbench.core.schema import json_schema

FILES = ("task", "board", "study", "judge", "record")


@click.command()
@click.argument("file", type=click.Choice(FILES))
def command(file: str) -> None:
    """Print the JSON Schema of a kind of FILE; editors complete and check with it.

    \b
    rmbench schema task > task.schema.json
    # then, as the first line of a task file, for an editor with the YAML language server:
    # yaml-language-server: $schema=task.schema.json

    Task kinds and readers are those known here, with plug-ins, and with their parameters and options.
    """
    click.echo(json.dumps(schema_of(file), indent=2, ensure_ascii=False))


def schema_of(file: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a kind of file, one of `FILES`."""
    if file == "task":
        from rmbench.tasks.spec import task_schema

        return task_schema()
    if file == "board":
        from rmbench.boards.definition import BoardSpec

        return json_schema(BoardSpec, "A leaderboard of rmbench")
    if file == "study":
        from rmbench.study.spec import StudySpec

        return json_schema(StudySpec, "A study of rmbench")
    if file == "judge":
        from rmbench.models.judge.prompt import Template

        return json_schema(Template, "The prompt of a judge of rmbench")
    from rmbench.results.record import RecordFile

    return json_schema(RecordFile, "A run record of rmbench")
