"""What a file format declares: how a file is looked at once, and how a group of its rows is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Values = NDArray[Any] | list[Any]
"""One column of some rows: numbers of one shape, or Python values."""


class _Missing:
    """The value of a column that a row does not have."""

    def __repr__(self) -> str:
        return "missing"


MISSING = _Missing()


@dataclass(frozen=True)
class Place:
    """The place of a group in its file."""

    begin: int
    """Its number in the file, or its first byte."""
    end: int
    """The byte behind its last; 0 where groups have numbers."""
    check: int
    """Its checksum; 0 where the format has others."""
    rows: int

    def read_from(self, file: StoredFile) -> bytes:
        """Read its bytes, fewer where the file has become shorter."""
        return file.read(self.begin, self.end)


@dataclass(frozen=True)
class ShardScan:
    """The findings of a look at a file."""

    places: tuple[Place, ...]
    """Of groups with at least one row."""
    digest: str
    """A hash that differs for another content: of the footer, or of all bytes."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Column to kind; empty where only reading shows them."""
    decoded_bytes: int = 0
    """An estimate of what all rows take in memory."""


class StoredFile(Protocol):
    """A file on this machine or behind an address; it can be pickled."""

    def open(self) -> BinaryIO:
        """Open it for reading from front to back, in large blocks."""
        ...

    def open_arrow(self) -> pa.NativeFile:
        """Open it for pyarrow, which reads the ranges that it needs, each by one request."""
        ...

    def read(self, begin: int, end: int) -> bytes:
        """Read bytes ``begin`` to ``end``, fewer where the file is shorter."""
        ...

    def read_all(self) -> bytes:
        """Read it as a whole."""
        ...

    def exists(self) -> bool:
        """Tell whether it is there."""
        ...

    def stamp(self) -> tuple[object, ...]:
        """Return what differs where the file was written anew, such as its size and time."""
        ...

    @property
    def is_remote(self) -> bool:
        """Tell whether each read is a request over a network."""
        ...


class RowGroup(Protocol):
    """A group of rows in memory."""

    def parts(self) -> tuple[Mapping[str, NDArray[Any]], RowGroup | None]:
        """Return its columns of numbers [rows, ...], and a group of its other columns where there are any."""
        ...

    def take(self, rows: NDArray[np.int64]) -> dict[str, Values]:
        """Return the columns of some of its rows, in that order.

        Raises:
            BadRowError: one of them is not a row.
        """
        ...


class OpenShard(Protocol):
    """A file whose groups can be read."""

    def read(self, place: Place) -> RowGroup:
        """Read and decode a group; what it raises is not fit for users."""
        ...


class ShardFormat(Protocol):
    """A file format."""

    def scan(self, file: StoredFile) -> ShardScan:
        """Look at a file as a whole; what it raises is not fit for users."""
        ...

    def open(self, file: StoredFile, digest: str, columns: tuple[str, ...] | None) -> OpenShard:
        """Open a file; None reads all columns.

        Raises:
            ShardChangedError: it is another one than that of ``digest``, as far as opening shows it.
        """
        ...


class ShardChangedError(Exception):
    """A file that is not what was indexed."""


class BadRowError(Exception):
    """A row that cannot be read.

    Args:
        row: within its group.
        reason: what is wrong with it.
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row
        self.reason = reason
