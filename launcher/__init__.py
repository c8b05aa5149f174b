"""Everything outside the ranks; no torch."""
