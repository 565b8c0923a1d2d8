"""The identity of a checkpoint: every file that a load reads, at the moment of the load."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_cache import put, use_cache

torch = pytest.importorskip("torch", reason="needs the extra hf")

from rmbench.cli.main import run  # noqa: E402
from rmbench.core.files import digest, sha256_file  # noqa: E402
from rmbench.errors import ConfigError  # noqa: E402
from rmbench.models.hf import identity, load  # noqa: E402
from rmbench.models.hf.checkpoint import Checkpoint, find_checkpoint  # noqa: E402
from rmbench.models.hf.identity import hashes, pin_of, weights_of  # noqa: E402
from rmbench.models.hf.weights import adapter  # noqa: E402
from rmbench.models.resolve import load_model  # noqa: E402
from rmbench.models.runtime import Runtime  # noqa: E402
from rmbench.types import Turn  # noqa: E402

Make = Callable[..., Path]
CPU = Runtime(device="cpu", offline=True)
TALK = [Turn(role="user", content="What is the capital?"), Turn(role="assistant", content="Paris.")]


def weights(folder: Path, gguf_file: str | None = None) -> str:
    return pin_of(find_checkpoint(str(folder), gguf_file), CPU).weights


def reward(folder: Path, **options: str) -> float:
    model: Any = load_model(str(folder), options, CPU).model
    return float(model.score([TALK])[0].reward)


def test_files_that_were_always_hashed_keep_their_hash(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    for name in ("README.md", "training_prompts.npz", "rmbench.json", "optimizer.pt"):
        (folder / name).write_text("x")
    (folder / "checkpoint-3").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "checkpoint-3")
    read = (
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    )
    assert weights(folder) == f"sha256:{digest([[name, sha256_file(folder / name)] for name in read])}"


def in_shards(folder: Path, place: str) -> Path:
    """Move the weights into a shard at `place`, which an index names."""
    from safetensors.torch import load_file

    names = list(load_file(folder / "model.safetensors"))
    shard = folder / place
    shard.parent.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").rename(shard)
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, place)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return shard


@pytest.mark.parametrize("place", ["shards/a.safetensors", ".hidden/a.safetensors", ".cache/a.safetensors",
                                   "checkpoint-1/a.safetensors", "runs/a.safetensors", "../elsewhere/a.safetensors"])  # fmt: skip
def test_a_shard_counts_wherever_the_index_says_that_it_is(make_checkpoint: Make, place: str) -> None:
    folder = make_checkpoint()
    alone = reward(folder)
    shard = in_shards(folder, place)
    assert reward(folder) == alone
    before = weights(folder)
    shutil.copy(make_checkpoint(seed=5, folder="other") / "model.safetensors", shard)
    assert reward(folder) != alone
    assert weights(folder) != before


def test_the_index_counts(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    in_shards(folder, "a.safetensors")
    before = weights(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace('"total_size": 1', '"total_size": 2'))
    assert weights(folder) != before


def test_a_tokenizer_file_of_another_version_counts_wherever_it_is(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    alone = reward(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for name in ("tokenizer.4.0.0.json", ".cache/tokenizer.4.0.0.json", "../tokenizer.4.0.0.json"):
        (folder / "tokenizer_config.json").write_text(json.dumps(config | {"fast_tokenizer_files": [name]}))
        (folder / name).parent.mkdir(exist_ok=True)
        told = json.loads((folder / "tokenizer.json").read_text())
        (folder / name).write_text(json.dumps(told))
        assert reward(folder) == alone
        before = weights(folder)
        told["post_processor"] = None
        (folder / name).write_text(json.dumps(told))
        assert weights(folder) != before, name


def test_a_folder_of_links_is_the_folder_of_their_files(make_checkpoint: Make, tmp_path: Path) -> None:
    folder = make_checkpoint()
    (folder / "more").mkdir()
    (folder / "more" / "own.py").write_text("x = 1\n")
    blobs, linked = tmp_path / "blobs", tmp_path / "linked"
    shutil.copytree(folder, blobs)
    linked.mkdir()
    for path in blobs.iterdir():
        (linked / path.name).symlink_to(path)
    assert weights(linked) == weights(folder)
    (blobs / "more" / "own.py").write_text("x = 2\n")
    assert weights(linked) != weights(folder)
    (tmp_path / "link").symlink_to(folder)
    assert weights(tmp_path / "link") == weights(folder)


def broken(folder: Path) -> None:
    (folder / "extra.bin").symlink_to(folder / "gone")


def ring(folder: Path) -> None:
    (folder / "a.bin").symlink_to(folder / "b.bin")
    (folder / "b.bin").symlink_to(folder / "a.bin")


def loop(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "again").symlink_to(folder)


def above(folder: Path) -> None:
    (folder / "up").symlink_to("/")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "vocab.bpe")


@pytest.mark.parametrize(
    ("do", "said"),
    [(broken, "extra.bin: a link that leads nowhere"), (ring, "a.bin: a link that leads nowhere"),
     (loop, "more/again: a link to a folder that it lies in"), (above, "up: a link to a folder that it lies in"),
     (pipe, "vocab.bpe: a pipe, device or socket")],
)  # fmt: skip
def test_a_folder_that_is_no_whole_checkpoint_is_refused(
    make_checkpoint: Make, capsys: pytest.CaptureFixture[str], do: Callable[[Path], None], said: str
) -> None:
    folder = make_checkpoint()
    do(folder)
    capsys.readouterr()
    assert run(["check", "--model", str(folder), "--device", "cpu"]) == 2
    assert f"{folder}/{said}" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    (folder / "vocab.bpe").touch(mode=0)
    with pytest.raises(ConfigError, match=r"vocab\.bpe: cannot be read: Permission denied"):
        weights(folder)


def test_a_file_that_vanishes_while_it_is_hashed_is_named(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoint()

    def gone(path: Path) -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(identity, "sha256_file", gone)
    with pytest.raises(ConfigError, match=r"chat_template\.jinja: cannot be read: No such file"):
        weights(folder)


def test_what_no_load_reads_may_be_broken(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    before = weights(folder)
    (folder / "README.md").symlink_to(folder / "gone")
    (folder / "runs").symlink_to(folder / "gone")
    (folder / ".cache").mkdir()
    os.mkfifo(folder / ".cache" / "pipe")
    assert weights(folder) == before


# --- GGUF ---


def write_gguf(path: Path, folder: Path, seed: int) -> None:
    """Write a language model of two layers; `seed` 0 is the folder's own."""
    gguf = pytest.importorskip("gguf", reason="needs gguf")
    from safetensors.torch import load_file

    config, told = (json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer.json"))
    tokens = sorted(told["model"]["vocab"], key=told["model"]["vocab"].get)
    path.parent.mkdir(exist_ok=True)
    out = gguf.GGUFWriter(str(path), "llama")
    for add, value in (
        (out.add_block_count, config["num_hidden_layers"]), (out.add_context_length, 256),
        (out.add_embedding_length, 32), (out.add_feed_forward_length, 64), (out.add_head_count, 4),
        (out.add_head_count_kv, 2), (out.add_layer_norm_rms_eps, 1e-6), (out.add_vocab_size, 400),
        (out.add_tokenizer_model, "gpt2"), (out.add_token_list, tokens), (out.add_token_types, [1] * len(tokens)),
        (out.add_token_merges, [" ".join(m) for m in told["model"]["merges"]]), (out.add_bos_token_id, 1),
        (out.add_eos_token_id, 2), (out.add_pad_token_id, 0),
    ):  # fmt: skip
        add(value)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    of_layer = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    names |= {f"model.layers.{i}.{a}": f"blk.{i}.{b}" for i in range(2) for a, b in of_layer.items()}
    drawn = torch.Generator().manual_seed(seed)
    for name, tensor in load_file(folder / "model.safetensors").items():
        moved = tensor.float() + 0.1 * seed * torch.randn(tensor.shape, generator=drawn)
        out.add_tensor(f"{names[name.removesuffix('.weight')]}.weight", moved.numpy())
    for step in (out.write_header_to_file, out.write_kv_data_to_file, out.write_tensors_to_file, out.close):
        step()


@pytest.fixture
def quantised(make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with GGUF files at three places; the current folder has another one at one of them."""
    folder = make_checkpoint(task="CausalLM", tie_word_embeddings=False)
    for seed, name in enumerate(("x.gguf", "q/x.gguf", "q/y.bin", "z.bin")):
        write_gguf(folder / name, folder, seed)
    (tmp_path / "here").mkdir()
    write_gguf(tmp_path / "here" / "q" / "x.gguf", folder, 9)
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_the_gguf_file_that_is_named_is_read_and_counts(quantised: Path) -> None:
    files = ("x.gguf", "q/x.gguf", "q/y.bin", "z.bin")
    found = {weights(quantised, name) for name in files}
    assert len(found | {weights(quantised)}) == 5
    read = [reward(quantised, gguf_file=name, fresh_head="0", chat_template="plain") for name in files]
    assert len(set(read)) == 4
    for name in files:
        before = weights(quantised, name)
        write_gguf(quantised / name, quantised, 7)
        assert weights(quantised, name) != before
        # That of the current folder, at the same place, is never read.
        now = reward(quantised, gguf_file=name, fresh_head="0", chat_template="plain")
        assert now not in read
    shutil.rmtree(Path.cwd() / "q")
    assert reward(quantised, gguf_file="q/x.gguf", fresh_head="0", chat_template="plain") == now


def test_other_gguf_files_do_not_count(quantised: Path) -> None:
    before = weights(quantised, "x.gguf")
    write_gguf(quantised / "q" / "x.gguf", quantised, 8)
    assert weights(quantised, "x.gguf") == before
    assert weights(quantised) != before


# --- Adapters ---


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_counts_and_is_never_left_out(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    peft = pytest.importorskip("peft", reason="needs the extra train")
    from transformers import AutoModelForSequenceClassification

    folder = make_checkpoint()
    alone = (reward(folder), weights(folder))
    base = AutoModelForSequenceClassification.from_pretrained(folder)
    adapted = peft.get_peft_model(
        base, peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(folder)
    with pytest.raises(ConfigError, match="whether it is merged into them is unknown"):
        reward(folder)
    on_it = {"base": str(folder)}
    assert reward(folder, **on_it) != alone[0]
    made = load_model(str(folder), on_it, CPU).model.fingerprint()["weights"]
    assert alone[1] not in made
    monkeypatch.setattr(adapter, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"an adapter \(adapter_config\.json\), which peft reads: pip"):
        reward(folder, **on_it)


# --- The Hub ---

COMMIT, OTHER = "a" * 40, "b" * 40


def test_a_branch_is_the_commit_that_it_means(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = use_cache(monkeypatch, tmp_path / "hub")
    folder = make_checkpoint()
    put(cache, "org/rm", COMMIT, folder)
    specs = ["hf:org/rm", "hf:org/rm@main", f"hf:org/rm@{COMMIT}"]
    found = {load_model(spec, {}, CPU).model.fingerprint()["weights"] for spec in specs}
    assert found == {f"org/rm@{COMMIT}"}
    put(cache, "org/rm", OTHER, make_checkpoint(seed=3, folder="new"))
    assert load_model("hf:org/rm", {}, CPU).model.fingerprint()["weights"] == f"org/rm@{OTHER}"
    with pytest.raises(ConfigError, match="org/gone"):
        load_model("hf:org/gone", {}, CPU)


def test_a_branch_that_moves_during_the_load_is_read_at_one_commit(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = use_cache(monkeypatch, tmp_path / "hub")
    folder = make_checkpoint()
    put(cache, "org/rm", COMMIT, folder)
    own = load.load_tokenizer

    def moving(*arguments: Any) -> Any:
        put(cache, "org/rm", OTHER, make_checkpoint(seed=3, folder="new"))
        return own(*arguments)

    monkeypatch.setattr(load, "load_tokenizer", moving)
    model: Any = load_model("hf:org/rm", {}, CPU).model
    monkeypatch.undo()
    assert model.fingerprint()["weights"] == f"org/rm@{COMMIT}"
    assert model.score([TALK])[0].reward == reward(folder)


def test_an_adapter_config_alone_applies_nothing(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = use_cache(monkeypatch, tmp_path / "hub")
    folder = make_checkpoint()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    put(cache, "org/rm", COMMIT, folder)
    model: Any = load_model("hf:org/rm", {}, CPU).model
    assert model.score([TALK])[0].reward == reward(folder)
    (folder / "adapter_config.json").unlink()
    assert model.score([TALK])[0].reward == reward(folder)


def test_the_gguf_file_of_a_repository_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = use_cache(monkeypatch, tmp_path / "hub")
    (tmp_path / "files").mkdir()
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / "files" / name).write_text(name)
    put(cache, "org/rm", COMMIT, tmp_path / "files")
    monkeypatch.chdir(tmp_path)
    found = [pin_of(Checkpoint("org/rm", None, False, name), CPU).weights for name in ("a.gguf", "b.gguf")]
    assert found == [f"org/rm@{COMMIT} gguf a.gguf", f"org/rm@{COMMIT} gguf b.gguf"]
    (tmp_path / "a.gguf").touch()  # transformers would read this one
    with pytest.raises(ConfigError, match=r"^org/rm: there is a file a\.gguf in the current folder"):
        pin_of(Checkpoint("org/rm", None, False, "a.gguf"), CPU)


# --- Changes during a load ---


@pytest.fixture
def changing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return a function: a file of the given path grows when the tokenizer of any checkpoint is read."""

    def prepare(path: Path) -> None:
        own = load.load_tokenizer

        def growing(*arguments: Any) -> Any:
            found = own(*arguments)
            with path.open("a") as file:
                file.write(" ")
            return found

        monkeypatch.setattr(load, "load_tokenizer", growing)
        monkeypatch.setattr("rmbench.models.vllm.engine.load_tokenizer", growing)

    return prepare


@pytest.mark.parametrize("scheme", ["hf", "process", "policy", "ref"])
def test_a_checkpoint_that_changes_while_it_is_loaded_is_refused(
    make_checkpoint: Make,
    changing: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
    scheme: str,
) -> None:
    task = {"hf": "SequenceClassification", "process": "TokenClassification"}.get(scheme, "CausalLM")
    folder, other = (make_checkpoint(task=task, folder=name) for name in ("changed", "other"))
    pair = {"policy": (folder, other), "ref": (other, folder)}.get(scheme)
    spec = f"{scheme}:{folder}" if pair is None else f"dpo:policy={pair[0]},ref={pair[1]}"
    changing(folder / "config.json")
    capsys.readouterr()
    assert run(["check", "--model", spec, "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert f"{folder}: config.json changed while it was being loaded; load it again" in told


def test_a_policy_that_changes_while_it_is_loaded_is_refused(
    make_checkpoint: Make,
    changing: Callable[[Path], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_checkpoint(task="CausalLM")
    (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n')
    changing(folder / "generation_config.json")
    capsys.readouterr()
    arguments = ["sample", "--policy", str(folder), "--prompts", f"{tmp_path}/p.jsonl", "--out"]
    assert run([*arguments, f"{tmp_path}/o.jsonl", "--device", "cpu"]) == 2
    assert f"{folder}: generation_config.json changed while it was being loaded" in capsys.readouterr().err
    assert not (tmp_path / "o.jsonl").exists()


def test_what_vllm_loads_is_compared_with_what_was_there_before(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from rmbench.models.vllm import engine

    folder = make_checkpoint()
    checkpoint = find_checkpoint(str(folder), None)

    class LLM:
        def __init__(self, **options: Any) -> None:
            with (folder / "model.safetensors").open("ab") as file:
                file.write(b" ")
            self.llm_engine = None

    monkeypatch.setattr(engine, "import_vllm", lambda _: (SimpleNamespace(LLM=LLM), torch.device("cpu")))
    read = engine.read_config(checkpoint, CPU)
    with pytest.raises(ConfigError, match=r"model\.safetensors changed while it was being loaded"):
        engine.start_engine(checkpoint, read, CPU, "pooling", engine.EngineOptions())


def test_the_fingerprint_is_of_what_was_loaded_and_not_of_what_is_there_later(make_checkpoint: Make) -> None:
    folder = make_checkpoint()
    before = weights(folder)
    model: Any = load_model(str(folder), {}, CPU).model
    shutil.copy(make_checkpoint(seed=5, folder="other") / "config.json", folder)
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert model.fingerprint()["weights"] == before != weights_of(hashes(find_checkpoint(str(folder), None)))


@pytest.mark.parametrize("tied", [False, True])
def test_a_file_that_is_written_over_later_changes_no_reward(make_checkpoint: Make, tied: bool) -> None:
    folder = make_checkpoint("gpt2", tie_word_embeddings=tied)
    model: Any = load_model(str(folder), {}, CPU).model
    before = model.score([TALK])
    path = folder / "model.safetensors"
    with path.open("r+b") as file:  # in place, as `cp` does it: the pages of a mapped file change too
        file.seek(path.stat().st_size - 60_000)
        file.write(b"\x11" * 60_000)
    assert model.score([TALK]) == before
    changed: Any = load_model(str(folder), {}, CPU).model
    assert changed.score([TALK]) != before


def test_a_base_that_changes_between_its_identity_and_its_load_is_refused(
    make_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rmbench.train.base import identity_of_base, load_base

    folder = make_checkpoint(head=False)
    found, _ = identity_of_base(str(folder), CPU)
    assert load_base(str(folder), 0, None, CPU, found).model is not None
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    with pytest.raises(ConfigError, match="changed since this training began"):
        load_base(str(folder), 0, None, CPU, found)
