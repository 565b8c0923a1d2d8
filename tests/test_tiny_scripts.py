"""The script that trains a small transformer: relabelled pools, and its tokenizer."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import transformers

from rmbench.files import iter_jsonl
from rmbench.verifiers import passes

ROOT = Path(__file__).resolve().parent.parent
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
    assert sum(pool.prompt not in known for pool in pools) > 20


def test_a_moved_number_moves_in_prompt_and_checks_alike(scripts: Any) -> None:
    relabel = scripts("relabel")
    row = {
        "prompt": "Write at most five words about rain.",
        "checks": [{"name": "words", "at_most": 5}, {"name": "contains", "words": ["rain"]}],
        "responses": ["rain", "the rain falls down on us all day long", "snow and wind", "a b c d e f g h"]
        * 2,
    }
    draws = relabel.Relabeller([row])
    moved = 0
    for k in range(100):
        pool = draws.draw(4, str(k))
        words = pool.prompt.rstrip(".").split()
        number = relabel._value(words[3])
        assert pool.checks[0]["at_most"] == number
        assert pool.checks[1]["words"][0].lower() == words[-1].lower()
        moved += number != 5
    assert moved > 10


def test_the_tokenizer_tells_case_and_lines_apart_and_words_not(scripts: Any, tmp_path: Path) -> None:
    tokenizer = scripts("text").make_tokenizer(["River stone\n1 2 , ."] * 9, 100, tmp_path / "t")
    upper, line = scripts("text").UPPER, scripts("text").LINE
    assert tokenizer.tokenize("River\nriver, 12") == [upper, "river", line, "river", ",", "1", "2"]
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "t")
    assert again("River", "12")["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]
