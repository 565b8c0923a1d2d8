"""PPE: 32 responses per question, right or wrong, and the arena's human preferences.

Correctness has the accuracy on pairs of a right and a wrong response, ROC-AUC, and the best-of-K curve
against the oracle's. Human preference has the accuracy on pairs.

Source: Frick et al. 2024, arXiv 2410.14872, and the authors' post "Preference Proxy Evaluations" of
2024-10-20 on lmarena.ai. Its first table of correctness gives the accuracy per set and the mean of the five,
which is `official` here. The benchmark's own code was not available. Where the paper leaves a choice open, a
public port of it decides: the AUC is over all responses of a set, after each question's rewards are scaled to
[0, 1]; the loss is the squared distance of the two curves, averaged over K. The port's curves are means over
random orders of the responses, with the first of tied rewards picked. The curves here are the exact
expectations: tied responses share the pick. The port takes its largest value and squared distance per order,
so these are larger there by the noise of the orders.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.benchmarks.official import HEADLINE, official_kind, part_name, stratum_of
from rmbench.core.files import prompt_cluster
from rmbench.metrics.best_of_n import Curves, best_of_n_curves, by_cluster, settled
from rmbench.metrics.kinds import Measured, Params
from rmbench.metrics.margins import area_under_roc
from rmbench.metrics.panel import Panel, left_out_items, pairs_of, settle_invalid
from rmbench.metrics.preference import accuracy, correctness
from rmbench.metrics.selection import pools_of
from rmbench.stats import Statistic, combine, mean
from rmbench.stats.clusters import Floats
from rmbench.tasks import fields
from rmbench.tasks.rows import BadRows, FoundItem, Row, items_of, register_reader
from rmbench.types import Item, Response

SETS = ("MMLU-Pro", "MATH", "GPQA", "MBPP-Plus", "IFEval")
MEASURES = ("auc", "max", "end", "loss")
"""Suffixes of the measures besides accuracy, per set (`official_math_auc`) and as means (`official_auc`)."""

CONFLICTS = "conflict_pairs"
"""Stratum with a question's published pairs: places of the right and the wrong response, `3>0 5>1`."""

ENGLISH = "English"
CATEGORIES: Mapping[str, str] = {
    "hard_prompt": "hard",
    "easy_prompt": "easy",
    "if_prompt": "instruction following",
    "math_prompt": "math",
    "is_code": "code",
}
"""Stratum of a human preference, `yes` or `no` -> name of the category."""


def conflict_text(pairs: Iterable[tuple[int, int]]) -> str:
    """Return pairs of places, (right, wrong) each, as text of their stratum."""
    return " ".join(f"{right}>{wrong}" for right, wrong in pairs)


def conflict_credit(panel: Panel) -> Floats:
    """Return for each question the share of its conflict pairs that are in order, ties half, shape (I,).

    The pairs are those that the data set samples (five per question, some twice). A question without them
    gets the mean over all its pairs of a right and a wrong response, the expectation of a sample. NaN if a
    question has no such pair.
    """
    pairs = pairs_of(panel)
    total = np.bincount(pairs.item, correctness(panel, pairs, "half"), minlength=panel.n_items)
    count = np.bincount(pairs.item, minlength=panel.n_items)
    for item, text in enumerate(stratum_of(panel, CONFLICTS)):
        if text:
            places = np.array([pair.split(">") for pair in text.split()], dtype=np.int64)
            rewards = panel.rewards[panel.offsets[item] + places]
            margin = rewards[:, 0] - rewards[:, 1]
            total[item], count[item] = float((margin > 0).sum() + 0.5 * (margin == 0).sum()), len(places)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def on_unit_scale(panel: Panel) -> Floats:
    """Return rewards with each item's lowest at 0 and highest at 1, shape (R,); 0.5 if all are equal.

    They are rounded to twelve places, so that values that differ only by rounding are tied on any scale.
    """
    starts, item = panel.offsets[:-1], panel.item_of_row()
    low = np.minimum.reduceat(panel.rewards, starts)
    spread = np.maximum.reduceat(panel.rewards, starts) - low
    flat = spread[item] == 0
    placed = (panel.rewards - low[item]) / np.where(flat, 1.0, spread[item])
    return np.where(flat, 0.5, np.round(placed, 12))


def curve_loss(curves: Curves, panel: Panel) -> Statistic:
    """Return the mean over K of (f(K) - oracle(K))^2, where f is the mean over questions; 0 is best."""
    gap = settled(curves.oracle - curves.gold)
    size = panel.per_cluster(np.ones(panel.n_items))
    distance = gap.mean(axis=0)
    influence = (by_cluster(panel, gap) - size[:, None] * distance) / panel.n_items
    return Statistic(
        value=float(np.square(distance).mean()),
        influence=(2.0 * distance * influence).mean(axis=1),
        share=size / panel.n_items,
        n=panel.n_items,
        n_clusters=int(np.count_nonzero(size)),
        unit="squared gold",
        higher_is_better=False,
    )


