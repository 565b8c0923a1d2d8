"""Hugging Face checkpoints as reward models."""
