"""`verifier:math`: what the answer is, and when it is right."""

import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.errors import ConfigError
from rmbench.gold.maths import Math, find_answer, split_parts
from rmbench.gold.verifier import NO_ANSWER, Verdict


@pytest.fixture(scope="module")
def verifier() -> Math:
    return Math()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\frac{1}{2}} or \boxed{3} of 7", "3"),
        (r"\boxed{\frac{a}{b}}", r"\frac{a}{b}"),
        (r"\boxed{4} and then \boxed{5", "4"),
        (r"\fbox{x+1}", "x+1"),
        ('{"reasoning": "3 + 4", "answer": "7"} of 9', "7"),
        ('{"answer": 7, "n": 8}', "7"),
        ('{"answer": "3 + 4 = 7 apples"}', "7 "),
        ('{"answer": "cannot be determined"} by 5 people', "cannot be determined"),
        ("First 3.\n#### 1,200\n", "1,200"),
        ("The answer is **12** (7 and 5).", "12"),
        ("The answer is below.\n7 - 5", "5"),
        ("So 7 and then -5", "-5"),
        ("It is 1/2", "1/2"),
        ("It is 7-5", "5"),
        ("no digits", None),
        ("", None),
    ],
)
def test_the_answer_of_a_text(text: str, answer: str | None) -> None:
    assert find_answer(text) == answer


@pytest.mark.parametrize(
    ("answer", "right", "wrong"),
    [
        ("1/2", [r"\boxed{0.5}", "50%", r"\boxed{\frac12}", "The answer is .5"], ["1/3", "2", r"\boxed{x}"]),
        ("1234", ["1,234 apples", "$1,234.00", r"\boxed{1234\text{ cm}}"], ["234", "1.234"]),
        (r"\frac{\sqrt{2}}{2}", [r"\boxed{\frac{1}{\sqrt{2}}}", r"\boxed{2^{-1/2}}"], [r"\boxed{\sqrt{2}}", "0.7071"]),
        ("2\\pi", [r"\boxed{2 \cdot \pi}", r"\boxed{\pi+\pi}"], [r"\boxed{\pi}", "6.28"]),
        ("(x+1)^2", [r"\boxed{x^2+2x+1}", r"\boxed{(1+x)(x+1)}"], [r"\boxed{x^2+1}", r"\boxed{(y+1)^2}"]),
        ("(1, 1/2)", [r"\boxed{(1,0.5)}", r"\boxed{\left(1, \frac12\right)}"], [r"\boxed{(0.5,1)}", r"\boxed{[1,0.5]}", "1"]),
        (r"\text{even}", [r"\boxed{even}", r"\boxed{\text{even}}"], [r"\boxed{odd}", r"\boxed{neve}", "2"]),
        ("1, 3", [r"\boxed{3, 1}", r"\boxed{\{1, 3\}}", r"\boxed{1 \text{ and } 3}", r"\boxed{x = 3 \text{ or } x = 1}"],
         [r"\boxed{3}", r"\boxed{1, 3, 3}", r"\boxed{(1, 3)}", r"\boxed{13}", r"\boxed{1, 4}"]),
        (r"0 \text{ and } 1", [r"\boxed{1 \text{ and } 0}"], [r"\boxed{0 \text{ and } 9}", r"\boxed{0}"]),
        (r"(1, 2), (3, 4)", [r"\boxed{(3,4), (1,2)}"], [r"\boxed{(2,1), (3,4)}"]),
        (r"x \in [-2, 7]", [r"\boxed{[-2,7]}"], [r"\boxed{(-2,7)}", r"\boxed{7}"]),
        ("x = 1, y = 2", [r"\boxed{x = 1, y = 2}"], [r"\boxed{x = 2, y = 1}", r"\boxed{y = 1, x = 2}"]),
        ("any even number from 0 to 8, inclusive", [r"\boxed{any even number from 0 to 8, inclusive}"],
         [r"\boxed{any even number from 0 to 6, inclusive}", r"\boxed{0}"]),
        ("1, 1, 2", [r"\boxed{1, 2, 1}"], [r"\boxed{1, 2, 2}"]),
        ("40_9", [r"\boxed{40_9}"], [r"\boxed{40}", r"\boxed{40_8}"]),
        (r"\frac{abc}{4K}", [r"\boxed{abc/(4K)}"], [r"\boxed{abc/4K^2}"]),
        ("y = 2x", [r"\boxed{y=2x}", r"\boxed{x+x}"], [r"\boxed{3x}"]),
    ],
)  # fmt: skip
def test_right_and_wrong(verifier: Math, answer: str, right: list[str], wrong: list[str]) -> None:
    assert [verifier.verify(text, {"answer": answer}) for text in right] == [Verdict(1.0)] * len(right)
    assert [verifier.verify(text, {"answer": answer}) for text in wrong] == [Verdict(0.0)] * len(wrong)


