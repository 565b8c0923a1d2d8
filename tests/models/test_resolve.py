"""What --model means, rule by rule."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rmbench.core.files import digest
from rmbench.errors import ConfigError, ScoringError, UnknownNameError
from rmbench.models import MODELS, register_reward_model
from rmbench.models.resolve import LoadedModel, Runtime, fingerprint_of, list_models, load_model, model_hash

MY_RM = '''
from dataclasses import dataclass
from typing import Literal

@dataclass
class MyRM:
    """Counts a letter."""
    letter: str = "e"
    weight: float = 1.0
    upper: bool = False
    limit: int | None = None
    how: Literal["sum", "mean"] = "sum"

    def fingerprint(self):
        return {"kind": "my_rm"}

    def score(self, batch):
        return [self.weight * turns[-1]["content"].count(self.letter) for turns in batch]

def make(runtime, scale: float = 2):
    model = MyRM(weight=scale)
    model.runtime = runtime
    return model

class NoFingerprint:
    def score(self, batch):
        return [0.0] * len(batch)

class NoScore:
    def fingerprint(self):
        return {}

class Raises:
    def __init__(self):
        raise ValueError("no weights here")

class Compares:
    def fingerprint(self):
        return {"kind": "compares"}

    def prefer(self, batch):
        return [0.5] * len(batch)
'''
REPLY = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "eel"}]


@pytest.fixture
def my_rm(tmp_path: Path) -> Path:
    path = tmp_path / "my_rm.py"
    path.write_text(MY_RM)
    return path


def test_a_file_and_class(my_rm: Path) -> None:
    before = list(sys.path)
    loaded = load_model(f"{my_rm}:MyRM", {"letter": "l", "weight": "0.5"})
    assert loaded.name == "my_rm:MyRM"
    assert loaded.model.score([REPLY]) == [0.5]  # type: ignore[union-attr]
    assert sys.path == before
    first = fingerprint_of(loaded)
    assert first["kind"] == "my_rm"
    assert len(first["source_sha256"]) == 64
    assert first["option:letter"] == "l"
    assert fingerprint_of(load_model(f"{my_rm}:MyRM", {"letter": "e"})) != first
    my_rm.write_text(MY_RM + "\n# changed\n")
    changed = load_model(f"{my_rm}:MyRM", {"letter": "l", "weight": "0.5"})
    assert fingerprint_of(changed)["source_sha256"] != first["source_sha256"]
    assert model_hash(changed) == digest(fingerprint_of(changed), 16)


def test_a_factory_receives_the_runtime(my_rm: Path) -> None:
    loaded = load_model(f"{my_rm}:make", {"scale": "3"}, Runtime(seed=5))
    assert loaded.model.runtime.seed == 5  # type: ignore[union-attr]
    assert loaded.model.score([REPLY]) == [6.0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": "heavy"}, "option 'weight' is 'heavy'; expected a number"),
        ({"upper": "maybe"}, "option 'upper' is 'maybe'; expected true or false"),
        ({"limit": "1.5"}, "option 'limit' is '1.5'; expected a whole number or none"),
        ({"how": "max"}, "unknown value 'max'"),
        ({"lettr": "e"}, "unknown option 'lettr'. Did you mean 'letter'?"),
        ({"runtime": "x"}, "unknown option 'runtime'"),
    ],
)
def test_options_are_typed_by_the_constructor(my_rm: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_model(f"{my_rm}:MyRM", options)
    assert message in str(caught.value)


def test_typed_values(my_rm: Path) -> None:
    options = {"upper": "yes", "limit": "none", "how": "mean", "weight": "2", "name": "mine"}
    loaded = load_model(f"{my_rm}:MyRM", options)
    model: Any = loaded.model
    assert (model.upper, model.limit, model.how, model.weight) == (True, None, "mean", 2.0)
    assert loaded.name == "mine"
    assert load_model(f"{my_rm}:MyRM", {"limit": "7"}).model.limit == 7  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("NoFingerprint", "NoFingerprint is no reward model: it lacks the method fingerprint()"),
        ("NoScore", "NoScore is no reward model: it lacks the method score(batch)"),
        ("Raises", "it cannot be made: ValueError: no weights here"),
        ("MyRN", "unknown class 'MyRN'. Did you mean 'MyRM'?"),
    ],
)
def test_what_is_no_model_says_why(my_rm: Path, attribute: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_model(f"{my_rm}:{attribute}")
    assert message in str(caught.value)


def test_a_pairwise_model_is_one_too(my_rm: Path) -> None:
    assert load_model(f"{my_rm}:Compares").name == "my_rm:Compares"


def test_a_file_that_fails_to_import_shows_its_own_exception(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import a_module_that_is_not_there\n")
    with pytest.raises(
        ConfigError, match="ModuleNotFoundError: No module named 'a_module_that_is_not_there'"
    ):
        load_model(f"{tmp_path / 'bad.py'}:X")
    with pytest.raises(ConfigError, match="there is no file"):
        load_model(f"{tmp_path / 'none.py'}:X")


def test_unknown_names_are_answered_with_the_nearest() -> None:
    for spec, message in [
        ("lenght", "unknown model 'lenght'. Did you mean 'length'?"),
        ("score:x.jsonl", "unknown model scheme 'score:'. Did you mean 'scores:'?"),
        ("builtin:liner", "unknown builtin model 'liner'. Did you mean 'linear'?"),
        ("scores:none.jsonl", "there is no such file"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load_model(spec)
        assert message in str(caught.value)


def test_folders_and_files_that_are_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights").mkdir()
    Path("rewards.jsonl").write_text("")
    with pytest.raises(ConfigError, match=r"a folder without config\.json"):
        load_model("weights")
    with pytest.raises(ConfigError, match="it is a file; expected"):
        load_model("rewards.jsonl")


@pytest.fixture
def vowels() -> Iterator[str]:
    """A name for a model that is registered in a test only."""
    yield "vowels"
    MODELS.unregister("vowels")
    assert "vowels" not in MODELS


def test_a_registered_class_and_a_taken_name(vowels: str) -> None:
    @register_reward_model(vowels)
    class Vowels:
        """Counts vowels."""

        def fingerprint(self) -> dict[str, str]:
            return {"kind": "vowels"}

        def score(self, batch: Any) -> list[float]:
            return [float(sum(c in "aeiou" for c in turns[-1]["content"])) for turns in batch]

    loaded = load_model("vowels")
    assert loaded.model.score([REPLY]) == [2.0]  # type: ignore[union-attr]
    assert fingerprint_of(loaded)["source"].endswith("Vowels")
    assert {row.name: row for row in list_models()}["vowels"].summary == "Counts vowels."
    with pytest.raises(
        ConfigError, match=r"'length' is registered twice: by rmbench.models.baselines:Length and"
    ):
        register_reward_model("length")(Vowels)


@pytest.mark.parametrize(
    "returned", [{}, {"kind": 1}, {1: "kind"}, "length", None, {"kind": "x", "source_sha256": "mine"}]
)
def test_a_bad_fingerprint_is_an_error(returned: Any) -> None:
    class Bad:
        def fingerprint(self) -> Any:
            return returned

        def score(self, batch: Any) -> list[float]:
            return []

    with pytest.raises(ScoringError, match="model 'bad': fingerprint"):
        fingerprint_of(LoadedModel("bad", Bad(), "bad", {"source_sha256": "0"}))


def test_runtime_values() -> None:
    assert Runtime(device="gpu") == Runtime(device="cuda")
    assert Runtime(device="gpu:1").device == "cuda:1"
    for given in ({"device": "tpu"}, {"dtype": "half"}):
        with pytest.raises(UnknownNameError):
            Runtime(**given)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        Runtime(max_length=1)


def test_the_list_has_every_name_and_form() -> None:
    rows = {row.name: row for row in list_models()}
    assert {
        "length",
        "shortest",
        "markdown",
        "random",
        "constant",
        "builtin:linear",
        "builtin:tiny",
        "scores:FILE",
    } <= set(rows)
    assert rows["length"].kind == "reward"
    assert rows["length"].summary.startswith("Prefers the longer")


def test_resolving_imports_no_machine_learning_library() -> None:
    code = (
        "import sys, rmbench.models, rmbench.models.resolve, rmbench.models.resolve, rmbench.check;"
        "rmbench.models.resolve.list_models();"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_library_is_named_with_what_installs_it() -> None:
    code = """
import sys
sys.modules |= dict.fromkeys(("torch", "transformers", "httpx2"))
from rmbench.errors import ConfigError
from rmbench.models.resolve import load_model
for spec in ("hf:x/y", "dpo:policy=x/y", "process:x/y", "judge:http://127.0.0.1:1/v1"):
    try:
        load_model(spec)
    except ConfigError as error:
        print(error)
try:
    import rmbench.sampling.hf
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    extras = [line.rpartition("pip install ")[2] for line in done.stdout.splitlines()]
    hub = "'rmbench[hf]'"
    assert extras == [hub, hub, hub, "'rmbench[judge]'", hub]
