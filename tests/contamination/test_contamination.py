"""Contamination: against a count by brute force, with planted leaks, and whatever order and container data come in."""

import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.contamination import (
    Findings,
    Measures,
    TaskIndex,
    estimated_rows,
    measure,
    open_training,
    scan,
)
from rmbench.contamination import grams as grams_module
from rmbench.contamination import run as run_module
from rmbench.contamination.grams import window_hashes, windows
from rmbench.core.files import prompt_cluster
from rmbench.core.overlap import words
from rmbench.errors import ConfigError, DataError, RunError, UnknownNameError
from rmbench.tasks import containers
from rmbench.tasks.training import CHOSEN, REJECTED, UNLABELLED, labels_of
from rmbench.types import Item, Response, Turn


def item(
    name: str,
    prompt: str,
    responses: Sequence[str],
    gold: Sequence[float | None] | None = None,
    **strata: str,
) -> Item:
    turns = (Turn(role="user", content=prompt),)
    found = zip(responses, gold or [None] * len(responses), strict=True)
    return Item(name, turns, tuple(Response(t, g) for t, g in found), prompt_cluster(turns), strata)


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def look(
    items: Sequence[Item],
    *train: Path | str,
    n: int = 3,
    common: int = 10,
    share: float = 0.5,
    **options: Any,
) -> tuple[Findings, Measures]:
    index = TaskIndex(items, n=n, most_common=common)
    findings = scan(index, open_training([str(t) for t in train]), **options)
    return findings, measure(findings, items, strata=("kind",), share=share)


def found(measures: Measures) -> dict[str, int]:
    """Return measure -> items."""
    return {name: round(e.value * e.n) for name, e in measures.overall.items()}


# --- the words


@given(st.text() | st.text(st.sampled_from("aB_9 -.\n\t\x0b\x1c\x7f\u2028é")))
def test_words_are_what_the_pattern_finds(text: str) -> None:
    import re

    assert words(text) == re.findall(r"\w+", text.lower())


# --- an oracle


def grams_of(text: str, n: int) -> list[tuple[str, ...]]:
    w = words(text)
    return [tuple(w[k : k + n]) for k in range(len(w) - n + 1)]


class Oracle:
    """Compares everything with everything, one text at a time."""

    def __init__(self, items: Sequence[Item], rows: Sequence[dict[str, Any]], n: int, common: int) -> None:
        self.n, self.common = n, common
        self.prompts = {row["prompt"] for row in rows}
        self.replies = {
            (row["prompt"], text, label)
            for row in rows
            for text, label in zip(row["responses"], label_names(row["gold"]), strict=True)
        }
        self.seen = {
            "prompt": {g for p in self.prompts for g in grams_of(p, n)},
            "response": {g for _, t, _ in self.replies for g in grams_of(t, n)},
        }
        self.asking: dict[str, dict[Any, set[str]]] = {"prompt": {}, "response": {}}
        for i in items:
            asked = i.prompt[0]["content"]
            for side, text in [("prompt", asked), *(("response", r.text) for r in i.responses)]:
                for g in grams_of(text, n):
                    self.asking[side].setdefault(g, set()).add(asked)

    def share(self, side: str, texts: Sequence[str]) -> float | None:
        shares = []
        for text in texts:
            telling = [g for g in grams_of(text, self.n) if len(self.asking[side][g]) <= self.common]
            if telling:
                shares.append(sum(g in self.seen[side] for g in telling) / len(telling))
        return max(shares, default=None)

    def replies_seen(self, side: str, asked: str, texts: Sequence[str]) -> dict[str, bool]:
        told = {f"{side}_exact": any(t == u for t in texts for _, u, _ in self.replies)}
        for label in (CHOSEN, REJECTED, UNLABELLED):
            told[f"{side}_as_{label}"] = any(u in texts and label == m for _, u, m in self.replies)
            told[f"{side}_as_{label}_to_its_prompt"] = any((asked, t, label) in self.replies for t in texts)
        return told

    def item(self, i: Item, share: float) -> dict[str, bool]:
        asked, labels = i.prompt[0]["content"], label_names([r.gold for r in i.responses])
        texts = {"response": [r.text for r in i.responses]}
        for side in (CHOSEN, REJECTED):
            texts[side] = [r.text for r, label in zip(i.responses, labels, strict=True) if label == side]
        told = {"prompt_exact": asked in self.prompts}
        shares = {"prompt": self.share("prompt", [asked])}
        for side in texts:
            if texts[side]:
                told |= self.replies_seen(side, asked, texts[side])
                shares[side] = self.share("response", texts[side])
        for side, value in shares.items():
            if value is not None:
                told |= {
                    f"{side}_ngram": value > 0,
                    f"{side}_ngram_50": value >= 0.5,
                    f"{side}_ngram_80": value >= 0.8,
                }
        whole = asked in self.prompts or any(
            (asked, t) == r[:2] for t in texts["response"] for r in self.replies
        )
        largest = max(shares["prompt"] or 0, shares["response"] or 0)
        return {**told, "contaminated": whole or largest >= share}


