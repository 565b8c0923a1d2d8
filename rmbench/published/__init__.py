"""Results that benchmarks have published, read as ordinary run records: rankings with no model at hand."""

from rmbench.published.formats import FORMATS
from rmbench.published.run import Import, PublishedRow, PublishedRun, WinRate
from rmbench.published.write import write_runs

__all__ = ["FORMATS", "Import", "PublishedRow", "PublishedRun", "WinRate", "write_runs"]
