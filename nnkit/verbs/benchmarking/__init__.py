"""`nnkit bench`: latency, throughput and peak memory, of one model or of two against each other."""