def label_names(gold: Sequence[float | None]) -> list[str]:
    known = {g for g in gold if g is not None}
    return [
        UNLABELLED if g is None or len(known) < 2 else CHOSEN if g == max(known) else REJECTED for g in gold
    ]


TEXT = st.lists(st.sampled_from(["a", "B", "c,", "é", "d", "\ud800"]), min_size=1, max_size=9).map(" ".join)
ROW = st.lists(st.tuples(TEXT, st.sampled_from([None, 0.0, 1.0, 2.0])), min_size=2, max_size=3)


@given(
    st.lists(st.tuples(TEXT, ROW), min_size=1, max_size=5),
    st.lists(st.tuples(TEXT, st.lists(st.tuples(TEXT, st.sampled_from([0.0, 1.0])), min_size=1, max_size=3)), min_size=1, max_size=5),
    st.integers(1, 4), st.integers(1, 3), st.sampled_from([0.01, 0.5, 1.0]), st.booleans(),
)  # fmt: skip
def test_counts_are_those_of_brute_force(
    task: list[Any], train: list[Any], n: int, common: int, share: float, borrow: bool
) -> None:
    if borrow:  # some of the task itself, or nothing would ever be seen whole
        train = [*train, (task[0][0], [(t, g or 0.0) for t, g in task[0][1]]), (task[-1][0], train[0][1])]
    items = [item(str(k), p, [t for t, _ in rs], [g for _, g in rs]) for k, (p, rs) in enumerate(task)]
    rows = [{"prompt": p, "responses": [t for t, _ in rs], "gold": [g for _, g in rs]} for p, rs in train]
    oracle = Oracle(items, rows, n, common)
    by_item = [oracle.item(i, share) for i in items]
    columns = {name: [told[name] for told in by_item if name in told] for told in by_item for name in told}
    expected = {name: (sum(values), len(values)) for name, values in columns.items()}
    flagged = {i.id for i, told in zip(items, by_item, strict=True) if told["contaminated"]}
    with tempfile.TemporaryDirectory() as folder:
        _, told = look(items, write(Path(folder) / "t.jsonl", rows), n=n, common=common, share=share)
    assert {name: (round(e.value * e.n), e.n) for name, e in told.overall.items()} == expected
    assert {f.values["id"] for f in told.findings} == flagged
    assert set(told.undefined) == {name for name in ALL_MEASURES if name not in expected}


ALL_MEASURES = ["contaminated"] + [
    f"{side}_{rest}"
    for side in ("prompt", "response", "chosen", "rejected")
    for rest in (
        "exact", "ngram", "ngram_50", "ngram_80",
        *([] if side == "prompt" else [f"as_{v}{w}" for v in ("chosen", "rejected", "unlabelled") for w in ("", "_to_its_prompt")]),
    )
]  # fmt: skip


# --- planted leaks

