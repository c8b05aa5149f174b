"""A group of rows as columns in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .shard_format import Values


@dataclass(frozen=True)
class ColumnGroup:
    """Decoded columns: NumPy arrays of numbers, and Arrow's of all else."""

    columns: Mapping[str, Any]

    def take(self, rows: NDArray[np.int64]) -> dict[str, Values]:
        """Choose some rows."""
        return {
            name: column[rows] if isinstance(column, np.ndarray) else column.take(rows).to_pylist()
            for name, column in self.columns.items()
        }
