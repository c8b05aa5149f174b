"""One file with the pixels of many images, written in chunks by several processes; an interrupted one is continued."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIXELS = "x.npy"
_JOURNAL = "chunks.jsonl"
_CHUNK_BYTES = 4 * 2**20
_MOST_ROWS = 1024


@dataclass(frozen=True)
class ChunkRecord:
    """A chunk that was written."""

    chunk: int
    crc: int
    """CRC-32 of its bytes: after a power cut a line of the journal may be there and what it tells of not."""
    bad: tuple[tuple[int, str, str], ...] = ()
    """Of each image that cannot be read its row, what is wrong, and what to do; its pixels are 0."""

    @classmethod
    def from_json(cls, text: str) -> ChunkRecord:
        """Read one line of a journal.

        Raises:
            ValueError: it is none.
        """
        document: dict[str, Any] = json.loads(text)
        bad = tuple((int(row), str(what), str(how)) for row, what, how in document["bad"])
        return cls(int(document["chunk"]), int(document["crc"]), bad)

    def to_json(self) -> str:
        """Write it as one line."""
        return json.dumps(asdict(self))


class DecodedFile:
    """An ``.npy`` file of shape [rows, C, H, W] in ``folder``, beside a journal of the chunks that are in it.

    Args:
        folder: of the file.
        rows: images.
        shape: of one.
        step: rows of a chunk; unset: some megabytes.
    """

    def __init__(self, folder: Path, rows: int, shape: Sequence[int], step: int | None = None) -> None:
        self.path = folder / PIXELS
        self._journal = folder / _JOURNAL
        self._shape = (rows, *shape)
        self._row_bytes = prod(shape)
        self.step = step or min(_MOST_ROWS, max(1, _CHUNK_BYTES // max(1, self._row_bytes)))
        self.chunks = -(-rows // self.step)

    def rows(self, chunk: int) -> range:
        """Return the rows of a chunk."""
        return range(chunk * self.step, min(self._shape[0], (chunk + 1) * self.step))

    def create(self) -> None:
        """Write the head of the file, if it is not there, and give it its length."""
        with self.path.open("ab") as file:
            if file.tell() != self._begin + prod(self._shape):
                file.truncate(0)
                self._journal.unlink(missing_ok=True)
                file.write(self._head())
                file.truncate(self._begin + prod(self._shape))

    def write(self, chunk: int, pixels: NDArray[np.uint8]) -> int:
        """Write a chunk at its place; return its checksum. A full disk is an ``OSError``, never a lost page."""
        content: memoryview = np.ascontiguousarray(pixels).reshape(-1).data
        place = self._begin + self.rows(chunk).start * self._row_bytes
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            done = 0
            while done < len(content):
                done += os.pwrite(descriptor, content[done:], place + done)
        finally:
            os.close(descriptor)
        return zlib.crc32(content)

    def record(self, record: ChunkRecord) -> None:
        """Note that a chunk is there."""
        with self._journal.open("a", encoding="utf-8") as file:
            file.write(f"{record.to_json()}\n")

    def recorded(self) -> dict[int, ChunkRecord]:
        """Read which chunks are there already, each of which is compared with its checksum."""
        try:
            lines = self._journal.read_text(encoding="utf-8").splitlines()
        except OSError:
            return {}
        found = {}
        for line in lines:
            try:
                record = ChunkRecord.from_json(line)
            except (ValueError, KeyError, TypeError):  # cut off in the middle
                continue
            if record.chunk < self.chunks and self._checksum(record.chunk) == record.crc:
                found[record.chunk] = record
        return found

    def finish(self) -> None:
        """Wait for the disk, and remove the journal."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self._journal.unlink(missing_ok=True)

    def _head(self) -> bytes:
        from io import BytesIO

        head = BytesIO()
        described = {"descr": "|u1", "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(head, described)
        return head.getvalue()

    @property
    def _begin(self) -> int:
        """Bytes before the first pixel."""
        return len(self._head())

    def _checksum(self, chunk: int) -> int:
        rows = self.rows(chunk)
        with self.path.open("rb") as file:
            file.seek(self._begin + rows.start * self._row_bytes)
            return zlib.crc32(file.read(len(rows) * self._row_bytes))
