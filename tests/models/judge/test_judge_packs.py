"""Judge packs: recorded answers of the real format are read as they should be, and broken ones are not."""

import gzip
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from judge_server import Evaluate, JudgeServer, completion, write

from rmbench.models.judge.answer import read
from rmbench.models.judge.pack import FOLDER, Case, Pack, packs
from rmbench.models.judge.reply import NoAnswerError, Reply

CASES = [(name, k) for name, pack in packs().items() for k in range(len(pack.cases))]


def reply_to(case: Case) -> Reply:
    first = [(token, math.log(p)) for token, p in case.tokens.items()]
    return Reply(case.says, "", case.finish, first)


def read_case(pack: Pack, case: Case) -> tuple[float, ...]:
    return read(pack.answer, pack.asks, pack.thinking, reply_to(case), case.n)


@pytest.mark.parametrize(("name", "k"), CASES)
def test_a_recorded_answer_is_read_as_its_pack_says(name: str, k: int) -> None:
    pack, case = packs()[name], packs()[name].cases[k]
    if case.reads is None:
        with pytest.raises(NoAnswerError) as caught:
            read_case(pack, case)
        assert caught.value.reason == case.why
    else:
        assert read_case(pack, case) == pytest.approx(case.reads, abs=1e-6)


@pytest.mark.parametrize("name", packs())
def test_a_pack_has_three_cases_one_of_them_broken_and_says_where_it_is_from(name: str) -> None:
    pack = packs()[name]
    assert [case.reads is None for case in pack.cases].count(True) == 1
    assert len(pack.cases) == 3
    assert all((pack.about, pack.source, pack.licence, pack.verified))
    assert pack.messages or pack.licence == "not quoted"


ITEMS = [
    {
        "id": f"i{n}", "prompt": f"question {n}", "responses": [f"good {n}", f"bad {n}"], "gold": [1, 0],
        "reference": f"reference {n}",
    }
    for n in range(3)
]  # fmt: skip


def text_of(body: dict[str, Any]) -> str:
    return "\n".join(message["content"] for message in body["messages"])


@pytest.fixture
def items(tmp_path: Path) -> Path:
    return write(tmp_path / "packs.jsonl", ITEMS)


@pytest.mark.parametrize("name", packs())
def test_a_pack_asks_a_server_and_reads_its_answers(
    name: str, server: JudgeServer, items: Path, evaluate: Evaluate, tmp_path: Path
) -> None:
    pack = packs()[name]
    read = [case for case in pack.cases if case.reads is not None]
    case = next(c for c in reversed(read) if pack.asks != "list" or c.n == 2 or pack.answer.best)
    tokens = [{"token": t, "logprob": math.log(p)} for t, p in case.tokens.items()]
    logprobs = {"logprobs": {"content": [{"top_logprobs": tokens}]}} if tokens else {}
    server.fault = lambda n, body: (200, {}, completion(case.says, case.finish, **logprobs))
    options = ["-M", f"pack={name}"]
    if not pack.messages:
        lines = {"pair": "{prompt} {first} {second}", "list": "{prompt} {responses}"}[pack.asks]
        text = (FOLDER / f"{name}.yaml").read_text() + f"messages:\n- {{role: user, text: '{lines}'}}\n"
        (tmp_path / "mine.yaml").write_text(text)
        refused = evaluate(f"judge:{server.url}", items, *options)
        assert (refused[0], server.bodies) == (2, [])
        assert "put 'messages' in, and pass it with -M prompt=FILE" in refused[2]
        options = ["-M", f"prompt={tmp_path / 'mine.yaml'}"]
    code, out, err = evaluate(f"judge:{server.url}", items, *options)
    assert code == 0, err
    (record,) = json.loads(out)
    assert record["counts"]["invalid"] == 0
    n_questions = {"pair": 6, "response": 6, "list": 3}[pack.asks]
    assert len(server.bodies) == n_questions
    assert f"judge pack {name if pack.messages else 'mine'}:" in record["provenance"]["remarks"][0]
    for body in server.bodies:
        assert ("good" in text_of(body)) or pack.asks == "response"
        assert body["max_tokens"] == (1 if pack.answer.tokens else pack.sampling.max_tokens)
        assert body.get("top_p") == pack.sampling.top_p
        if "reference" in pack.shows:
            assert "reference " + re.findall(r"question (\d)", text_of(body))[0] in text_of(body)


