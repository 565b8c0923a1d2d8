"""One table in four formats: by hand, and with hostile texts read back by strict readers."""

import csv
import io
import re
import unicodedata
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strict_latex import NotStrictError, read_latex, visible
from synthetic_boards import HOSTILE

from rmbench.core.escape import for_latex, one_line
from rmbench.format.tables import Block, Column, Form, Number, Table, as_csv, as_latex, as_markdown
from rmbench.format.terminal import as_text

TABLE = Table(
    (Column("model", "text"), Column("accuracy"), Column("n", "count"), Column("p", "number")),
    (
        (
            "a_b",
            Number(0.71234567, (0.69, 0.73), strong=True, mark="*"),
            1234,
            Number(0.00001, form="probability"),
        ),
        ("[c]", Number(-0.5, spread=0.25, remark="2 without"), None, None),
    ),
)
BLOCK = Block("a table_1", ("What it is:",), TABLE, ("left out: 3 for 50% & more",))


def test_a_terminal_gets_plain_text() -> None:
    assert as_text([BLOCK]).splitlines() == [
        "What it is:",
        "model    accuracy                    n      p",
        "-------  --------------------------  -----  --------",
        "a_b      0.712 [0.690, 0.730]*       1,234  < 0.0001",
        "[c]      -0.500 ± 0.250 (2 without)  -      -",
        "  left out: 3 for 50% & more",
    ]


def test_markdown_by_hand() -> None:
    assert as_markdown([BLOCK]).splitlines() == [
        "What it is:",
        "",
        "| model | accuracy | n | p |",
        "|:---|---:|---:|---:|",
        r"| a\_b | **0.712 [0.690, 0.730]\*** | 1,234 | &lt; 0.0001 |",
        r"| \[c\] | -0.500 ± 0.250 (2 without) | – | – |",
        "",
        r"- left out: 3 for 50% \& more",
    ]


def test_csv_by_hand() -> None:
    assert as_csv(TABLE).splitlines() == [
        "model,accuracy,accuracy_low,accuracy_high,n,p",
        "a_b,0.712346,0.69,0.73,1234,1e-05",
        "[c],-0.5,,,,",
    ]


def test_latex_by_hand() -> None:
    assert as_latex([BLOCK]).splitlines() == [
        r"% \usepackage{booktabs}",
        "",
        r"\begin{table}",
        r"\centering",
        r"\caption{What it is. Sub- and superscripts: the ends of the 95\% interval.}",
        r"\label{tab:a-table-1}",
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"model & accuracy & n & p \\",
        r"\midrule",
        r"a\_b & $\mathbf{0.712}_{0.690}^{0.730}${*} & 1,234 & $< 0.0001$ \\",
        r"{[}c{]} & $-0.500 \pm 0.250$ (2 without) & -- & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        "",
        r"\smallskip",
        r"{\footnotesize left out: 3 for 50\% \& more.}",
        r"\end{table}",
    ]


def test_blocks_stand_apart_unless_they_belong_together() -> None:
    first, second = Block("a", ("one",), None), Block("b", ("two",), None)
    assert as_text([first, second]) == "one\n\ntwo"
    assert as_text([first, Block("b", ("two",), None, joined=True)]) == "one\ntwo"
    assert as_latex([first]).splitlines()[1:] == ["", "one."]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 cells"):
        Table((Column("a"),), (("x", "y"),))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(nan, r"$\mathrm{NaN}$"), (-inf, r"$-\infty$"), (1e300, r"$1.00 \times 10^{300}$"),
     (1.5e-7, r"$1.50 \times 10^{-7}$"), (2.2e-16, "$0.000$")],
)  # fmt: skip
def test_a_number_in_latex(value: float, shown: str) -> None:
    (table,) = read_latex(as_latex([Block("t", (), Table((Column("a", "number"),), ((Number(value),),)))]))
    assert table.rows[1] == [shown]


