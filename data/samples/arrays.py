"""Which of NumPy's arrays can be tensors, and the tensors that they become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

_NUMERIC = "biufc"
_LONG_DOUBLE = "gG"


def is_numeric(array: NDArray[Any]) -> bool:
    """Tell whether torch has the array's type: it has every numeric one but long double."""
    return array.dtype.kind in _NUMERIC and array.dtype.char not in _LONG_DOUBLE


def is_masked(array: NDArray[Any]) -> bool:
    """Tell whether numbers of the array are missing."""
    return isinstance(array, np.ma.MaskedArray) and bool(np.ma.is_masked(array))


def tensor_of(array: NDArray[Any]) -> torch.Tensor:
    """Make a tensor of a numeric array, without a copy where that can be: torch wants plain memory to write to."""
    import torch

    plain = np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=None, subok=False)
    return torch.from_numpy(plain if plain.flags.writeable and plain.flags.aligned else plain.copy())


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Return the shape of a number, an array or a tensor; None of anything else."""
    if isinstance(value, int | float):
        return ()
    shape = getattr(value, "shape", None)
    return None if shape is None else tuple(int(size) for size in shape)


def as_bytes(values: torch.Tensor) -> torch.Tensor:
    """View a dense tensor's values as bytes [n]: as such NaN equals itself, and every backend takes them."""
    import torch

    flat = values.detach().contiguous().reshape(-1)
    if flat.stride() != (1,):  # a single element that is expanded counts as contiguous
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8)
