"""The data set ``tensors``: the linear regression by hand of the classic tutorial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import DatasetInfo
from ..order import counter_rng as keyed
from .arguments import integer, refuse_unknown_arguments
from .array_cache import array_split_info, cached, entry_key, fingerprint, save_array

WEIGHTS = (0.3, 4.0, 0.2, 2.5, 18.0)
BIAS = 17.0
_TAG = 0x74656E736F7273  # "tensors" in ASCII
_VERSION = 1

Floats = NDArray[np.float32]


def draw(rows: int, seed: int) -> tuple[Floats, Floats]:
    """Draws x [rows, 5], uniform in [0, 1), and y = x · (0.3, 4, 0.2, 2.5, 18) + 17 as [rows, 1]; float32.

    Row i does not depend on how many rows there are. Sums run from left to right, so that no BLAS decides the
    last bit.
    """
    counters = np.arange(rows * len(WEIGHTS), dtype=np.uint64).reshape(rows, len(WEIGHTS))
    x = keyed.uniform((_TAG, seed), counters)
    y = np.full(rows, BIAS, np.float64)
    for column, weight in enumerate(WEIGHTS):
        y = y + x[:, column].astype(np.float64) * weight
    return x, y.astype(np.float32)[:, None]


def describe(args: dict[str, Any]) -> DatasetInfo:
    """The data set ``tensors``, without a validation split of its own.

    Args:
        args: ``rows`` (20) and ``seed`` (0).
    """
    refuse_unknown_arguments("tensors", args, ("rows", "seed"))
    rows, seed = integer(args, "rows", 20, least=1), integer(args, "seed", 0, least=0)
    entry = cached(entry_key("tensors", _VERSION, rows, seed), lambda folder: _build(folder, rows, seed))
    return DatasetInfo(
        name="tensors",
        kind="arrays",
        train=array_split_info(entry, "train", None),
        val=None,
        input_shape=(len(WEIGHTS),),
        input_dtype="float32",
        classes=None,
        class_names=None,
        target_shape=(1,),
        mean=None,
        std=None,
        fingerprint=fingerprint("tensors", entry.hashes),
    )


def _build(folder: Path, rows: int, seed: int) -> dict[str, Any]:
    x, y = draw(rows, seed)
    save_array(folder / "train_x.npy", x)
    save_array(folder / "train_y.npy", y)
    return {}
