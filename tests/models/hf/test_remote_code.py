"""Code that comes with a checkpoint: never without being asked for, and from the Hub only pinned."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_cache import put, use_cache

torch = pytest.importorskip("torch", reason="needs the extra hf")

from rmbench.cli.main import run  # noqa: E402
from rmbench.errors import ConfigError  # noqa: E402
from rmbench.models.resolve import load_model  # noqa: E402
from rmbench.models.runtime import Runtime  # noqa: E402

Make = Callable[..., Path]

CODE = """
from pathlib import Path

from torch import nn
from transformers import (
    LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, LlamaForTokenClassification, LlamaModel,
    LlamaPreTrainedModel, PreTrainedTokenizerFast,
)

Path({marker!r}).touch()


class OwnConfig(LlamaConfig):
    model_type = {model_type!r}


class Head:
    def __init__(self, config, bias):
        LlamaPreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.model = LlamaModel(config)
        self.dropout = nn.Dropout(0.0)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=bias)
        self.post_init()


class OwnCausal(LlamaForCausalLM):
    config_class = OwnConfig


class OwnSequence(LlamaForSequenceClassification):
    config_class = OwnConfig

    def __init__(self, config):
        Head.__init__(self, config, bias=False)


class OwnToken(LlamaForTokenClassification):
    config_class = OwnConfig

    def __init__(self, config):
        Head.__init__(self, config, bias=True)


class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
AUTO_MAP = {
    "AutoConfig": "own.OwnConfig",
    "AutoModelForCausalLM": "own.OwnCausal",
    "AutoModelForSequenceClassification": "own.OwnSequence",
    "AutoModelForTokenClassification": "own.OwnToken",
}
TASKS = {"hf": "SequenceClassification", "dpo": "CausalLM", "process": "TokenClassification"}
SPECS = {"hf": "hf:{}", "dpo": "dpo:policy={0},ref={0}", "process": "process:{}"}


