"""Evaluation: reward models times tasks, to run records."""
