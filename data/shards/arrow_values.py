"""Arrow's columns as NumPy arrays, where they hold numbers of one shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


def arrow_kind(kind: pa.DataType) -> str:
    """Name what a column of an Arrow type is; ``other`` is for a user's ``decode`` alone."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return arrow_kind(kind.value_type)
    if types.is_struct(kind):
        return "image" if {field.name for field in kind} == {"bytes", "path"} else "other"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "list" if arrow_kind(kind.value_type) in ("int", "float", "list") else "other"
    simple = {
        "int": (types.is_integer, types.is_boolean),
        "float": (types.is_floating,),
        "text": (types.is_string, types.is_large_string, types.is_string_view),
        "bytes": (types.is_binary, types.is_large_binary, types.is_binary_view),
    }
    return next((name for name, tests in simple.items() if any(test(kind) for test in tests)), "other")


def column_of(column: pa.ChunkedArray) -> Any:
    """Return an array [rows, ...] of numbers, or the column itself where it holds others, ragged lists or nulls."""
    from pyarrow import types

    array = column.combine_chunks()
    kind = array.type
    if types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    if array.null_count:
        return array
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return array.to_numpy(zero_copy_only=False)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        within = column_of(_chunked(array.flatten()))
        lengths = array.value_lengths().to_numpy(zero_copy_only=False)
        if isinstance(within, np.ndarray) and lengths.size and (lengths == lengths[0]).all():
            return within.reshape(len(array), int(lengths[0]), *within.shape[1:])
    return array


def _chunked(array: pa.Array) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.chunked_array([array])


@dataclass(frozen=True)
class ColumnGroup:
    """Decoded columns: NumPy arrays of numbers, and Arrow's of all else."""

    columns: Mapping[str, Any]

    def parts(self) -> tuple[Mapping[str, NDArray[Any]], ColumnGroup | None]:
        """Return the columns of numbers, and a group of the others."""
        arrays = {name: column for name, column in self.columns.items() if isinstance(column, np.ndarray)}
        others = {name: column for name, column in self.columns.items() if name not in arrays}
        return arrays, ColumnGroup(others) if others else None

    def take(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any] | list[Any]]:
        """Choose some rows."""
        return {
            name: column[rows] if isinstance(column, np.ndarray) else column.take(rows).to_pylist()
            for name, column in self.columns.items()
        }