@official_kind("ppe", "auc", "max", "end", "loss", *SETS, "hard", "english")
def measure_ppe(panel: Panel, params: Params) -> Measured:
    """Measure PPE's numbers: correctness on questions with the stratum `set`, else human preference.

    A reward that is not finite is invalid: it stops the run, or `invalid` decides about its item. (PPE counts
    a failed response as minus infinity, so a crash is a low score.)

    Args:
        panel: Correctness: items with the stratum `set`, gold 1 or 0, and `conflict_pairs` if published.
            Human preference: pairs without ties, with the strata of `CATEGORIES` and `language_group`.
        params: Parameters of every kind.

    Returns:
        Correctness: `official` (accuracy, the mean of five sets), `official_auc`, `_max` (largest value of
        the best-of-K curve), `_end` (its value at the largest K), `_loss`; per set, `official_<set>` and
        `official_<set>_<measure>`; the curves under `best_of_k`. Human preference: `official` (accuracy, ties
        half) and one per category.
    """
    rule = params.invalid
    left_out = left_out_items(panel, rule, ranking=True)
    panel, n_invalid = settle_invalid(panel, rule, ranking=True)
    measured = _correctness(panel) if panel.strata.get("set") else _preference(panel)
    measured.counts["invalid_items"] = n_invalid
    return replace(measured, left_out=left_out)


def _correctness(panel: Panel) -> Measured:
    named = np.array([part_name(s) for s in stratum_of(panel, "set")], dtype=object)
    parts = {name: part_name(name) for name in SETS}
    metrics: dict[str, Statistic] = {}
    undefined: dict[str, str] = {}
    table: dict[str, dict[str, Statistic | str]] = {}
    curves: dict[str, Any] = {}
    without = 0
    for name, part in parts.items():
        here = panel.take(named == part)
        credit = conflict_credit(here)
        without += int(np.isnan(credit).sum())
        table[part], drawn = _of_set(here, credit, name)
        if drawn is not None:
            curves[name] = {
                "gold": drawn.gold.mean(axis=0).tolist(),
                "oracle": drawn.oracle.mean(axis=0).tolist(),
            }
    for suffix in ("", *(f"_{measure}" for measure in MEASURES)):
        found = [table[part][suffix] for part in parts.values()]
        reasons = dict.fromkeys(f for f in found if isinstance(f, str))
        if reasons:
            undefined[HEADLINE + suffix] = f"the mean of five sets: {'; '.join(reasons)}"
        else:
            metrics[HEADLINE + suffix] = combine([f for f in found if not isinstance(f, str)])
    for part, row in table.items():
        for suffix, value in row.items():
            if isinstance(value, str):
                undefined[part + suffix] = value
            else:
                metrics[part + suffix] = value
    counts = {
        "items_of_other_sets": int((~np.isin(named, list(parts.values()))).sum()),
        "questions_without_a_conflict": without,
    }
    return Measured(metrics, counts, undefined, {"best_of_k": curves})


def _of_set(panel: Panel, credit: Floats, name: str) -> tuple[dict[str, Statistic | str], Curves | None]:
    """Return accuracy (under the suffix "") and the other measures of one set, and its curves."""
    suffixes = [f"_{measure}" for measure in MEASURES]
    if panel.n_items == 0:
        return dict.fromkeys(["", *suffixes], f"no item of the set {name}"), None
    known = ~np.isnan(credit)
    one_sort = f"no question of the set {name} has a right and a wrong response"
    found: dict[str, Statistic | str] = {"": one_sort}
    if known.any():
        found[""] = mean(credit[known], panel.cluster[known], panel.n_clusters, bounded=True)
    rows = panel.cluster[panel.item_of_row()]
    area = area_under_roc(on_unit_scale(panel), panel.gold, rows, panel.n_clusters)
    found["_auc"] = area or f"the responses of the set {name} are all right, or all wrong"
    size = int(panel.sizes[0])
    if (panel.sizes != size).any():
        return found | dict.fromkeys(suffixes[1:], f"pools of the set {name} differ in size"), None
    curves = best_of_n_curves(pools_of(panel), tuple(range(1, size + 1)))
    f = curves.gold.mean(axis=0)
    # Among values that are equal up to rounding (a constant scorer), the one at the smallest K.
    best = int(np.argmax(f >= f.max() - 1e-12))
    for suffix, k in (("_max", best), ("_end", size - 1)):
        found[suffix] = mean(curves.gold[:, k], panel.cluster, panel.n_clusters, unit="gold", bounded=True)
    return found | {"_loss": curve_loss(curves, panel)}, curves


def _preference(panel: Panel) -> Measured:
    pairs = pairs_of(panel)
    credit = correctness(panel, pairs, "half")
    groups = {part_name(name): (key, "yes") for key, name in CATEGORIES.items()}
    groups |= {part_name(name): ("language_group", name) for name in (ENGLISH, f"non-{ENGLISH}")}
    if len(pairs) == 0:
        return Measured({}, {}, dict.fromkeys([HEADLINE, *groups], "no pair whose gold differs"))
    metrics = {HEADLINE: accuracy(pairs, credit, panel.n_clusters)}
    undefined = {}
    for part, (key, value) in groups.items():
        here = stratum_of(panel, key)[pairs.item] == value
        if here.any():
            metrics[part] = mean(credit[here], pairs.cluster[here], panel.n_clusters, bounded=True)
        else:
            undefined[part] = f"no pair with {key} {value}"
    return Measured(metrics, {}, undefined)


