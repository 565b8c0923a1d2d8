"""Stored runs: records, reading, comparing, and importing what benchmarks have published."""
