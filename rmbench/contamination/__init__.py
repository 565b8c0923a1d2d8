"""Contamination: a task's prompts and responses in training data, whole and by n-grams."""

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
