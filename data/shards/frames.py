"""Frames of files that gzip or Zstandard compressed: where each lies, and what it holds."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_READ_BYTES = 2**16  # what is left of it behind a member is copied
_GZIP = 31
"""Of zlib: a gzip header and trailer."""
_ZSTD_MAGIC = 0xFD2FB528
_ZSTD_SKIPPABLE = 0x184D2A50
"""The first of sixteen."""
Frame = tuple[int, int, bytes]
"""First byte, the byte behind the last, and what it holds."""


def gzip_frames(content: bytes) -> Iterator[Frame]:
    """Decompress the members of a gzip file.

    Raises:
        ValueError: it is none, or is cut off.
    """
    view = memoryview(content)
    begin, length = 0, len(content.rstrip(b"\0"))  # zeros behind the last member are padding
    while begin < length:
        member = zlib.decompressobj(_GZIP)
        texts = []
        at = begin
        try:
            while not member.eof and at < len(content):
                texts.append(member.decompress(view[at : at + _READ_BYTES]))
                at = min(at + _READ_BYTES, len(content))
        except zlib.error as error:
            raise ValueError(f"it is not a gzip file: {error}") from error
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
