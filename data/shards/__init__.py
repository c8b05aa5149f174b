"""Shards: files of rows, read group by group in an order that is shuffled within a window."""
