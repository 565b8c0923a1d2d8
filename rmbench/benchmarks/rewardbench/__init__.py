"""RewardBench 1 and 2: readers, official numbers, published results, and export to its analysis."""
