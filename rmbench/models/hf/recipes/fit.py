"""A recipe and its head while a classifier is loaded: chosen before its weights, put in place after."""

import re
from dataclasses import dataclass, field
from typing import Any

from rmbench.errors import ConfigError
from rmbench.models.hf.checkpoint import Checkpoint, architectures
from rmbench.models.hf.device import torch, transformers
from rmbench.models.hf.identity import Pin
from rmbench.models.hf.recipes.choose import OPTIONS, Asked, choose_recipe, fitting
from rmbench.models.hf.recipes.heads import MadeHead, make_head, unread_heads
from rmbench.models.hf.recipes.pairs import refuse_pair_head
from rmbench.models.hf.recipes.recipe import Recipe, Seen, look_at
from rmbench.models.hf.recipes.tensors import head_tensors, tensors_of, told
from rmbench.models.runtime import Runtime


@dataclass(slots=True)
class Fit:
    """A recipe and its head, while a classifier is loaded."""

    checkpoint: Checkpoint
    runtime: Runtime
    asked: Asked
    fresh_head: int | None
    rates_steps: bool = False
    """Whether it is for `process:`."""
    recipe: Recipe | None = None
    why: str = ""
    head: MadeHead | None = None
    seen: Seen | None = None
    unread: str = ""
    remarks: list[str] = field(default_factory=list)
    own_code: bool = False
    """Whether its class's own forward pass is read: the recipe then only says how the text is written."""

    def check_rates_texts(self, config: Any) -> None:
        """Refuse a classifier of tokens, whose head a sequence classifier would take without its bias."""
        found = [name for name in architectures(config) if name.endswith("ForTokenClassification")]
        if found and self.asked.is_auto and not self.own_code:
            where = self.checkpoint.location
            raise ConfigError(
                f"{where}: {found[0]} rates the tokens of a reply, or its steps, as process reward models do;"
                f" load it with process:{where}"
            )

    def has_other_head(self, pin: Pin) -> bool:
        """Say whether a head that no classifier has is in the files, or is named by the user."""
        if self.asked.head is not None or self.asked.recipe not in ("auto", "none"):
            return True
        return not set(head_tensors(tensors_of(pin, self.runtime))) <= {"score.weight", "score.bias"}

    def prepare(self, pin: Pin, config: Any, tokenizer: Any) -> dict[str, Any]:
        """Choose the recipe, make its head, and return arguments of `from_pretrained`."""
        where = self.checkpoint.location
        self.seen = seen = look_at(pin, self.runtime, config, tokenizer)
        refuse_pair_head(seen)
        if self.fresh_head is not None:
            if heads := head_tensors(seen.tensors):
                raise ConfigError(
                    f"{where}: option 'fresh_head': the checkpoint has a head of its own:"
                    f" {told(seen.tensors, heads)}"
                )
            if given := self.asked.given:
                raise ConfigError(
                    f"{where}: option 'fresh_head' draws a plain head, read at the last token; leave out"
                    f" {given}"
                )
            return {}
        self.recipe, self.why = choose_recipe(self.asked, lambda: seen, rates_steps=self.rates_steps)
        if not self.own_code and (self.recipe is None or self.recipe.name == OPTIONS):
            self._check_class()
        if self.recipe is None or self.own_code:
            return {}
        self.head = make_head(self.recipe, seen)
        if self.head is not None:
            config.num_labels = 1 if self.head.gate is not None else self.head.n_labels
        if not self.recipe.body:
            return {}
        known: Any = transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
        prefix = known[type(config)].base_model_prefix
        return {"key_mapping": {f"^{re.escape(self.recipe.body)}": f"{prefix}."}}

    def _check_class(self) -> None:
        """Refuse a class of the checkpoint's own, unless its code runs or the user says how it is read.

        A class that transformers does not have, and whose code is nowhere, is a remark.
        """
        if self.asked.recipe != "auto" or self.asked.read_at is not None or self.seen is None:
            return
        task = "Token" if self.rates_steps else "Sequence"
        config, auto = self.seen.config, f"AutoModelFor{task}Classification"
        remote = {key: code for key, code in (getattr(config, "auto_map", None) or {}).items() if code}
        saved = architectures(config)
        unknown = [name for name in saved if not hasattr(transformers, name)]
        is_run = self.runtime.trust_remote_code and auto in remote
        classes = {key: str(remote[key]).rpartition(".")[2] for key in (auto, "AutoModel") if key in remote}
        of_its_own = [key for key, name in classes.items() if name in saved or (unknown or not saved)]
        if of_its_own and not is_run:
            raise ConfigError(
                f"{self.checkpoint.location}: its config.json names a class of its own"
                f" ({remote[of_its_own[0]]}), whose code was not run, and no recipe fits its files; where"
                " that class reads its reward is unknown. If it is its score at the last token, pass"
                " -M recipe=none; else read the code, then pass --trust-remote-code -M forward=own (on the"
                " Hub with org/name@<40-hex commit>)"
            )
        if unknown and not is_run and not self.rates_steps:
            self.remarks.append(
                f"its config names the class {unknown[0]}, which transformers does not have: a plain"
                " classifier is read in its place"
            )

    def not_seen(self, names: list[str]) -> list[str]:
        """Return the names of tensors that no recipe looked at: those with no name of a head."""
        seen = set() if self.seen is None else set(head_tensors(self.seen.tensors))
        read = frozenset[str]() if self.head is None else self.head.used
        return [name for name in names if name not in seen | read]

    def lacks_head(self, missing: list[str]) -> str:
        """Say why a classifier has no head where the files have another; empty where they have none."""
        if not missing or not self.unread:
            return ""
        return (
            f"{self.checkpoint.location}: no {missing[0]}; its files have {self.unread}, which was not asked"
            f" for; leave out {self.asked.given}, or pass -M recipe= with one that reads it"
        )

    def other_shape(self, name: str, config: Any) -> str:
        """Say what is known of a head whose shape the config does not have."""
        where, found = self.checkpoint.location, None if self.seen is None else self.seen.tensors.get(name)
        if found is None or name != "score.weight":
            return f"{where}: {name!r} has another shape than its config says"
        n = found.shape[0]
        also = ", or pass -M recipe=openrlhf if OpenRLHF trained it" if n == 1 else ""
        return (
            f"{where}: {name} is {found.shape}, and num_labels is {config.num_labels} in its config (2 if it"
            f" says nothing); set num_labels to {n} in config.json{also}"
        )

    def attach(self, model: Any) -> None:
        """Put the head in place of the classifier's own; refuse heads that nothing reads."""
        if self.seen is None or self.fresh_head is not None or self.own_code:
            return
        needs_score = self.recipe is not None and (self.head is not None or not self.rates_steps)
        if needs_score and self.recipe and not isinstance(getattr(model, "score", None), torch.nn.Module):
            raise ConfigError(
                f"{self.checkpoint.location}: {type(model).__name__} is no decoder with a 'score' head; the"
                f" recipe {self.recipe.name} reads decoders"
            )
        used = _own_head(model) if self.head is None else self.head.used
        unread = unread_heads(self.seen, used)
        self.unread = told(self.seen.tensors, unread) if unread else ""
        if unread and self.asked.is_auto:
            raise ConfigError(_unread(self.seen, unread, self.recipe, self.rates_steps))
        if self.head is not None:
            model.score = self.head.module


