"""Programs that cheat: none of them passes, and none of them sees what is the user's."""

import os
import site
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
from isolations import BEST, ISOLATED, KINDS

from rmbench.errors import ConfigError
from rmbench.gold import program as module
from rmbench.gold.program import PythonTests, found_isolation
from rmbench.gold.verifier import Verdict

TESTS = {"tests": "assert double(2) == 4"}
WRONG = "def double(x):\n    return x\n"
GOOD = "def double(x):\n    return 2 * x\n"


def run(source: str, tests: str = TESTS["tests"], kind: str = "auto", **limits: float) -> Verdict:
    isolation = BEST if kind == "auto" else kind
    verifier = PythonTests(
        allow_execution=True,
        isolation=isolation,
        **{"memory_mb": 512, "seconds": 2, **limits},  # type: ignore[arg-type]
    )
    return verifier.verify(source, {"tests": tests})


SEARCH = """
import gc, os, sys
gc.unfreeze()
found = {}
frame, seen = sys._getframe(), []
while frame is not None:
    seen += [frame, frame.f_locals, frame.f_globals]
    frame = frame.f_back
for other in sys._current_frames().values():
    seen += [other, other.f_locals, other.f_globals]
seen += gc.get_objects() + list(sys.modules.values()) + [sys.argv, dict(os.environ)]
for depth in range(5):
    inner = {id(o): o for o in gc.get_referents(*seen)}
    seen = [o for key, o in inner.items() if key not in found]
    found.update(inner)
texts = {o for o in found.values() if type(o) is bytes and len(o) == 32}
for n in range(64):
    try:
        os.set_blocking(n, False)
        texts.add(os.read(n, 32))
    except OSError:
        pass
"""
SEND = """
for text in texts:
    for n in range(64):
        try:
            os.write(n, text)
        except OSError:
            pass
"""
JUMP = """
import sys
def jump(frame, event, argument):
    if event == "line" and frame.f_code.co_filename == "tests.py":
        frame.f_lineno = 3
    return jump
class Value(int):
    def __mul__(self, other):
        sys.settrace(jump)
        sys._getframe(1).f_back.f_trace = jump
        return 0
def double(x):
    sys.settrace(jump)
    sys._getframe(1).f_trace = jump
    return x
sys.settrace(jump)
"""

