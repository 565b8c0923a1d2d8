"""Verifiers: every case is (check, replies that pass, replies that do not), written by hand."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.gold.instruction import VERIFIERS, passes, verify
from rmbench.gold.instruction.counts import split_items, split_sentences, split_words
from rmbench.gold.instruction.wording import find_numbers

FENCED = 'Here you go:\n```json\n{"city": "Paris"}\n```\nAnything else?'

CASES: list[tuple[dict[str, Any], list[str], list[str]]] = [
    # counts
    (
        {"name": "words", "exactly": 3},
        ["a well-known fact", "one, two - three!", "Ça va bien"],
        ["two words", "a b c d"],
    ),
    ({"name": "words", "at_least": 2, "at_most": 3}, ["a b", "a b c"], ["a", "a b c d", "- - -"]),
    (
        {"name": "sentences", "exactly": 2},
        ["One. Two!", "Mr. Hill left. It rained.", 'He said "Go!" Then?'],
        ["One."],
    ),
    (
        {"name": "sentences", "exactly": 1},
        ["no full stop", "It costs 3.50 dollars.", "What?!"],
        ["A. B."],
    ),
    ({"name": "characters", "at_most": 5}, ["  hello \n", "日本語です"], ["hello!"]),
    ({"name": "lines", "exactly": 2}, ["a\n\nb\n", "a\r\nb", "x\u2028y\nz"], ["a", "a\nb\nc"]),
    ({"name": "paragraphs", "exactly": 2}, ["a\nb\n\nc", "a\n \n\n\nb"], ["a\nb", "a\n\nb\n\nc"]),
    (
        {"name": "list_items", "exactly": 2},
        ["- a\n- b", "1. a\n2) b", "Intro:\n* a\n\n* b"],
        ["-a\n-b", "**a**\n**b**"],
    ),
    (
        {"name": "list_items", "exactly": 2, "style": "bullet"},
        ["• a\n• b", "  - a\n+ b"],
        ["1. a\n2. b", "- a"],
    ),
    (
        {"name": "list_items", "exactly": 1, "style": "numbered"},
        ["1. a\n- b", "10) ten"],
        ["1.5 litres", "- a"],
    ),
    ({"name": "list_items", "exactly": 0}, ["a\nb"], ["- a"]),
    (
        {"name": "item_words", "at_most": 2},
        ["- green tea\n- milk", "1. milk"],
        ["- a b c\n- d", "milk", "no list at all"],
    ),
    ({"name": "capital_words", "exactly": 1}, ["I saw a LION.", "U.N. it is"], ["I saw a lion", "BIG LION"]),
    ({"name": "word_length", "at_most": 4}, ["The bird sang, (yes)!"], ["The birds sang", "..."]),
    # wording
    (
        {"name": "contains", "words": ["tea", "ice cream"]},
        ["Ice\ncream, TEA"],
        ["tea and icecream", "steam, ice cream"],
    ),
    ({"name": "contains", "words": ["don't"]}, ["I don’t know", "DON'T"], ["dont"]),
    ({"name": "contains", "words": ["straße"]}, ["Die Straße."], ["Straßen"]),
    ({"name": "contains", "words": ["LION"], "match_case": True}, ["a LION"], ["a lion"]),
    ({"name": "contains_any", "words": ["sock", "socks"]}, ["my socks"], ["stockings"]),
    ({"name": "avoids", "words": ["snow", "cold"]}, ["snowy weather"], ["It is Cold.", "snow"]),
    (
        {"name": "word_frequency", "word": "blue", "exactly": 2},
        ["Blue, blue sky"],
        ["blue", "blue bluebell", "blue " * 3],
    ),
    ({"name": "avoids_characters", "characters": ",;"}, ["a. b"], ["a, b", "a; b"]),
    ({"name": "starts_with", "text": "The"}, [" the sun", "The, er"], ["Then", "A"]),
    ({"name": "starts_with", "text": "C", "whole_word": False}, ["Coffee"], ["Tea"]),
    ({"name": "starts_with", "text": "1)"}, ["1) a"], ["1. a"]),
    ({"name": "ends_with", "text": "."}, ["Done. \n", "Done..."], ["Done", 'He said "done."', "Done!"]),
    (
        {"name": "ends_with", "text": "again"},
        ["once again.", 'never "again"!', "Again"],
        ["against", "regain", "gain"],
    ),
    (
        {"name": "ends_with", "text": "See you soon."},
        ["Bye. See you soon."],
        ["See you soon", "see you soon!"],
    ),
    (
        {"name": "no_preamble"},
        ["- a\n- b", "Surely not."],
        ["Sure! a", "Here's a list", "Some fruit:\n- a", "**Fruit:**\n- a"],
    ),
    # shape
    ({"name": "lowercase"}, ["all small, 2 of them", "été"], ["One", "123"]),
    ({"name": "uppercase"}, ["LOUD 2!", "ÉTÉ"], ["LOUD i", "123"]),
    (
        {"name": "title_case"},
        ["The Life of a Bee", '"A Night At The Zoo"', "3 Bees"],
        ["The life of Bees", "of Bees", "Bees of", "3 4"],
    ),
    ({"name": "capitalized_lines"}, ["A b\n\nC"], ["A\nb", '"A"']),
    ({"name": "quoted"}, ['"Be brave."', "“Be brave.”"], ['"a" and "b"', '"a', "a", '""']),
    ({"name": "separated", "by": ",", "exactly": 3}, ["a, b, c.", "a,b,c"], ["a, b", "a, , c", "a, b, c,"]),
    ({"name": "alphabetical"}, ["ant, Bee, cow", "- ant\n- bee", "ant\nbee\n"], ["bee, ant", "ant"]),
    ({"name": "distinct_items"}, ["- a\n- b", "a, b", "1. a\n2. b"], ["- a\n- A.", "a, b, a", "a"]),
    # structured
    (
        {"name": "json_valid"},
        ['{"a": 1}', "[1, 2]", FENCED, 'It is {"a": {}} I think'],
        ["12", '"a"', "{a: 1}", '{"a": NaN}'],
    ),
    ({"name": "json_valid"}, ['```json\n{"a": 1}'], ["{'a': 1}", '{"a": 1,}', '{"a": ', "[" * 100_000]),
    ({"name": "json_only"}, [' {"a": 1}\n', "[]"], [FENCED, '{"a": 1} done', "12", '{"a": 1}{"b": 2}']),
    (
        {"name": "json_keys", "keys": ["city"]},
        [FENCED, '{"city": 1, "x": 2}'],
        ['{"City": 1}', '["city"]', "city"],
    ),
    ({"name": "json_keys", "keys": ["a"], "exact": True}, ['{"a": null}'], ['{"a": 1, "b": 2}', "{}"]),
    (
        {"name": "json_types", "types": {"a": "number"}},
        ['{"a": 1}', '{"a": 1.5}'],
        ['{"a": true}', '{"a": "1"}', "{}", "[1]"],
    ),
    (
        {"name": "json_types", "types": {"a": "boolean", "b": "array"}},
        ['{"a": false, "b": []}'],
        ['{"a": 0, "b": []}'],
    ),
    ({"name": "json_types", "types": {"a": "null"}}, ['{"a": null}'], ['{"a": 0}', "{}"]),
    (
        {"name": "json_values", "values": {"a": "Paris", "b": 1}},
        ['{"a": " paris", "b": 1.0}'],
        ['{"a": "Paris", "b": true}'],
    ),
    (
        {"name": "json_values", "values": {"a": False}},
        ['{"a": false}'],
        ['{"a": 0}', '{"b": false}', "[false]"],
    ),
    (
        {"name": "json_equals", "value": ["cat", "owl"]},
        ['["cat","owl"]', '```\n["Cat", "owl"]\n```'],
        ['["owl", "cat"]', "cat, owl"],
    ),
    ({"name": "json_array", "exactly": 2}, ["[1, 2]"], ["[1]", '{"a": 1, "b": 2}', "1, 2"]),
    ({"name": "json_array", "at_most": 2}, ["[]"], ["none"]),
    # answers
    (
        {"name": "number", "value": 12},
        ["7 + 5 = 12.", "$12", "It is 12.0", "**12**"],
        ["12 is 7 + 5", "twelve", "112", "-12"],
    ),
    ({"name": "number", "value": 1000}, ["1,000", "1000 km"], ["1, 000", "100"]),
    ({"name": "number", "value": -3}, ["-3", "x = −3", "(-3)"], ["5-3", "3"]),
    (
        {"name": "number", "value": 24, "spelled": "twenty-four"},
        ["Twenty-Four!", "24"],
        ["twenty-four, or 25", "twenty"],
    ),
    ({"name": "number_only"}, ["12", " 12.\n", "-1,000.5"], ["12 apples", "1 2", "twelve", "= 12", "."]),
    ({"name": "answer", "accepted": ["Paris"]}, ["It is PARIS!", "**Paris**"], ["Parisian", "Pari s"]),
    ({"name": "answer", "accepted": ["Sao Paulo", "Rio"]}, ["São Paulo."], ["Santos"]),
    ({"name": "answer", "accepted": ["no"], "max_words": 2}, ["No.", "no, never"], ["no no no", "know"]),
    (
        {"name": "equals", "text": "three two one"},
        ['"Three  two\none."', "three two one"],
        ["three, two, one", "one two three"],
    ),
    ({"name": "equals", "text": "MOON!", "exact": True}, [" MOON!\n"], ["MOON", "moon!"]),
]


@pytest.mark.parametrize(("check", "right", "wrong"), CASES, ids=lambda value: str(value)[:60])
def test_verifier_tells_right_from_wrong(check: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    assert [verify(reply, [check]) for reply in right] == [1.0] * len(right)
    assert [verify(reply, [check]) for reply in wrong] == [0.0] * len(wrong)


def test_every_verifier_has_cases_and_a_docstring() -> None:
    assert {check["name"] for check, _, _ in CASES} == set(VERIFIERS.names())
    assert all(VERIFIERS.get(name).__doc__ for name in VERIFIERS)


@pytest.mark.parametrize("empty", ["", " ", "\n\t\u3000"])
def test_an_empty_response_fails_every_check(empty: str) -> None:
    assert verify(empty, [{"name": "avoids", "words": ["x"]}, {"name": "words", "at_most": 5}]) == 0.0
    for check, _, _ in CASES:
        assert verify(empty, [check]) == 0.0


def test_gold_is_the_fraction_of_checks_passed() -> None:
    checks = [
        {"name": "answer", "accepted": ["Paris"]},
        {"name": "words", "exactly": 1},
        {"name": "uppercase"},
    ]
    assert passes("Paris", checks) == [True, True, False]
    assert verify("Paris", checks) == 2 / 3
    assert verify("PARIS", checks) == 1.0
    assert verify("It is Rome", checks) == 0.0


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ({"name": "wrods", "exactly": 1}, "Did you mean 'words'"),
        ({"exactly": 1}, "has no 'name'"),
        ({"name": "words"}, "at_least, at_most or exactly"),
        ({"name": "words", "max": 3}, "'max'"),
        ({"name": "json_keys"}, "keys"),
        ({"name": "contains", "words": "tea"}, "list of words"),
        ({"name": "contains", "words": []}, "list of words"),
        ({"name": "contains", "words": [" "]}, "blank phrase"),
        ({"name": "answer", "accepted": "Paris"}, "list of accepted answers"),
        ({"name": "starts_with", "text": " "}, "not blank"),
        ({"name": "avoids_characters", "characters": ""}, "at least one character"),
        ({"name": "separated", "by": "", "exactly": 2}, "separator"),
        ({"name": "json_types", "types": {"a": "float"}}, "unknown JSON type"),
        ({"name": "list_items", "exactly": 2, "style": "roman"}, "unknown list style 'roman'"),
    ],
)
@pytest.mark.parametrize("reply", ["Tea.", ""])
def test_a_broken_check_is_an_error_whatever_the_reply(
    check: dict[str, Any], message: str, reply: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        verify(reply, [check])


def test_no_checks_or_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ConfigError, match="empty list"):
        verify("text", [])
    with pytest.raises(UnknownNameError):
        verify("text", [{"name": "politeness"}])


def test_splitting() -> None:
    assert split_words("- state-of-the-art — it's 3.5 %") == ["state-of-the-art", "it's", "3.5"]
    assert split_sentences("Dr. Wu left at 5 p.m. sharp. Why? No one knows") == [
        "Dr Wu left at 5 pm sharp",
        "Why",
        "No one knows",
    ]
    assert split_sentences("1. Mix.\n2. Bake\n\nEnjoy!") == ["Mix", "Bake", "Enjoy"]
    assert split_sentences("one line\nof verse") == ["one line of verse"]
    assert split_items("Intro\n- a\n  2) b\n-c\n**d**") == ["a", "b"]
    assert find_numbers("From 1,234.5 to -6, not 7-8 nor 1, 2.") == [1234.5, -6, 7, 8, 1, 2]


@given(st.text(max_size=80), st.sampled_from([check for check, _, _ in CASES]))
def test_any_text_gets_a_verdict_and_whitespace_around_it_does_not_matter(
    text: str, check: dict[str, Any]
) -> None:
    assert verify(text, [check]) in (0.0, 1.0)
    assert verify(f"{text}\n ", [check]) == verify(text, [check])