_SET = re.compile(r"PPE-(.+)-Best-of-K", re.IGNORECASE)
_RESPONSE = re.compile(r"response_([1-9]\d*)")
_GOLD = {"model_a": (1.0, 0.0), "model_b": (0.0, 1.0)}


@register_reader("ppe-correctness")
def read_correctness(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"question_id", "prompt", "response_1", ..., "scores": [true, ...], "model_name"}`.

    The set is named by the data set's folder (`PPE-MATH-Best-of-K`), else by the file.
    `sampled_conflict_pairs`, pairs of places of a right and a wrong response, are kept for PPE's accuracy.
    """
    return items_of(files, bad, lambda r: _item(r, set_name(r.path), bad))


@register_reader("ppe-preference")
def read_preference(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"question_id", "prompt", "response_1", "response_2", "winner", "language", "hard_prompt", ...}`.

    Human ties are left out and counted. All other items are kept, with empty or identical replies too:
    leaving them out would change the published number.
    """
    return items_of(files, bad, lambda r: _preference_item(r, bad))


def set_name(path: Path) -> str:
    """Return `MATH` for a file of `PPE-MATH-Best-of-K` with any name."""
    found = (_SET.search(part) for part in reversed(path.parts))
    return next((match[1] for match in found if match), path.name.split(".")[0])


def _item(row: Row, name: str, bad: BadRows) -> Item:
    prompt = fields.prompt(row, "prompt", fields.required(row, "prompt"))
    numbers = sorted(int(m[1]) for key in row.value if (m := _RESPONSE.fullmatch(key)))
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) < 2:
        raise row.error(
            "expected response_1, response_2, ... without a gap", "response_1", "responses do not fit"
        )
    gold = fields.required(row, "scores")
    if not isinstance(gold, list) or len(gold) != len(numbers):
        raise row.error(f"expected a list of {len(numbers)}, one per response", "scores", "scores do not fit")
    for k, value in enumerate(gold):
        if not isinstance(value, bool):
            raise row.error(f"{value!r}; expected true or false", f"scores[{k}]", "scores do not fit")
    strata = {"set": name, "generator": fields.label(row, "model_name")}
    if row.value.get("sampled_conflict_pairs"):
        strata[CONFLICTS] = conflict_text(_conflicts(row, gold, bad))
    return Item(
        id=f"{name}:{fields.identifier(row, 'question_id')}",
        prompt=prompt,
        responses=tuple(
            # An empty answer is right or wrong like any other.
            Response(fields.reply(row, f"response_{n}"), float(gold[n - 1]))
            for n in numbers
        ),
        cluster=prompt_cluster(prompt),
        strata=strata,
    )


def _conflicts(row: Row, gold: list[bool], bad: BadRows) -> list[tuple[int, int]]:
    """Return the published pairs as places of (right, wrong), in their order; some occur twice."""
    key, places = "sampled_conflict_pairs", range(len(gold))
    pairs = []
    for k, pair in enumerate(fields.required(row, key)):
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or any(type(p) is not int or p not in places for p in pair)
        ):
            raise row.error(
                f"{pair!r}; expected two places from 0 to {len(gold) - 1}", f"{key}[{k}]", "pairs do not fit"
            )
        first, second = pair
        if gold[first] == gold[second]:
            bad.leave_out("sampled pairs that are both right or both wrong")
        else:
            pairs.append((first, second) if gold[first] else (second, first))
    return pairs


def _preference_item(row: Row, bad: BadRows) -> Item | None:
    winner = fields.text(row, "winner")
    if winner not in _GOLD and not winner.startswith("tie"):
        raise row.error(f"{winner!r}; expected model_a, model_b or a tie", "winner", "unknown label")
    prompt = fields.prompt(row, "prompt", fields.required(row, "prompt"))
    texts = [fields.reply(row, f"response_{n}") for n in (1, 2)]
    language = fields.label(row, "language")
    strata = {"language_group": language if language in ("", ENGLISH) else f"non-{ENGLISH}"}
    strata |= {key: "yes" if _flag(row, key) else "no" for key in CATEGORIES if key in row.value}
    if winner not in _GOLD:
        bad.leave_out("human ties")
        return None
    models = [fields.label(row, key) for key in ("model_a", "model_b")]
    return Item(
        id=fields.identifier(row, "question_id"),
        prompt=prompt,
        responses=tuple(
            Response(text, gold, {"generator": model})
            for text, gold, model in zip(texts, _GOLD[winner], models, strict=True)
        ),
        cluster=prompt_cluster(prompt),
        strata=strata,
    )


def _flag(row: Row, key: str) -> bool:
    value = row.value[key]
    if not isinstance(value, bool):
        raise row.error(f"{value!r}; expected true or false", key, "row does not fit")
    return value