RNG = random.Random(5)
VOCABULARY = ["".join(RNG.choices("abcdefghij", k=6)) for _ in range(3000)]


def sentence(k: int, size: int = 20) -> str:
    return " ".join(random.Random(k).choices(VOCABULARY, k=size))


@pytest.fixture
def task() -> list[Item]:
    """Ten items of kind a, ten of kind b; no two texts share words in a row."""
    return [
        item(f"i{k}", sentence(k), [sentence(100 + k), sentence(200 + k)], [1, 0], kind="ab"[k % 2])
        for k in range(20)
    ]


def pair(prompt: int, chosen: int, rejected: int) -> dict[str, str]:
    return {"prompt": sentence(prompt), "chosen": sentence(chosen), "rejected": sentence(rejected)}


def test_planted_leaks_are_counted_as_what_they_are(task: list[Item], tmp_path: Path) -> None:
    rows = [pair(1000 + k, 2000 + k, 3000 + k) for k in range(50)]
    rows[10] = pair(0, 2010, 3010)  # a: a prompt
    rows[11] = pair(1, 101, 201)  # b: the whole pair
    rows[12] = pair(1012, 102, 3012)  # a: a chosen response elsewhere: label leak
    rows[13] = pair(1013, 2013, 104)  # a: a chosen response, rejected in training
    rows[14] = pair(1014, 206, 3014)  # a: a rejected response, chosen in training
    half = " ".join(sentence(8).split()[:16])  # 4 of its 8 13-grams
    rows[15] = {**rows[15], "prompt": f"Well: {half.upper()}!"}
    few = " ".join(sentence(110).split()[:13])  # 1 of 8
    rows[16] = {**rows[16], "rejected": f"{few} and so on"}
    findings, told = look(task, write(tmp_path / "t.jsonl", rows), n=13)
    a, b = told.strata["kind"]["a"], told.strata["kind"]["b"]
    expected = {
        "contaminated": (6, 5),  # not i10, of which an eighth is seen
        "prompt_exact": (2, 1),
        "prompt_ngram": (3, 2), "prompt_ngram_50": (3, 2), "prompt_ngram_80": (2, 1),
        "chosen_exact": (3, 2), "chosen_as_chosen": (2, 1), "chosen_as_rejected": (1, 1),
        "chosen_as_chosen_to_its_prompt": (1, 0), "chosen_as_rejected_to_its_prompt": (0, 0),
        "chosen_as_unlabelled": (0, 0),
        "chosen_ngram": (4, 3), "chosen_ngram_50": (3, 2), "chosen_ngram_80": (3, 2),
        "rejected_exact": (2, 1), "rejected_as_chosen": (1, 1), "rejected_as_rejected": (1, 0),
        "rejected_ngram": (2, 1), "response_exact": (4, 3), "response_ngram": (5, 4),
    }  # fmt: skip
    for name, (overall, of_a) in expected.items():
        assert found(told)[name] == overall, name
        assert round(a[name].value * a[name].n) == of_a, name
        assert round(b[name].value * b[name].n) == overall - of_a, name
    # Wilson's interval of 2 in 20 by hand: effective size 19, Student's t of 2.093.
    assert told.overall["prompt_exact"].ci95 == pytest.approx((0.0250, 0.3249), abs=2e-4)
    assert told.overall["prompt_exact"].n_clusters == 20
    assert findings.n_rows == 50
    by_id = {f.values["id"]: f.values for f in told.findings}
    assert list(by_id) == ["i0", "i1", "i2", "i4", "i6", "i8"]
    file = str(tmp_path / "t.jsonl")
    assert by_id["i1"] == {
        "id": "i1", "prompt_exact": True, "prompt_share": 1.0, "prompt_at": f"{file}:12",
        "response_exact": True, "response_share": 1.0, "response_at": f"{file}:12",
        "chosen_to_its_prompt_as": ["chosen"], "rejected_to_its_prompt_as": ["rejected"],
    }  # fmt: skip
    assert (by_id["i8"]["prompt_share"], by_id["i8"]["prompt_at"]) == (0.5, f"{file}:16")
    assert by_id["i8"]["response_at"] is None
    assert by_id["i4"]["response_at"] == f"{file}:14"


