"""Is a task's data in what a model was trained on? Prompts and responses, whole and by n-grams."""

from rmbench.contamination.findings import Finding, Findings, TaskIndex
from rmbench.contamination.measures import Measures, measure
from rmbench.contamination.run import TrainingSource, estimated_rows, open_training, scan

__all__ = [
    "Finding",
    "Findings",
    "Measures",
    "TaskIndex",
    "TrainingSource",
    "estimated_rows",
    "measure",
    "open_training",
    "scan",
]
