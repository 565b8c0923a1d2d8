"""The other verifiers that give gold, and the limits that they run under."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from isolations import BEST

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.gold.bounded import Bounded, OutOfLimits
from rmbench.gold.matching import Exact, Instruction, JsonSchema, Regex, search
from rmbench.gold.program import PythonTests, find_program
from rmbench.gold.verifier import GOLD_VERIFIERS, NO_ANSWER, Verdict, find_verifier

TESTS = {"tests": "assert double(2) == 4"}
GOOD = "def double(x):\n    return 2 * x\n"


def test_every_verifier_says_what_it_is() -> None:
    for name in GOLD_VERIFIERS:
        factory, joins = find_verifier(name)
        assert factory.__doc__
        assert factory.version
        assert factory.gold_kind in ("label", "graded")
        assert joins == {}


def test_exact() -> None:
    expected = {"answer": "Paris"}
    assert [Exact().verify(t, expected).gold for t in ("Paris", " Paris\n", "paris", "Paris.")] == [
        1,
        1,
        0,
        0,
    ]
    assert Exact(strip=False).verify("Paris\n", expected) == Verdict(0.0)
    assert Exact(ignore_case=True).verify("PARIS", expected) == Verdict(1.0)
    with pytest.raises(ConfigError, match="has no 'answer'"):
        Exact().verify("Paris", {})


def test_regex() -> None:
    verifier = Regex()
    assert verifier.verify("in 1999.", {"pattern": r"\d{4}"}) == Verdict(1.0)
    assert verifier.verify("in 199.", {"pattern": r"\d{4}"}) == Verdict(0.0)
    assert Regex(pattern="a+", whole=True).verify(" aaa\n", {}) == Verdict(1.0)
    assert Regex(pattern="a+", whole=True).verify("aab", {}) == Verdict(0.0)
    with pytest.raises(ConfigError, match="no regular expression"):
        Regex(pattern="(")
    with pytest.raises(ConfigError, match="no regular expression"):
        verifier.verify("x", {"pattern": "["})
    with pytest.raises(ConfigError, match="has no 'pattern'"):
        verifier.verify("x", {})


def test_an_expression_that_never_ends_is_unknown_and_the_next_one_is_asked() -> None:
    verifier = Regex(seconds=0.5)
    assert verifier.verify("a" * 60 + "b", {"pattern": "(a+)+$"}) == Verdict(None, "timed out")
    assert verifier.verify("a", {"pattern": "(a+)+$"}) == Verdict(1.0)


def test_a_question_that_takes_all_memory_is_unknown() -> None:
    asked = Bounded(search, 30.0)
    with pytest.raises(OutOfLimits, match="ran out of memory"):
        asked.ask("(?:(a)|b)*c", "a" * 10**7, False)
    assert asked.ask("x", "x", False) is True
    asked.close()


def test_a_schema_that_refers_to_itself_without_end_is_unknown() -> None:
    pytest.importorskip("jsonschema")
    assert JsonSchema().verify("{}", {"schema": {"$ref": "#"}}) == Verdict(None, "nested too deeply")


def test_json_schema(tmp_path: Path) -> None:
    pytest.importorskip("jsonschema")
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "minimum": 1}}}
    verifier = JsonSchema()
    cases = {'{"n": 1}': 1.0, '```json\n{"n": 2}\n```': 1.0, '{"n": 0}': 0.0, '{"m": 1}': 0.0, "[1]": 0.0}
    assert {text: verifier.verify(text, {"schema": schema}).gold for text in cases} == cases
    assert verifier.verify("no JSON", {"schema": schema}) == Verdict(0.0, NO_ANSWER)
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema))
    assert JsonSchema(schema=file).verify('{"n": 1}', {}) == Verdict(1.0)
    for wrong in ({"type": "nonsense"}, {"$ref": "https://example.org/other.json"}):
        with pytest.raises(ConfigError, match="schema"):
            verifier.verify('{"n": 1}', {"schema": wrong})
    slow = {"type": "object", "properties": {"n": {"pattern": "^(a+)+$"}}}
    text = json.dumps({"n": "a" * 60 + "b"})
    assert JsonSchema(seconds=0.5).verify(text, {"schema": slow}) == Verdict(None, "timed out")
    file.write_text("{")
    with pytest.raises(ConfigError, match=r"schema\.json: not valid JSON"):
        JsonSchema(schema=file)


def test_instruction_is_the_share_of_the_checks() -> None:
    checks = [{"name": "uppercase"}, {"name": "words", "exactly": 1}]
    assert Instruction().verify("one", {"checks": checks}) == Verdict(0.5)
    assert Instruction().verify("ONE", {"checks": checks}) == Verdict(1.0)
    with pytest.raises(ConfigError, match="has no 'checks'"):
        Instruction().verify("one", {})


def test_python_is_off_unless_it_is_allowed() -> None:
    with pytest.raises(ConfigError, match="allow_execution=yes"):
        PythonTests()
    with pytest.raises(ConfigError, match="memory_mb"):
        PythonTests(allow_execution=True, memory_mb=1)


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        (GOOD, Verdict(1.0)),
        (f"Here:\n```python\nimport math, json\n{GOOD}```\nDone.", Verdict(1.0)),
        ("def double(x):\n    return x\n", Verdict(0.0)),
        ("def double(x:\n", Verdict(0.0)),
        ("import sys\nsys.exit(0)\n", Verdict(0.0)),
        ("import os\nos._exit(0)\n", Verdict(0.0)),
        ("I cannot.", Verdict(0.0, NO_ANSWER)),
        (f"{GOOD}x = bytearray(10**9)\n", Verdict(0.0, "the program ran out of memory")),
        (f"{GOOD}while True:\n    pass\n", Verdict(0.0, "the program ran out of time")),
        (f"import os\n{GOOD}os.fork()\n", Verdict(0.0)),
        (f"import threading\n{GOOD}threading.Thread(target=print).start()\n", Verdict(0.0)),
        (f"import subprocess\n{GOOD}subprocess.run(['true'])\n", Verdict(0.0)),
        (f"{GOOD}open('big', 'wb').write(bytes(3 * 2**20))\n", Verdict(0.0)),
        (f"{GOOD}open('small', 'wb').write(bytes(2**20))\n", Verdict(1.0)),
        (f"{GOOD}files = [open('f', 'w') for n in range(100)]\n", Verdict(0.0)),
        (f"import os\n{GOOD}os.environ['USER_TOKEN']\n", Verdict(0.0)),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_programs_run_within_their_limits(
    response: str, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER_TOKEN", "seen")
    verifier = PythonTests(allow_execution=True, isolation=BEST, seconds=1, memory_mb=256, file_mb=2)
    assert verifier.verify(response, TESTS) == verdict


def test_a_program_that_waits_forever_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = PythonTests(allow_execution=True, isolation=BEST, seconds=0.1)
    monkeypatch.setattr("rmbench.gold.program.WAIT_S", 0.5)
    assert verifier.verify(f"import time\n{GOOD}time.sleep(1000)\n", TESTS) == Verdict(None, "timed out")


def test_the_program_of_a_response() -> None:
    assert find_program("```python\na = 1\n```\n```py\nb = 2\n```") == "b = 2\n"
    assert find_program("import os") == "import os"
    assert find_program("The answer is 3.") is None


OWN = """
from rmbench.gold.verifier import Verdict, register_verifier

@register_verifier("own-length")
class Length:
    version = "7"
    gold_kind = "graded"
    def __init__(self, scale: float = 1.0):
        self.scale = scale
    def verify(self, response, expected):
        return Verdict(self.scale * len(response))
"""


def test_a_verifier_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    for name in ("own-length", "Length"):
        factory, joins = find_verifier(f"{file}:{name}")
        assert factory(scale=2.0).verify("abc", {}) == Verdict(6.0)
        assert len(joins["source_sha256"]) == 64
    with pytest.raises(UnknownNameError, match="own-length"):
        find_verifier(f"{file}:own-lenght")
    with pytest.raises(ConfigError, match="there is no file"):
        find_verifier(f"{tmp_path / 'other.py'}:x")
    with pytest.raises(UnknownNameError, match="Did you mean 'math'"):
        find_verifier("maths")


def test_verdicts_are_plain_numbers() -> None:
    verdicts: list[Any] = [Exact().verify("a", {"answer": "a"}), Instruction().verify("a", {"checks": [{"name": "lowercase"}]})]  # fmt: skip
    assert all(type(v.gold) is float and math.isfinite(v.gold) for v in verdicts)
