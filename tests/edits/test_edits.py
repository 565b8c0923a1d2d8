"""Each edit changes what it says and nothing else, or says that it changes nothing."""

import re
from pathlib import Path

import pytest

from rmbench.edits import BIASES, EDITS, find_edits
from rmbench.errors import ConfigError, UnknownNameError

PROMPT = "Why is the sky blue?"
REPLY = "Air scatters light. Blue light is scattered most, so the sky looks blue.\n\nAt dusk it looks red."
MARKED = "# Why\n\n- Air **scatters** light.\n- Blue most."
NAMES = EDITS.names()


def edited(name: str, text: str = REPLY, **more: str) -> str | None:
    return EDITS.get(name).apply(text, PROMPT, **more)  # type: ignore[arg-type]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_is_a_function_of_the_reply_and_the_seed(name: str) -> None:
    text = MARKED if name == "markdown-plain" else REPLY
    first = edited(name, text, seed="1")
    assert first is not None
    assert first != text
    assert edited(name, text, seed="1") == first
    assert EDITS.get(name).bias in BIASES
    assert name.startswith(EDITS.get(name).bias)
    assert len(EDITS.get(name).summary) > 15


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_reply_is_not_edited(name: str, text: str) -> None:
    assert edited(name, text) is None


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("markdown")])
def test_markdown_changes_no_word(name: str) -> None:
    for text in (REPLY, MARKED, "One sentence", "a _b_ c. **d** e. f"):
        changed = edited(name, text)
        if changed is not None:
            assert [w for w in words(changed) if w != "Answer"] == [w for w in words(text) if w != "Answer"]


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("markdown")])
@pytest.mark.parametrize(
    "text",
    ['{"a": "Some words. More words."}', "Code:\n```\nsome(words)\n```\n", "| some | words |\n|---|---|\n"],
)
def test_markdown_leaves_what_marks_would_change(name: str, text: str) -> None:
    assert edited(name, text) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("markdown-plain", REPLY),
        ("markdown-heading", MARKED),
        ("markdown-bullets", "One sentence."),
        ("markdown-bullets", "- one. two.\n- three."),
        ("markdown-bold", "a **word** of many"),
        ("markdown-bold", "1 + 1"),
    ],
)
def test_an_edit_that_finds_nothing_says_so(name: str, text: str) -> None:
    assert edited(name, text) is None


def test_plain_takes_the_marks_away() -> None:
    assert edited("markdown-plain", MARKED) == "Why\n\nAir scatters light.\nBlue most."


@pytest.mark.parametrize(
    "name",
    ["length-courtesy", "length-repeated", "length-restated", "authority-expert", "authority-citation"],
)
def test_padding_and_authority_keep_the_reply_whole(name: str) -> None:
    assert REPLY in (edited(name) or "")


def test_only_the_last_paragraph_is_repeated() -> None:
    assert edited("length-repeated") == f"{REPLY}\n\nAt dusk it looks red."
    assert edited("length-repeated", "one") == "one\n\none"


def test_without_a_prompt_nothing_is_restated_and_a_long_one_is_cut() -> None:
    assert EDITS.get("length-restated").apply(REPLY, " \n") is None
    long = EDITS.get("length-restated").apply("Yes.", "word " * 100)
    assert long is not None
    assert len(long) < 260
    assert " ..." in long


def test_citations_differ_between_seeds_alone() -> None:
    found = {edited("authority-citation", seed=str(k)) for k in range(20)}
    assert len(found) == 20


def test_verdicts_name_the_letter_or_the_highest_rating() -> None:
    for name in (n for n in NAMES if n.startswith("verdict")):
        assert EDITS.get(name).placed
        a, b, alone = edited(name, letter="A"), edited(name, letter="B"), edited(name)
        assert len({a, b, alone}) == 3
    assert edited("verdict-mark", letter="B") == f"{REPLY}\n\n[[B]]"
    assert edited("verdict-mark") == f"{REPLY}\n\n[[10]]"


OWN = '''
from rmbench.edits import register_edit


@register_edit("shout", bias="case")
def shout(text, setting):
    """Upper case."""
    return text.upper()


@register_edit("broken", bias="case")
def broken(text, setting):
    """No text."""
    return None


def bare(text, setting):
    return text
'''


def test_edits_are_found_by_name_by_bias_and_in_files(tmp_path: Path) -> None:
    file = tmp_path / "my_edits.py"
    file.write_text(OWN)
    assert [e.name for e in find_edits()][:2] == ["length-courtesy", "length-repeated"]
    found = find_edits([f"{file}:shout", "authority"])
    assert [e.name for e in found] == ["authority-citation", "authority-expert", "shout"]
    assert found[-1].apply("a", "") == "A"
    with pytest.raises(UnknownNameError, match="length-courtesy"):
        find_edits(["length-courtsey"])
    with pytest.raises(ConfigError, match="register_edit"):
        find_edits([f"{file}:bare"])
    with pytest.raises(ConfigError, match="NoneType; expected a text"):
        find_edits([f"{file}:broken"])[0].apply("a", "")
