"""Tables fitted to the width of a terminal: nothing is wider, nothing is lost without a word."""

import os
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rmbench.core.progress import line_of
from rmbench.format.tables import Block, Cell, Column, Number, Table, plain_rows
from rmbench.format.terminal import as_text, terminal_width


def block(n_models: int, n_metrics: int, *, turns: bool = True, drops: dict[int, int] | None = None) -> Block:
    """Return a table of models by metrics, each number with an interval."""
    columns = [Column(f"a_metric_of_number_{k}", drop=(drops or {}).get(k, 0)) for k in range(n_metrics)]
    rows: list[tuple[Cell, ...]] = [
        (
            f"org/model-{n}",
            *(Number(n + k / 10, (n + k / 10 - 0.05, n + k / 10 + 0.05)) for k in range(n_metrics)),
        )
        for n in range(n_models)
    ]
    return Block("t", (), Table((Column("model", "text"), *columns), tuple(rows), turns=turns))


def widest(text: str) -> int:
    """The most characters of a line; combining marks take no place."""
    return max(sum(not unicodedata.combining(c) for c in line) for line in text.splitlines())


def numbers(text: str) -> set[str]:
    """Return every estimate and every interval that is shown."""
    return set(re.findall(r"\[[^\]]+\]", text)) | set(re.findall(r"(?<![\[\d.])\d+\.\d+(?![\d\]])", text))


def test_a_table_that_fits_is_as_it_is_without_a_width() -> None:
    table = block(2, 2)
    assert as_text([table], 200) == as_text([table])
    assert as_text([table]).splitlines()[2] == "org/model-0  0.000 [-0.050, 0.050]   0.100 [0.050, 0.150]"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(("n_models", "n_metrics"), [(1, 7), (3, 7), (4, 4)])
def test_intervals_go_to_a_second_line_or_models_become_columns_before_anything_is_lost(
    width: int, n_models: int, n_metrics: int
) -> None:
    table = block(n_models, n_metrics)
    fitted = as_text([table], width)
    assert widest(fitted) <= width
    assert "not shown" not in fitted
    assert numbers(fitted) == numbers(as_text([table]))


def test_columns_are_left_out_by_their_importance_and_are_named() -> None:
    fitted = as_text([block(9, 6, turns=False, drops={1: 2, 2: 1})], 80)
    assert widest(fitted) <= 80
    assert "  not shown: a_metric_of_number_1, a_metric_of_number_2" in fitted.replace("\n    ", " ")
    assert "--wide shows all columns" in fitted.replace("\n    ", " ")
    assert "0.300" in fitted, "the fourth is more important than the second"


def test_long_texts_break_at_words_and_are_whole() -> None:
    text = "Prefers the response with more Markdown: its headings, items, emphasis, tables and code blocks."
    table = Table(
        (Column("model", "text"), Column("what", "text")), (("markdown", text), ("length", "short"))
    )
    fitted = as_text([Block("t", (), table)], 40)
    assert widest(fitted) <= 40
    cells = [line[10:] for line in fitted.splitlines()[2:-1]]
    assert " ".join(cells) == text


def test_lines_and_notes_break_with_an_indent() -> None:
    fitted = as_text([Block("t", ("word " * 30,), None, ("note " * 30,))], 60)
    assert widest(fitted) <= 60
    assert fitted.splitlines()[1].startswith("  word")
    assert fitted.count("word") == fitted.count("note") == 30


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@example(["", ""], "0000\x1f\x1f\u0300", 20)
@given(st.lists(names, min_size=1, max_size=5), names, st.integers(20, 130))
def test_no_line_is_wider_than_the_terminal(heads: list[str], text: str, width: int) -> None:
    columns = tuple(Column(head, "text") for head in heads[:2]) + tuple(map(Column, heads[2:]))
    cells: list[Cell] = [text] * len(columns[:2])
    cells += [Number(0.5, (0.4, 0.6))] * len(columns[2:])
    fitted = as_text([Block("t", (), Table(columns, (tuple(cells),)))], width)
    assert widest(fitted) <= max(width, 16 + 2 + 16)


def test_wide_characters_take_two_places() -> None:
    table = Table((Column("model", "text"), Column("n", "count")), (("模型模型", 1), ("ab", 2)))
    lines = as_text([Block("t", (), table)]).splitlines()
    assert lines[2:] == ["模型模型  1", "ab        2"]
    assert plain_rows(table)[1] == ["模型模型", "1"]


def test_the_width_is_that_of_columns_and_none_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert terminal_width() is None
    monkeypatch.setenv("COLUMNS", "97")
    assert terminal_width() == 97
    for nonsense in ("0", "-5", "wide", "", "８０"):
        monkeypatch.setenv("COLUMNS", nonsense)
        assert terminal_width() is None
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((61, 20)))
    with Path(os.devnull).open() as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert terminal_width() == 61
        monkeypatch.undo()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_a_bars_line_is_never_cut(width: int) -> None:
    shown = "loss 0.512 margin 1.230 accuracy 0.710 12.3 pairs/s"
    line = line_of(
        width,
        label="a model with a long name on preference",
        count="1,234/5,120 steps",
        shown=shown,
        times=("0:12", "1:03 left"),
        share=0.25,
    )
    assert len(line) <= width
    assert "1,234/5,120 steps" in line
    assert ("1:03 left" in line) == (width in (40, 60) or width >= 100)
    assert (shown in line) == (width >= 80)
    assert ("━" in line) == (width == 200)
