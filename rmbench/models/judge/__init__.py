"""LLM judges as pairwise reward models."""

from rmbench.models import register_scheme

register_scheme(
    "judge",
    rule="judge:URL (an LLM that judges, behind a chat-completions endpoint)",
    kind="pattern",
    patterns={
        "judge:URL": "an LLM that judges, behind a chat-completions endpoint (-M model=NAME)",
    },
)("rmbench.models.judge.load:load_judge")
