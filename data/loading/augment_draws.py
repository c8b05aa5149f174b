"""The random numbers of one operation on a batch: each a function of an image's own number and of what it is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..order import bits

_KEY = 0x6F7065726174696F6E  # "operation" in ASCII
Floats = NDArray[np.float64]


Images = torch.Tensor
"""float32 [B, C, H, W]; of bytes from 0 to 255."""


def column(values: Any, like: Images) -> torch.Tensor:
    """Move a number for each image to where the images are, [B, 1, 1, 1]; nothing waits for it."""
    array = np.ascontiguousarray(values, dtype=np.float32)
    return torch.from_numpy(array).view(-1, 1, 1, 1).to(like.device, non_blocking=True)


def rows_on(values: Any, like: Images) -> torch.Tensor:
    """Move row numbers to where the images are."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)).to(like.device, non_blocking=True)


def changed(x: Images, rows: Any, change: Callable[[Images], Images]) -> Images:
    """Change some of the images."""
    if len(rows) == 0:
        return x
    index = rows_on(rows, x)
    return x.index_copy(0, index, change(x.index_select(0, index)))


class Draws:
    """Uniform numbers for every image of a batch.

    Args:
        numbers: the 64 bits that decide about each image, uint64 [B].
        place: of the operation among the steps, and within it.
    """

    def __init__(self, numbers: NDArray[np.uint64], *place: int) -> None:
        self.numbers = numbers
        self._place = place

    def __len__(self) -> int:
        return len(self.numbers)

    def within(self, place: int) -> Draws:
        """Return other numbers, for a part of the operation."""
        return Draws(self.numbers, *self._place, place)

    def of(self, rows: NDArray[np.int64]) -> Draws:
        """Return those of some of the images."""
        return Draws(self.numbers[rows], *self._place)

    def bits(self, what: int) -> NDArray[np.uint64]:
        """Draw 64 bits for each image."""
        return bits((_KEY, len(self._place), *self._place, what), self.numbers)

    def uniform(self, what: int, low: float = 0.0, high: float = 1.0) -> Floats:
        """Draw from [low, high)."""
        unit = (self.bits(what) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return low + (high - low) * unit

    def chosen(self, what: int, p: float) -> NDArray[np.int64]:
        """Choose each image with probability ``p``; return their rows."""
        return np.flatnonzero(self.uniform(what) < p)

    def one_of(self, what: int, count: int) -> NDArray[np.int64]:
        """Draw a whole number below ``count``."""
        return np.minimum((self.uniform(what) * count).astype(np.int64), count - 1)

    def signs(self, what: int) -> Floats:
        """Draw 1 or -1."""
        return np.where(self.bits(what) & np.uint64(1), 1.0, -1.0)


def boxes(
    draws: Draws, size: tuple[int, int], scale: Sequence[float], ratio: Sequence[float]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Draw a box within each image as torchvision does: the first of ten attempts that fits.

    Args:
        draws: of the images.
        size: (height, width).
        scale: least and greatest share of the image's area.
        ratio: least and greatest width / height, on a logarithmic scale.

    Returns:
        (top, left, height, width) int64 [4, B], and for which images none has fit, bool [B].
    """
    high, wide = size
    found = np.zeros((4, len(draws)), np.int64)
    missing = np.ones(len(draws), np.bool_)
    for attempt in range(10):
        at = draws.within(attempt)
        area = high * wide * at.uniform(0, *scale)
        aspect = np.exp(at.uniform(1, np.log(ratio[0]), np.log(ratio[1])))
        w, h = (
            np.rint(np.sqrt(area * aspect)).astype(np.int64),
            np.rint(np.sqrt(area / aspect)).astype(np.int64),
        )
        fits = missing & (w > 0) & (w <= wide) & (h > 0) & (h <= high)
        top = (at.uniform(2) * (high - h + 1)).astype(np.int64)
        left = (at.uniform(3) * (wide - w + 1)).astype(np.int64)
        found[:, fits] = np.stack([top, left, h, w])[:, fits]
        missing &= ~fits
    return found, missing
