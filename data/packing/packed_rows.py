"""Samples of one length, cut from the tokens of all documents: which tokens a sample has is arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache import load_array
from ..config import PackConfig
from ..order import Indices

IGNORED = -100
"""A target that does not count, as torch's and Hugging Face's losses have it."""
_BLOCK_BYTES = 2**21


def packed_length(tokens: int, pack: PackConfig) -> int:
    """Return how many samples there are; a pair needs one token more, the target of its last one."""
    return max(0, tokens - (pack.sample == "pair")) // pack.length


class PackedRows:
    """A map-style data set that can also read many rows at once: sample k begins at the token k · length.

    Args:
        files: of ``store_tokens``, by ``tokens`` and ``ends``; they are mapped, and shared by all processes.
        pack: what a sample is.
    """

    samples = False

    def __init__(self, files: Mapping[str, str], pack: PackConfig) -> None:
        self._tokens = load_array(files["tokens"])
        self._ends = load_array(files["ends"])
        self._pack = pack
        self._count = packed_length(self._tokens.size, pack)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> Any:
        if not 0 <= row < len(self):
            raise IndexError(row)
        batch = self.read(np.array([row], np.int64), 0, np.zeros(1, np.int64))
        if isinstance(batch, dict):
            return {name: values[0] for name, values in batch.items()}
        return tuple(values[0] for values in batch)

    def read(
        self,
        rows: Indices,
        epoch: int,  # noqa: ARG002 - ManyRows
        positions: Indices,  # noqa: ARG002
        seed: Callable[[int], None] | None = None,  # noqa: ARG002
    ) -> Any:
        """Read samples, int64 [k, length] each: (tokens, next tokens), or a dict."""
        length = self._pack.length
        pair = self._pack.sample == "pair"
        tokens = np.empty((rows.size, length + pair), np.int64)
        for at, row in enumerate(rows.tolist()):
            tokens[at] = self._tokens[row * length : (row + 1) * length + pair]
        begins = self._begins(rows, length + pair) if self._pack.separate else None
        if not pair:
            return self._dict(tokens, begins)
        targets = tokens[:, 1:].copy()
        if begins is not None:
            targets[begins[:, 1:]] = IGNORED
        return tokens[:, :-1].copy(), targets

    def read_ahead(self, rows: Indices) -> None:
        """Do nothing: the tokens are mapped."""

    @property
    def block_rows(self) -> int:
        """Return how many rows are best read at once."""
        return max(1, _BLOCK_BYTES // (16 * self._pack.length))

    def name_row(self, row: int) -> str:
        """Name a row for messages."""
        first = row * self._pack.length
        return f"sample {row:,} (tokens {first:,} to {first + self._pack.length - 1:,})"

    def _begins(self, rows: Indices, width: int) -> NDArray[np.bool_]:
        """Tell of each token of each sample whether a document begins with it, bool [k, width]; found in O(log n)."""
        first = rows * self._pack.length
        documents = np.searchsorted(self._ends, np.stack([first, first + width]), side="right")
        begins = np.zeros((rows.size, width), bool)
        for at, (low, high) in enumerate(documents.T.tolist()):
            ends = np.asarray(self._ends[low:high]) - first[at]
            begins[at, ends[ends < width]] = True
        return begins

    @staticmethod
    def _dict(tokens: NDArray[np.int64], begins: NDArray[np.bool_] | None) -> dict[str, NDArray[np.int64]]:
        labels = tokens.copy()
        if begins is None:
            return {"input_ids": tokens, "labels": labels}
        labels[begins] = IGNORED
        begins[:, 0] = True  # what a sample has of a document that began before it
        places = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
        since = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
        return {
            "input_ids": tokens,
            "labels": labels,
            "position_ids": places - since,
            "document_ids": np.cumsum(begins, axis=1) - 1,
        }
