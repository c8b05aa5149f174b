"""One host as the command sees it: the process there, reached through ssh, or started here where it is this machine."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from .frames import CONTROL, BrokenStreamError, FrameReader, parse_document
from .host_list import Host

HOST_CODE = "from lockstep.launcher.hosts.host_process import main; main()"
CONNECT_SECONDS = 8
_SSH_OPTIONS = {
    "BatchMode": "yes",  # a password is never asked for: with several hosts nobody could tell for which
    "ConnectTimeout": str(CONNECT_SECONDS),
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
    "RemoteCommand": "none",
    "ClearAllForwardings": "yes",  # those of the user's config belong to shells, and may be in use
}
_BEAT_SECONDS = 5.0
_CHUNK = 1 << 16
_CHUNKS = 64  # at a time: the other hosts, and signals, wait meanwhile
_WORDS_BYTES = 4096
_WORDS_LINES = 4
_SSH_FAILED = 255
_NOT_FOUND = (126, 127)


def host_command(host: Host) -> list[str]:
    """Return the command that starts the host's process: this Python, at the same path."""
    python = [sys.executable, "-P", "-c", HOST_CODE]
    if host.is_here:
        return python
    ssh = shlex.split(os.environ.get("LOCKSTEP_SSH") or "ssh")
    options = [part for name, value in _SSH_OPTIONS.items() for part in ("-o", f"{name}={value}")]
    return [*ssh, "-T", *options, "--", host.destination, f"exec {shlex.join(python)}"]


class Connection:
    """The process of one host, what it says, and whether it is still there.

    Args:
        host: where it is.
        node: which node it becomes.
    """

    def __init__(self, host: Host, node: int) -> None:
        self.host = host
        self.node = node
        self.documents: list[dict[str, Any]] = []
        """What it has said, and nobody has taken yet."""
        self.has_met = False
        """Whether its node has met the others."""
        self.status: int | None = None
        """Of its launch, once that has ended."""
        self.is_over = False
        """Whether nothing more comes."""
        self._reader = FrameReader()
        self._words = bytearray()
        self._out = bytearray()
        self._broken = ""
        self._last_order = time.monotonic()
        self._process = subprocess.Popen(
            host_command(host),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # an interrupt at the terminal is the command's to act on
        )
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._stdin, self._stdout, self._stderr = (pipe.fileno() if pipe else -1 for pipe in pipes)
        for descriptor in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(descriptor, False)

    @property
    def hello(self) -> dict[str, Any] | None:
        """What its process has said of itself; None until then."""
        return self._reader.hello

    @property
    def descriptors(self) -> tuple[int, ...]:
        """To wait for."""
        return () if self.is_over else (self._stdout, self._stderr)

    def order(self, what: str, **values: Any) -> None:
        """Tell its process what to do."""
        self._out += json.dumps({"do": what, **values}).encode() + b"\n"
        self._last_order = time.monotonic()
        self._flush()

    def _flush(self) -> None:
        if self._stdin < 0:
            return
        with suppress(BlockingIOError, BrokenPipeError):
            while self._out:
                del self._out[: os.write(self._stdin, self._out[:_CHUNK])]

    def turn(self) -> Iterator[tuple[int, bytes]]:
        """Send what waits, and take what has arrived; yield what its launch has printed."""
        if self.is_over:
            return
        if time.monotonic() - self._last_order > _BEAT_SECONDS:
            self.order("stay")
        self._flush()
        ended = self._process.poll() is not None  # asked first: all that it has written is there then
        self._words += _read(self._stderr) or b""
        del self._words[:-_WORDS_BYTES]
        chunks = 0
        while (ended or chunks < _CHUNKS) and (data := _read(self._stdout)):
            chunks += 1
            yield from self._take(data)
        if ended or self._broken:
            self.end()

    def _take(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        try:
            for stream, payload in self._reader.feed(data):
                if stream != CONTROL:
                    yield stream, payload
                    continue
                document = parse_document(payload)
                if document["kind"] == "met":
                    self.has_met = True
                elif document["kind"] == "ended":
                    self.status = int(document["status"])
                else:
                    self.documents.append(document)
        except (BrokenStreamError, KeyError, ValueError) as error:
            self._broken = str(error)

    def take(self, kind: str) -> dict[str, Any] | None:
        """Take what it has answered to an order, once it has."""
        found = next((document for document in self.documents if document["kind"] == kind), None)
        if found is not None:
            self.documents.remove(found)
        return found

    def hang_up(self) -> None:
        """Close the way to its process, which then ends its launch as at a SIGTERM."""
        if self._process.stdin is not None and self._stdin >= 0:
            self._stdin = -1
            with suppress(OSError):
                self._process.stdin.close()

    def end(self) -> None:
        """End ssh, too, where it has not ended by itself."""
        self.is_over = True
        self.hang_up()
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    @property
    def why_it_ended(self) -> str:
        """Why its process has ended before its launch: in ssh's own words, where it has some."""
        status = self._process.returncode
        text = self._words.decode(errors="replace").strip() or self._reader.noise.strip()
        words = [line.strip() for line in text.splitlines() if line.strip()][-_WORDS_LINES:]
        if self._broken:
            return self._broken
        if status in _NOT_FOUND:
            return f"there is no {sys.executable} there" + (f" ({words[-1]})" if words else "")
        if status == _SSH_FAILED and not self.host.is_here:
            return "\n".join(words) or "ssh ended without a word"
        return words[-1] if words else f"the process there ended with status {status}"

    @property
    def is_unreachable(self) -> bool:
        """Whether it was ssh that failed, and not what it was to start."""
        return self._process.returncode == _SSH_FAILED and not self.host.is_here


def _read(descriptor: int) -> bytes | None:
    """Read what has arrived; None where nothing has, or nothing more will."""
    with suppress(BlockingIOError, OSError):
        return os.read(descriptor, _CHUNK)
    return None
