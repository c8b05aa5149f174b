"""One link between the supervisors of two nodes: lines of JSON over TCP, each proven to come from the other.

Both sides know a secret. Each proves it with the other's challenge before anything else is read, and each line
carries a code over its content and its number, under a key of this link alone: nothing can be put in, left out or
said again. What is said is not hidden: it holds numbers of ranks, steps and the words of errors.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import threading
import time
from contextlib import suppress
from typing import Any

_HELLO_BYTES = 4096
_HANDSHAKE_SECONDS = 5.0
_CHUNK = 1 << 16
_LONGEST_LINE = 1 << 24
_CODE = 32  # hexadecimal digits: 16 bytes


class LinkError(Exception):
    """The failure of a handshake: the other side does not know the secret, or is no node of a launch."""


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
        self._socket = connection
        self._key = key
        self._end = end
        self._out, self._in = bytearray(), bytearray()
        self._sent = self._received = 0
        self._last_received = time.monotonic()
        self._unread: list[dict[str, Any]] = []
        self._sending = threading.RLock()
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

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 where it is closed."""
        return self._socket.fileno()

    def flush(self) -> None:
        """Send what is waiting, as far as the network takes it."""
        with self._sending, suppress(BlockingIOError):
            try:
                while self._out and not self.closed:
                    del self._out[: self._socket.send(self._out)]
            except BlockingIOError:
                raise
            except OSError as error:
                self._close(error.strerror or "broken")

    def receive(self) -> list[dict[str, Any]]:
        """Return what has been said since the last call."""
        self.flush()
        with suppress(BlockingIOError):
            try:
                while not self.closed:
                    if not (chunk := self._socket.recv(_CHUNK)):
                        self._close("it was closed by the other side")
                    self._in += chunk
            except BlockingIOError:
                raise
            except OSError as error:
                self._close(error.strerror or "broken")
        unread, self._unread = self._unread, []
        return unread + self._lines()

    def unread(self, messages: list[dict[str, Any]]) -> None:
        """Have the next call of ``receive`` return these, first of all."""
        self._unread = messages + self._unread

    def _lines(self) -> list[dict[str, Any]]:
        *lines, rest = bytes(self._in).split(b"\n")
        self._in = bytearray(rest)
        if len(rest) > _LONGEST_LINE:
            self._close("a line without end")
        found = []
        for line in lines:
            code, text = line[:_CODE], line[_CODE:]
            if not hmac.compare_digest(code, self._code(1 - self._end, self._received, text)):
                self._close("something else than the other node has written to it")
                break
            self._received += 1
            found.append(json.loads(text))
        if found:
            self._last_received = time.monotonic()
        return found

    def _code(self, end: int, number: int, line: bytes) -> bytes:
        return _digest(self._key, b"%d %d " % (end, number), line)[:_CODE].encode()

    def _close(self, why: str) -> None:
        self.closed = self.closed or why
        self._socket.close()

    def close(self) -> None:
        """Say the rest, as far as it goes at once, and end the link."""
        self.flush()
        self._close("it was closed")


def handshake_as_leader(connection: socket.socket, secret: bytes) -> PeerLink:
    """Do node 0's part of the handshake.

    Raises:
        LinkError: the other side does not prove that it knows the secret.
    """
    connection.settimeout(_HANDSHAKE_SECONDS)
    mine = secrets.token_hex(16)
    try:
        _say(connection, challenge=mine)
        answer = _hear(connection)
        theirs = str(answer["challenge"])
        _prove(str(answer["proof"]), secret, b"other", mine, theirs)
        _say(connection, proof=_proof(secret, b"first", mine, theirs))
    except (OSError, ValueError, KeyError) as error:
        raise LinkError(f"no node of this launch: {error}") from error
    return PeerLink(connection, _proof(secret, b"link", mine, theirs).encode(), 0)


def handshake_as_follower(connection: socket.socket, secret: bytes) -> PeerLink:
    """Do another node's part of the handshake.

    Raises:
        LinkError: the other side does not prove that it knows the secret.
    """
    connection.settimeout(_HANDSHAKE_SECONDS)
    mine = secrets.token_hex(16)
    try:
        theirs = str(_hear(connection)["challenge"])
        _say(connection, challenge=mine, proof=_proof(secret, b"other", theirs, mine))
        _prove(str(_hear(connection)["proof"]), secret, b"first", theirs, mine)
    except (OSError, ValueError, KeyError) as error:
        raise LinkError(f"what answers there is not node 0 of this launch: {error}") from error
    return PeerLink(connection, _proof(secret, b"link", theirs, mine).encode(), 1)


def _proof(secret: bytes, role: bytes, first: str, second: str) -> str:
    return _digest(secret, role, f"{first} {second}".encode())


def _prove(given: str, secret: bytes, role: bytes, first: str, second: str) -> None:
    if not hmac.compare_digest(given.encode(), _proof(secret, role, first, second).encode()):
        raise ValueError("it does not know the secret")


def _digest(key: bytes, *parts: bytes) -> str:
    return hmac.new(key, b"\0".join(parts), "sha256").hexdigest()


def _say(connection: socket.socket, **values: str) -> None:
    connection.sendall((json.dumps(values) + "\n").encode())


def _hear(connection: socket.socket) -> dict[str, Any]:
    """Read one short line, byte by byte: what follows it belongs to the link."""
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte or len(line) > _HELLO_BYTES:
            raise ValueError("it says nothing that a node would say")
        line += byte
    document = json.loads(line)
    if not isinstance(document, dict):
        raise ValueError("it says nothing that a node would say")  # noqa: TRY004 - the same to the caller
    return document
