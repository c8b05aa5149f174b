"""The tokens of all documents as one file, one document after another, and where each ends."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache import save_array
from ..order import Indices, permute

PACKING_ALGORITHM = 1
"""Version of everything in this file; a cache entry of another version is not used."""
TOKENS = "tokens.npy"
ENDS = "ends.npy"
_KEY = (0x7061636B, 0)  # "pack" in ASCII
_CHUNK = 2**14
"""Documents that are looked at together."""
_RAW = "raw"


def store_tokens(
    folder: Path, documents: Iterator[NDArray[np.uint32]], end: int | None, *, shuffled: bool
) -> dict[str, Any]:
    """Write the tokens of documents, and where each document ends: tokens of 2 bytes, or 4, and 8 for each document.

    Args:
        folder: of the files.
        documents: the tokens of each.
        end: a token behind each of them.
        shuffled: whether they stand in a keyed order, the same for every run.

    Returns:
        How many documents and tokens there are.
    """
    raw = folder / _RAW
    lengths, largest = _write_raw(raw, documents, end)
    order = document_order(lengths.size, shuffled=shuffled)
    ends = lengths[order]
    np.cumsum(ends, out=ends)
    save_array(folder / ENDS, ends)
    total = int(ends[-1]) if ends.size else 0
    del ends
    tokens = np.lib.format.open_memmap(
        folder / TOKENS, "w+", np.uint16 if largest < 2**16 else np.uint32, (total,)
    )
    if total:
        _copy(np.memmap(raw, np.uint32, "r"), lengths, order, tokens)
    tokens.flush()
    raw.unlink()
    return {"documents": int(lengths.size), "tokens": total}


def document_order(count: int, *, shuffled: bool) -> Indices:
    """Return which document stands at each place."""
    order = np.arange(count, dtype=np.int64)
    if shuffled:
        for begin in range(0, count, _CHUNK):
            order[begin : begin + _CHUNK] = permute(order[begin : begin + _CHUNK], count, _KEY)
    return order


def _write_raw(raw: Path, documents: Iterator[NDArray[np.uint32]], end: int | None) -> tuple[Indices, int]:
    lengths = array("q")
    largest = end or 0
    behind = np.empty(0, np.uint32) if end is None else np.array([end], np.uint32)
    with raw.open("wb") as file:
        for tokens in documents:
            lengths.append(tokens.size + behind.size)
            largest = max(largest, int(tokens.max(initial=0)))
            file.write(tokens.tobytes())
            file.write(behind.tobytes())
    return np.frombuffer(lengths, np.int64) if lengths else np.empty(0, np.int64), largest


def _copy(raw: NDArray[np.uint32], lengths: Indices, order: Indices, tokens: NDArray[Any]) -> None:
    starts = np.cumsum(lengths)
    starts -= lengths
    place = 0
    for begin in range(0, order.size, _CHUNK):
        chosen = order[begin : begin + _CHUNK]
        for start, length in zip(starts[chosen].tolist(), lengths[chosen].tolist(), strict=True):
            tokens[place : place + length] = raw[start : start + length]
            place += length
