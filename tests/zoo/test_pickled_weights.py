"""Weights in pickles: tensors are read, and nothing of theirs runs."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import replicas
from hub_cache import put, use_cache

torch = pytest.importorskip("torch", reason="needs the extra hf")

from rmbench.cli.main import run  # noqa: E402
from rmbench.errors import ConfigError  # noqa: E402
from rmbench.models.resolve import load_model  # noqa: E402
from rmbench.models.runtime import Runtime  # noqa: E402
from rmbench.types import Turn  # noqa: E402

Make = Callable[..., Path]
CPU = Runtime(device="cpu", dtype="float32", offline=True)
TALK = [Turn(role="user", content="What is the capital?"), Turn(role="assistant", content="Paris.")]


def load(spec: str | Path, **options: str) -> Any:
    return load_model(str(spec), options, CPU).model


def reward(spec: str | Path, **options: str) -> float:
    return float(load(spec, **options).score([TALK])[0].reward)


def pickled(folder: Path, *, shards: int = 0, **how: Any) -> Path:
    """Turn a checkpoint's safetensors into pytorch_model.bin, or into shards with an index."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if not shards:
        torch.save(tensors, folder / "pytorch_model.bin", **how)
        return folder
    place = {name: f"pytorch_model-{k % shards}.bin" for k, name in enumerate(sorted(tensors))}
    for shard in set(place.values()):
        torch.save({n: t for n, t in tensors.items() if place[n] == shard}, folder / shard, **how)
    index = {"metadata": {"total_size": 1}, "weight_map": place}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("how", [{}, {"shards": 3}, {"_use_new_zipfile_serialization": False}])
@pytest.mark.parametrize("kind", ["SequenceClassification", "CausalLM", "TokenClassification"])
def test_pickled_tensors_give_the_rewards_of_safetensors(
    make_checkpoint: Make, how: dict[str, Any], kind: str
) -> None:
    folder = make_checkpoint(task=kind, folder="rm")
    spec, options = {
        "SequenceClassification": (str(folder), {}),
        "CausalLM": (f"dpo:policy={folder}", {"reference": "none"}),
        "TokenClassification": (f"process:{folder}", {}),
    }[kind]
    expected = reward(spec, **options)
    pickled(folder, **how)
    assert reward(spec, **options) == expected


@pytest.mark.parametrize("build", [replicas.starling, replicas.ultrarm, replicas.armorm])
@pytest.mark.parametrize("shards", [0, 3])
def test_recipes_read_pickles_too(make_checkpoint: Make, build: Any, shards: int) -> None:
    """Starling and UltraRM are published so."""
    folder = build(make_checkpoint).folder
    before = load(folder)
    expected, told = float(before.score([TALK])[0].reward), before.notes()
    pickled(folder, shards=shards)
    assert reward(folder) == pytest.approx(expected, abs=1e-5)
    assert load(folder).notes() == told
    assert load(folder).fingerprint()["recipe"] == before.fingerprint()["recipe"]


def test_the_identity_is_that_of_the_pickle(make_checkpoint: Make) -> None:
    folder = pickled(make_checkpoint(), shards=2)
    before = load(folder).fingerprint()["weights"]
    shard = folder / "pytorch_model-1.bin"
    tensors = torch.load(shard, weights_only=True)
    tensors["score.weight"] = tensors["score.weight"] * 2 if "score.weight" in tensors else torch.zeros(1)
    torch.save({name: tensor + 1 for name, tensor in tensors.items() if tensor.numel() > 1}, shard)
    assert load(folder).fingerprint()["weights"] != before


def test_safetensors_are_read_where_both_lie(make_checkpoint: Make) -> None:
    folder, other = make_checkpoint(), pickled(make_checkpoint(folder="other", seed=5))
    expected = reward(folder)
    (other / "pytorch_model.bin").rename(folder / "pytorch_model.bin")
    assert reward(folder) == expected


