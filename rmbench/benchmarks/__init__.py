"""Published benchmarks: one file each, with its reader, its official number and its published results."""
