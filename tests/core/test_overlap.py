"""Overlap of training and test prompts: exact, by 13 words, and damage noticed."""

from pathlib import Path

import pytest

from rmbench.core.overlap import N_WORDS, PROMPTS_FILE, TrainingPrompts
from rmbench.errors import StoreError
from rmbench.types import Turn

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


def asked(text: str, *before: str) -> tuple[Turn, ...]:
    return (*(Turn(role="system", content=b) for b in before), Turn(role="user", content=text))


@pytest.fixture
def known() -> TrainingPrompts:
    return TrainingPrompts.of([asked(LONG), asked("Name a prime."), asked("Hi", "Be brief.")])


@pytest.mark.parametrize(
    ("prompt", "exact", "ngram"),
    [
        (asked("Name a prime."), 1, 0),
        (asked("name a prime."), 0, 0),
        (asked("Hi"), 0, 0),
        (asked("Hi", "Be brief."), 1, 0),
        (asked(LONG), 1, 0),
        (asked(f"Please read: {LONG.upper()}!"), 0, 1),
        (asked(" ".join(LONG.split()[:N_WORDS])), 0, 1),
        (asked(" ".join(LONG.split()[: N_WORDS - 1])), 0, 0),
        (asked(LONG.replace("eight", "8")), 0, 0),
        (asked("\ud800 lone"), 0, 0),
    ],
)
def test_counts(known: TrainingPrompts, prompt: tuple[Turn, ...], exact: int, ngram: int) -> None:
    assert known.count([prompt]) == {"exact": exact, "ngram": ngram}


def test_it_survives_the_file_and_holds_no_text(known: TrainingPrompts, tmp_path: Path) -> None:
    known.save(tmp_path)
    again = TrainingPrompts.load(tmp_path)
    assert again is not None
    assert again.count([asked(LONG), asked("new")]) == {"exact": 1, "ngram": 0}
    assert b"prime" not in (tmp_path / PROMPTS_FILE).read_bytes()
    assert TrainingPrompts.load(tmp_path / "elsewhere") is None


def test_joined_it_knows_the_prompts_of_both(known: TrainingPrompts) -> None:
    both = known.joined(TrainingPrompts.of([asked("new"), asked("Hi", "Be brief.")]))
    prompts = [asked("new"), asked("Name a prime."), asked("Hi", "Be brief."), asked(f"{LONG} and on")]
    assert both.count([*prompts, asked("neither")]) == {"exact": 3, "ngram": 1}


def test_without_long_prompts_there_are_no_grams(tmp_path: Path) -> None:
    TrainingPrompts.of([asked("Hi")]).save(tmp_path)
    loaded = TrainingPrompts.load(tmp_path)
    assert loaded is not None
    assert loaded.count([asked(LONG)]) == {"exact": 0, "ngram": 0}


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / PROMPTS_FILE).write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(StoreError, match="damaged"):
        TrainingPrompts.load(tmp_path)