CHEATS = {
    **{f"it exits with {n}": f"import os\n{WRONG}os._exit({n})" for n in (0, 1, 96, 97, 98, 99)},
    "it leaves in a test": "import os\ndef double(x):\n    os._exit(0)",
    "SystemExit": f"import sys\n{WRONG}sys.exit(0)",
    "SystemExit in a test": "def double(x):\n    raise SystemExit(0)",
    "KeyboardInterrupt": f"{WRONG}raise KeyboardInterrupt",
    "KeyboardInterrupt in a test": "def double(x):\n    raise KeyboardInterrupt",
    "GeneratorExit in a test": "def double(x):\n    raise GeneratorExit",
    "it says that it has passed": f"import os\n{WRONG}for n in range(64):\n"
    "    try:\n        os.write(n, b'passed\\n')\n    except OSError:\n        pass\nos._exit(0)",
    "at the end": f"import atexit, os\n{WRONG}atexit.register(os._exit, 0)",
    "it looks everywhere for the token": f"{WRONG}{SEARCH}{SEND}os._exit(0)",
    "it looks everywhere for the token, in a test": "def double(x):\n"
    + "".join(f"    {line}\n" for line in f"{SEARCH}{SEND}os._exit(0)".splitlines()),
    "it jumps over the tests": JUMP,
    "other builtins": f"import builtins\n{WRONG}builtins.exec = builtins.compile = lambda *a, **k: None\n"
    "builtins.AssertionError = ValueError",
    "other functions of os": f"import os\n{WRONG}os._exit = os.write = lambda *a: None\nraise ValueError",
    "other names of the harness": "import sys\nframe = sys._getframe(1)\n"
    "frame.f_globals.update(_pass=print, os=None)\n"
    "frame.f_locals.update(run=print, tests=compile('', '', 'exec'), leave=print)\n" + WRONG,
    "no builtins": f"{WRONG}__builtins__ = {{'AssertionError': ValueError}}",
    "another program in its place": f"import os, sys\n{WRONG}"
    "os.execv(sys.executable, [sys.executable, '-I', '-S', '-c', 'print(\"passed\")'])",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_right_program_passes_and_a_wrong_one_fails(kind: str) -> None:
    assert run(GOOD, kind=kind) == Verdict(1.0)
    assert run(WRONG, kind=kind) == Verdict(0.0)


@pytest.mark.parametrize("name", CHEATS)
def test_no_program_passes_without_its_tests(name: str) -> None:
    verdict = run(CHEATS[name], "assert double(2) == 4\nassert double(3) == 6\nlast = 1\n")
    assert verdict.gold == 0.0, verdict


def test_the_search_for_the_token_finds_what_can_be_found() -> None:
    planted = f"{GOOD}import os\nhidden = [{{'a': (os.urandom(32),)}}]\n{SEARCH}"
    assert run(planted, "assert double(2) == 4\nassert hidden[0]['a'][0] in texts and len(found) > 10000", seconds=5) == Verdict(1.0)  # fmt: skip


SIGNALS = {
    "SIGKILL": "os.kill(os.getpid(), 9)",
    "SIGTERM": "os.kill(os.getpid(), 15)",
    "SIGABRT": "os.abort()",
    "SIGSTOP": "os.kill(os.getpid(), 19)",
    "SIGINT": "os.kill(os.getpid(), 2)",
    "a crash": "import ctypes; ctypes.string_at(0)",
}


@pytest.mark.parametrize("name", SIGNALS)
def test_a_program_that_kills_itself_is_wrong_and_not_unknown(name: str) -> None:
    assert run(f"import os\n{GOOD}{SIGNALS[name]}").gold == 0.0
    in_test = run(f"import os\ndef double(x):\n    {SIGNALS[name]}\n    return 2 * x")
    assert in_test.gold == 0.0
    assert in_test.reason == "the program ended by a signal"


@pytest.mark.skipif(not ISOLATED, reason="this machine has no isolation")
def test_a_program_cannot_kill_its_keeper_or_others() -> None:
    for target in ("1", "-1", "os.getppid()"):
        for number in (2, 9, 15, 19):
            source = f"import os\ndef double(x):\n    os.kill({target}, {number})\n    return x"
            assert run(source).gold == 0.0, (target, number)
    assert run(f"{GOOD}import os\n", f"import os\ntry:\n    os.kill({os.getpid()}, 0)\nexcept ProcessLookupError:\n    pass\nelse:\n    assert False").gold == 1.0  # fmt: skip


def test_a_program_that_takes_all_memory_or_time_is_wrong() -> None:
    grow = "def double(x):\n    found = []\n    while True:\n        found.append(bytearray(2**20))"
    assert run(grow) == Verdict(0.0, "the program ran out of memory")
    deep = "def double(x):\n    return double(x)"
    assert run(deep).gold == 0.0
    ignores = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True:\n    pass"
    assert run(ignores, seconds=1) == Verdict(0.0, "the program ran out of time")


def test_a_program_does_not_swallow_its_tests() -> None:
    tests = '"""The tests."""\nassert double(2) == 4\n"""The end."""\n'
    assert run(GOOD, tests).gold == 1.0
    assert run(f'{WRONG}x = """', tests).gold == 0.0
    assert run(f"{WRONG}if False: \\", tests).gold == 0.0


def test_what_a_program_put_in_place_of_builtins_is_gone_in_the_tests() -> None:
    tests = "assert all([double(2) == 4])"
    for cheat in ("import builtins\nbuiltins.all = lambda x: True", "__builtins__ = {'all': lambda x: True}"):
        assert run(f"{WRONG}{cheat}", tests).gold == 0.0
    assert run(GOOD, tests).gold == 1.0


def test_tests_that_are_no_python_are_an_error_of_the_data() -> None:
    for tests in ("assert double(2) ==", "x" * 5 + "(" * 300, "assert double(2) == '\0'"):
        with pytest.raises(ConfigError, match="the item's 'tests' are no Python"):
            run(GOOD, tests)


def seen(tests: str, kind: str) -> float | None:
    return run("def double(x):\n    return 2 * x\n", tests, kind).gold


@pytest.mark.parametrize("kind", ISOLATED)
def test_a_program_sees_a_read_only_python_and_an_empty_folder(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hunter2")
    secret.chmod(0o644)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    files = [
        secret,
        Path("/etc/passwd"),
        Path("/etc/hosts"),
        Path("/proc/self/environ"),
        Path.home() / ".bashrc",
    ]
    hidden = f"import os\nassert not [p for p in {[str(p) for p in files]!r} if os.path.exists(p)]"
    assert seen(hidden, kind) == 1.0
    assert (
        seen(
            "import os\nassert set(os.environ) <= {'PATH', 'HOME', 'LC_ALL', 'TZ', 'PWD', *map('{}_NUM_THREADS'.format, ['OMP', 'OPENBLAS', 'MKL'])}",
            kind,
        )
        == 1.0
    )
    # A Python that lies below /tmp, as in a clone there, is seen at its place.
    python = [Path(place) for place in (sys.prefix, sys.base_prefix, os.__file__)]
    held = {place.relative_to("/tmp").parts[0] for place in python if place.is_relative_to("/tmp")}
    assert (
        seen(f"import os\nassert os.getcwd() == '/tmp' and {{*os.listdir()}} <= {{*{sorted(held)!r}}}", kind)
        == 1.0
    )
    assert seen("open('a', 'w').write('b')\nassert open('a').read() == 'b'", kind) == 1.0
    assert seen("import os\nassert 'a' not in os.listdir()", kind) == 1.0, "the folder of another program"
    for place in ("/", "/usr/lib", str(Path(os.__file__).parent)):
        denied = (
            f"try:\n    open({place + '/written'!r}, 'w')\nexcept OSError:\n    pass\nelse:\n    assert False"
        )
        assert seen(denied, kind) == 1.0, place
    assert seen("import os\nassert os.getuid() == 65534 and os.getpid() < 5", kind) == 1.0
    assert seen("import json, math, sqlite3, ssl, zoneinfo\nassert zoneinfo.ZoneInfo('UTC')", kind) == 1.0


@pytest.mark.skipif(
    str(Path(numpy.__file__).parents[1]) not in site.getsitepackages(),
    reason="numpy is not installed as usual",
)
@pytest.mark.parametrize("kind", KINDS)
def test_installed_packages_can_be_imported(kind: str) -> None:
    """OpenBLAS starts threads unless it is told not to; a program may start none."""
    assert seen("import numpy\nassert numpy.ones((3, 3)).dot(numpy.ones(3)).sum() == 9", kind) == 1.0


CAPABILITIES = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
found = (ctypes.c_uint32 * 6)(*[7] * 6)
assert libc.capget(header, found) == 0
assert list(found[:2] + found[3:5]) == [0] * 4, list(found)
assert libc.prctl(39, 0, 0, 0, 0) == 1, "it may gain rights"
assert libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == -1
assert libc.umount2(b"/tmp", 2) == -1
assert libc.chroot(b"/tmp") == -1
"""


@pytest.mark.parametrize("kind", ISOLATED)
def test_a_program_has_no_capability(kind: str) -> None:
    assert seen(CAPABILITIES, kind) == 1.0


@pytest.mark.parametrize("kind", ISOLATED)
def test_a_program_has_no_network(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)"
        assert seen(connect, kind) == 0.0
        assert seen(connect, "none") in (0.0, 1.0)  # the same line runs
        server.settimeout(0.01)


def test_where_there_is_no_isolation_programs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "problem_of", lambda kind: "" if kind == "none" else "unshare: not permitted")
    with pytest.raises(ConfigError) as caught:
        PythonTests(allow_execution=True)
    assert "unshare: not permitted" in str(caught.value)
    assert "-G isolation=none" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be isolated"):
        PythonTests(allow_execution=True, isolation="bwrap")
    assert PythonTests(allow_execution=True, isolation="none").provenance() == {"isolation": "none"}


def test_a_program_that_is_not_there_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "command_for", lambda *a: ["/nowhere/bwrap"])
    module.problem_of.cache_clear()
    try:
        with pytest.raises(ConfigError, match="bwrap: No such file or directory"):
            found_isolation("bwrap")
    finally:
        module.problem_of.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.long
def test_no_process_is_left_behind(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 1.0)
    mark = f"rmbench-waits-{os.getpid()}"
    source = f"import time, ctypes\n{GOOD}name = {mark[:15]!r}\nctypes.CDLL(None).prctl(15, name.encode())\ntime.sleep(60)\n"
    assert run(source, kind=kind, seconds=0.5) == Verdict(None, "timed out")
    deadline = time.monotonic() + 10
    while named(mark[:15]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not named(mark[:15])


def named(name: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() == name:
                found.append(str(path))
        except OSError:
            continue
    return found


def test_a_killed_run_leaves_no_program(tmp_path: Path) -> None:
    mark = f"rmb-kill-{os.getpid()}"[:15]
    script = tmp_path / "waits.py"
    script.write_text(
        "from rmbench.gold.program import PythonTests\n"
        f"v = PythonTests(allow_execution=True, isolation={BEST!r})\n"
        f"source = '''import time, ctypes\\nctypes.CDLL(None).prctl(15, {mark!r}.encode())\\ntime.sleep(60)'''\n"
        "v.verify(source, {'tests': ''})\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    try:
        deadline = time.monotonic() + 20
        while not named(mark) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert named(mark)
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 10
    while named(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not named(mark)
