"""All records of a study in one file, to be kept beside its tables."""

import lzma
from collections.abc import Iterable
from typing import Any

from rmbench.canon import canonical_json
from rmbench.records import Record


def packed_records(records: Iterable[Record]) -> bytes:
    """Return the records as JSON Lines in xz, by model and task; the same records give the same bytes.

    Without curves, which the figures show: hundreds of records are mostly curves. Of where data and models
    lay, the last name is kept and its folder is not: the file is for others.
    """
    ordered = sorted(records, key=lambda record: (record.model, record.task))
    return lzma.compress("".join(canonical_json(_shared(r)) + "\n" for r in ordered).encode(), preset=9)


def _shared(record: Record) -> dict[str, Any]:
    full = record.to_json()
    provenance = dict(full["provenance"])
    for key in ("data", "model"):
        if isinstance(provenance.get(key), str):
            provenance[key] = provenance[key].replace("\\", "/").rpartition("/")[2]
    return {**full, "curves": {}, "provenance": provenance}