def test_a_response_is_shown_where_it_answers_its_own_prompt(task: list[Item], tmp_path: Path) -> None:
    rows = [pair(1001, 101, 3001), pair(1, 101, 3002), pair(1003, 102, 3003)]
    findings, told = look(task, write(tmp_path / "t.jsonl", rows), n=13)
    assert [f.values["response_at"] for f in told.findings] == [f"{tmp_path / 't.jsonl'}:{k}" for k in (2, 3)]
    assert findings.n_rows == 3


def test_plain_texts_and_conversations_are_searched_too(task: list[Item], tmp_path: Path) -> None:
    plain = {"text": f"### Instruction: {sentence(3)}\n### Response: {sentence(103)}"}
    talk = [("user", sentence(5)), ("assistant", sentence(105)), ("user", "Go on."), ("assistant", "No.")]
    files = [
        write(tmp_path / "a.jsonl", [plain]),
        write(tmp_path / "b.jsonl", [{"messages": [{"role": r, "content": c} for r, c in talk]}]),
    ]
    _, told = look(task, *files, n=13)
    counts = found(told)
    assert (counts["prompt_exact"], counts["prompt_ngram_80"], counts["chosen_ngram_80"]) == (1, 2, 2)
    assert (counts["chosen_as_unlabelled"], counts["chosen_as_unlabelled_to_its_prompt"]) == (1, 1)
    assert counts["chosen_as_chosen"] == 0


def test_the_row_that_shares_most_is_named_and_of_equals_the_first(task: list[Item], tmp_path: Path) -> None:
    cut = sentence(4).split()
    rows = [
        {"text": " ".join(cut[:14])},
        {"text": " ".join(cut[:16])},
        {"text": " ".join(cut[4:])},
        {"text": "x"},
    ]
    findings, _ = look(task, write(tmp_path / "t.jsonl", rows), n=13)
    assert findings.place_of_prompt(4) == (str(tmp_path / "t.jsonl"), 2)
    assert findings.place_of_prompt(5) is None


