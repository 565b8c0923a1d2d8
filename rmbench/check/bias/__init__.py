"""`rmbench check --bias`: what a model prefers for no good reason, as matched pairs.

A reply is compared with itself after one edit, so the two differ in nothing else. Position and
self-preference are compared on the replies as they are.

Position: Wang et al. 2023, arXiv 2305.17926; Shi et al. 2024, arXiv 2406.07791. Length and self-preference:
Zheng et al. 2023, arXiv 2306.05685, section 3.3; Dubois et al. 2024, arXiv 2404.04475. Authority and others,
as edits of one of two replies: Ye et al. 2024 (CALM), arXiv 2410.02736. The edits are ours.
"""

from rmbench.check.bias.panel import BiasPanel, BiasRow, measure_bias, most_questions, refuse_precomputed

__all__ = ["BiasPanel", "BiasRow", "measure_bias", "most_questions", "refuse_precomputed"]
