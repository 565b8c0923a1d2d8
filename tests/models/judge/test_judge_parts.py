"""The parts of a judge: prompts, what is read from an answer, and how long a server is waited for."""

import json
import math
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_server import JudgeServer, judged_texts

from rmbench.core.files import digest
from rmbench.errors import ConfigError
from rmbench.models.http import LONGEST_PAUSE_S, Patience
from rmbench.models.judge.answer import read
from rmbench.models.judge.endpoint import Endpoint
from rmbench.models.judge.load import load_judge
from rmbench.models.judge.question import messages
from rmbench.models.judge.reply import NoAnswerError, Reply
from rmbench.models.judge.template import LETTER, RATING, VERDICT, read_template
from rmbench.models.runtime import Runtime
from rmbench.types import Lineup, Pair, Turn


def verdict(reply: Reply) -> float:
    return read(VERDICT, "pair", ("think",), reply, 2)[0]


def rating(reply: Reply) -> float:
    return read(RATING, "response", ("think",), reply, 1)[0]


def first_letter(reply: Reply) -> float:
    return read(LETTER, "pair", (), reply, 2)[0]


def said(text: str, finish: str = "stop", refusal: str = "", **first: float) -> Reply:
    return Reply(text, refusal, finish, list(first.items()))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"reasoning": "x", "verdict": "A"}', 1.0),
        ('Here:\n```json\n{"verdict": "B"}\n```\n', 0.0),
        ('<think>{"verdict": "A"} [[A]]</think>\n{"verdict": "C"}', 0.5),
        ("A quotes [[B]].\n\n[[A]]\n", 1.0),
        ("My verdict: [[ B ]].", 0.0),
    ],
)
def test_verdicts_that_are_there(text: str, value: float) -> None:
    assert verdict(said(text)) == value


@pytest.mark.parametrize(
    "text",
    ["", "A", "[[A]]\nor not", "[[A]] [[B]]", "[[a]]", "[[D]]", '{"verdict": "neither"}', '{"verdict": ["A"]}',
     '{"rating": "A"}', '["A"]', "[" * 100_000, "nan", "null"],
)  # fmt: skip
def test_what_is_no_verdict_is_not_guessed(text: str) -> None:
    with pytest.raises(NoAnswerError) as caught:
        verdict(said(text))
    assert caught.value.reason == "unparsable"


@pytest.mark.parametrize(("text", "value"), [("[[7]]", 7), ('{"rating": 10}', 10), ('{"rating": "3"}', 3)])
def test_ratings_that_are_there(text: str, value: float) -> None:
    assert rating(said(text)) == value


@pytest.mark.parametrize(
    "text", ["[[0]]", "[[11]]", "[[7.5]]", "[[²]]", '{"rating": 7.5}', '{"rating": true}', '{"rating": NaN}',
             '{"rating": null}', "7", "[[1001]]"],
)  # fmt: skip
def test_what_is_no_rating_is_not_guessed(text: str) -> None:
    with pytest.raises(NoAnswerError):
        rating(said(text))


def test_a_refusal_and_a_cut_answer_have_their_own_reasons() -> None:
    for reply, reason in (
        (said('{"verdict": "A"}', refusal="no"), "refused"),
        (said("", "content_filter"), "refused"),
        (said("Let me think", "length"), "cut off"),
    ):
        with pytest.raises(NoAnswerError) as caught:
            verdict(reply)
        assert caught.value.reason == reason


def test_the_first_letter_is_normalised_over_its_spellings() -> None:
    # By hand: A holds e^-1 + e^-2 = 0.503215, B holds e^-3 = 0.049787.
    reply = said("A", "length", **{"A": -1.0, " A": -2.0, "B": -3.0, "a": -0.5, "AB": -0.1})
    assert first_letter(reply) == pytest.approx(0.503215 / 0.553002, abs=1e-6)
    for first in ({"The": -0.01}, {"A": -10.0, "The": -0.01}, {}):
        with pytest.raises(NoAnswerError) as caught:
            first_letter(said("The", "length" if first else "stop", **first))
        assert caught.value.reason == "unparsable"


ANY_TEXT = st.text(st.characters(codec=None))


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_any_text_is_put_in_as_it_is(prompt: str, first: str, second: str) -> None:
    pair = Pair((Turn(role="user", content=prompt),), first, second)
    for form in ("json", "line", "letter"):
        asked = messages(read_template(None, "pairwise").pack("pairwise", form), pair)  # type: ignore[arg-type]
        assert judged_texts({"messages": asked}) == (prompt, first, second)
        assert [m["role"] for m in asked] == ["system", "user"]


