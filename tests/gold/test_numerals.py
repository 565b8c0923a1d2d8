"""Numbers as they are written, and their equality."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.gold.maths import clean, read_number, same_number

SAME = [
    ["1/2", "0.5", r"\frac{1}{2}", r"\frac12", r"\dfrac{1}2", ".5", "50%", r"50\%", "$0.50", r"\$0.50"],
    ["1,234", "1234", "1234.00", "$1,234", "1{,}234", r"1\,234", "1.234e3", "1,234 dollars", "1234 USD", "+1234"],
    ["1 1/2", "3/2", "1.5", r"1\frac{1}{2}", r"1\frac12", "150%"],
    ["-3", "−3", "$-3", "-$3", "- 3", "-3 m", "-3.0 metres", r"-3\text{ cm}^2", "x = -3", r"\(-3\)", "**-3**"],
    ["12", "12 cm^2", "12cm", "12 km/h", "12 square feet", "12 m", "12°", r"12^\circ", "12.", "12 °C"],
]  # fmt: skip


@pytest.mark.parametrize("texts", SAME, ids=lambda texts: texts[0])
def test_ways_to_write_a_number_are_equal(texts: list[str]) -> None:
    numbers = [read_number(clean(text)) for text in texts]
    assert None not in numbers, dict(zip(texts, numbers, strict=True))
    for a in numbers:
        assert a is not None
        assert same_number(a, numbers[0], 0.0), a  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("a", "b"),
    [("0.5", "0.51"), ("5%", "0.5"), ("1,234", "1.234"), ("12", "-12"), ("1/3", "0.333"), ("1/2", "12"), ("50%", "0.5%")],
)  # fmt: skip
def test_different_numbers_are_not_equal(a: str, b: str) -> None:
    x, y = read_number(clean(a)), read_number(clean(b))
    assert x is not None
    assert y is not None
    assert not same_number(x, y, 0.0)


@pytest.mark.parametrize(
    "text", ["", "x", "2x", "2 + 3", "1/0", r"\frac{1}{0}", "1,23", "12,34", "2 pi", "5 or 6", "1/2/3", "1" * 65, "7-5",
             "2 sqrt", "1 2", "nan", "inf", "1e9999"],
)  # fmt: skip
def test_what_is_no_number(text: str) -> None:
    assert read_number(clean(text)) is None


def test_a_tolerance_is_relative() -> None:
    third, about = read_number("1/3"), read_number("0.333")
    assert third is not None
    assert about is not None
    assert same_number(third, about, 0.01)
    assert not same_number(third, about, 0.0001)


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
def test_fractions_keep_their_value(above: int, below: int) -> None:
    sign, size = ("-" if above < 0 else ""), abs(above)
    for text in (f"{sign}{size}/{below}", rf"{sign}\frac{{{size}}}{{{below}}}"):
        found = read_number(clean(text))
        assert found is not None
        assert found.value == Fraction(above, below)


@given(st.integers(0, 10**15), st.integers(0, 999), st.sampled_from(["", " apples", " kg", "°"]))
def test_thousands_decimals_and_units_do_not_matter(whole: int, decimals: int, unit: str) -> None:
    found = read_number(clean(f"{whole:,}.{decimals:03d}{unit}"))
    assert found is not None
    assert found.value == whole + Fraction(decimals, 1000)


@given(st.fractions(0, 1000, max_denominator=64))
def test_a_percentage_is_the_number_and_its_hundredth(value: Fraction) -> None:
    percent = read_number(f"{value.numerator}/{value.denominator}%")
    assert percent is not None
    for other in (value, value / 100):
        plain = read_number(f"{other.numerator}/{other.denominator}")
        assert plain is not None
        assert same_number(percent, plain, 0.0)
        assert same_number(plain, percent, 0.0)


@given(st.text(max_size=80))
def test_any_text_is_read_or_is_no_number(text: str) -> None:
    found = read_number(clean(text))
    assert found is None or isinstance(found.value, Fraction)
