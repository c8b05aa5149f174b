"""What a host's process and the command that has started it say to each other through ssh.

The host sends one line that says who it is, then frames: its launch's output, and documents of JSON between. What a
login shell prints before that is not part of it. In the other direction go lines of JSON.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

CONTROL, OUT, ERR = 0, 1, 2
"""What a frame holds: a document, or what was written to stdout or stderr."""
_HELLO = b"\0lockstep "
_HEAD = struct.Struct(">BI")
_LONGEST = 1 << 20
_NOISE_BYTES = 4096


class BrokenStreamError(Exception):
    """A stream that does not hold what it should."""


def hello_line(about: dict[str, Any]) -> bytes:
    """Write the first line: who the host's process is."""
    return _HELLO + json.dumps(about).encode() + b"\n"


def frame(stream: int, data: bytes) -> bytes:
    """Wrap some bytes of a stream."""
    return _HEAD.pack(stream, len(data)) + data


def control_frame(document: dict[str, Any]) -> bytes:
    """Wrap a document."""
    return frame(CONTROL, json.dumps(document).encode())


class FrameReader:
    """A reader of what a host's process sends."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.hello: dict[str, Any] | None = None
        """What the first line has said; None until it came."""

    @property
    def noise(self) -> str:
        """What was printed in place of the first line: by a shell that let nobody in, perhaps."""
        return "" if self.hello is not None else self._buffer.decode(errors="replace")

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take some bytes; yield the frames that are whole.

        Raises:
            BrokenStreamError: they are not frames.
        """
        self._buffer += data
        if self.hello is None and not self._greet():
            return
        while len(self._buffer) >= _HEAD.size:
            stream, length = _HEAD.unpack_from(self._buffer)
            if stream not in (CONTROL, OUT, ERR) or length > _LONGEST:
                raise BrokenStreamError("what it sends cannot be understood")
            if len(self._buffer) < _HEAD.size + length:
                return
            whole = bytes(self._buffer[_HEAD.size : _HEAD.size + length])
            del self._buffer[: _HEAD.size + length]
            yield stream, whole

    def _greet(self) -> bool:
        """Look for the first line behind what a shell has printed."""
        start = self._buffer.find(_HELLO)
        if start < 0:
            del self._buffer[:-_NOISE_BYTES]
            return False
        end = self._buffer.find(b"\n", start)
        if end < 0:
            return False
        self.hello = parse_document(bytes(self._buffer[start + len(_HELLO) : end]))
        del self._buffer[: end + 1]
        return True


def parse_document(data: bytes) -> dict[str, Any]:
    """Read a document.

    Raises:
        BrokenStreamError: it is none.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        raise BrokenStreamError("what it sends cannot be understood") from error
    if not isinstance(document, dict):
        raise BrokenStreamError("what it sends cannot be understood")
    return document