def _own_head(model: Any) -> frozenset[str]:
    """Return the tensors that a classifier's own `score` takes: most classes have no place for a bias."""
    has_bias = getattr(getattr(model, "score", None), "bias", None) is not None
    return frozenset({"score.weight", *["score.bias"] * has_bias})


def _unread(seen: Seen, unread: list[str], recipe: Recipe | None, rates_steps: bool) -> str:
    """Say which head tensors nothing reads, and which recipe would."""
    fit = [each for each in fitting(seen) if each != recipe and _reads(each, seen, unread)]
    fit = [each for each in fit if each.match.fits(seen)] or fit
    found = [each.name for each in fit if (each.steps is not None) == rates_steps]
    read = f"the recipe {' or '.join(found)} reads such" if found else "no recipe reads such"
    advice = f"pass -M recipe={found[0]}" if found else "pass -M recipe=FILE.yaml"
    by = "" if recipe is None else f" that the recipe {recipe.name} does not read"
    if not rates_steps and (steps := seen.step_classes):
        read = f"{steps[0]} rates steps, which hf: does not read"
        advice = f"load it with process:{seen.where}, with a recipe of your own where none fits"
    elif not rates_steps and "score.weight" in unread:
        read, advice = "score is a plain classifier's", "pass -M recipe=none to read it at the last token"
    elif rates_steps and (whole := [each.name for each in fit if each.steps is None]):
        read += f" for steps; {whole[0]} reads such as one reward of a whole reply, with hf:{seen.where}"
    return (
        f"{seen.where}: its files have a head{by}: {told(seen.tensors, unread)}; {read}; {advice}"
        " (`rmbench models recipes` lists them), or write a small adapter (file.py:Class)"
    )


def _reads(recipe: Recipe, seen: Seen, unread: list[str]) -> bool:
    """Say whether a recipe's head can be made of the files, and takes all that is not read."""
    try:
        head = make_head(recipe, seen)
    except ConfigError:
        return False
    return head is not None and head.used >= set(unread)
