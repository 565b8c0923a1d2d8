"""LLM judges as pairwise reward models."""
