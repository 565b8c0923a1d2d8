"""The metrics that a task kind is known by, in the order that tables and pages show them."""

from collections.abc import Iterable, Mapping, Sequence

_SECTIONS = ("official_chat", "official_chat_hard", "official_safety", "official_reasoning")
HEADLINES: Mapping[str, tuple[str, ...]] = {
    "rewardbench": ("official", *_SECTIONS, "official_prior_sets", "official_micro"),
    "rewardbench2": (
        "official", "official_factuality", "official_precise_if", "official_math", "official_safety",
        "official_focus", "official_ties",
    ),
    "rm-bench": (
        "official", "official_easy", "official_normal", "official_hard", "official_chat", "official_code",
        "official_math", "official_safety",
    ),
    "judgebench": (
        "official", "official_knowledge", "official_reasoning", "official_math", "official_coding",
    ),
    "ppe": (
        "official", "official_auc", "official_max", "official_end", "official_loss", "official_mmlu_pro",
        "official_math", "official_gpqa", "official_mbpp_plus", "official_ifeval", "official_hard",
        "official_english",
    ),
    "preference": (
        "accuracy", "accuracy_macro", "accuracy_length_controlled", "longer_wins_length_controlled",
        "longer_wins",
    ),
    "calibration": ("ece", "ece_scaled", "temperature", "brier", "nll", "auroc_margin"),
    "best_of_n": ("win_rate@max", "gold@1", "gold@max", "oracle@max", "recovery@max", "best_n"),
}  # fmt: skip
"""Columns per task kind; all other metrics are in the record."""


def at_largest_n(metric: str, held: Sequence[Iterable[str]]) -> str:
    """Return `gold@24` for `gold@max`: the largest n among the metrics held (of one task they share it)."""
    if not metric.endswith("@max"):
        return metric
    stem = metric.removesuffix("max")
    found = [int(m.removeprefix(stem)) for names in held for m in names if m.startswith(stem)]
    return f"{stem}{max(found)}" if found else metric
