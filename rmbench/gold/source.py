"""Gold that replaces the data's gold: another reward model's scores, or a verifier's verdicts.

`--gold` takes the forms of `--model`, or `verifier:NAME`. The source of the gold is part of the run's
identity, and the gold is part of the data's hash. So numbers against different gold are never mixed up.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

from rmbench.core.address import without_secrets
from rmbench.core.files import digest, sha256_file
from rmbench.core.schema import typed_options
from rmbench.errors import ConfigError, RmbenchError, ScoringError
from rmbench.gold.verifier import GoldVerifier, Verdict, find_verifier
from rmbench.models.messages import text_alone
from rmbench.models.resolve import LoadedModel, check_spec, fingerprint_of, load_model
from rmbench.models.runtime import Runtime
from rmbench.results.record import SELF_GOLD
from rmbench.scoring import Executor, Progress, Scoring, open_stores, score_items
from rmbench.tasks import ItemShelf, hash_items
from rmbench.types import LARGEST_GOLD, Item

_VERIFIER = "verifier:"


@dataclass(frozen=True, slots=True)
class VerifierGold:
    """A verifier that gives the gold."""

    verifier: GoldVerifier
    identity: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Gold:
    """Source of the gold of a run's items."""

    identity: Mapping[str, Any]
    """`spec`, `kind`, `gold_kind`; the model's fingerprint, or the verifier's name, version and options."""
    data_hash: str
    """Hash of the items with this gold."""
    counts: Mapping[str, int]
    """Reason for unknown gold, or for 0 without an answer -> number of responses."""
    n_computed: int
    """Number of texts that a gold model scored."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Facts about how a verifier ran that change no verdict."""

    def identity_for(self, model: Mapping[str, str], *, self_gold: bool) -> dict[str, Any]:
        """Return the gold's part of the identity of a run of the model with this fingerprint.

        Raises:
            ConfigError: If the model is the gold model itself and `self_gold` is not set.
        """
        if self.identity.get("model") != model:
            return dict(self.identity)
        if not self_gold:
            raise self_gold_error(str(self.identity["spec"]))
        return {**self.identity, "relation": SELF_GOLD}


def self_gold_error(spec: str) -> ConfigError:
    """Return the error for a model that would be measured against its own scores."""
    return ConfigError(
        f"--gold {without_secrets(spec)}: it is the model that is evaluated, and its scores say nothing about"
        " themselves; give another gold, or --self-gold to have it anyway and the record say so"
    )


def check_gold(spec: str, options: Mapping[str, str]) -> None:
    """Raise as `load_gold` would for an unknown name or option of a verifier; no model is loaded."""
    if spec.startswith(_VERIFIER):
        _verifier(spec, options)
        return
    try:
        check_spec(spec)
    except ConfigError as error:
        raise ConfigError(f"--gold {without_secrets(spec)}: {error}") from None


def load_gold(spec: str, options: Mapping[str, str], runtime: Runtime) -> LoadedModel | VerifierGold:
    """Return the source that `--gold` names: `verifier:NAME`, else a model by the rules of `--model`.

    Raises:
        UnknownNameError: If the name or an option is unknown.
        ConfigError: If the verifier or model cannot be made.
    """
    if spec.startswith(_VERIFIER):
        return _verifier(spec, options)
    return load_model(spec, options, runtime)


def gold_of_model(
    loaded: LoadedModel,
    items: ItemShelf,
    store: Path,
    *,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    executor: Executor[Any] | None = None,
    fresh: str = "",
    tell: Callable[[str], None] | None = None,
) -> tuple[ItemShelf, Gold]:
    """Return `items` with the scores of a model as graded gold; stored scores are not computed again.

    Args:
        loaded: The gold model.
        items: Items without gold, or with another one.
        store: Folder of the score stores.
        batch_tokens: Most tokens of a batch; None for the model's own budget.
        progress: Gets the progress.
        executor: Answers in place of this process, with the same model.
        fresh: Name of a run that asks for all of it again; empty: stored scores are reused.
        tell: Gets a line each about stored scores that were damaged, or that other library versions made.

    Raises:
        ScoringError: If the model breaks its contract.
    """
    fingerprint = fingerprint_of(loaded)
    with open_stores(store, loaded.model, fingerprint, fresh=fresh, tell=tell) as scores:
        scoring = score_items(
            loaded.model,
            items,
            scores,
            batch_tokens=batch_tokens,
            progress=progress,
            executor=executor,
            schedule=loaded.schedule,
        )
    n_unexplained = scoring.n_invalid - sum(scoring.unanswered.values())
    counts = {"unknown: its reward is not finite": n_unexplained, "text cut to fit": scoring.n_truncated}
    counts |= {f"unknown: {why}": n for why, n in scoring.unanswered.items()}
    identity = {
        "spec": without_secrets(loaded.spec),
        "kind": "model",
        "gold_kind": "graded",
        "model": fingerprint,
        **loaded.schedule.identity(),
    }
    return _with_gold(
        _scored(items, scoring), identity, {k: n for k, n in counts.items() if n}, scoring.n_computed
    )