@pytest.fixture(autouse=True)
def _modules_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers copies code that it runs into a folder of the user's."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def with_code(make: Make, task: str, model_type: str, *, tokenizer: bool = False) -> tuple[Path, Path]:
    """Return a folder whose code leaves a marker when it runs, and the marker."""
    folder = make("llama", task=task, folder=f"{task}-{model_type}".lower())
    marker = folder.parent / "marker"
    (folder / "own.py").write_text(CODE.format(marker=str(marker), model_type=model_type))
    config = json.loads((folder / "config.json").read_text())
    made_for = config["architectures"]
    config |= {"model_type": model_type, "auto_map": AUTO_MAP, "architectures": made_for}
    (folder / "config.json").write_text(json.dumps(config))
    if tokenizer:
        file = folder / "tokenizer_config.json"
        told = json.loads(file.read_text())
        told |= {"auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]}, "tokenizer_class": "OwnTokenizer"}
        file.write_text(json.dumps(told))
    return folder, marker


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    told = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(told) == 1, told
    return told[0]


@pytest.mark.parametrize("scheme", ["hf", "dpo", "process"])
def test_an_architecture_of_its_own_runs_only_when_asked(
    make_checkpoint: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path, scheme: str
) -> None:
    folder, marker = with_code(make_checkpoint, TASKS[scheme], "harmless")
    spec = SPECS[scheme].format(folder)
    arguments = ["--model", spec, "--task", "preference", "--limit", "2", "--device", "cpu", "-q",
                 "--results", f"{tmp_path}/results", "--store", f"{tmp_path}/store"]  # fmt: skip
    capsys.readouterr()
    assert run(["eval", *arguments]) == 2
    error = one_line(capsys)
    assert str(folder) in error
    assert "--trust-remote-code" in error
    assert not marker.exists()
    for given in (["-M", "trust_remote_code=no"], []):
        assert run(["check", "--model", spec, "--device", "cpu", *given]) == 2
        assert not marker.exists()
    # A folder is at hand to be read, and its code is part of the model's identity. So the marker can be there.
    before = load_model(spec, {}, Runtime(device="cpu", trust_remote_code=True)).model.fingerprint()
    assert marker.exists()
    (folder / "own.py").write_text((folder / "own.py").read_text() + "\n# changed\n")
    after = load_model(spec, {"trust_remote_code": "yes"}, Runtime(device="cpu")).model.fingerprint()
    assert before != after


def test_a_policy_s_own_code_too(
    make_checkpoint: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, marker = with_code(make_checkpoint, "CausalLM", "harmless")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Tell me all."}\n')
    out = tmp_path / "pool.jsonl"
    arguments = ["sample", "--policy", str(folder), "--prompts", f"{tmp_path}/prompts.jsonl", "-q", "--out",
                 str(out), "-n", "2", "--max-tokens", "3", "--device", "cpu"]  # fmt: skip
    capsys.readouterr()
    assert run(arguments) == 2
    assert "--trust-remote-code" in one_line(capsys)
    assert not marker.exists()
    assert not out.exists()
    assert run([*arguments, "--trust-remote-code"]) == 0
    assert marker.exists()


@pytest.mark.parametrize("scheme", ["hf", "dpo", "process"])
def test_an_architecture_that_is_known_is_chosen_by_its_config(make_checkpoint: Make, scheme: str) -> None:
    folder, marker = with_code(make_checkpoint, TASKS[scheme], "llama")
    model: Any = load_model(SPECS[scheme].format(folder), {}, Runtime(device="cpu")).model
    inner = model.model
    assert type(inner).__module__.startswith("transformers.models.llama.")
    assert not marker.exists()


def test_a_tokenizer_s_own_code_is_not_run_either(
    make_checkpoint: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, marker = with_code(make_checkpoint, TASKS["hf"], "llama", tokenizer=True)
    run(["check", "--model", str(folder), "--device", "cpu"])
    assert not marker.exists()


@pytest.mark.parametrize("revision", ["", "@main", "@v1.0", "@" + "a" * 39, "@" + "g" * 40])
@pytest.mark.parametrize("asked", [["--trust-remote-code"], ["-M", "trust_remote_code=yes"]])
def test_code_from_the_hub_needs_a_commit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, asked: list[str], revision: str
) -> None:
    for spec in (each.format(f"some/model{revision}") for each in SPECS.values()):
        assert run(["check", "--model", spec, "--device", "cpu", *asked]) == 2
        assert "some/model: trust_remote_code needs a pinned revision" in one_line(capsys)
    if asked == ["--trust-remote-code"]:
        (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n')
        sample = ["sample", "--prompts", f"{tmp_path}/p.jsonl", "--out", f"{tmp_path}/o.jsonl", *asked]
        assert run([*sample, "--policy", f"some/model{revision}", "--device", "cpu"]) == 2
        assert "needs a pinned revision" in one_line(capsys)


def test_a_reference_that_is_not_pinned_is_refused_before_the_policy_s_code_runs(
    make_checkpoint: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, marker = with_code(make_checkpoint, "CausalLM", "harmless")
    spec = f"dpo:policy={folder},ref=some/model@main"
    capsys.readouterr()
    assert run(["check", "--model", spec, "--device", "cpu", "--trust-remote-code"]) == 2
    assert "some/model: trust_remote_code needs a pinned revision" in one_line(capsys)
    assert not marker.exists()


# --- Code of another repository ---

COMMIT, CODE_COMMIT = "a" * 40, "c" * 40


def elsewhere(make: Make, scheme: str, cache: Path, repository: str = "org/code") -> tuple[Path, Path]:
    """Return a folder whose config names code of a Hub repository, which is in the cache; and the marker."""
    folder, marker = with_code(make, TASKS[scheme], "harmless")
    code = folder.parent / "code"
    code.mkdir()
    shutil.move(folder / "own.py", code)
    put(cache, repository, CODE_COMMIT, code)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {key: f"{repository}--{value}" for key, value in AUTO_MAP.items()}
    (folder / "config.json").write_text(json.dumps(config))
    return folder, marker


@pytest.mark.parametrize("scheme", ["hf", "dpo", "process"])
def test_code_of_another_repository_needs_its_commit(
    make_checkpoint: Make,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    folder, marker = elsewhere(make_checkpoint, scheme, use_cache(monkeypatch, tmp_path / "hub"))
    check = ["check", "--model", SPECS[scheme].format(folder), "--device", "cpu", "--trust-remote-code"]
    refused = (
        f"{folder}: config.json (org/code--own.OwnConfig) runs code of another repository, which may change"
    )
    for offline in ([], ["--offline"]):
        capsys.readouterr()
        assert run([*check, *offline]) == 2
        error = one_line(capsys)
        assert refused in error
        assert "-M code_revision=<40-hex commit of org/code>" in error
    assert run([*check, "-M", "code_revision=main"]) == 2
    assert "code_revision is 'main'; expected a commit, 40 hex digits" in one_line(capsys)
    assert run([*check[:-1], "-M", f"code_revision={CODE_COMMIT}"]) == 2
    assert "pins code that runs; pass --trust-remote-code too" in one_line(capsys)
    assert run([*check, "--offline", "-M", f"code_revision={'d' * 40}"]) == 2  # it is not in the cache
    assert not marker.exists()
    # A policy that is its own reference gives each reply the same reward, which the check says.
    assert run([*check, "--offline", "-M", f"code_revision={CODE_COMMIT}"]) == int(scheme == "dpo")
    assert marker.exists()


def test_the_commit_of_the_code_is_part_of_the_identity(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = use_cache(monkeypatch, tmp_path / "hub")
    folder, _ = elsewhere(make_checkpoint, "hf", cache)
    code = folder.parent / "code"
    (code / "own.py").write_text((code / "own.py").read_text() + "\n# changed\n")
    put(cache, "org/code", "d" * 40, code)
    runtime = Runtime(device="cpu", offline=True, trust_remote_code=True)
    first, second = (
        load_model(str(folder), {"code_revision": commit}, runtime).model.fingerprint()["weights"]
        for commit in (CODE_COMMIT, "d" * 40)
    )
    assert first.endswith(f" code org/code@{CODE_COMMIT}")
    assert second == first.replace(CODE_COMMIT, "d" * 40)


def test_a_policy_s_code_of_another_repository_is_refused(
    make_checkpoint: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, marker = elsewhere(make_checkpoint, "dpo", use_cache(monkeypatch, tmp_path / "hub"))
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Tell me all."}\n')
    arguments = ["sample", "--policy", str(folder), "--prompts", f"{tmp_path}/prompts.jsonl", "-q", "--out",
                 f"{tmp_path}/pool.jsonl", "--device", "cpu", "--trust-remote-code"]  # fmt: skip
    capsys.readouterr()
    assert run(arguments) == 2
    assert "or copy the file into the folder" in one_line(capsys)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "auto_map"),
    [("tokenizer_config.json", {"AutoTokenizer": [None, "org/code--own.OwnTokenizer"]}),
     ("tokenizer_config.json", ["org/code--own.OwnTokenizer", None]),
     ("processor_config.json", {"AutoProcessor": "org/code--own.Own"}),
     ("preprocessor_config.json", {"AutoImageProcessor": "org/code--own.Own"})],
)  # fmt: skip
def test_every_config_that_names_code_is_read(
    make_checkpoint: Make, capsys: pytest.CaptureFixture[str], name: str, auto_map: Any
) -> None:
    folder = make_checkpoint()
    told = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
    (folder / name).write_text(json.dumps(told | {"auto_map": auto_map}))
    capsys.readouterr()
    assert run(["check", "--model", str(folder), "--device", "cpu", "--trust-remote-code"]) == 2
    assert f"{name} (org/code--own.Own" in one_line(capsys)


def test_code_of_several_repositories_is_refused(
    make_checkpoint: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_checkpoint()
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "org/a--own.A", "AutoModel": "org/b--own.B"}
    (folder / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    check = ["check", "--model", str(folder), "--device", "cpu", "--trust-remote-code"]
    assert run([*check, "-M", f"code_revision={COMMIT}"]) == 2
    assert "code of several repositories (org/a, org/b)" in one_line(capsys)


def test_a_commit_for_code_that_is_not_there_is_refused(
    make_checkpoint: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    check = ["check", "--model", str(make_checkpoint()), "--device", "cpu", "--trust-remote-code"]
    capsys.readouterr()
    assert run([*check, "-M", f"code_revision={COMMIT}"]) == 2
    assert "its configs name no code of another repository" in one_line(capsys)


@pytest.mark.parametrize("own", [False, True])
def test_a_hub_repository_that_names_another_s_code_needs_its_commit(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    cache = use_cache(monkeypatch, tmp_path / "hub")
    folder, marker = elsewhere(make_checkpoint, "hf", cache, "org/rm" if own else "org/code")
    if own:
        shutil.copy(folder.parent / "code" / "own.py", folder)
    put(cache, "org/rm", COMMIT, folder)
    runtime = Runtime(device="cpu", offline=True, trust_remote_code=True)
    if own:  # the same repository at the same commit
        found = load_model(f"hf:org/rm@{COMMIT}", {}, runtime).model.fingerprint()
        assert found["weights"] == f"org/rm@{COMMIT}"
        return
    with pytest.raises(ConfigError, match=r"^org/rm: config\.json \(org/code--own\.OwnConfig\) runs code of"):
        load_model(f"hf:org/rm@{COMMIT}", {}, runtime)
    assert not marker.exists()
    made = load_model(f"hf:org/rm@{COMMIT}", {"code_revision": CODE_COMMIT}, runtime).model
    assert made.fingerprint()["weights"] == f"org/rm@{COMMIT} code org/code@{CODE_COMMIT}"


def test_of_a_pair_the_commit_is_for_the_one_that_runs_such_code(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = elsewhere(make_checkpoint, "dpo", use_cache(monkeypatch, tmp_path / "hub"))
    plain = make_checkpoint(task="CausalLM", folder="plain")
    runtime = Runtime(device="cpu", offline=True, trust_remote_code=True)
    for spec in (f"dpo:policy={folder},ref={plain}", f"dpo:policy={plain},ref={folder}"):
        made = load_model(spec, {"code_revision": CODE_COMMIT}, runtime).model.fingerprint()
        assert sum(f"code org/code@{CODE_COMMIT}" in made[key] for key in ("policy", "reference")) == 1