def test_a_longer_conversation_is_told_turn_by_turn() -> None:
    turns = (
        Turn(role="system", content="Be brief."),
        Turn(role="user", content="Hi {first}"),
        Turn(role="assistant", content="Hello"),
    )
    pack = read_template(None, "rating").pack("rating", "line")
    (_, message) = messages(pack, Lineup(turns[:-1], turns[-1:]))
    mark = message["content"].split(">")[0].removeprefix("<conversation ")
    assert f"<system {mark}>\nBe brief.\n</system {mark}>\n<user {mark}>\nHi {{first}}" in message["content"]
    assert judged_texts({"messages": [message]})[1] == "Hello"


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("user: '{prompt} {first} {form}'", "lacks the placeholder {second}"),
        ("user: '{prompt} {frist} {second} {form}'", "unknown placeholder 'frist'. Did you mean 'first'?"),
        ("user: 3", "expected text"),
        ("system: x", "is missing"),
        ("usr: x", "unknown key 'usr'. Did you mean 'user'?"),
        ("user: '{prompt} {first} {second} {form}'\njson: x", "the key 'line' is missing"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused(yaml: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml)
    with pytest.raises(ConfigError, match=says.replace("{", r"\{")) as caught:
        load_judge("http://127.0.0.1:1/v1", model="m", prompt=path, runtime=Runtime())
    assert str(path) in str(caught.value)


def test_the_prompt_and_all_that_changes_an_answer_are_in_the_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("user: '{prompt} {first} {second} {form}'\nline: x\nletter: y\njson: z\n")
    kept = [
        load_judge("http://127.0.0.1:1/v1", model="m", runtime=Runtime(), **options).fingerprint()
        for options in ({}, {"concurrency": 3, "timeout": 5.0, "retries": 1, "backoff": 0.0, "price_in": 1.0})
    ]
    assert kept[0] == kept[1]
    changed = [
        load_judge("http://127.0.0.1:1/v1", **{"model": "m", "runtime": Runtime(), **options}).fingerprint()  # type: ignore[arg-type]
        for options in ({"model": "n"}, {"prompt": path}, {"temperature": None}, {"max_tokens": 5},
                        {"mode": "logprob"}, {"mode": "rating"}, {"structured": "no"}, {"reasks": 0},
                        {"runtime": Runtime(seed=1)})
    ]  # fmt: skip
    assert len({json.dumps(dict(f), sort_keys=True) for f in (kept[0], *changed)}) == 10
    assert set(map(type, kept[0].values())) == {str}


class Waits(threading.Event):
    """Waits for nothing, and writes down how long it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.asked.append(timeout)
        return self.is_set()


def waits(server: JudgeServer, retry_after: str | None, retries: int = 4) -> list[float]:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    server.fault = lambda n, body: (429, headers, "slow down")
    patience = Patience(timeout_s=5, retries=retries, backoff_s=2.0, stop_after=3, seed=0)
    endpoint = Endpoint(server.url, None, patience, frozenset())
    endpoint.stopped = Waits()
    with pytest.raises(NoAnswerError, match="HTTP 429: 'slow down'"):
        endpoint.chat(lambda known: {"model": "m", "messages": []}, "question")
    return endpoint.stopped.asked


def test_the_back_off_doubles_with_a_seeded_jitter(server: JudgeServer) -> None:
    found = waits(server, None)
    assert found == waits(server, None)
    for n, pause in enumerate(found):
        assert 0.5 <= pause / (2.0 * 2**n) <= 1.5
    assert len({pause / 2**n for n, pause in enumerate(found)}) == 4
    assert max(waits(server, None, retries=12)) == LONGEST_PAUSE_S


def test_retry_after_is_honoured_in_both_spellings(server: JudgeServer) -> None:
    assert waits(server, "77") == [77.0] * 4
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert all(60 < pause <= 100 for pause in waits(server, date))
    assert all(pause < 60 for pause in waits(server, "soon"))
    n_before = len(server.bodies)
    assert waits(server, "3600") == []
    assert len(server.bodies) == n_before + 1, "nobody waits for an hour"


def test_parameters_have_the_names_that_the_server_knows(server: JudgeServer) -> None:
    def picky(n: int, body: dict[str, object]) -> tuple[object, ...]:
        if "max_tokens" in body:
            return 400, {}, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        if "seed" in body:
            return 422, {}, "Unknown parameter: 'seed'"
        return "say", "[[A]]", "stop"

    server.fault = picky
    judge = load_judge("".join(server.url), model="m", structured="no", runtime=Runtime(), retries=0)
    pair = Pair((Turn(role="user", content="q"),), "a", "b")
    assert judge.prefer([pair, pair]) == [1.0, 1.0]  # type: ignore[union-attr]
    assert len(server.bodies) == 4
    assert server.bodies[-1].keys() == {"model", "messages", "temperature", "max_completion_tokens"}
    assert judge.used()["requests without seed"] == 2


PINNED = {
    "verdict": (dict[str, object](), "9616ca0a63fd5a60"),
    "rating": ({"mode": "rating"}, "0db010a048d96001"),
    "the server's temperature": ({"temperature": None}, "ca91264a91b227f0"),
    "a line": ({"max_tokens": 5, "structured": "no"}, "fd942edec02dc96f"),
}


@pytest.mark.parametrize("name", PINNED)
def test_judges_without_a_pack_keep_their_identity(name: str) -> None:
    options, pinned = PINNED[name]
    judge = load_judge("http://127.0.0.1:1/v1", model="m", runtime=Runtime(), **options)  # type: ignore[arg-type]
    assert digest(dict(judge.fingerprint()), 16) == pinned


def test_thinking_without_an_end_is_cut_off() -> None:
    with pytest.raises(NoAnswerError) as caught:
        verdict(said("<think>perhaps\n[[A]]", "length"))
    assert caught.value.reason == "cut off"


def test_a_as_an_article_is_no_answer() -> None:
    with pytest.raises(NoAnswerError, match=r"which hold 0\.04 of its probability"):
        first_letter(said("A", "length", A=math.log(0.04), The=math.log(0.9)))