def test_no_answer_is_wrong_and_is_counted(verifier: Math) -> None:
    assert verifier.verify("I do not know.", {"answer": "3"}) == Verdict(0.0, NO_ANSWER)


@pytest.mark.parametrize(
    "hostile",
    ["9^9^9^9", "9^{9^{9}}", "(((9^64)^64)^64)^64", "__import__('os')", "(" * 190, "x" * 500, "1/0", r"\sqrt[0]{2}",
     "0^{-1}", r"\frac{1}{0}", "x^", r"\tan(\pi/2)", "lambda: 1"],
)  # fmt: skip
def test_a_hostile_formula_is_wrong_and_nothing_else(verifier: Math, hostile: str) -> None:
    assert verifier.verify(rf"\boxed{{{hostile}}}", {"answer": "x+2"}) == Verdict(0.0)


def test_a_comparison_that_takes_too_long_is_unknown_and_the_next_one_is_made() -> None:
    verifier = Math(seconds=30.0)
    assert verifier.verify(r"\boxed{x+x}", {"answer": "2x"}) == Verdict(1.0)
    verifier.algebra.seconds = 0.01  # a quick machine takes a fifth of a second
    slow = "+".join(rf"\sin(x^{n}+\cos(y^{n}))^{n}" for n in range(2, 9))
    verdict = verifier.verify(rf"\boxed{{{slow}}}", {"answer": slow.replace("x^2", "x^3")})
    assert verdict == Verdict(None, "timed out")
    verifier.algebra.seconds = 30.0
    assert verifier.verify(r"\boxed{x+x}", {"answer": "2x"}) == Verdict(1.0)


def test_an_item_without_an_answer_and_senseless_options_are_errors(verifier: Math) -> None:
    with pytest.raises(ConfigError, match="has no 'answer'"):
        verifier.verify("3", {})
    with pytest.raises(ConfigError, match="tolerance"):
        Math(tolerance=-1.0)
    with pytest.raises(ConfigError, match="seconds"):
        Math(seconds=0.0)


def test_parts_of_a_bracket() -> None:
    assert split_parts("(1, (2, 3), 4]") == ["(", "1", "(2, 3)", "4", "]"]
    assert split_parts("(1)(2)") == ["(1)(2)"]
    assert split_parts("(x)") == ["(x)"]
    assert split_parts(r"\{1, 2\}") == split_parts("1, 2") == ["{", "1", "2", "}"]
    assert split_parts("1,234") == ["1,234"]


@given(
    st.integers(-(10**9), 10**9), st.text(alphabet=st.characters(exclude_categories=["N", "C"]), max_size=40)
)
def test_a_boxed_integer_equals_itself_whatever_stands_around_it(value: int, text: str) -> None:
    verifier = Math()
    response = f"{text}\n\\boxed{{{value}}} of 17"
    assert verifier.verify(response, {"answer": str(value)}).gold == 1.0
    assert verifier.verify(response, {"answer": str(value + 1)}).gold == 0.0


def test_it_agrees_with_the_gold_of_real_solutions(shared_data: Path, verifier: Math) -> None:
    n = n_equal = 0
    with lzma.open(shared_data / "gsm8k_pools" / "pools.jsonl.xz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            for response, gold in zip(row["responses"], row["gold"], strict=True):
                n += 1
                n_equal += verifier.verify(response, {"answer": row["answer"]}).gold == float(gold)
    assert n > 4000
    assert n_equal / n >= 0.99
