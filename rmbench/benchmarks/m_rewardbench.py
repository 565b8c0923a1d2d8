"""M-RewardBench: RewardBench translated into 22 languages, with a folder for each.

The number of a language is RewardBench's mean of four sections; the overall number is the mean over 22
languages.

Source: Gureja et al. 2024, arXiv 2410.15522; `get_scores` in analysis/plot_utils.py and the average in
analysis/plot_leaderboard.py of the benchmark's repository. The example counts are RewardBench's.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from rmbench.benchmarks.official import (
    HEADLINE,
    nothing,
    official_kind,
    part_name,
    stop_at_invalid,
    stratum_of,
    strict_pairs,
)
from rmbench.benchmarks.rewardbench.official import SECTIONS, section_of, section_score
from rmbench.metrics.kinds import Measured, Params
from rmbench.metrics.panel import Panel
from rmbench.stats import Statistic, combine, mean
from rmbench.tasks import fields
from rmbench.tasks.rows import BadRows, FoundItem, Row, items_of, register_reader
from rmbench.types import Item, Response

LANGUAGES: Mapping[str, str] = {
    "ar": "arb_Arab",
    "cs": "ces_Latn",
    "de": "deu_Latn",
    "el": "ell_Grek",
    "es": "spa_Latn",
    "fa": "pes_Arab",
    "fr": "fra_Latn",
    "he": "heb_Hebr",
    "hi": "hin_Deva",
    "id": "ind_Latn",
    "it": "ita_Latn",
    "ja": "jpn_Jpan",
    "ko": "kor_Hang",
    "nl": "nld_Latn",
    "pl": "pol_Latn",
    "pt": "por_Latn",
    "ro": "ron_Latn",
    "ru": "rus_Cyrl",
    "tr": "tur_Latn",
    "uk": "ukr_Cyrl",
    "vi": "vie_Latn",
    "zh": "zho_Hans",
}
"""ISO code -> name of the language's folder. The mean is over these languages, without English."""

ENGLISH = "eng_Latn"
SUBSETS = tuple(subset for section in SECTIONS.values() for subset in section)

_JUDGE_TIE = 0.5


@official_kind("m-rewardbench", *LANGUAGES.values())
def measure_m_rewardbench(panel: Panel, params: Params) -> Measured:
    """Measure each language and the mean over languages.

    An item is `[c > r]`: a tie and NaN are 0, or 0.5 if a judge compared the two. A language without all 23
    subsets has no number, and without all 22 languages there is no mean: nothing is published for either.

    Args:
        panel: Pairs with the strata `language` and `subset`.
        params: Parameters of every kind.

    Returns:
        `official`, and `official_<language>`, such as `official_deu_latn`.
    """
    stop_at_invalid(panel, params)
    pairs, credit = strict_pairs(panel, 0.0 if panel.flips is None else _JUDGE_TIE)
    language, subset = (stratum_of(panel, key)[pairs.item] for key in ("language", "subset"))
    metrics: dict[str, Statistic] = {}
    undefined: dict[str, str] = {}
    for code in sorted({*LANGUAGES.values(), *language.tolist()} - {""}):
        accuracy = {
            str(name): mean(credit[here], pairs.cluster[here], panel.n_clusters, bounded=True)
            for name in np.unique(subset[language == code])
            for here in [(language == code) & (subset == name)]
        }
        missing = [name for name in SUBSETS if name not in accuracy]
        if not missing:
            sections = [section_score(accuracy, name, nothing(panel)) for name in SECTIONS]
            metrics[part_name(code)] = combine(sections)
        elif accuracy:
            undefined[part_name(code)] = f"no item of {len(missing)} of 23 subsets, such as {missing[0]}"
        else:
            undefined[part_name(code)] = "no item of this language"
    parts = [part_name(code) for code in LANGUAGES.values()]
    n_missing = sum(part not in metrics for part in parts)
    if n_missing:
        undefined[HEADLINE] = f"the mean of {len(parts)} languages: {n_missing} have no number"
        return Measured(metrics, {"languages_missing": n_missing}, undefined)
    overall = combine([metrics[part] for part in parts])
    return Measured({HEADLINE: overall, **metrics}, {"languages_missing": 0}, undefined)


TRANSLATION = "translation"
"""A folder beside those of the languages: pairs of translations, which no number includes."""


@register_reader("m-rewardbench")
def read(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"id", "language", "source", "prompt", "chosen", "rejected", ...}`.

    The subset of RewardBench is in `source`, or in `subset` in the first version of the data.
    """
    wanted = [path for path in files if path.parent.name != TRANSLATION]
    if len(wanted) < len(files):
        bad.leave_out("files of the translation sets", len(files) - len(wanted))
    return items_of(wanted, bad, _item)


def _item(row: Row) -> Item:
    language = fields.text(row, "language")
    # The same language is `de` or, as its folder, `deu_Latn`.
    code = fields.known_name(
        row, "language", LANGUAGES.get(language, language), (*LANGUAGES.values(), ENGLISH)
    )
    key = "subset" if "subset" in row.value and "source" not in row.value else "source"
    subset = fields.known_name(row, key, fields.text(row, key), SUBSETS)
    prompt = fields.prompt(row, "prompt", fields.required(row, "prompt"))
    # As for RewardBench: all published items, empty replies included.
    texts = [fields.reply(row, key) for key in ("chosen", "rejected")]
    identifier = fields.identifier(row)
    return Item(
        id=f"{code}:{subset}:{identifier}",
        prompt=prompt,
        responses=(Response(texts[0], 1.0), Response(texts[1], 0.0)),
        # Translations of one item are not independent, though their prompts differ.
        cluster=f"{subset}:{identifier}",
        strata={"language": code, "section": section_of(subset) or "", "subset": subset},
    )
