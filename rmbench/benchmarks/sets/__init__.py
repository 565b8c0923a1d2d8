"""Readers of published data sets that have no official number."""