def test_order_of_files_rows_and_batches_changes_nothing(
    task: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [pair(k if k % 4 == 0 else 1000 + k, 100 + k, 3000 + k) for k in range(40)]
    first, second = write(tmp_path / "a.jsonl", rows[:15]), write(tmp_path / "b.jsonl", rows[15:])
    _, told = look(task, first, second, n=13)
    _, turned = look(task, second, first, n=13)
    assert turned == told
    monkeypatch.setattr(run_module, "BATCH_WORDS", 1)
    assert look(task, tmp_path, n=13)[1] == told, "row by row, out of the folder"
    shuffled = random.Random(1).sample(rows, len(rows))
    _, mixed = look(task, write(tmp_path / "c.jsonl", shuffled), n=13)
    assert (mixed.overall, mixed.strata) == (told.overall, told.strata)


def test_rows_of_short_texts_alone_are_let_go_too(
    task: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "BATCH_ROWS", 3)
    done: list[int] = []
    look(task, write(tmp_path / "t.jsonl", [{"text": "Hi."}] * 8), n=13, on_rows=done.append)
    assert done == [3, 6]


# --- what says little


def test_wording_that_many_prompts_share_is_left_aside_and_counted(tmp_path: Path) -> None:
    rule = "Answer the following question in one short sentence please :"
    refusal = "I am sorry but I cannot help with that request today"
    items = [item(f"i{k}", f"{rule} {sentence(k)}", [refusal, sentence(100 + k)], [1, 0]) for k in range(5)]
    items.append(item("bare", rule, [refusal, "No."], [1, 0]))
    train = write(tmp_path / "t.jsonl", [{"prompt": f"{rule} who?", "completion": f"{refusal} sir"}])
    _, strict = look(items, train, n=5, common=10)
    assert (found(strict)["prompt_ngram"], found(strict)["chosen_ngram_80"]) == (6, 6)
    findings, told = look(items, train, n=5, common=4)
    assert found(told)["prompt_ngram"] == 0
    assert told.overall["prompt_ngram"].n == 5, "the item with nothing else is not called clean"
    assert told.unchecked["prompt"] == {"texts": 6, "short": 0, "common_only": 1}
    assert told.unchecked["chosen"] == {"texts": 6, "short": 0, "common_only": 6}
    assert told.undefined["chosen_ngram"] == "no chosen has n-grams to compare"
    assert findings.index.prompt_grams.n_common == 5
    assert findings.index.reply_grams.n_common == 7


def test_the_same_prompt_in_many_items_is_not_common(tmp_path: Path) -> None:
    items = [item(f"i{k}", sentence(1), [sentence(100 + k), "No."], [1, 0]) for k in range(9)]
    _, told = look(items, write(tmp_path / "t.jsonl", [{"text": sentence(1)}]), n=5, common=1)
    assert found(told)["prompt_ngram_80"] == 9
    assert told.overall["prompt_ngram"].n_clusters == 1
    assert told.overall["prompt_ngram"].ci95 is None


def test_short_texts_are_compared_whole_and_counted(tmp_path: Path) -> None:
    items = [
        item("a", "Name a prime.", ["7", "8"], [1, 0]),
        item("b", sentence(2), ["9", sentence(3)], [1, 0]),
    ]
    _, told = look(items, write(tmp_path / "t.jsonl", [{"prompt": "Name a prime.", "completion": "9"}]), n=13)
    assert found(told)["prompt_exact"] == found(told)["chosen_exact"] == 1
    assert told.overall["prompt_ngram"].n == 1
    assert told.unchecked["prompt"] == {"texts": 2, "short": 1, "common_only": 0}
    assert told.unchecked["chosen"] == {"texts": 2, "short": 2, "common_only": 0}
    assert [f.values["id"] for f in told.findings] == ["a"], "a short response elsewhere is chance"


def test_a_task_without_gold_has_responses_alone(tmp_path: Path) -> None:
    items = [item("a", sentence(1), [sentence(2), sentence(3)])]
    _, told = look(items, write(tmp_path / "t.jsonl", [pair(9, 2, 8)]), n=13)
    assert found(told)["response_as_chosen"] == 1
    assert told.undefined["chosen_exact"] == "no item has responses of different gold"
    assert not {n for n in told.overall if n.startswith(("chosen", "rejected"))}


@pytest.mark.parametrize(
    ("gold", "labels"),
    [
        ([1.0, 0.0], [CHOSEN, REJECTED]),
        ([3.0, 3.0, 2.0], [CHOSEN, CHOSEN, REJECTED]),
        ([1.0, 1.0], [UNLABELLED] * 2),
        ([None, 1.0], [UNLABELLED] * 2),
        ([None, 1.0, 0.5], [UNLABELLED, CHOSEN, REJECTED]),
    ],
)
def test_labels(gold: list[float | None], labels: list[str]) -> None:
    assert list(labels_of([Response("x", g) for g in gold])) == labels


# --- hashes


def test_window_hashes_tell_windows_apart_and_depend_on_order() -> None:
    numbers = np.random.default_rng(0).integers(0, 2**64, size=50, dtype=np.uint64)
    hashes = window_hashes(numbers, 4)
    assert len(set(hashes.tolist())) == 47
    assert hashes[5] != window_hashes(numbers[5:9][::-1].copy(), 4)[0]
    assert hashes[5] == window_hashes(numbers[5:9], 4)[0]
    assert len(window_hashes(numbers[:3], 4)) == 0
    assert windows(np.array([1, 2, 0, 3, 4, 5, 0], dtype=np.uint32), 2).tolist() == [0, 3, 4]


def test_equal_hashes_of_other_words_are_no_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grams_module, "MULTIPLIER", 1)  # a sum, whatever the order of words
    items = [item("a", "one two three", ["x y z", "p q r"], [1, 0])]
    train = write(tmp_path / "t.jsonl", [{"prompt": "three two one", "completion": "z y x"}])
    _, told = look(items, train, n=3)
    assert found(told)["prompt_ngram"] == found(told)["chosen_ngram"] == 0
    _, told = look(items, write(tmp_path / "u.jsonl", [{"text": "one two three"}]), n=3)
    assert found(told)["prompt_ngram"] == 1


