"""Studies: methods x bases x data x seeds, trained, evaluated and compared in pairs."""

from rmbench.study.run import StudyRun, batch_rows, run_study
from rmbench.study.spec import StudySpec, load_study
from rmbench.study.tables import packed_records
from rmbench.study.write import write_study

__all__ = [
    "StudyRun",
    "StudySpec",
    "batch_rows",
    "load_study",
    "packed_records",
    "run_study",
    "write_study",
]
