"""A JSON array element by element: the same as read whole, wherever the text is cut into chunks."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.errors import DataError
from rmbench.tasks.containers import iter_array
from rmbench.tasks.rows import BadRows, rows_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=6), st.integers(1, 9), st.sampled_from([None, 1]), st.booleans())
def test_the_same_as_read_whole(value: list[Any], chunk: int, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert list(iter_array(io.StringIO(f" \n{text}\n"), chunk)) == value


@given(st.lists(VALUES, min_size=1, max_size=3), st.integers(1, 9), st.data())
def test_cut_off_anywhere_it_is_an_error(value: list[Any], chunk: int, data: st.DataObject) -> None:
    text = json.dumps(value)
    kept = data.draw(st.integers(1, len(text) - 1))
    with pytest.raises(ValueError, match="row "):
        list(iter_array(io.StringIO(text[:kept]), chunk))


@pytest.mark.parametrize("text", ["[1 2]", "[1,]", "[,1]", "[1]]", "[{}, {]", "[1, oops]", "["])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match="row "):
        list(iter_array(io.StringIO(text), 2))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "dict; expected an array of rows"),
        ("\n3", "int; expected an array of rows"),
        ("", "not valid JSON"),
        ('[{"a": 1}, {"b"', "not valid JSON (row 2: "),
        ("[]", "the file is empty"),
    ],
)
def test_what_a_file_says(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(f"\n{text}" if text.startswith("{") else text)
    with pytest.raises(DataError) as error:
        list(rows_of(path, BadRows(skip=False)))
    assert said in str(error.value)


def test_rows_come_before_the_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('[{"a": 1},' + " " * 2**22 + "oops")
    rows = rows_of(path, BadRows(skip=False))
    assert next(rows).value == {"a": 1}
    with pytest.raises(DataError, match="row 2"):
        next(rows)
