"""Files of this machine, read in ranges of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class LocalFile:
    """A file of this machine's file systems.

    Args:
        path: where it lies.
    """

    path: str
    is_remote = False

    def open(self) -> BinaryIO:
        """Open it."""
        return Path(self.path).open("rb")

    def open_arrow(self) -> pa.NativeFile:
        """Open it without mapping it: a mapped file that is cut off kills its reader."""
        import pyarrow as pa

        return pa.OSFile(self.path)

    def read(self, begin: int, end: int) -> bytes:
        """Read a range."""
        with self.open() as file:
            file.seek(begin)
            return file.read(end - begin)

    def read_all(self) -> bytes:
        """Read all."""
        return Path(self.path).read_bytes()

    def exists(self) -> bool:
        """Tell whether it is there."""
        return Path(self.path).exists()

    def stamp(self) -> tuple[object, ...]:
        """Return its size in bytes and its time in nanoseconds."""
        status = Path(self.path).stat()
        return status.st_size, status.st_mtime_ns
