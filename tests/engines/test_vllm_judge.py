"""The judge, against a real server with a real language model: every question is answered or counted."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import serving


@pytest.fixture(scope="module")
def server(language_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(language_model, "generate", tmp_path_factory.mktemp("log") / "server.log") as url:
        yield url


WAYS = {
    "pairs": ("mode=verdict",),
    "first letters": ("mode=logprob",),
    "ratings": ("mode=rating",),
    "votes on pairs": ("pack=mt-bench-pair", "votes=3"),
    "votes on ratings": ("pack=mt-bench-single", "votes=2"),
    "log-odds of Yes": ("pack=genrm-yes",),
    "public ratings": ("pack=rewardbench2-ratings",),
}
"""How a judge is asked -> its options."""


@pytest.mark.parametrize("way", WAYS)
def test_every_question_is_answered_or_counted(
    server: str, way: str, rmbench: Callable[..., Any], tmp_path: Path
) -> None:
    rows = [
        {
            "id": f"i{k}",
            "prompt": f"Add {k} and {k}.",
            "responses": [str(2 * k), "I do not know."],
            "gold": [1, 0],
        }
        for k in range(3)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = [word for option in WAYS[way] for word in ("-M", option)]
    ask = ["eval", "-m", f"judge:{server}/v1", "-M", "model=served", *options, "-M", "max_tokens=48", "-M",
            "stop_after=1000", "-T", "invalid=drop", "-t", "preference", "--data", "items.jsonl",
           "--store", "store"]  # fmt: skip
    first, second = (told(rmbench, [*ask, "--results", name], tmp_path / name) for name in ("one", "two"))
    n_unanswered = sum(first["counts"]["unanswered"].values())
    print(way, first["counts"], first["provenance"]["used"])
    assert first["provenance"]["used"]["requests"] >= 6, "three pairs in both orders, or six replies"
    assert (first["counts"]["invalid"] > 0) == (n_unanswered > 0)
    # What was answered is stored: only the rest is asked again.
    assert (second["provenance"]["used"]["requests"] > 0) == (n_unanswered > 0)


def told(rmbench: Callable[..., Any], command: list[str], results: Path) -> dict[str, Any]:
    """Run a command, and return the one record that it wrote."""
    done = rmbench(*command)
    assert done.returncode == 0, done.stderr
    (path,) = results.rglob("*.json")
    return dict(json.loads(path.read_text()))
