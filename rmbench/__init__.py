"""rmbench: the benchmark and evaluation harness for reward models."""

__version__ = "0.1.0"
