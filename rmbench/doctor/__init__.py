"""`rmbench doctor`: versions, devices, extras, folders and settings of an installation, for bug reports."""

from rmbench.doctor.report import Report as Report
from rmbench.doctor.report import examine as examine
