"""Official numbers against values worked out by hand, and against the published procedures written out anew."""

import json
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panels import make_panel

from rmbench.benchmarks.m_rewardbench import LANGUAGES
from rmbench.benchmarks.rewardbench.official import SECTIONS
from rmbench.benchmarks.rmb import PARTS
from rmbench.errors import ScoringError
from rmbench.metrics import KINDS, Panel, Suite, measure_suite

CASES = Path(__file__).resolve().parent.parent / "cases"
OFFICIAL_KINDS = [kind for kind in KINDS if KINDS.get(kind).convention == "official"]
LOADED = {kind: json.loads((CASES / f"{kind}.json").read_text(encoding="utf-8")) for kind in OFFICIAL_KINDS}
NUMBERED = [(kind, case) for kind, found in LOADED.items() for case in found["cases"]]
STRATA = (
    "subset", "section", "domain", "category", "ties", "language", "part", "split", "set", "conflict_pairs",
    "hard_prompt", "language_group",
)  # fmt: skip


def panel_of_case(items: list[dict[str, Any]]) -> Panel:
    gold = []
    for item in items:
        k = len(item["rewards"])
        gold.append(item.get("gold") or ([1] * 3 + [0] * 3 if k == 6 else [1] + [0] * (k - 1)))
    return make_panel(
        [[nan if r is None else float(r) for r in item["rewards"]] for item in items],
        gold,
        clusters=[str(item.get("ties", k)).partition(":")[2] or f"c{k}" for k, item in enumerate(items)],
        strata=[{key: item[key] for key in STRATA if key in item} for item in items],
        kind="label",
    )


def measure(kind: str, case: dict[str, Any], **params: Any) -> Suite:
    flips = None
    if case.get("judge"):
        n = len(case["items"])
        flips = ([item.get("flips", 0) for item in case["items"]], [1] * n)
    return measure_suite(panel_of_case(case["items"]), [kind], {"invalid": "wrong", **params}, flips=flips)


@pytest.mark.parametrize(("kind", "case"), NUMBERED, ids=[f"{k}: {c['name']}" for k, c in NUMBERED])
def test_is_the_number_worked_out_by_hand(kind: str, case: dict[str, Any]) -> None:
    suite = measure(kind, case)
    for name, value in case["expect"].items():
        assert suite.metrics[name].value == pytest.approx(value, abs=1e-12), (name, case["work"])
    if "undefined" in case:
        assert set(case["undefined"]) <= set(suite.undefined)
        assert not set(case["undefined"]) & set(suite.metrics)
    assert ("official" in suite.metrics) != ("official" in suite.undefined), (
        "a value or a reason, never neither"
    )


def test_every_official_kind_is_registered_and_has_cases() -> None:
    assert set(OFFICIAL_KINDS) == {path.stem for path in CASES.glob("*.json")}
    assert all(found["kind"] == kind and found["source"] for kind, found in LOADED.items())


@pytest.mark.parametrize("kind", OFFICIAL_KINDS)
def test_a_reward_that_is_not_finite_stops_unless_it_is_allowed(kind: str) -> None:
    case = next(c for c in LOADED[kind]["cases"] if any(None in i["rewards"] for i in c["items"]))
    with pytest.raises(ScoringError, match="not finite"):
        measure(kind, case, invalid="fail")
    assert measure(kind, case, invalid="drop").metrics.keys() == measure(kind, case).metrics.keys()


def test_the_example_counts_are_those_of_2024_09_10() -> None:
    counts = {subset: n for section in SECTIONS.values() for subset, n in section.items()}
    assert len(counts) == 23
    assert (counts["xstest-should-refuse"], counts["xstest-should-respond"]) == (154, 250)
    assert counts["math-prm"] == sum(n for s, n in counts.items() if s.startswith("hep-")) == 984
    assert sum(counts.values()) - 984 + 447 == 2985


def published_ties_score(rows: dict[str, tuple[list[float], int]]) -> float:
    """The published procedure, written out with arrays and their warnings."""
    stats = {}
    for name, (scores, n_right) in rows.items():
        right, wrong = scores[:n_right], scores[n_right:]
        stats[name] = (min(right) - max(wrong) > 0, max(right) - min(right), min(right) - max(wrong))
    ref = {n.split(":")[1]: s for n, s in stats.items() if n.startswith("ref")}
    tied = {n.split(":")[1]: s for n, s in stats.items() if n.startswith("tied")}
    both = sorted(set(ref) & set(tied))
    spread, gap_t = (np.array([tied[p][k] for p in both]) for k in (1, 2))
    gap_r = np.array([ref[p][2] for p in both])
    with np.errstate(divide="ignore", invalid="ignore"):
        last = np.nan_to_num(np.tanh(np.minimum(gap_r, gap_t) / spread - 1), nan=0.0)
    return float(
        0.30 * np.mean([s[0] for s in tied.values()])
        + 0.30 * np.mean([s[0] for s in ref.values()])
        + 0.20 * np.mean(gap_t > spread)
        + 0.20 * np.mean(np.minimum(gap_r, gap_t) > spread)
        + 0.01 * np.mean(last)
    )


