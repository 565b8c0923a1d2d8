"""Digits of numbers for people: columns by hand, and what holds for every column."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strict_latex import read_latex
from synthetic_boards import synthetic

from rmbench.boards import render_board
from rmbench.core.digits import Digits, digits_of, digits_of_estimates, same_text, significant
from rmbench.format.pages import Scale, scale_of
from rmbench.format.tables import Block, Column, Form, Number, Table, as_csv, as_latex, as_markdown
from rmbench.format.terminal import as_text
from rmbench.plot.style import reach
from rmbench.results.read import estimate_from_json
from rmbench.results.record import estimate_to_json
from rmbench.types import Estimate


def column(*values: float, form: Form = "number", **more: Any) -> list[str]:
    """Return a column of a table as a terminal shows it."""
    table = Table((Column("a"),), tuple((Number(v, form=form, **more),) for v in values))
    return [line.strip() for line in as_text([Block("t", (), table)]).splitlines()[2:]]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((0.0, -0.0, 1e-16, -2.2e-16, 9e-13), ["0.000"] * 5),
        ((0.71249, 3.0, 1.0), ["0.712", "3.000", "1.000"]),
        ((1.0, 0.0), ["1.000", "0.000"]),  # an accuracy of all and of none
        ((16.0, 8.0, 1.0), ["16", "8", "1"]),
        ((0.5, 0.0004), ["0.5000", "0.0004"]),
        ((0.5, 0.0004, 1e-16), ["0.5000", "0.0004", "0.0000"]),
        ((0.123456789, 2e-6), ["0.123457", "0.000002"]),
        ((0.5, 3e-9, -1e-9), ["0.500", "0.000", "0.000"]),  # nothing that it could be told from 0 by
        ((5e-6, 3e-9, 0.0), ["5.00e-06", "3.00e-09", "0"]),
        ((0.00002, 3e-7), ["2.00e-05", "3.00e-07"]),
        ((12345.6, 2345.6), ["12346", "2346"]),
        ((12345.6, 0.5), ["12345.600", "0.500"]),
        ((234567.0, 0.7), ["234567.000", "0.700"]),
        ((2.5e9, 0.5), ["2.50e+09", "5.00e-01"]),
        ((1e300,), ["1.00e+300"]),
        ((123456789.0, 5.0), ["123456789", "5"]),
        ((nan, inf, -inf, 0.25), ["NaN", "∞", "-∞", "0.250"]),
        ((1e6 + 0.5, 1e-7), ["1000000", "0"]),  # below the noise of what stands beside it
        ((), []),
    ],
)  # fmt: skip
def test_a_column_by_hand(values: tuple[float, ...], shown: list[str]) -> None:
    assert column(*values) == shown


def test_a_difference_has_its_sign_and_a_zero_has_none() -> None:
    assert column(0.0123, -0.5, 1e-17, -1e-17, form="signed") == ["+0.012", "-0.500", "0.000", "0.000"]
    assert column(inf, -inf, form="signed") == ["+∞", "-∞"]


def test_p_values_and_percents_have_forms_of_their_own() -> None:
    assert column(0.2, 1e-9, form="probability") == ["0.2000", "< 0.0001"]
    assert column(12.0, -1e-16, 3.14159, form="percent") == ["12.00", "0.00", "3.14"]


def test_an_interval_is_seen_to_have_a_width() -> None:
    ends = [(0.2688, 0.2694), (0.1, 0.4)]
    assert digits_of([0.269, 0.25], ends).decimals == 4
    assert digits_of([0.269], [(0.269, 0.269)]) == Digits(), "one without a width asks for nothing"
    assert digits_of([0.5], [(0.5 - 1e-9, 0.5 + 1e-9)]) == Digits(), "nor does one that is tiny"
    assert digits_of([0.05], [(0.049998, 0.050002)]).decimals == 6, "and none for a power of ten"
    assert digits_of([0.0, 0.0], [(-0.0002, 0.0002)]).decimals == 4, "nor does a zero hide its bound"
    assert digits_of([0.3], [(0.00004, 0.6)]) == Digits(), "an end alone asks for none"
    assert column(0.5, spread=0.0003) == ["0.5000 ± 0.0003"]


def test_counts_have_no_decimals_and_fractions_of_one_have() -> None:
    count = [Estimate(value=1.0, ci95=(1.0, 1.0), stderr=None, n=5, n_clusters=5, unit="responses")]
    share = [Estimate(value=1.0, ci95=(1.0, 1.0), stderr=None, n=5, n_clusters=5)]
    assert digits_of_estimates(count).estimate(1.0, (1.0, 1.0)) == "1 [1, 1]"
    assert digits_of_estimates(share).estimate(1.0, (1.0, 1.0)) == "1.000 [1.000, 1.000]"


def test_single_numbers() -> None:
    assert [significant(v) for v in (1e-16, -0.0, 0.123456, 12345.6, -2.0, nan, inf)] == [
        "0", "0", "0.1235", "1.235e+04", "-2", "NaN", "∞",
    ]  # fmt: skip


finite = st.floats(-1e300, 1e300)
usual = (
    st.floats(-1e4, 1e4) | st.floats(-1e-3, 1e-3) | st.sampled_from([0.0, 1e-16, -2.2e-16, 5e-7, 1.0, -1.0])
)


@given(st.lists(usual | finite, min_size=1, max_size=6), st.booleans())
def test_every_column_has_one_form_and_no_noise(values: list[float], plus: bool) -> None:
    digits = digits_of(values)
    texts = [digits.write(v, plus=plus) for v in values]
    largest = max(map(abs, values))
    powers = {"e" in t for t in texts if t.strip("+-0.")}
    assert len(powers) <= 1
    decimals = {len(t.partition("e")[0].partition(".")[2]) for t in texts if t.strip("+-0.")}
    assert len(decimals) <= 1
    assert max(decimals, default=0) <= 6
    for value, text in zip(values, texts, strict=True):
        told = float(text)
        assert not re.fullmatch(r"[+-]0(\.0*)?", text), "a zero has no sign"
        assert told == 0.0 or (told > 0) == (value > 0)
        if abs(value) <= 1e-12 * max(1.0, largest):
            assert told == 0.0
        elif abs(value) > 1e-12 * max(1.0, largest) * (1 + 1e-9):
            assert told != 0.0 or abs(value) <= 1e-5 * min(1.0, largest), "what is not tiny can be read"
            exact = (
                0.5 * 10.0**-digits.decimals
                if "e" not in text
                else 0.005 * 10.0 ** int(text.partition("e")[2])
            )
            assert abs(told - value) <= exact * (1 + 1e-6) + abs(value) * 1e-15


OPEN = Estimate(
    value=2.5, ci95=(1.2, inf), stderr=None, n=20, n_clusters=20, unit="nats", higher_is_better=None
)
BELOW = Estimate(value=-0.5, ci95=(-inf, 0.25), stderr=None, n=20, n_clusters=20)


def test_an_open_interval_in_every_format() -> None:
    table = Table((Column("t"),), tuple((Number(e.value, e.ci95),) for e in (OPEN, BELOW)))
    block = Block("t", (), table)
    assert "2.500 [1.200, ∞)" in as_text([block])
    assert "-0.500 (-∞, 0.250]" in as_text([block])
    assert "| 2.500 [1.200, ∞) |" in as_markdown([block])
    (latex,) = read_latex(as_latex([block]))
    assert latex.rows[1:] == [[r"$2.500_{1.200}^{\infty}$"], [r"$-0.500_{-\infty}^{0.250}$"]]
    assert list(csv.reader(io.StringIO(as_csv(table))))[1:] == [
        ["2.5", "1.2", "inf"],
        ["-0.5", "-inf", "0.25"],
    ]
    assert digits_of_estimates([OPEN]).interval((1.2, inf)) == "[1.200, ∞)"


@pytest.mark.parametrize("estimate", [OPEN, BELOW])
def test_an_open_interval_goes_through_a_record(estimate: Estimate) -> None:
    text = json.dumps(estimate_to_json(estimate), allow_nan=False)
    assert json.loads(text)["ci95"] == [None if math.isinf(end) else end for end in estimate.ci95 or ()]
    assert estimate_from_json("temperature", json.loads(text)) == estimate


def test_an_open_interval_reaches_the_end_of_what_is_drawn() -> None:
    bar = Scale(0.0, 5.0).bar(2.5, (1.0, inf))
    assert bar is not None
    assert (bar.at, bar.low, bar.width) == ("50", "20", "80")
    assert scale_of([OPEN, BELOW]).low < -0.5 < 2.5 < scale_of([OPEN, BELOW]).high
    below, above = reach([2.0, 1.0], [(1.5, inf), (0.0, 3.0)])
    assert below.tolist() == [0.5, 1.0]
    assert 2.0 + above[0] > 3.0
    assert above[1] == 2.0


def test_csv_is_for_machines_and_has_no_minus_zero() -> None:
    table = Table((Column("a", "number"),), tuple((Number(v),) for v in (1e-16, 0.000123456, -0.0, 1 / 3)))
    assert as_csv(table).splitlines() == ["a", "1e-16", "0.000123456", "0", "0.333333"]


def test_a_board_has_one_number_of_digits_in_a_column() -> None:
    board = synthetic(5, 2)
    small = Estimate(value=0.0004, ci95=(-2.2e-16, 0.001), stderr=None, n=9, n_clusters=9)
    rows = list(board.rows)
    rows[2] = replace(rows[2], cells={**rows[2].cells, "c0": replace(rows[2].cells["c0"], estimate=small)})
    files = render_board(replace(board, rows=tuple(rows)))
    for suffix in (".md", ".tex"):
        found = re.findall(r"0\.0004.{1,20}0\.0000.{1,10}0\.0010", files[f"made-up{suffix}"])
        assert len(found) == 1, suffix
    body = [line.split("|") for line in files["made-up.md"].splitlines() if line.startswith("| ")][1:]
    for k, decimals in ((4, 3), (6, 4), (7, 3)):
        numbers = re.findall(r"\d\.(\d+)", " ".join(line[k] for line in body))
        assert len(numbers) >= 12
        assert {len(n) for n in numbers} == {decimals}
    assert "[0.0000, 0.0010]" in files["made-up.html"]
    assert not re.search(r"e-1[0-9]|-0\.0+\b", files["made-up.md"] + files["made-up.tex"])


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("x 0.1234567891", "x 0.1234567899", True),
        ("x 0.1234567891", "y 0.1234567891", False),
        ("0.1234567", "0.1234667", False),  # 1e-4 of it
        ("[0.690, 0.730]", "[0.690, 0.731]", False),  # shown digits are text
        ("0.12345", "0.1234500001", True),  # a trailing zero that JSON does not write
        ("1.234567e-9", "1.234568e-9", True),
        ("1.234567e-15", "9.244567e-17", True),  # both are what rounding leaves of 0
        ("0.045892", "0.045893", True),  # the last of six decimals
        ("0.045892", "0.045894", False),
        ("0.5", "0.5000001", True),
        ("-0.737512", "0.737512", False),
        ("51264512", "51264513", False),  # counts and hashes are text
        ("a51264.512345", "a51264.512346", False),
        ("1 0.1234567", "2 0.1234567", False),
        ("0.1234567 0.1234567", "0.1234567", False),
        ("", "", True),
    ],
)
def test_texts_are_equal_but_for_the_last_digits_of_numbers(a: str, b: str, same: bool) -> None:
    assert same_text(a, b) is same
    assert same_text(b, a) is same
