"""Reports: tables, comparisons and pages of runs."""
