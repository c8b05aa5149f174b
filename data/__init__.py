"""Order, shards, data sets and batches. Knows of ranks only two integers: rank and world size."""