def test_a_list_is_shuffled_by_the_question_and_each_reply_gets_its_own_score(
    server: JudgeServer, evaluate: Evaluate, tmp_path: Path
) -> None:
    rows = [
        {"id": f"i{n}", "prompt": f"question {n}", "responses": [f"{k}" * (k + 1) for k in range(1, 4)],
         "gold": [0, 1, 2]}
        for n in range(12)
    ]  # fmt: skip

    def rule(n: int, body: dict[str, Any]) -> Any:
        shown = json.loads(body["messages"][-1]["content"])["responses"]
        scores = {model: len(text) for model, text in shown.items()}
        return "say", json.dumps({"scores": scores}), "stop"

    server.fault = rule
    path = write(tmp_path / "lists.jsonl", rows)
    code, _, err = evaluate(f"judge:{server.url}", path, "-M", "pack=rewardanything", task="bon")
    assert code == 0, err
    assert len(server.bodies) == 12
    (found,) = tmp_path.glob("results/*/*/*.rewards.jsonl.gz")
    kept = [json.loads(line)["rewards"] for line in gzip.decompress(found.read_bytes()).splitlines()]
    assert kept == [[2.0, 3.0, 4.0]] * 12
    orders = {tuple(json.loads(b["messages"][-1]["content"])["responses"].values()) for b in server.bodies}
    assert len(orders) > 2
    long = write(tmp_path / "long.jsonl", [{**rows[0], "responses": list("abcdefghi"), "gold": [*range(9)]}])
    code, _, err = evaluate(f"judge:{server.url}", long, "-M", "pack=rewardanything", task="bon")
    assert (code, "has 9 responses, and the judge rates at most 8 at once" in err) == (2, True)


def test_what_a_pack_needs_and_the_data_lacks_is_named(
    server: JudgeServer, data: Path, evaluate: Evaluate
) -> None:
    code, _, err = evaluate(f"judge:{server.url}", data, "-M", "pack=prometheus-absolute-reference")
    assert (code, server.bodies) == (2, [])
    assert "item 'i0' has no reference" in err


def test_more_votes_ask_for_the_new_ones_alone(server: JudgeServer, items: Path, evaluate: Evaluate) -> None:
    # Seeds 0 and 1 and 3 say A, seeds 2 and 4 say B, whatever the order: of 5 votes 6 of 10 pairs contradict.
    server.fault = lambda n, body: ("say", "[[B]]" if body["seed"] in (2, 4) else "[[A]]", "stop")
    options = ["-M", "pack=mt-bench-pair", "-M"]
    for votes, n_requests, contradicting in ((3, 18, 2 / 3), (5, 30, 6 / 10)):
        code, out, err = evaluate(f"judge:{server.url}", items, *options, f"votes={votes}")
        assert code == 0, err
        (record,) = json.loads(out)
        assert len(server.bodies) == n_requests
        assert record["metrics"]["self_contradiction"]["value"] == pytest.approx(contradicting)
        assert record["metrics"]["flip_rate"]["value"] == 1.0
    assert {body["seed"] for body in server.bodies} == {0, 1, 2, 3, 4}
    assert {body["temperature"] for body in server.bodies} == {0.7}
    code, _, err = evaluate(f"judge:{server.url}", items, *options, "votes=3", "-M", "temperature=0")
    assert (code, "votes=3 of temperature 0 are all the same" in err) == (2, True)
