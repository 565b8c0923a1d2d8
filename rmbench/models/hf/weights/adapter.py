"""PEFT adapters: the base that one belongs to, and its weights merged into that base in memory.

An adapter is a folder, or a Hub repository, with `adapter_config.json` and no weights of a whole model. Its
base is the folder or Hub id of `base_model_name_or_path`, unless `-M base=` names another. The adapter is
merged, so everything after the load sees an ordinary model.

Adapter files beside the weights of a whole model are leftovers of a merge. The weights are read as they are.
"""

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError, first_line
from rmbench.models.hf.checkpoint import VALUE_HEADS, Checkpoint, file_of, find_checkpoint
from rmbench.models.hf.weights.tensors import TensorFile, files_of, tensors_of
from rmbench.models.runtime import Runtime

CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX = "base_model.model."
"""peft writes it before the name of each weight."""
_TUNED = re.compile(r"\.(lora|ia3|hada|lokr|oft|boft|vera|randlora|fourierft|c3a|hra|shira|bone|miss)_")
"""In names of the weights that an adapter adds; names without it are weights of the model itself."""
_HEADS = ("score", "classifier")
_TASKS = {"SEQ_CLS": "SequenceClassification", "TOKEN_CLS": "TokenClassification", "CAUSAL_LM": "CausalLM"}
_READ_BY = {"SEQ_CLS": "hf:", "TOKEN_CLS": "process:", "CAUSAL_LM": "dpo:"}
_HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A PEFT adapter and its base, before either is loaded."""

    place: Checkpoint
    base: Checkpoint
    config: Path
    """Its adapter_config.json: in the folder, or in the local cache of the Hub."""
    weights: Path
    """Its adapter_model.safetensors or .bin."""
    value_head: Path | None = None
    """The head that LLaMA-Factory writes beside it."""

    @property
    def where(self) -> str:
        """Its place, for messages."""
        return self.place.location

    def changes(self, auto: type, *, has_other_head: bool = False) -> dict[str, Any]:
        """Return what of the base's config it changes: labels, and the class that it was trained as.

        Args:
            auto: The class of transformers that makes the model, such as AutoModelForCausalLM.
            has_other_head: Whether its base has a head on a language model, or the user names one.

        Raises:
            ConfigError: If it was trained for another kind of model.
        """
        task, head = str(_config(self.config).get("task_type")), self._head_rows()
        wanted = next((t for t, kind in _TASKS.items() if auto.__name__.endswith(kind)), None)
        is_other = task in _TASKS and task != wanted
        # A reward model trained under another task_type is known by its head.
        has_head = has_other_head or (
            wanted == "SEQ_CLS" and (head is not None or self.value_head is not None)
        )
        if is_other and not (task == "CAUSAL_LM" and has_head):
            raise ConfigError(
                f"{self.where}: an adapter for {task} ({CONFIG}); expected {wanted}. Load it with"
                f" {_READ_BY[task]}"
            )
        if wanted == "CAUSAL_LM":
            return {}
        labels = {} if head is None else {"num_labels": head}
        return labels | ({"task": task} if task == wanted == "TOKEN_CLS" else {})

    def _head_rows(self) -> int | None:
        """Return the labels of the head that it brings; None if it brings none."""
        with TensorFile(self.weights) as file:
            for name in map(plain_name, file.names):
                parts = name.split(".")
                if parts[0] in _HEADS and parts[1:] in (["weight"], ["out_proj", "weight"]):
                    return int(file.shape(_PREFIX + name)[0])
        return None


def find_adapter(checkpoint: Checkpoint, runtime: Runtime) -> Adapter | None:
    """Return the adapter that a checkpoint is; None for an ordinary one.

    Raises:
        ConfigError: If it is one and its weights, its base or peft are missing, or its base is an adapter
            too; if `-M base=` is given for an ordinary checkpoint.
    """
    where = checkpoint.location
    config = None if checkpoint.gguf_file is not None else file_of(checkpoint, CONFIG, runtime)
    if config is None or not (checkpoint.base is not None or is_adapter(checkpoint, runtime)):
        if checkpoint.base is not None:
            raise ConfigError(f"{where}: option 'base' is for adapters; there is no {CONFIG}")
        return None
    weights = next((p for name in _WEIGHTS if (p := file_of(checkpoint, name, runtime)) is not None), None)
    if weights is None:
        raise ConfigError(
            f"{where}: {CONFIG} without weights; expected {_WEIGHTS[0]} or {_WEIGHTS[1]} beside it"
        )
    if find_spec("peft") is None:
        raise ConfigError(f"{where}: an adapter ({CONFIG}), which peft reads: pip install 'rmbench[train]'")
    base = _base(checkpoint, _config(config))
    if base.is_folder and is_adapter(base, runtime):
        raise ConfigError(
            f"{where}: its base {base.location} is an adapter too; merge that one with its own base first"
            " (peft's merge_and_unload and save_pretrained), then pass -M base=FOLDER"
        )
    beside = (file_of(checkpoint, name, runtime) for name in VALUE_HEADS)
    return Adapter(checkpoint, base, config, weights, next((p for p in beside if p is not None), None))


def is_adapter(checkpoint: Checkpoint, runtime: Runtime) -> bool:
    """Say whether a checkpoint is an adapter alone, without the weights of a whole model."""
    return file_of(checkpoint, CONFIG, runtime) is not None and not files_of(checkpoint, runtime)


def _config(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {first_line(error)}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: expected a JSON object")
    return found


def _base(adapter: Checkpoint, config: Mapping[str, Any]) -> Checkpoint:
    """Return the base that an adapter names, or that `-M base=` does."""
    if adapter.base is not None:
        return find_checkpoint(adapter.base, None)
    where, name, say = adapter.location, config.get("base_model_name_or_path"), "pass -M base=FOLDER"
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where}: {CONFIG} names no base_model_name_or_path; {say}")
    folders = _base_folders(adapter, name)
    if len(folders) > 1:
        told = " and ".join(str(f) for f in folders)
        raise ConfigError(f"{where}: its base {name!r} may be {told}; choose one: {say}")
    if folders:
        return find_checkpoint(str(folders[0]), None)
    if not _HUB_ID.fullmatch(name):
        raise ConfigError(f"{where}: its base {name!r} (base_model_name_or_path) is not here; {say}")
    revision = config.get("revision")
    return Checkpoint(name, revision if isinstance(revision, str) and revision else None, is_folder=False)


def _base_folders(adapter: Checkpoint, name: str) -> list[Path]:
    """Return the folders that the name of a base may mean: relative to the adapter, or to here."""
    places = [Path(name).expanduser()]
    if adapter.is_folder:
        places.insert(0, Path(adapter.location) / name)
    found = {path.resolve(): path for path in reversed(places) if path.is_dir()}
    return list(found.values())


def plain_name(name: str) -> str:
    """Return the name that a weight of an adapter's file has in the base."""
    return name.removeprefix(_PREFIX)


