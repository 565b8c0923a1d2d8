"""Everything that can change a reward is changed once, and the identity must follow; what cannot, leaves it.

Each file of a checkpoint: a byte more, a bit flipped, renamed, removed. Each option of each scheme. The same of
members of an ensemble, of a policy and its reference, of the package's own models.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra hf")

from rmbench.core.files import digest  # noqa: E402
from rmbench.models.builtin import LINEAR_FILE, TINY_FOLDER, LinearReward  # noqa: E402
from rmbench.models.hf import classifier  # noqa: E402
from rmbench.models.hf.checkpoint import find_checkpoint  # noqa: E402
from rmbench.models.hf.identity import hashes, pin_of, weights_of  # noqa: E402
from rmbench.models.resolve import fingerprint_of, load_model, options_of  # noqa: E402
from rmbench.models.runtime import Runtime  # noqa: E402

Make = Callable[..., Path]
CPU = Runtime(device="cpu", offline=True)

READ = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors",
    "generation_config.json", "model.safetensors.index.json", "pytorch_model.bin", "tokenizer.4.0.0.json",
    "tekken.json", "qwen.tiktoken", "vocab.bpe", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
    ".hidden.model", "quantize_config.json", "special_tokens_map.json", "added_tokens.json", "x.gguf",
    "q/x.gguf", "own.py", "sub/own.py", "custom_generate/generate.py", "additional_chat_templates/x.jinja",
    ".hidden/model-1.safetensors", "1_Pooling/config.json", "processor_config.json", "chat_template.json",
    "scale.npy", "README.bin", "mylogs/x.bin",
)  # fmt: skip
"""Files of a checkpoint that some load reads, or could read."""
NOT_READ = (
    "README.md", "MODEL_CARD.md", "LICENSE", "LICENSE.txt", ".gitattributes", ".gitignore", ".git/HEAD",
    ".cache/huggingface/download/config.json.metadata", "train.log", "logs/x.bin", "runs/a/events.out.tfevents.1",
    "events.out.tfevents.1.host", "optimizer.pt", "optimizer.bin", "scheduler.pt", "rng_state.pth",
    "rng_state_0.pth", "trainer_state.json", "training_args.bin", "checkpoint-5/model.safetensors",
    "__pycache__/own.cpython-311.pyc", "rmbench.json", "training_prompts.npz", ".model.safetensors.ab-1-2.partial",
)  # fmt: skip
"""Files beside them that no load reads."""


@pytest.fixture
def folder(make_checkpoint: Make) -> Path:
    """A checkpoint with every file of both lists."""
    made = make_checkpoint()
    for name in (*READ, *NOT_READ):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        if not (made / name).exists():
            (made / name).write_bytes(b"{}\n")
    return made


def weights(folder: Path) -> str:
    return weights_of(hashes(find_checkpoint(str(folder), None)))


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def flipped(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def renamed(path: Path) -> None:
    path.rename(path.with_name(f"other-{path.name}"))


CHANGES: Mapping[str, Callable[[Path], object]] = {
    "longer": longer, "flipped": flipped, "renamed": renamed, "removed": Path.unlink,
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_every_file_that_is_read_counts(folder: Path, change: str) -> None:
    before = weights(folder)
    seen = {before}
    for name in READ:
        if name == "model.safetensors" and change in ("renamed", "removed"):
            continue  # then it is no checkpoint any more
        raw = (folder / name).read_bytes()
        CHANGES[change](folder / name)
        seen.add(weights(folder))
        if change == "renamed":
            (folder / name).with_name(f"other-{Path(name).name}").unlink()
        (folder / name).write_bytes(raw)
    assert weights(folder) == before
    n_changed = len(READ) - (change in ("renamed", "removed"))
    assert len(seen) == 1 + n_changed


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_read_does_not_count(folder: Path, change: str) -> None:
    before = weights(folder)
    for name in NOT_READ:
        if change == "renamed":  # to another name of the list
            (folder / name).rename((folder / name).with_suffix(".log"))
        else:
            CHANGES[change](folder / name)
        assert weights(folder) == before, name


def fingerprint(spec: str, options: Mapping[str, str] | None = None, **runtime: Any) -> str:
    """Return the identity as runs and stores have it."""
    return digest(
        fingerprint_of(load_model(spec, options or {}, Runtime(device="cpu", offline=True, **runtime)))
    )


SAME = frozenset({"share_prompts", "trust_remote_code", "code_revision"})
"""Options that change no reward by themselves: a way to compute, and code that these checkpoints have not."""


def cases(scheme: str, below: Path) -> dict[str, dict[str, list[str]]]:
    """Return, for each set of options to begin with (as text), option -> values that must each differ."""
    (below / "t.jinja").write_text("{% for m in messages %}{{ m['content'] }} {% endfor %}")
    # A base is an adapter's; recipes and heads have tests of their own, in tests/zoo.
    shared = {"chat_template": ["plain", str(below / "t.jinja")], "max_length": ["32", "64"], "base": []}
    attn = {"attn": ["eager"]}
    text = {"read_at": ["last_eos", "before_eos"], "format": ["beaver-reward", "ultrarm"],
            "append_eos": ["yes"], "strip_newline": ["yes"], "system": ["Be brief."]}  # fmt: skip
    return {
        "hf": {
            "label=0": {"label": ["1"], **shared, **attn, **text, "recipe": [], "head": [], "forward": ["own"]},
            "weights=1,2": {"weights": ["2,1", "1,3"]},
            "": {"fresh_head": ["0", "1"], "torch_compile": ["yes"], "gguf_file": []},
        },
        "process": {
            "label=0": {"label": ["1"], "reduce": ["min", "mean", "prod"], "step_token": ["\\n", "."],
                        "insert": ["\\n", "."], "value": ["logit"], **shared, **attn,
                        "recipe": [], "head": [], "format": []},
        },
        "dpo": {
            "": {"beta": ["0.2", "0.3"], "average": ["yes"], **shared, **attn},
            "reference=none": {"reference": [], "average": ["yes"]},
        },
    }[scheme]  # fmt: skip


TASKS = {"hf": "SequenceClassification", "process": "TokenClassification", "dpo": "CausalLM"}


@pytest.mark.parametrize("scheme", TASKS)
def test_every_option_of_a_checkpoint_counts(
    make_checkpoint: Make, tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = list[Any]()  # without the minute that compiling takes
    monkeypatch.setattr(classifier, "compile_backbone", lambda model, where: compiled.append(model))
    monkeypatch.setattr(classifier, "is_compiled", lambda model: any(model is one for one in compiled))
    found = cases(scheme, tmp_path)
    known = {p.name for p in options_of(scheme)[1]}
    assert known == {name for options in found.values() for name in options} | SAME
    two = make_checkpoint(task=TASKS[scheme], n_labels=2)
    bare = make_checkpoint(head=False, folder="bare")
    for text, options in found.items():
        base = dict([text.split("=")]) if text else {}
        spec = f"{scheme}:{bare if scheme == 'hf' and not text else two}"
        if scheme == "dpo":
            spec = f"dpo:policy={two}" if text else f"dpo:policy={two},ref={two}"
        variants = [{**base, name: value} for name, values in options.items() for value in values]
        if scheme == "hf" and not text:
            base = {"fresh_head": "7"}
            variants = [{**base, **variant} for variant in variants]
        seen = [fingerprint(spec, each) for each in (base, *variants)]
        assert len(set(seen)) == 1 + len(variants), text
        assert fingerprint(spec, base | {"share_prompts": "no"}) == seen[0]


@pytest.mark.parametrize("scheme", TASKS)
def test_the_dtype_counts_and_the_seed_does_not(make_checkpoint: Make, scheme: str) -> None:
    made = make_checkpoint(task=TASKS[scheme])
    spec = f"dpo:policy={made},ref={made}" if scheme == "dpo" else f"{scheme}:{made}"
    own = fingerprint(spec, dtype="float32")
    assert fingerprint(spec, dtype="bfloat16") != own
    assert fingerprint(spec, dtype="float32", seed=3) == own


@pytest.mark.parametrize("changed", ["policy", "ref"])
def test_each_of_a_pair_counts(make_checkpoint: Make, changed: str) -> None:
    made = {name: make_checkpoint(task="CausalLM", folder=name) for name in ("policy", "ref")}
    spec = f"dpo:policy={made['policy']},ref={made['ref']}"
    seen = {fingerprint(spec)}
    for name in ("config.json", "model.safetensors", "vocab.bpe"):
        if name == "model.safetensors":
            shutil.copy(make_checkpoint(task="CausalLM", folder="new", seed=9) / name, made[changed])
        else:
            (made[changed] / name).touch()
            longer(made[changed] / name)
        seen.add(fingerprint(spec))
    assert len(seen) == 4


def test_each_member_of_an_ensemble_and_its_options_count(make_checkpoint: Make) -> None:
    one, two = (make_checkpoint(folder=name, n_labels=2) for name in ("one", "two"))
    spec, base = f"ensemble:{one},{two}", {"1.label": "0", "2.label": "0"}
    variants = [{"1.label": "1"}, {"2.label": "1"}, {"how": "min"}, {"how": "mean-minus-std"}, {"shift": "1,0"},
                {"shift": "0,1"}, {"scale": "2,1"}, {"how": "mean-minus-std", "k": "2"},
                {"2.max_length": "64"}]  # fmt: skip
    seen = {fingerprint(spec, base | more) for more in ({}, *variants)}
    (two / "tekken.json").write_text("{}")
    seen.add(fingerprint(spec, base))
    assert len(seen) == 2 + len(variants)


def test_the_package_s_own_models_count(tmp_path: Path) -> None:
    tiny, linear = tmp_path / "tiny", tmp_path / "linear.npz"
    shutil.copytree(TINY_FOLDER, tiny)
    before = pin_of(find_checkpoint("builtin:tiny", None), CPU).weights
    assert pin_of(find_checkpoint(str(tiny), None), CPU).weights == before
    flipped(tiny / "model.safetensors")
    assert pin_of(find_checkpoint(str(tiny), None), CPU).weights != before
    shutil.copy(LINEAR_FILE, linear)
    model = LinearReward(linear)
    own = model.fingerprint()
    assert own == LinearReward(LINEAR_FILE).fingerprint()
    longer(linear)  # a zip archive may have more behind it
    assert model.fingerprint() == own != LinearReward(linear).fingerprint()
