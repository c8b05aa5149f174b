"""The data set ``tensors``: the linear regression of the classic hand-written tutorial."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache import array_split_info, cached, entry_key, fingerprint, save_array
from ..config import DataConfig, DatasetInfo
from ..order import counter_rng
from .arguments import whole_number
from .source import DataSource

WEIGHTS = (0.3, 4.0, 0.2, 2.5, 18.0)
BIAS = 17.0
_TAG = 0x74656E736F7273  # "tensors" in ASCII
_VERSION = 1

Floats = NDArray[np.float32]


def draw_rows(rows: int, seed: int) -> tuple[Floats, Floats]:
    """Draw x [rows, 5], uniform in [0, 1), and y = x · (0.3, 4, 0.2, 2.5, 18) + 17 as [rows, 1]; float32.

    Row i does not depend on how many rows there are. Sums run from left to right, so that no BLAS decides the
    last bit.
    """
    counters = np.arange(rows * len(WEIGHTS), dtype=np.uint64).reshape(rows, len(WEIGHTS))
    x = counter_rng.random_uniform((_TAG, seed), counters)
    y = np.full(rows, BIAS, np.float64)
    for column, weight in enumerate(WEIGHTS):
        y = y + x[:, column].astype(np.float64) * weight
    return x, y.astype(np.float32)[:, None]


@dataclass(frozen=True)
class TensorsArguments:
    """``data.args`` of ``tensors``."""

    rows: int = whole_number(20, least=1)
    """Samples for training; there are none for validation."""
    seed: int = whole_number(0, least=0)
    """Another one draws other rows."""


def make_ready(arguments: TensorsArguments, config: DataConfig, base: Path) -> DatasetInfo:  # noqa: ARG001 - DataSource
    """Draw the rows into the cache, on the first call; there is no validation split."""
    rows, seed = arguments.rows, arguments.seed
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


SOURCE = DataSource(
    "tensors", "Five numbers in, their weighted sum out; drawn on this machine.", TensorsArguments, make_ready
)


def _build(folder: Path, rows: int, seed: int) -> dict[str, Any]:
    x, y = draw_rows(rows, seed)
    save_array(folder / "train_x.npy", x)
    save_array(folder / "train_y.npy", y)
    return {}
