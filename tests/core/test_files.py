"""Files that are damaged, endless or hostile: one clear error, in bounded time and memory."""

import errno
import gzip
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rmbench.cli.main import run
from rmbench.core import files
from rmbench.core.files import iter_jsonl, parse_json, read_json, read_whole, require_writable, write_atomic
from rmbench.errors import ConfigError, DataError
from rmbench.tasks.rows import BadRows, data_files, rows_of

ROW = {"id": "a", "prompt": "p", "responses": [{"text": "x", "gold": 1}, {"text": "y", "gold": 0}]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
        ('[{"b": {"a": 1, "c": 2, "a": 1}}]', "the key 'a' is given twice"),
        ("[" * 101 + "]" * 101, "more than 100 levels"),
        ("[" * 100_000, "more than 100 levels"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "more than 100 levels"),
        ("9" * 5_000, "a number of 5,000 digits"),
        ("-" + "9" * 309, "a number of 309 digits"),
        ("1 2", "Extra data"),
        ("", "Expecting value"),
    ],
)
def test_json_that_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_json(text)
    with pytest.raises(ValueError, match=told):
        parse_json(text.encode())


@pytest.mark.parametrize("value", [1, "ü\ud800", None, [], {"a": [1, {"b": 2.5}]}, [[[]]]])
def test_other_json_is_what_python_reads(value: object) -> None:
    text = f" \n{json.dumps(value)}\t\r\n"
    assert parse_json(text) == json.loads(text) == value
    deepest: object = 0
    for _ in range(100):
        deepest = [deepest]
    assert parse_json(json.dumps(deepest)) == deepest


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz"])
@pytest.mark.parametrize("skip", [False, True])
def test_a_key_given_twice_is_a_bad_row(tmp_path: Path, name: str, skip: bool) -> None:
    good = json.dumps(ROW)
    bad = good[:-1] + ', "id": "b"}'
    text = f"[{good},\n{bad}]" if name == "a.json" else f"{good}\n{bad}\n"
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    rows = BadRows(skip)
    if skip and name != "a.json":
        assert [row.value["id"] for row in rows_of(path, rows)] == ["a"]
        assert rows.dropped == {"line is not JSON": 1}
        return
    with pytest.raises(DataError, match="the key 'id' is given twice"):
        list(rows_of(path, rows))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test can reach."""
    for module in ("rmbench.core.files", "rmbench.tasks.containers"):
        monkeypatch.setattr(f"{module}.LONGEST_LINE", 1000)
    monkeypatch.setattr(files, "MOST_BLANK_LINES", 50)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.jsonl", json.dumps({**ROW, "id": "b" * 2000}), "a line of 1,000 characters or more"),
        ("a.jsonl", json.dumps(ROW) + "\n" * 60, "50 blank lines on end"),
        ("a.jsonl.gz", "\n" * 10_000, "50 blank lines on end"),
        ("a.json", "[" + json.dumps({**ROW, "id": "b" * 10**7}) + "]", "more than 1,000 characters"),
        ("a.json", "[" + " " * 10**7 + "1]", "more than 1,000 spaces on end"),
        ("a.json", " " * 10**7, "more than 1,000 spaces on end"),
        ("a.json", '{"a": "' + "b" * 10**7, "more than 1,000 characters"),
    ],
)
def test_what_has_no_end_is_refused(tmp_path: Path, name: str, text: str, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    with pytest.raises(DataError, match=told):
        list(rows_of(path, BadRows(skip=False)))


@pytest.mark.usefixtures("small")
def test_blank_lines_between_rows_are_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(("\n" * 49 + json.dumps(ROW) + "\n") * 5)
    assert len(list(iter_jsonl(path))) == 5


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.jsonl")
    return folder / "pipe.jsonl"


NO_FILES: list[tuple[Callable[[Path], Path], str]] = [
    (a_pipe, "a pipe, device or socket; expected a file"),
    (lambda folder: Path("/dev/zero"), "a pipe, device or socket; expected a file"),
    (lambda folder: Path("/dev/null"), "a pipe, device or socket; expected a file"),
    (lambda folder: folder / ("x" * 300 + ".jsonl"), "File name too long"),
    (lambda folder: folder / "none.jsonl", "there is no such file"),
    (lambda folder: folder / "file" / "below.jsonl", "there is no such file|Not a directory"),
]


@pytest.mark.parametrize(("make", "told"), NO_FILES)
def test_what_is_no_file_is_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Path], told: str
) -> None:
    (tmp_path / "file").touch()
    path = make(tmp_path)
    for read in (read_whole, read_json):
        with pytest.raises(ConfigError, match=told):
            read(path)
    with pytest.raises((ConfigError, OSError), match=told):
        data_files(path)
    out = ["--results", str(tmp_path / "r"), "--store", str(tmp_path / "s")]
    for command in (
        ["eval", "-m", "length", "-t", "bon", "--data", str(path), *out],
        ["eval", "-m", f"scores:{path}", "-t", "bon", *out],
        ["eval", "-m", "length", "-t", f"{path}.yaml", *out],
        ["eval", "-m", f"{path}.py:X", "-t", "bon", *out],
        ["leaderboard", "--results", str(path)],
        ["remeasure", str(path)],
        ["compare", "a", "b", "-t", "bon", "--results", str(path)],
        ["report", str(path), "--out", str(tmp_path / "a.html")],
        ["contamination", "--train", str(path), "-t", "bon"],
    ):
        assert run(command) == 2, command
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert len(error) < 2100
    assert not (tmp_path / "r").exists()


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(files.LARGEST_TEXT + 1)
    with pytest.raises(ConfigError, match="67,108,865 bytes; expected at most 67,108,864"):
        read_json(path)


def test_what_a_dead_process_left_half_written_is_removed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from rmbench.core.files import write_atomic_with\n"
        "write_atomic_with(Path(sys.argv[1]), lambda file: (file.write(b'half'), file.flush(), os._exit(9)))"
    )
    path = tmp_path / "a.json"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    alive = tmp_path / next(tmp_path.iterdir()).name.replace(
        f"-{next(tmp_path.iterdir()).name.split('-')[1]}-", f"-{os.getpid()}-"
    )
    alive.touch()
    write_atomic(path, "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, alive.name])


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EROFS, 2), (errno.EACCES, 2), (errno.ENAMETOOLONG, 2)],
)
def test_what_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number), "some/place")

    monkeypatch.setattr("rmbench.cli.main.importlib.import_module", refuse)
    assert run(["tasks"]) == code
    assert capsys.readouterr().err.startswith(f"error: some/place: {os.strerror(number)}")


def test_a_folder_is_tried_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_writable(tmp_path, "--out")
    require_writable(tmp_path / "not" / "there" / "yet", "--out")
    monkeypatch.chdir(tmp_path)
    require_writable(Path("relative") / "folder", "--out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("file", "Not a directory"),
        ("file/deeper/still", "Not a directory"),
        ("dangling", "a link to nothing"),
        ("dangling/deeper", "a link to nothing"),
        ("n" * 256, "File name too long"),
        ("missing/" + "n" * 256 + "/deeper", "File name too long"),
        ("nu\0ll", "null"),
    ],
)
def test_a_place_that_cannot_be_a_folder_is_named(tmp_path: Path, place: str, told: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=f"^--out .*no file can be written there .*{told}"):
        require_writable(tmp_path / place, "--out")


def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    is_root = os.geteuid() == 0
    try:
        if is_root:  # whom no permission stops
            os.seteuid(65534)
        with pytest.raises(ConfigError, match=r"--out .*Permission denied.*name another folder"):
            require_writable(folder, "--out")
    finally:
        if is_root:
            os.seteuid(0)


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    for content in ("first", "second"):  # the target is made, then replaced
        write_atomic(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_text() == content
    pipe = a_pipe(tmp_path)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.parametrize("name", ["pipe.jsonl", "link.jsonl", "folder.jsonl", "socket.jsonl"])
def test_what_cannot_be_written_to_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    a_pipe(tmp_path)  # nobody reads it
    (tmp_path / "link.jsonl").symlink_to("pipe.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket.jsonl"))
    before = {p.name: p.lstat().st_mode for p in tmp_path.iterdir()}
    assert run(["export", "-t", "bon", "--out", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("error: ") == 1
    assert {p.name: p.lstat().st_mode for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["a.jsonl.xz", "a.json.xz", "a.jsonl.gz", "a.jsonl", "a.parquet"])
def test_a_file_of_zeros_is_refused_at_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(10**10)  # nothing of it is on the disk
    with pytest.raises(DataError):
        list(rows_of(path, BadRows(skip=False)))


def test_a_name_that_the_terminal_cannot_show_is_no_error(tmp_path: Path) -> None:
    """The bytes of a name need not be UTF-8, and an encoding need not have a letter."""
    command = [sys.executable, "-m", "rmbench", "export", "-t", "bon", "--out", "ü\udcff.jsonl"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["null", "[]", "3", '"x"', "[" * 5000])
def test_a_schema_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "s.json").write_text(text)
    data = tmp_path / "a.jsonl"
    data.write_text(json.dumps({"id": "a", "prompt": "p", "responses": ["x", "y"]}))
    gold = [
        "--gold",
        "verifier:json-schema",
        "-G",
        f"schema={tmp_path / 's.json'}",
        "--results",
        str(tmp_path / "r"),
    ]
    assert run(["eval", "-m", "length", "-t", "bon", "--data", str(data), *gold]) == 2
    assert "s.json" in capsys.readouterr().err
