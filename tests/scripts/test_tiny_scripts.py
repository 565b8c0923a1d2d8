"""The script that trains a small transformer: relabelled pools, and its tokenizer."""

import importlib
import math
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from rmbench.core.files import iter_jsonl
from rmbench.gold.instruction import passes
from rmbench.models.resolve import load_model

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ROOT / "rmbench" / "_data" / "embedded"


def rows(split: str) -> list[dict[str, Any]]:
    return [row for _, row in iter_jsonl(EMBEDDED / f"{split}.jsonl.xz")]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "tiny"))
    return importlib.import_module


def test_relabelled_pools_have_the_gold_of_their_checks_and_the_same_pool_for_a_seed(scripts: Any) -> None:
    relabel = scripts("relabel")
    train = rows("train")
    first, second = relabel.Relabeller(train), relabel.Relabeller(train)
    known = {row["prompt"] for row in train}
    pools = [first.draw(8, str(k)) for k in range(200)]
    assert pools == [second.draw(8, str(k)) for k in range(200)]
    for pool in pools:
        assert pool.passed == [passes(reply, pool.checks) for reply in pool.replies]
    assert sum(len(set(pool.gold)) > 1 for pool in pools) > 190
    assert sum(pool.prompt not in known for pool in pools) > 120


def test_composed_prompts_are_many_and_their_checks_can_be_run_and_passed(scripts: Any) -> None:
    rng = random.Random(0)
    drafts = [scripts("compose").Composer(["river", "stone", "lantern"], rng).draw() for _ in range(600)]
    assert len({d.prompt for d in drafts}) > 590
    assert {d.family for d in drafts} == {row["strata"]["family"] for row in rows("train")}
    solved = 0
    for draft in drafts:
        assert "{" not in draft.prompt.replace("{", "", draft.prompt.count('{"')), draft.prompt
        for reply in ("A river.", *draft.right):
            passes(reply, draft.checks)
        if draft.family == "transform":
            shared = [check for check in draft.checks if check["name"] == "equals"]
            solved += any(all(passes(reply, shared)) for reply in draft.right if shared)
    assert solved > 50


def test_a_bound_is_said_in_the_prompt_as_it_is_checked(scripts: Any) -> None:
    wordings, rng = scripts("wordings"), random.Random(1)
    for _ in range(500):
        clause = wordings.words(rng)
        for check in clause.checks:
            bounds = [value for key, value in check.items() if key != "name"]
            said = {form for n in bounds for m in (n, n + 1) for form in (str(m), wordings.spelled(m))}
            assert any(form in clause.text for form in said) or bounds in ([10], [1], [2], [3]), clause


def test_auxiliary_targets_are_the_checks_and_counts_of_a_reply(scripts: Any) -> None:
    auxiliary, relabel = scripts("auxiliary"), scripts("relabel")
    checks = [{"name": "words", "at_most": 3}, {"name": "contains", "words": ["fox"]}]
    replies = ["A fox.", "no"]
    pool = relabel.Pool("Say fox in at most 3 words.", checks, replies, [passes(r, checks) for r in replies])
    first, second = auxiliary.targets(pool, 0), auxiliary.targets(pool, 1)
    n, at = len(auxiliary.CHECKS), auxiliary.CHECKS.index
    assert len(first) == auxiliary.N_OUTPUTS
    assert (first[at("words")], first[at("contains")], second[at("contains")]) == (1, 1, 0)
    assert math.isnan(first[at("lines")])
    assert (first[n + at("words")], first[n + at("lines")]) == (1, 0)
    assert first[2 * n + len(auxiliary.LOOKS) + 1] == pytest.approx(math.log(3))
    assert [b for b in first[-12:] if not math.isnan(b)] == [pytest.approx(math.log(4))]


def test_what_is_said_of_tokens_is_right_when_it_is_right(scripts: Any) -> None:
    loss = scripts("auxiliary").token_loss
    ids, separator, period = [5, 6, 2, 6, 9, 7, 3], 2, 9  # prompt 5 6, reply 6 . 7, end 3
    said = torch.zeros(len(ids) + 2, 3)
    said[3:6, 0] = torch.tensor([20.0, -20.0, -20.0])  # only the first is in the prompt
    said[3:6, 1] = torch.tensor([0.0, 1.0, 2.0]).log1p()
    said[3:6, 2] = torch.tensor([0.0, 1.0, 1.0]).log1p()
    assert loss(said, ids, separator, [period]) < 1e-6
    for place in ((3, 0), (4, 1), (5, 2)):
        wrong = said.clone()
        wrong[place] -= 40.0
        assert loss(wrong, ids, separator, [period]) > 1
    assert loss(said, [5, 2, 3], separator, [period]) == 0, "an empty reply"


