"""Published benchmarks: one file per benchmark, with its reader, official number and published results."""