@pytest.mark.parametrize("seed", range(30))
def test_the_ties_score_is_that_of_the_published_procedure(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, items = {}, []
    for p in range(int(rng.integers(1, 9))):
        for kind in ("ref", "tied") if rng.random() < 0.8 else ("ref",) if rng.random() < 0.5 else ("tied",):
            n_right = 1 if kind == "ref" else int(rng.integers(2, 5))
            scores = list(map(float, rng.integers(-2, 3, n_right + int(rng.integers(1, 4)))))
            if rng.random() < 0.1:
                scores[int(rng.integers(len(scores)))] = nan
            rows[f"{kind}:{p}"] = (scores, n_right)
            gold = [1] * n_right + [0] * (len(scores) - n_right)
            items.append({"subset": "Ties", "ties": f"{kind}:{p}", "rewards": scores, "gold": gold})
    suite = measure("rewardbench2", {"items": items})
    if not any(f"ref:{p}" in rows and f"tied:{p}" in rows for p in range(9)):
        assert "official_ties" in suite.undefined
        return
    assert suite.metrics["official_ties"].value == pytest.approx(published_ties_score(rows), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_style_matrix_is_that_of_a_loop_over_prompts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    domains = ["chat", "code", "math", "safety", *rng.choice(["chat", "code", "math", "safety"], 20)]
    items = [{"domain": str(d), "rewards": list(map(float, rng.integers(0, 4, 6)))} for d in domains]
    suite = measure("rm-bench", {"items": items})
    levels: dict[str, list[float]] = {"easy": [], "normal": [], "hard": []}
    for domain in ("chat", "code", "math", "safety"):
        here = [item["rewards"] for item in items if item["domain"] == domain]
        matrix = [[np.mean([r[i] > r[3 + j] for r in here]) for j in range(3)] for i in range(3)]
        assert suite.curves["style_matrix"][domain] == pytest.approx(np.array(matrix))
        levels["hard"].append(np.sum(np.triu(matrix, 1)) / 3)
        levels["normal"].append(np.mean(np.diag(matrix)))
        levels["easy"].append(np.sum(np.tril(matrix, -1)) / 3)
    for name, values in levels.items():
        assert suite.metrics[f"official_{name}"].value == pytest.approx(np.mean(values), abs=1e-12)
    assert suite.metrics["official"].value == pytest.approx(np.mean(list(levels.values())), abs=1e-12)


def test_official_numbers_have_intervals_and_ignore_the_clean_parameters() -> None:
    rng = np.random.default_rng(1)
    items = [{"subset": s, "rewards": list(map(float, rng.integers(0, 3, 2)))} for c in SECTIONS.values() for s in c for _ in range(8)]  # fmt: skip
    strict = measure("rewardbench", {"items": items}, ties="half", convention="clean").metrics["official"]
    assert strict.value == measure("rewardbench", {"items": items}, ties="zero").metrics["official"].value
    low, high = strict.estimate().ci95 or (nan, nan)
    assert low < strict.value < high


def test_m_rewardbench_is_the_mean_of_what_rewardbench_gives_in_each_of_22_languages() -> None:
    rng = np.random.default_rng(3)
    subsets = [s for section in SECTIONS.values() for s in section for _ in range(2)]
    items, expected = [], []
    for code in (*LANGUAGES.values(), "eng_Latn"):
        here = [{"subset": s, "rewards": list(map(float, rng.integers(0, 3, 2)))} for s in subsets]
        items += [{**item, "language": code} for item in here]
        expected.append(measure("rewardbench", {"items": here}).metrics["official"].value)
    suite = measure("m-rewardbench", {"items": items})
    assert len(LANGUAGES) == 22
    assert suite.metrics["official"].value == pytest.approx(np.mean(expected[:-1]), abs=1e-12)
    assert suite.metrics["official_eng_latn"].value == pytest.approx(expected[-1], abs=1e-12)
    assert suite.counts["m-rewardbench"] == {"languages_missing": 0}


@pytest.mark.parametrize("seed", range(5))
def test_right_against_all_wrong_ones_is_that_of_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards = [list(map(float, rng.integers(0, 5, 10))) for _ in range(40)]
    suite = measure("reward-math", {"items": [{"rewards": r} for r in rewards]})
    assert suite.metrics["official"].value == np.mean([all(r[0] > w for w in r[1:]) for r in rewards])
    assert suite.metrics["official_with_ties"].value == np.mean([r[0] == max(r) for r in rewards])
    ranks = [1 + sum(w >= r[0] for w in r[1:]) for r in rewards]
    assert suite.metrics["official_mrr"].value == pytest.approx(np.mean([1 / k for k in ranks]), abs=1e-12)
    items = [{"part": PARTS[k % 4], "rewards": r[: 2 + k % 3]} for k, r in enumerate(rewards)]
    suite = measure("rmb", {"items": items})
    for part in PARTS:
        here = [i["rewards"] for i in items if i["part"] == part]
        name = "official_" + part.lower().replace(" ", "_")
        assert suite.metrics[name].value == np.mean([all(r[0] > w for w in r[1:]) for r in here])


def test_an_item_counts_once_however_many_numbers_it_is_in() -> None:
    """RM-Bench said 1,458 for 486 items, since each is in three levels."""
    items = [
        {"domain": domain, "rewards": [3.0, 2.0, 1.0, 0.0, 2.5, 0.5]}
        for domain in ("chat", "code", "math", "safety")
        for _ in range(7)
    ]  # fmt: skip
    found = measure("rm-bench", {"items": items}).metrics
    assert {name: found[name].n for name in ("official", "official_hard", "official_chat")} == {
        "official": 28, "official_hard": 28, "official_chat": 7,
    }  # fmt: skip
    assert found["official"].n_clusters == 28
