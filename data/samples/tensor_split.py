"""A user's data that are held whole: pairs of tensors or arrays, with a row for each sample."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common import TrainingError
from .arrays import is_masked, is_numeric

if TYPE_CHECKING:
    import torch

_PAIR = 2  # inputs and targets
_CONTRACT = (
    'return {"train": ..., "val": ...}: map-style data sets, or pairs of tensors (x, y); val may be left out'
)


@dataclass(frozen=True)
class TensorSplit:
    """A split that is held whole: x [n, ...] and y [n, ...], on the CPU."""

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self) -> int:
        return len(self.x)


def contract_error(use: str, what: str) -> TrainingError:
    """Make the error for what a user's callable should not have returned."""
    return TrainingError(f"{use} {what}", _CONTRACT)


def as_tensors(use: str, name: str, split: Any) -> Any:
    """Make a ``TensorSplit`` of a pair of tensors or arrays; a data set is returned as it is.

    Raises:
        TrainingError: the pair has not a row for each sample, or not of numbers.
    """
    import torch
    from torch.utils.data import TensorDataset

    pair = split.tensors if type(split) is TensorDataset else split
    if not isinstance(pair, list | tuple):
        return split
    lists = isinstance(pair, tuple) and len(pair) == _PAIR and all(type(part) is list for part in pair)
    if not lists and not any(isinstance(part, torch.Tensor) or hasattr(part, "__array__") for part in pair):
        return split
    parts = [] if lists else [_rows_of_samples(use, name, part) for part in pair]
    if len(parts) != _PAIR or not all(isinstance(part, torch.Tensor) and part.ndim for part in parts):
        kinds = ", ".join(type(part).__name__ for part in pair[:3])
        raise contract_error(
            use, f"returned ({kinds}) for {name!r}, not a pair of tensors with a row for each sample"
        )
    x, y = parts
    if len(x) != len(y):
        raise contract_error(use, f"returned {len(x)} inputs and {len(y)} targets for {name!r}")
    return TensorSplit(x, y)


def _rows_of_samples(use: str, name: str, part: Any) -> Any:
    """Make a tensor on the CPU of a tensor or an array, of pandas as well; anything else is returned as it is."""
    import torch

    if isinstance(part, torch.Tensor):
        return part.detach().cpu()
    if not hasattr(part, "__array__"):
        return part
    array = np.asanyarray(part)
    if not is_numeric(array):
        raise contract_error(
            use, f"returned an array of {array.dtype} for {name!r}, and torch has no such type: convert it"
        )
    if is_masked(array):
        raise contract_error(use, f"returned an array that is masked for {name!r}: fill it")
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes
        return torch.from_numpy(array)
