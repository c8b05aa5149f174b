"""Inputs that are in training and in validation: what is measured on them has been learned by heart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_BYTES = 2**28
"""Of both splits together, which takes 0.3 s; larger ones are not compared."""
_MOST_ROWS = 200_000
_LEAST_BYTES = 16
"""Of an input: shorter ones, such as a pair of numbers, are equal by chance."""


def shared_notes(train: NDArray[Any], val: NDArray[Any]) -> list[str]:
    """Say how many inputs of validation are inputs of training, too.

    Args:
        train: [rows, ...].
        val: [rows, ...].
    """
    too_large = train.nbytes + val.nbytes > _MOST_BYTES or len(train) + len(val) > _MOST_ROWS
    if too_large or train.shape[1:] != val.shape[1:] or train.dtype != val.dtype:
        return []
    if train.dtype.itemsize * int(np.prod(train.shape[1:])) < _LEAST_BYTES:
        return []
    trained = {row.tobytes() for row in train}
    shared = sum(row.tobytes() in trained for row in val)
    inputs = "input is" if shared == 1 else "inputs are"
    return [f"{shared:,} of {len(val):,} validation {inputs} among those of training"] if shared else []