def gold_of_verifier(source: VerifierGold, items: ItemShelf) -> tuple[ItemShelf, Gold]:
    """Return `items` with the verdicts of a verifier as gold.

    Raises:
        ConfigError: If an item lacks what the verifier needs.
        ScoringError: If the verifier raises, or returns something other than a finite number or None.
    """
    counts: Counter[str] = Counter()
    shelf, gold = _with_gold(_verified(items, source, counts), source.identity, counts, 0)
    told = getattr(source.verifier, "provenance", None)
    return shelf, gold if told is None else replace(gold, provenance=told())


def describe_gold(identity: Mapping[str, Any]) -> str:
    """Return a text on the gold of a run's identity, for tables; empty for the data's own gold."""
    gold = identity.get("gold")
    if not gold:
        return ""
    if gold["kind"] == "verifier":
        options = ", ".join(f"{k} {v}" for k, v in gold["options"].items())
        return f"{gold['spec']} (version {gold['version']}{', ' if options else ''}{options})"
    return f"the scores of {gold['spec']} ({digest(gold['model'], 6)})"


def _with_gold(
    items: Iterator[Item], identity: Mapping[str, Any], counts: Mapping[str, int], n_computed: int
) -> tuple[ItemShelf, Gold]:
    shelf = ItemShelf.of(items)
    facts = {key: value for key, value in identity.items() if key != "spec"}
    return shelf, Gold(
        identity, digest(["gold", facts, hash_items(shelf)]), dict(sorted(counts.items())), n_computed
    )


def _scored(items: ItemShelf, scoring: Scoring) -> Iterator[Item]:
    for item, rewards in zip(items, scoring.rewards, strict=True):
        if any(isfinite(v) and abs(v) > LARGEST_GOLD for v in rewards):
            raise ScoringError(f"--gold gave a reward beyond {LARGEST_GOLD:g} for item {item.id!r}")
        responses = tuple(
            replace(r, gold=v if isfinite(v) else None) for r, v in zip(item.responses, rewards, strict=True)
        )
        yield replace(item, responses=responses, gold_kind="graded")


def _verified(items: ItemShelf, source: VerifierGold, counts: Counter[str]) -> Iterator[Item]:
    kind = source.verifier.gold_kind
    for item in items:
        responses = []
        for response in item.responses:
            text_alone([response.turn], f"a verifier (item {item.id})")
            verdict = _ask(source, item, response.text)
            if verdict.reason or verdict.gold is None:
                reason = verdict.reason or "no reason given"
                counts[reason if verdict.gold is not None else f"unknown: {reason}"] += 1
            responses.append(replace(response, gold=verdict.gold))
        yield replace(item, responses=tuple(responses), gold_kind=kind)


def _ask(source: VerifierGold, item: Item, response: str) -> Verdict:
    where = f"--gold {source.identity['spec']}, item {item.id!r}"
    try:
        verdict = source.verifier.verify(response, item.expected)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except RmbenchError:
        raise
    except Exception as error:
        raise ScoringError(f"{where}: it raised {type(error).__name__}: {error}") from error
    if not isinstance(verdict, Verdict) or (
        verdict.gold is not None and not -LARGEST_GOLD <= verdict.gold <= LARGEST_GOLD
    ):
        raise ScoringError(f"{where}: it returned {verdict!r}; expected a Verdict with a finite gold or None")
    return verdict


def _option(value: Any) -> str:
    """Return an option in the form of the identity: a file is replaced by its content's hash."""
    return f"sha256:{sha256_file(value)}" if isinstance(value, Path) else str(value)


def _verifier(spec: str, options: Mapping[str, str]) -> VerifierGold:
    name = spec.removeprefix(_VERIFIER)
    factory, joins = find_verifier(name)
    where = f"--gold {spec}"
    given = typed_options(factory, options, where)
    try:
        verifier = factory(**given)
    except RmbenchError as error:
        raise ConfigError(f"{where}: {error}") from None
    except Exception as error:
        raise ConfigError(f"{where}: it cannot be made: {type(error).__name__}: {error}") from error
    missing = [a for a in ("verify", "version", "gold_kind") if not hasattr(verifier, a)]
    if missing:
        raise ConfigError(f"{where}: {factory.__name__} is no verifier: it lacks {', '.join(missing)}")
    defaults = {
        k: p.default for k, p in inspect.signature(factory).parameters.items() if p.default is not p.empty
    }
    same = getattr(factory, "same_verdicts", {})
    all_options = {
        key: _option(value)
        for key, value in sorted({**defaults, **given}.items())
        if value not in same.get(key, ())
    }
    identity = {
        "spec": spec, "kind": "verifier", "gold_kind": verifier.gold_kind, "name": name.rpartition(":")[2],
        "version": verifier.version, "options": all_options, **joins,
    }  # fmt: skip
    return VerifierGold(verifier, identity)