def test_every_character_that_latex_reads_has_its_escape() -> None:
    assert for_latex("\\") == r"\textbackslash{}"
    assert for_latex("{}$&#_%") == r"\{\}\$\&\#\_\%"
    assert for_latex('^~<>|"') == (
        r"\textasciicircum{}\textasciitilde{}\textless{}\textgreater{}\textbar{}\char34{}"
    )
    assert for_latex("[*]") == "{[}{*}{]}"
    assert for_latex("a--b ``c'' ?` ---") == "a-{}-b `{}`c'{}' ?{}` -{}-{}-"
    assert for_latex("a\nb\x1b\u202ec") == r"a b\textbackslash{}u001b\textbackslash{}u202ec"
    assert len(for_latex("x" * 10_000)) == 80


texts = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="\\{}$&#^_~%[]*-'`,\"<>|!?\n\r\t\u202e\u200f\x00 a1", max_size=30),
    st.sampled_from(HOSTILE),
)


@given(texts)
def test_what_latex_shows_is_the_text(text: str) -> None:
    assert visible(for_latex(text)) == one_line(text, 80)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4), texts, texts, texts)
def test_hostile_texts_stay_in_their_cells(
    rows: list[tuple[str, str]], head: str, line: str, note: str
) -> None:
    table = Table((Column(head, "text", 200), Column("b", "text", 200)), tuple(rows))
    block = Block(line, (line,), table, (note,))
    (read,) = read_latex(as_latex([block]))
    assert read.rows == [[one_line(t, 200).strip(" ") for t in row] for row in ((head, "b"), *rows)]
    lines = [one for one in as_markdown([block]).splitlines() if one.startswith("| ") or one == "|:---|:---|"]
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", one)) for one in lines if one} == {3}
    for form in (as_text([block]), as_markdown([block]), as_latex([block]), as_csv(table)):
        assert not [c for c in form if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"]
        form.encode("utf-8")
    for found in list(csv.reader(io.StringIO(as_csv(table))))[1:]:
        assert len(found) == 2
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in found)


def test_other_scripts_are_named_in_the_first_line() -> None:
    def first(text: str) -> str:
        return as_latex([Block("t", (), Table((Column("a", "text"),), ((text,),)))]).splitlines()[0]

    assert first("Müller – “x” … †") == r"% \usepackage{booktabs}"
    assert "XeLaTeX" in first("模型")


@pytest.mark.parametrize(
    "wrong",
    ["a_b", "50%", "a & b", "$x", "{", "}", r"\input{x}", r"\textless b", "~", "[x]", "a--b", "#1"],
)
def test_the_reader_of_the_tests_is_strict(wrong: str) -> None:
    with pytest.raises(NotStrictError):
        visible(wrong)


@pytest.mark.parametrize("value", [0.5, -0.25, 1e-9, 1e300, nan, inf, -inf, 3.0])
@pytest.mark.parametrize("form", ["number", "signed", "percent"])
def test_another_reader_of_mathematics_takes_every_number(value: float, form: Form) -> None:
    mathtext = pytest.importorskip("matplotlib.mathtext")
    cell = Number(value, (value, 0.75), form, strong=True, spread=0.125)
    (table,) = read_latex(as_latex([Block("t", (), Table((Column("a"),), ((cell,),)))]))
    assert mathtext.MathTextParser("path").parse(table.rows[1][0]).width > 0


def test_names_that_differ_in_letters_that_a_label_cannot_have_get_labels_of_their_own() -> None:
    table = Table((Column("a", "text"),), (("x",),))
    blocks = [
        Block(name=name, lines=(), table=table, caption=("c",)) for name in ("模型", "模型二", "a_b", "a b")
    ]
    labels = re.findall(r"\\label\{(.*?)\}", as_latex(blocks))
    assert len(set(labels)) == len(labels) == 4
    assert labels[2] == "tab:a-b"
