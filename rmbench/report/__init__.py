"""Reports and tables of run records: one page on a model or several, and what commands print."""
