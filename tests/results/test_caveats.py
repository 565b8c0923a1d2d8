"""What is said beside a record's numbers."""

from dataclasses import replace
from pathlib import Path

from rmbench.results.read import find_records
from rmbench.results.record import caveats

RESULTS = Path(__file__).resolve().parents[2] / "results"


def test_numbers_of_an_older_version_are_told_with_the_command_that_renews_them() -> None:
    record = next(find_records(RESULTS / "length" / "preference@1")).record
    assert not any("metrics version" in told for told in caveats(record))
    old = replace(record, identity={**record.identity, "metrics_version": 1})
    assert "numbers of metrics version 1; rmbench remeasure makes them version 2" in caveats(old)
