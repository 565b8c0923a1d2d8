"""The page of `rmbench check --bias` (`rmbench.format.pages`): one HTML file. Same panel, same bytes."""

import shlex
from collections.abc import Sequence
from typing import Any

from rmbench import __version__
from rmbench.check.bias import BiasPanel, BiasRow
from rmbench.core.digits import Digits, digits_of_estimates, probability
from rmbench.core.escape import one_line
from rmbench.format.pages import LONGEST_NAME, Scale, estimate_parts, render_page, scale_of
from rmbench.report.bias_tables import notes_of, unit_told


def bias_page(model: str, panel: BiasPanel, source: str, command: Sequence[str]) -> str:
    """Return the page of a bias panel.

    Args:
        model: Display name.
        panel: The panel.
        source: Where the prompts came from.
        command: Command that makes the page again, shown on it.
    """
    effects = [row.tested.paired.difference for row in panel.rows if row.tested is not None]
    scale, digits = scale_of(effects), digits_of_estimates(effects)
    return render_page(
        "bias",
        model=one_line(model, LONGEST_NAME),
        lead=_lead(panel),
        unit=unit_told(panel).capitalize(),
        n_items=f"{panel.n_items:,}",
        source=one_line(source, LONGEST_NAME),
        rows=[_row(row, scale, digits) for row in panel.rows],
        axis=scale.ends(),
        notes=notes_of(panel),
        version=__version__,
        command=shlex.join(command),
    )


def _lead(panel: BiasPanel) -> str:
    """Return the findings in a sentence."""
    told = [r for r in panel.rows if r.tested is not None]
    found = [f"{r.test}: {r.finding}" for r in told if r.tested and r.tested.told_apart]
    if not told:
        return "No bias could be measured."
    if not found:
        return f"No bias was found in {len(told)} tests; the column `could show` says how small one could be."
    return f"Found in {len(found)} of {len(told)} tests: {'; '.join(found)}."


def _row(row: BiasRow, scale: Scale, digits: Digits) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "bias": row.bias,
        "test": row.test,
        "summary": row.summary,
        "finding": row.finding,
        "found": row.tested is not None and row.tested.told_apart,
        "why": row.why,
        "n_pairs": f"{row.n_pairs:,}",
        "n_unchanged": f"{row.n_unchanged:,}",
        "n_invalid": f"{row.n_invalid:,}",
    }
    if row.tested is None:
        return shown
    p = row.tested.p_holm
    return {
        **shown,
        "effect": estimate_parts(row.tested.paired.difference, digits, scale),
        "p": "–" if p is None else probability(p),
        "smallest": "–" if row.smallest is None else digits.write(row.smallest),
        "flips": estimate_parts(row.flips, Digits(), None),
    }
