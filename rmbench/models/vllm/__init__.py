"""Reward models run by vLLM."""