def test_a_hash_that_cannot_tell_the_task_apart_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = grams_module.word_hashes
    items = [
        item("a", "one two three", ["x y z", "p q r"], [1, 0]),
        item("b", "four five six", ["s t u", "v w"]),
    ]
    train = write(tmp_path / "t.jsonl", [{"text": "four five six"}])
    monkeypatch.setattr(grams_module, "word_hashes", lambda n, seed: right(n, seed) * np.uint64(seed > 0))
    assert found(look(items, train, n=3)[1])["prompt_ngram"] == 1
    monkeypatch.setattr(grams_module, "word_hashes", lambda n, seed: right(n, seed) * np.uint64(0))
    with pytest.raises(RunError, match="could not tell"):
        look(items, train, n=3)


# --- what is read


def test_a_split_of_a_task_is_training_data_too() -> None:
    from rmbench.tasks import read_task_items
    from rmbench.tasks.spec import load_task

    items = list(read_task_items(load_task("preference"), None).items)
    findings, told = look(items, "preference:train", n=13)
    assert findings.n_rows == 160
    assert found(told)["prompt_exact"] == 0
    spec = open_training(["preference:train"])[0].split
    assert spec is not None
    again = list(read_task_items(spec, None).items)
    _, told = look(again, "preference:train", n=13)
    assert found(told)["contaminated"] == found(told)["prompt_exact"] == 160
    # Responses that stand both above and below the best of their kind count as both.
    assert found(told)["chosen_as_chosen_to_its_prompt"] == told.overall["chosen_exact"].n
    assert told.findings[0].values["prompt_at"] == "preference:train/train.jsonl.xz:1"


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"text": "x"}])
    with pytest.raises(ConfigError, match="given twice"):
        open_training([str(file), str(tmp_path)])
    with pytest.raises(UnknownNameError, match="--train preferences:train: unknown task"):
        open_training(["preferences:train"])
    with pytest.raises(ConfigError, match="has no training split"):
        open_training(["rm-bench:train"])
    with pytest.raises(DataError, match="no such file"):
        open_training([str(tmp_path / "none.jsonl")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file to read"):
        open_training([str(tmp_path / "empty")])


def test_an_empty_file_is_an_error_wherever_it_stands(task: list[Item], tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": "x"}, {"text": 3}])
    write(tmp_path / "b.jsonl", [])
    with pytest.raises(DataError, match=r"b\.jsonl: the file is empty"):
        look(task, tmp_path, on_bad="skip")


def test_rows_are_guessed_from_the_beginning_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip
    import lzma

    rows = [{"text": sentence(k)} for k in range(2000)]
    raw = write(tmp_path / "a.jsonl", rows).read_bytes()
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(raw))
    (tmp_path / "c.jsonl.xz").write_bytes(lzma.compress(raw))
    assert estimated_rows(open_training([str(tmp_path)])) == 6000
    monkeypatch.setattr(containers, "HEAD_BYTES", 60_000)
    assert 4500 < (estimated_rows(open_training([str(tmp_path)])) or 0) < 7500
    (tmp_path / "d.json").write_text(json.dumps(rows))
    assert estimated_rows(open_training([str(tmp_path)])) is None
    (tmp_path / "e.jsonl.gz").write_bytes(b"nothing")
    assert estimated_rows(open_training([str(tmp_path / "e.jsonl.gz")])) is None