def test_a_moved_number_moves_in_prompt_and_checks_alike(scripts: Any) -> None:
    relabel = scripts("relabel")
    row = {
        "prompt": "Write at most five words about rain.",
        "strata": {"family": "length"},
        "checks": [{"name": "words", "at_most": 5}, {"name": "contains", "words": ["rain"]}],
        "responses": ["rain", "the rain falls down on us all day long", "snow and wind", "a b c d e f g h"]
        * 2,
    }
    draws = relabel.Relabeller([row])
    moved = 0
    for k in range(400):
        pool = draws.draw(4, str(k))
        if not re.fullmatch(r"Write at most [\w-]+ words about \w+\.", pool.prompt):
            continue  # a composed one
        words = pool.prompt.rstrip(".").split()
        number = relabel.number_in(words[3])
        assert pool.checks[0]["at_most"] == number
        assert pool.checks[1]["words"][0].lower() == words[-1].lower()
        moved += number != 5
    assert moved > 10


def test_the_tokenizer_tells_case_and_lines_apart_and_words_not(scripts: Any, tmp_path: Path) -> None:
    tokenizer = scripts("text").make_tokenizer(["River stone\n1 2 , ."] * 9, 100, tmp_path / "t")
    upper, line = scripts("text").UPPER, scripts("text").LINE
    assert tokenizer.tokenize("River\nriver, 12") == [upper, "river", line, "river", ",", "1", "2"]
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "t")
    turns = [{"role": "user", "content": "River"}, {"role": "assistant", "content": "stone 1"}]
    text = again.apply_chat_template(turns, tokenize=False)
    assert again.tokenize(text) == [upper, "river", "[SEP]", "stone", "1", "[EOS]"]


def test_the_vocabulary_is_the_same_whatever_the_order_of_equally_frequent_words(
    scripts: Any, tmp_path: Path
) -> None:
    texts = [f"{a}{b}c " * 3 for a in "defghi" for b in "jklmno"]
    make = scripts("text").make_tokenizer
    first = make(texts, 60, tmp_path / "1")
    assert first.get_vocab() == make(texts[::-1], 60, tmp_path / "2").get_vocab()
    assert len(first) == 60, "no more than asked for"
    assert (tmp_path / "1" / "tokenizer.json").read_bytes() == (
        tmp_path / "2" / "tokenizer.json"
    ).read_bytes()


@pytest.mark.slow
def test_the_teacher_says_what_the_linear_model_says_less_the_mean(scripts: Any) -> None:

    some = rows("train")[0]
    replies = some["responses"][:5]
    taught = scripts("teach").lexical_teacher(rows("train"), 0)(some["prompt"], replies)
    turns = [
        [{"role": "user", "content": some["prompt"]}, {"role": "assistant", "content": reply}]
        for reply in replies
    ]
    rewards: Any = load_model("builtin:linear").model.score(turns)
    mean = sum(rewards) / len(rewards)
    assert list(taught) == pytest.approx([reward - mean for reward in rewards], abs=1e-5)


def test_a_warm_up_goes_on_where_it_stopped_and_its_head_is_two_heads(scripts: Any, tmp_path: Path) -> None:
    warm_up, few = scripts("warm_up"), rows("train")[:12]
    tokenizer = scripts("text").make_tokenizer([row["prompt"] for row in few], 300, tmp_path / "model")

    def start(name: str) -> Any:
        return warm_up.WarmUp(
            few, lambda prompt, replies: np.linspace(-1, 1, len(replies)), tokenizer,
            warm_up.Size(hidden=32, layers=2), warm_up.Plan(steps=4, bf16=False), 0, tmp_path / name,
        )  # fmt: skip

    straight, stopped = start("straight"), start("stopped")
    straight.run()
    for step in range(2):
        stopped.train_step(step)
    stopped.save_state(2)
    resumed = start("stopped")
    resumed.run()
    for name, tensor in straight.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], tensor, msg=name)
    resumed.finish(tmp_path / "model")
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    head = resumed.model.score.weight + resumed.taught.weight
    torch.testing.assert_close(loaded.score.weight, head)
