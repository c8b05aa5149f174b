"""One link between the supervisors of two nodes: lines of JSON over TCP, each proven to come from the other.

Each line carries a code over its content and its number, under a key of this link alone (see ``handshake``): nothing
can be put in, left out or said again, and no line is parsed before its code was right. What is said is not hidden: it
holds numbers of ranks, steps and the words of errors. What one side can make the other keep is bounded.
"""

from __future__ import annotations

import hmac
import json
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from .handshake import ANSWER_BYTES, FollowerHandshake, LinkError

_CHUNK = 1 << 16
_LONGEST_LINE = 1 << 24
_MOST_AT_ONCE = 1 << 22
"""Bytes that one call reads: who sends faster than they are read must not stop this node."""
_MOST_UNSENT = 1 << 26
_CODE = 32  # hexadecimal digits: 16 bytes
_IDLE, _BETWEEN, _TRIES = 10, 5, 3  # seconds, seconds and number of the kernel's own probes of a silent link


class PeerLink:
    """An open link; never blocks. One thread reads; any may send.

    Args:
        connection: after the handshake.
        key: of this link.
        end: 0 on node 0's side, 1 on the other: a line cannot be sent back to who said it.
    """

    def __init__(self, connection: socket.socket, key: bytes, end: int) -> None:
        connection.settimeout(0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _keep_alive(connection)
        self._socket = connection
        self._key = key
        self._end = end
        self._out, self._in = bytearray(), bytearray()
        self._searched = 0  # bytes of ``_in`` that hold no end of a line
        self._sent = self._received = 0
        self._last_received = time.monotonic()
        self._unread: list[dict[str, Any]] = []
        self._sending = threading.RLock()
        self._broken = ""
        """Why nothing can be sent any more."""
        self.closed = ""
        """Why it is; empty while it is open."""

    @property
    def local_address(self) -> str:
        """This side's address."""
        return str(self._socket.getsockname()[0])

    @property
    def silence(self) -> float:
        """Seconds since the other side's last word."""
        return time.monotonic() - self._last_received

    def send(self, kind: str, **values: Any) -> None:
        """Say something; what the network does not take yet goes with the next call."""
        line = json.dumps({"kind": kind, **values}).encode()
        with self._sending:
            self._out += self._code(self._end, self._sent, line) + line + b"\n"
            self._sent += 1
            self.flush()
            if len(self._out) > _MOST_UNSENT:
                self._close("it does not take what is sent to it")

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 where it is closed."""
        return self._socket.fileno()

    def flush(self) -> None:
        """Send what is waiting, as far as the network takes it; where it is broken, ``receive`` ends the link."""
        with self._sending, suppress(BlockingIOError):
            try:
                while self._out and not self.closed:
                    del self._out[: self._socket.send(self._out)]
            except BlockingIOError:
                raise
            except OSError as error:
                self._broken = self._broken or error.strerror or "broken"
                self._out.clear()

    def receive(self) -> list[dict[str, Any]]:
        """Return what has been said since the last call: all of it, also where nothing can be sent any more."""
        self.flush()
        broken = (
            self._broken
        )  # what breaks from here on ends the link next time: its last word may come meanwhile
        read = 0
        try:
            while not self.closed and read < _MOST_AT_ONCE:
                if not (chunk := self._socket.recv(_CHUNK)):
                    self._close(broken or "it was closed by the other side")
                self._in += chunk
                read += len(chunk)
        except BlockingIOError:
            if broken:
                self._close(broken)
        except OSError as error:
            self._close(broken or error.strerror or "broken")
        unread, self._unread = self._unread, []
        return unread + self._messages()

    def take(self, *kinds: str) -> dict[str, Any] | None:
        """Take the first message of these kinds, if there is one; what came after it stays unread."""
        messages = self.receive()
        for number, message in enumerate(messages):
            if message["kind"] in kinds:
                self._unread = messages[number + 1 :]
                return message
        return None

    def _messages(self) -> list[dict[str, Any]]:
        found = []
        while (end := self._in.find(b"\n", self._searched)) >= 0:
            line = bytes(self._in[:end])
            del self._in[: end + 1]
            self._searched = 0
            if (message := self._proven(line)) is None:
                self._close("something else than the other node has written to it")
                self._in.clear()
                break
            found.append(message)
        self._searched = len(self._in)
        if self._searched > _LONGEST_LINE:
            self._close("a line without end")
            self._in.clear()
        if found:
            self._last_received = time.monotonic()
        return found

    def _proven(self, line: bytes) -> dict[str, Any] | None:
        """Return the message of a line; None where it is not the one that the other side has said next."""
        code, text = line[:_CODE], line[_CODE:]
        if not hmac.compare_digest(code, self._code(1 - self._end, self._received, text)):
            return None
        self._received += 1
        with suppress(ValueError, RecursionError):
            message = json.loads(text)
            if isinstance(message, dict) and isinstance(message.get("kind"), str):
                return message
        return None

    def _code(self, end: int, number: int, line: bytes) -> bytes:
        content = b"%d %d \0%b" % (end, number, line)
        return hmac.digest(self._key, content, "sha256").hex()[:_CODE].encode()

    def _close(self, why: str) -> None:
        self.closed = self.closed or why
        self._socket.close()

    def close(self) -> None:
        """Say the rest, as far as it goes at once, and end the link."""
        self.flush()
        self._close("it was closed")


def _keep_alive(connection: socket.socket) -> None:
    """Let the kernel notice a cut cable: heartbeats begin only later."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, _IDLE),
        (socket.TCP_KEEPINTVL, _BETWEEN),
        (socket.TCP_KEEPCNT, _TRIES),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def connect_to_leader(place: tuple[str, int], secret: bytes, seconds: float) -> PeerLink:
    """Connect to node 0, which has as long as this for everything, however it spreads its bytes.

    Raises:
        LinkError: what answers there does not prove that it is node 0.
        OSError: nothing answers.
    """
    deadline = time.monotonic() + seconds
    connection = socket.create_connection(place, timeout=seconds)
    handshake = FollowerHandshake(secret)
    try:
        connection.sendall(handshake.opening)
        connection.sendall(handshake.take(_read_exactly(connection, ANSWER_BYTES, deadline)))
        return PeerLink(connection, handshake.key, 1)
    except (OSError, LinkError) as error:
        connection.close()
        why = getattr(error, "strerror", None) or error
        raise LinkError(f"what answers there is not node 0 of this launch: {why}") from error


def _read_exactly(connection: socket.socket, count: int, deadline: float) -> bytes:
    """Read this many bytes and no more: what follows them belongs to the link."""
    found = b""
    while len(found) < count:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        if not (chunk := connection.recv(count - len(found))):
            raise LinkError("it has closed the connection; has it the same key?")
        found += chunk
    return found
