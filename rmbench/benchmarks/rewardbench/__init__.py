"""RewardBench 1 and 2: reader, official numbers, published results, and export to its own analysis."""