def whole_names(names: Iterable[str]) -> dict[str, str]:
    """Return name in the adapter's file -> name in the base, of the weights that an adapter brings whole."""
    return {name: plain_name(name) for name in names if not _TUNED.search(name)}


def merge(adapter: Adapter, model: Any) -> tuple[Any, set[str]]:
    """Return the base with an adapter merged into it, and the names of whole weights that the adapter brings.

    Args:
        adapter: The adapter.
        model: Its base, on the CPU; it is changed.

    Raises:
        ConfigError: If the adapter does not fit the base, or peft cannot merge it.
    """
    import peft

    tensors = tensors_of(adapter.weights)
    whole = set(whole_names(tensors).values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names and shapes are compared here
        try:
            config = peft.PeftConfig.from_pretrained(str(adapter.config.parent))
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(
                f"{adapter.where}: {CONFIG} cannot be read by this peft: {first_line(error)}"
            ) from None
        if config.is_prompt_learning:
            raise ConfigError(
                f"{adapter.where}: an adapter of kind {config.peft_type}, which adds made-up tokens to each"
                " text and cannot be merged; expected LoRA or a like kind"
            )
        if getattr(config, "megatron_config", None):  # peft would import a module that the config names
            raise ConfigError(f"{adapter.where}: an adapter of Megatron ({CONFIG}), which is not supported")
        _resize(model, tensors)
        config.inference_mode = True
        if config.task_type == "CAUSAL_LM" and not hasattr(model, "prepare_inputs_for_generation"):
            config.task_type = None  # a classifier's all the same: `Adapter.changes`
        try:
            adapted = peft.get_peft_model(model, config)
        except ValueError as error:
            raise ConfigError(f"{_other(adapter, first_line(error))}") from None
        _check_fit(adapter, adapted, tensors)
        peft.set_peft_model_state_dict(adapted, tensors)
        try:
            return adapted.merge_and_unload(safe_merge=True), whole
        except (AttributeError, NotImplementedError, ValueError) as error:
            raise ConfigError(f"{adapter.where}: it cannot be merged: {first_line(error)}") from None


def _resize(model: Any, tensors: Mapping[str, Any]) -> None:
    """Give a base as many token embeddings as an adapter that saved its own brings."""
    own = model.get_input_embeddings().weight
    name = next(name for name, weight in model.named_parameters() if weight is own)
    saved = tensors.get(_PREFIX + name)
    if saved is not None and saved.dim() == 2 and saved.shape[0] != own.shape[0]:
        model.resize_token_embeddings(int(saved.shape[0]), mean_resizing=False)


def _check_fit(adapter: Adapter, adapted: Any, tensors: Mapping[str, Any]) -> None:
    """Refuse an adapter whose weights are not those that its config and its base ask for."""
    import peft

    expected = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    own = adapted.state_dict()
    if missing := sorted(set(expected) - set(tensors)):
        more = f"{len(missing)} weights that {CONFIG} asks for are not in {adapter.weights.name}"
        raise ConfigError(_other(adapter, f"{more}, first {plain_name(missing[0])!r}"))
    foreign = sorted(name for name in tensors if name not in expected and name not in own)
    if foreign:
        more = f"{len(foreign)} of its weights have no place there"
        raise ConfigError(_other(adapter, f"{more}, first {plain_name(foreign[0])!r}"))
    for name, tensor in sorted(tensors.items()):
        shape = (expected[name] if name in expected else own[name]).shape
        if tensor.shape != shape:
            told = f"{plain_name(name)!r} is {tuple(tensor.shape)}; expected {tuple(shape)}"
            raise ConfigError(_other(adapter, told))


def _other(adapter: Adapter, why: str) -> str:
    return (
        f"{adapter.where}: an adapter for another base than {adapter.base.location}: {why}; pass the base"
        " that it was trained on: -M base=FOLDER"
    )


def leftover(checkpoint: Checkpoint, runtime: Runtime) -> str | None:
    """Return a remark on adapter files beside whole weights, which are not applied again; None without.

    Raises:
        ConfigError: If the adapter was not merged into the weights, or that cannot be known.
    """
    if checkpoint.gguf_file is not None:
        return None
    config = file_of(checkpoint, CONFIG, runtime)
    files = files_of(checkpoint, runtime)
    weights = next((p for name in _WEIGHTS if (p := file_of(checkpoint, name, runtime)) is not None), None)
    if config is None or weights is None or not files:
        return None
    where = checkpoint.location
    say = f"To apply it, pass -M base={where}; to read the weights alone, move the adapter's files away"
    lies = f"{where}: an adapter ({CONFIG}) lies beside whole weights"
    if told := _saved_differ(weights, files):
        if told[1]:
            raise ConfigError(f"{lies} and is not merged into them: {told[0]} of both differ. {say}")
        return (
            f"the adapter beside the weights is merged already ({told[0]} of both is the same); it is not"
            " applied again"
        )
    bases = _base_folders(checkpoint, str(_config(config).get("base_model_name_or_path") or ""))
    for base in bases:
        if base.resolve() == Path(where).resolve():
            raise ConfigError(f"{lies}, and whether it is merged into them is unknown. {say}")
        name = _same_as_base(weights, files, base, runtime)
        if name is not None:
            raise ConfigError(f"{lies} and is not merged into them: {name} is that of its base {base}. {say}")
    return f"an adapter ({CONFIG}) lies beside whole weights; it is taken as merged and not applied" + (
        " (they differ from its base)" if bases else " (its base is not here to compare)"
    )


def _saved_differ(weights: Path, files: Mapping[str, Path]) -> tuple[str, bool] | None:
    """Compare a weight that an adapter brings whole with that of the model; None if there is none.

    Returns:
        (its name, whether the two differ by more than rounding to a shorter dtype); one that differs comes
        before all that do not.
    """
    found = None
    with TensorFile(weights) as adapter:
        for name in adapter.names:
            plain = plain_name(name)
            if _TUNED.search(name) or plain not in files:
                continue
            with TensorFile(files[plain]) as model:
                if not _is_same(adapter.tensor(name), model.tensor(plain)):
                    return plain, True
            found = found or (plain, False)
    return found


def _is_same(one: Any, other: Any) -> bool:
    if one.shape != other.shape:
        return False
    return bool(one.float().allclose(other.float(), rtol=2**-7, atol=1e-8))


def _same_as_base(weights: Path, files: Mapping[str, Path], base: Path, runtime: Runtime) -> str | None:
    """Return the name of an adapted weight that is the base's own; None where all that are in both differ."""
    of_base = files_of(Checkpoint(str(base), None, is_folder=True), runtime)
    with TensorFile(weights) as adapter:
        names = sorted(set(_adapted(adapter.names)))
    for name in names:
        if name in files and name in of_base:
            with TensorFile(files[name]) as model, TensorFile(of_base[name]) as other:
                one, two = model.tensor(name), other.tensor(name)
                if one.shape == two.shape and bool((one.float() == two.float()).all()):
                    return name
    return None


def _adapted(names: Sequence[str]) -> Iterator[str]:
    """Yield the names, in the base, of the weights that an adapter changes."""
    for name in map(plain_name, names):
        if found := _TUNED.search(name):
            yield name[: found.start()] + ".weight"
