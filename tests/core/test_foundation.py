"""Identity, files, registry, escapes: what everything else stands on."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kills import wait_until

from rmbench.core.escape import for_csv, for_markdown, one_line
from rmbench.core.files import (
    canonical_json,
    conversation_key,
    digest,
    iter_jsonl,
    pair_key,
    slug,
    to_jsonl_gz,
    write_atomic,
)
from rmbench.core.registry import Registry
from rmbench.errors import ConfigError, DataError, UnknownNameError
from rmbench.types import Turn

TURNS = (Turn(role="user", content="Grüß Gott"), Turn(role="assistant", content="Hi\u2028there"))


def test_identities_are_pinned() -> None:
    """Every stored reward and record hangs on these: changing one needs a new IDENTITY_VERSION."""
    assert conversation_key(TURNS) == "cf59545ce6b0fc7d435d57b78eb61e5c"
    assert pair_key(TURNS[:1], "a", "b") == "639545cb8e54105ba5382778946c5d02"
    assert digest({"b": 1, "a": [None, 1.5, "ü"]}, 16) == "c5b096a754220558"


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    reordered = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(reordered)
    assert json.loads(canonical_json(value)) == value


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


@given(st.text())
def test_a_slug_is_one_safe_component(name: str) -> None:
    made = slug(name)
    assert made not in ("", ".", "..")
    assert all(c.isascii() and (c.isalnum() or c in "._-") for c in made)
    assert len(made) <= 90


@given(st.text(), st.text())
def test_two_names_never_share_a_slug(a: str, b: str) -> None:
    assert (slug(a) == slug(b)) == (a == b)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/absolute", "a/b", "..", "con\x00", "x" * 500])
def test_hostile_names_stay_below_the_folder(tmp_path: Path, name: str) -> None:
    assert (tmp_path / slug(name)).resolve().parent == tmp_path.resolve()


def test_gzipped_rows_have_no_time_in_them() -> None:
    first = to_jsonl_gz([{"a": 1}])
    time.sleep(1.1)
    assert to_jsonl_gz([{"a": 1}]) == first
    assert gzip.decompress(first) == b'{"a":1}\n'


@given(st.lists(st.text()))
def test_rows_survive_the_file(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl.gz"
    path.write_bytes(to_jsonl_gz({"text": t} for t in [*texts, "\ud800", "\u2028", "\x85"]))
    assert [row["text"] for _, row in iter_jsonl(path)] == [*texts, "\ud800", "\u2028", "\x85"]


def test_a_cut_off_archive_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(to_jsonl_gz({"n": i} for i in range(1000))[:-40])
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz"):
        list(iter_jsonl(path))


_WRITER = """
import sys
from pathlib import Path
from rmbench.core.files import write_atomic
path, n = Path(sys.argv[1]), 0
while True:
    n += 1
    write_atomic(path, str(n % 10) * 2_000_000)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "target"
    for wait_s in (0.30, 0.37, 0.51):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)])
        wait_until(process, path.exists)
        time.sleep(wait_s)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        text = path.read_text()
        assert len(text) == 2_000_000
        assert set(text) == {text[0]}
    write_atomic(path, "after")
    assert path.read_text() == "after"


def test_a_name_taken_twice_names_both() -> None:
    registry: Registry[object] = Registry("thing")
    registry.register_lazily("a", "one.module:A")
    with pytest.raises(ConfigError, match=r"one\.module:A and by two\.module:A"):
        registry.register_lazily("a", "two.module:A")


def test_an_unknown_name_gets_the_nearest_one() -> None:
    registry: Registry[object] = Registry("thing")
    registry.register_lazily("length", "json:loads")
    with pytest.raises(UnknownNameError, match="Did you mean 'length'"):
        registry.get("lenght")
    assert registry.get("length") is json.loads


def test_a_target_that_cannot_be_imported_shows_its_own_exception() -> None:
    registry: Registry[object] = Registry("thing")
    registry.register_lazily("a", "no_such_module_here:A")
    with pytest.raises(ConfigError, match="ModuleNotFoundError: No module named 'no_such_module_here'"):
        registry.get("a")


@given(st.text())
def test_terminal_text_is_one_line_without_control_characters(text: str) -> None:
    shown = one_line(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("hostile", "forbidden"),
    [("<script>alert(1)</script>", "<"), ("a|b", " | "), ("a\nb", "\n"), ("[x](javascript:1)", "](")],
)
def test_markdown_cells_hold_no_markup(hostile: str, forbidden: str) -> None:
    assert forbidden not in for_markdown(hostile)


@pytest.mark.parametrize("hostile", ["=cmd|'/c calc'!A1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_csv_cells_are_no_formulas(hostile: str) -> None:
    assert not for_csv(hostile).startswith(("=", "+", "-", "@", "\t"))
