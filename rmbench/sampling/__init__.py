"""Pools for best-of-N: a policy's responses to prompts, reproducible response by response."""