@pytest.mark.parametrize("place", ["alone", "beside", "shard", "legacy", "plain"])
def test_an_attack_does_not_run(make_checkpoint: Make, tmp_path: Path, place: str) -> None:
    made = tmp_path / "attacked"
    folder = pickled(make_checkpoint(), shards=2 if place == "shard" else 0)
    path = folder / ("pytorch_model-1.bin" if place == "shard" else "pytorch_model.bin")
    if place in ("alone", "plain"):
        attack: Any = Attack(made)
    else:
        attack = {**torch.load(path, weights_only=True), "extra": Attack(made)}
    if place == "plain":
        path.write_bytes(pickle.dumps(attack))
    else:
        torch.save(attack, path, _use_new_zipfile_serialization=place != "legacy")
    with pytest.raises(
        ConfigError, match=rf"{path.name}: a damaged pickle, or one of more than tensors"
    ) as told:
        load(folder)
    assert "\n" not in str(told.value)
    assert not made.exists()
    try:  # the attack is a real one
        pickle.loads(path.read_bytes()) if place == "plain" else torch.load(path, weights_only=False)
    finally:
        assert made.exists()


def test_an_attack_in_an_adapter_does_not_run(make_checkpoint: Make, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="needs the extra train")
    from adapter_builders import put_adapter

    made, base = tmp_path / "attacked", make_checkpoint(folder="base")
    folder = put_adapter(base, tmp_path / "adapter")
    (folder / "adapter_model.safetensors").unlink()
    torch.save({"x": Attack(made)}, folder / "adapter_model.bin")
    with pytest.raises(
        ConfigError, match=r"adapter_model\.bin: a damaged pickle, or one of more than tensors"
    ):
        load(folder)
    assert not made.exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"state_dict": {"score.weight": 1}}, "does not hold tensors by name"),
        ([1, 2], "does not hold tensors by name"),
        (b"", "cannot be read"),
        (b"PK\x03\x04 cut", "cannot be read"),
        (b"version https://git-lfs.github.com/spec/v1\n", "damaged pickle|cannot be read"),
    ],
)
def test_files_that_hold_no_tensors_are_refused_in_one_line(
    make_checkpoint: Make, content: Any, told: str
) -> None:
    folder = pickled(make_checkpoint())
    path = folder / "pytorch_model.bin"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ConfigError, match=told) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_an_index_that_is_damaged_or_names_a_file_that_is_gone(make_checkpoint: Make) -> None:
    folder = pickled(make_checkpoint(), shards=2)
    (folder / "pytorch_model-1.bin").unlink()
    with pytest.raises(ConfigError, match=r"pytorch_model-1\.bin: cannot be read"):
        load(folder)
    (folder / "pytorch_model.bin.index.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin\.index\.json: cannot be read"):
        load(folder)


@pytest.mark.parametrize("name", ["model.pt", "rm.pth", "consolidated.00.pth", "model.ckpt", "other.bin"])
def test_other_pickles_are_refused_in_one_line(make_checkpoint: Make, name: str) -> None:
    folder = pickled(make_checkpoint())
    (folder / "pytorch_model.bin").rename(folder / name)
    with pytest.raises(
        ConfigError, match=rf"expected weights as .* or pytorch_model\.bin; found only {name}, a pickle under"
    ):
        load(folder)


def test_pickles_of_the_hub(make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = use_cache(monkeypatch, tmp_path / "hub")
    folder = make_checkpoint()
    expected = reward(folder)
    put(cache, "org/rm", "a" * 40, pickled(folder))
    put(cache, "org/shards", "a" * 40, pickled(make_checkpoint(), shards=2))
    assert reward("hf:org/rm") == expected
    assert reward("hf:org/shards") == expected
    made = tmp_path / "attacked"
    torch.save({"x": Attack(made)}, folder / "pytorch_model.bin")
    put(cache, "org/attack", "a" * 40, folder)
    with pytest.raises(ConfigError, match="one of more than tensors"):
        load("hf:org/attack")
    assert not made.exists()


def test_an_attack_from_the_command_line(
    make_checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, folder = tmp_path / "attacked", pickled(make_checkpoint())
    torch.save({"x": Attack(made)}, folder / "pytorch_model.bin")
    assert run(["check", "-m", str(folder), "--device", "cpu"]) != 0
    assert "could run code, and was not run" in capsys.readouterr().err
    assert not made.exists()
