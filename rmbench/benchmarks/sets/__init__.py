"""Published data sets that have no official number of their own: readers alone."""
