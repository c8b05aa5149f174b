"""JSON lines that are compressed by gzip or Zstandard: read in parts that begin where a frame does."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .json_lines import IN_MEMORY, PART_BYTES, LineGroup, count_lines
from .shard_format import OpenShard, Place, RowGroup, ShardChangedError, ShardScan

_READ_BYTES = 2**20
_GZIP = 31
"""Of zlib: a gzip header and trailer."""
_ZSTD_MAGIC = 0xFD2FB528
_ZSTD_SKIPPABLE = 0x184D2A50
"""The first of sixteen."""
Frame = tuple[int, int, bytes]
"""First byte, the byte behind the last, and what it holds."""


@dataclass(frozen=True)
class CompressedLines:
    """The format of compressed JSON lines.

    A part is one or more frames that hold whole lines. A file that was compressed in one piece, as ``gzip`` and
    ``zstd`` do, is one part: nobody can begin to read in its middle.
    """

    frames: Callable[[bytes], Iterator[Frame]]
    """Decompresses all frames of a file's bytes."""

    def scan(self, path: str) -> ShardScan:
        """Decompress the file and count the lines of its frames."""
        content = Path(path).read_bytes()
        digest = hashlib.blake2b(content, digest_size=16)
        places = []
        decoded = 0
        for begin, end, text in _of_whole_lines(self.frames(content)):
            decoded += len(text)
            if rows := count_lines(text):
                places.append(Place(begin, end, zlib.crc32(content[begin:end]), rows))
        return ShardScan(tuple(places), digest.hexdigest(), decoded_bytes=decoded * IN_MEMORY)

    def open(self, path: str, digest: str, columns: tuple[str, ...] | None) -> OpenShard:  # noqa: ARG002 - ShardFormat
        """Open nothing yet: each part has a checksum."""
        return _OpenFrames(path, columns, self.frames)


@dataclass(frozen=True)
class _OpenFrames:
    path: str
    columns: tuple[str, ...] | None
    frames: Callable[[bytes], Iterator[Frame]]

    def read(self, place: Place) -> RowGroup:
        with Path(self.path).open("rb") as file:
            file.seek(place.begin)
            part = file.read(place.end - place.begin)
        if zlib.crc32(part) != place.check:
            raise ShardChangedError("its bytes are not those that were indexed")
        return LineGroup(b"".join(text for _, _, text in self.frames(part)), self.columns)


def _of_whole_lines(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Join frames until they end where a line does, and are worth reading."""
    texts: list[bytes] = []
    begin = end = 0
    for start, end, text in frames:
        begin = begin if texts else start
        texts.append(text)
        if text.endswith(b"\n") and sum(map(len, texts)) >= PART_BYTES:
            yield begin, end, b"".join(texts)
            texts = []
    if texts:
        yield begin, end, b"".join(texts)


def gzip_frames(content: bytes) -> Iterator[Frame]:
    """Decompress the members of a gzip file.

    Raises:
        ValueError: it is none, or is cut off.
    """
    view = memoryview(content)
    begin = 0
    while begin < len(content):
        member = zlib.decompressobj(_GZIP)
        texts = []
        at = begin
        try:
            while not member.eof and at < len(content):
                texts.append(member.decompress(view[at : at + _READ_BYTES]))
                at = min(at + _READ_BYTES, len(content))
        except zlib.error as error:
            raise ValueError(f"it is no gzip file: {error}") from error
        if not member.eof:
            raise ValueError("it is cut off")
        end = at - len(member.unused_data)
        yield begin, end, b"".join(texts)
        begin = end


def zstd_frames(content: bytes) -> Iterator[Frame]:
    """Decompress the frames of a Zstandard file.

    Raises:
        ValueError: it is none, or is cut off.
    """
    import pyarrow as pa

    begin = 0
    while begin < len(content):
        magic = int.from_bytes(content[begin : begin + 4], "little")
        if magic & 0xFFFFFFF0 == _ZSTD_SKIPPABLE:
            begin += 8 + int.from_bytes(content[begin + 4 : begin + 8], "little")
            continue
        if magic != _ZSTD_MAGIC:
            raise ValueError("it is no Zstandard file")
        end = _end_of_zstd_frame(content, begin)
        if end > len(content):
            raise ValueError("it is cut off")
        with pa.CompressedInputStream(pa.py_buffer(content[begin:end]), "zstd") as stream:
            yield begin, end, stream.read()
        begin = end


def _end_of_zstd_frame(content: bytes, begin: int) -> int:
    """Pass over a frame's header and blocks, as RFC 8878 describes them; behind the file where it is cut off."""
    if begin + 5 > len(content):
        return len(content) + 1
    flags = content[begin + 4]
    single_segment = flags >> 5 & 1
    size_bytes = (single_segment, 2, 4, 8)[flags >> 6]
    at = begin + 5 + (1 - single_segment) + (0, 1, 2, 4)[flags & 3] + size_bytes
    last = 0
    while not last and at < len(content):
        header = int.from_bytes(content[at : at + 3], "little")
        last = header & 1
        at += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)  # a run of one byte has that byte alone
    return at + 4 * (flags >> 2 & 1) if last else len(content) + 1
