"""Pools for best-of-N: a policy's responses to prompts, the same ones whenever they are drawn again."""
