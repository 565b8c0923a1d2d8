"""The model card of a trained model."""

from collections.abc import Mapping
from typing import Any

from rmbench.digits import Digits
from rmbench.escape import for_markdown


def model_card(record: Mapping[str, Any]) -> str:
    """Return the card as Markdown: how it was made, what it was seen to do, how to use it."""
    settings, counts, watched = record["identity"]["settings"], record["counts"], record["held_out"]
    options = ", ".join(f"{k} = {v}" for k, v in settings["method_options"].items()) or "defaults"
    dropped = ", ".join(f"{n:,} for {reason}" for reason, n in counts["dropped"].items()) or "nothing"
    write = Digits().write
    return f"""---
library_name: transformers
pipeline_tag: text-classification
tags: [reward-model, rmbench]
---
# Reward model

Trained by rmbench with the loss `{for_markdown(settings["method"])}` ({for_markdown(options)}) from
`{for_markdown(settings["base"], limit=200)}`. The reward is the raw logit; higher is better.

| | |
|---|---|
| pairs | {counts["train_pairs"]:,} to train on, {counts["held_out_pairs"]:,} held out (other prompts) |
| left out | {for_markdown(dropped, limit=400)} |
| truncated texts | {counts["truncated_texts"]:,} |
| optimiser steps | {counts["steps"]:,} of {settings["batch_size"]} pairs, seed {settings["seed"]} |
| held-out accuracy | {write(watched["accuracy"])} |
| held-out NLL (Bradley-Terry) | {write(watched["nll"])} |
| held-out mean margin | {write(watched["margin"])} |

```
rmbench eval --model FOLDER --task preference --task calibration --task bon
```

All settings and the training curve are in `rmbench.json`.
"""
