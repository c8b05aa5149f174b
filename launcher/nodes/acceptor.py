"""Node 0's open door: whoever connects has a few bytes and seconds to prove that it belongs to the launch.

Everybody can connect, and nobody may be held up by it. All handshakes are served in turn, never waited for. Until
somebody has proven to know the secret, a fixed number of bytes is read and compared; then it may keep its place for
the rest of the handshake. Who has proven nothing yet loses its place to whoever comes later, once there are too many:
a node sends its proof together with its connection, so it is read as soon as it is accepted.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from .handshake import LeaderHandshake, LinkError
from .peer_link import PeerLink

_HANDSHAKE_SECONDS = 5.0
_UNPROVEN, _UNPROVEN_OF_ADDRESS, _OPENED = 64, 32, 256  # connections at once
_ACCEPTED_AT_ONCE = 256
_NAMED = 3  # of those who were turned away; the others are counted
_ADDRESSES = 1000  # that are told apart in counting
_BETWEEN_SECONDS = 0.001
_RESET = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Caller:
    """Somebody who has connected, and has not proven everything yet."""

    connection: socket.socket
    address: str
    handshake: LeaderHandshake
    deadline: float
    heard: bytearray = field(default_factory=bytearray)


class Acceptor:
    """The handshakes with all who connect to node 0.

    Args:
        listening: sockets, which do not block.
        secret: which the others have to know.
        say: tells users of somebody who was turned away.
    """

    def __init__(self, listening: Iterable[socket.socket], secret: bytes, say: Callable[[str], None]) -> None:
        self._secret = secret
        self._seen: set[bytes] = set()
        self._unproven: dict[str, dict[_Caller, None]] = {}  # by address; oldest first, as in the next one
        self._opened: dict[_Caller, None] = {}
        self._proven: list[PeerLink] = []
        self._turned_away = _TurnedAway(say)
        self._selector = selectors.DefaultSelector()
        for listener in listening:
            self._selector.register(listener, selectors.EVENT_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for caller in self._callers():
            self._forget(caller)
            caller.connection.close()
        self._selector.close()
        self._turned_away.sum_up()

    def accept(self, seconds: float) -> list[PeerLink]:
        """Serve who is there, after waiting at most ``seconds`` for somebody; return links to those who are proven."""
        for key, _ in self._selector.select(seconds):
            if isinstance(key.data, _Caller):
                if key.data.connection.fileno() >= 0:
                    self._hear(key.data)
            elif isinstance(key.fileobj, socket.socket):
                self._open_to(key.fileobj)
        now = time.monotonic()
        for caller in [caller for caller in self._callers() if caller.deadline < now]:
            self._turn_away(caller, f"it has proven nothing for {_HANDSHAKE_SECONDS:g} s")
        proven, self._proven = self._proven, []
        return proven

    def _callers(self) -> list[_Caller]:
        return [caller for callers in (*self._unproven.values(), self._opened) for caller in callers]

    def _open_to(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, (address, *_) = listener.accept()
            except BlockingIOError:
                return
            except OSError:  # of a connection that is over already; or there is no descriptor left for it
                self._make_room(max(self._unproven.values(), key=len, default=self._opened))
                time.sleep(_BETWEEN_SECONDS)
                return
            self._greet(connection, str(address))

    def _greet(self, connection: socket.socket, address: str) -> None:
        connection.setblocking(False)  # noqa: FBT003 - its only form
        deadline = time.monotonic() + _HANDSHAKE_SECONDS
        caller = _Caller(connection, address, LeaderHandshake(self._secret, self._seen), deadline)
        same = self._unproven.setdefault(address, {})
        same[caller] = None
        if not self._hear(caller):
            return
        self._selector.register(connection, selectors.EVENT_READ, caller)
        if len(same) > _UNPROVEN_OF_ADDRESS:
            self._make_room(same)
        elif sum(map(len, self._unproven.values())) > _UNPROVEN:
            self._make_room(max(self._unproven.values(), key=len))
        elif len(self._opened) > _OPENED:
            self._make_room(self._opened)

    def _make_room(self, callers: dict[_Caller, None]) -> None:
        """Turn away who has been there longest."""
        if callers:
            self._turn_away(next(iter(callers)), "it has proven nothing, and others wait")

    def _hear(self, caller: _Caller) -> bool:
        """Take what somebody says; whether more is to come."""
        try:
            while caller.handshake.wanted:
                self._read(caller)
            self._proven.append(PeerLink(caller.connection, caller.handshake.key, 0))
        except BlockingIOError:
            return True
        except (OSError, LinkError) as error:
            self._turn_away(caller, getattr(error, "strerror", None) or str(error))
        else:
            self._forget(caller)
        return False

    def _read(self, caller: _Caller) -> None:
        wanted = caller.handshake.wanted - len(caller.heard)
        if not (chunk := caller.connection.recv(wanted)):
            raise LinkError("it has closed the connection")
        caller.heard += chunk
        caller.handshake.check_beginning(bytes(caller.heard))
        if len(chunk) == wanted:
            self._answer(caller)

    def _answer(self, caller: _Caller) -> None:
        answer = caller.handshake.take(bytes(caller.heard))
        caller.heard.clear()
        if not answer:
            return
        self._drop(caller)
        self._opened[caller] = None
        try:
            if caller.connection.send(answer) < len(answer):
                raise LinkError("it does not listen")
        except BlockingIOError as error:
            raise LinkError("it does not listen") from error

    def _forget(self, caller: _Caller) -> None:
        self._drop(caller)
        self._opened.pop(caller, None)
        with suppress(KeyError, ValueError):
            self._selector.unregister(caller.connection)

    def _drop(self, caller: _Caller) -> None:
        same = self._unproven.get(caller.address, {})
        same.pop(caller, None)
        if not same:
            self._unproven.pop(caller.address, None)

    def _turn_away(self, caller: _Caller, why: str) -> None:
        """End a connection, and keep nothing of it in the kernel either."""
        self._forget(caller)
        with suppress(OSError):
            caller.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        caller.connection.close()
        if not caller.handshake.is_opened:  # else a node whose patience was over: it comes again
            self._turned_away.add(caller.address, why)


class _TurnedAway:
    """A count of those who were turned away, the first few of whom are named to users."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._counts: Counter[str] = Counter()
        self._said = 0

    def add(self, address: str, why: str) -> None:
        if address not in self._counts and len(self._counts) >= _ADDRESSES:
            address = "other addresses"
        self._counts[address] += 1
        if self._counts[address] == 1 and self._said < _NAMED:
            self._said += 1
            self._say(f"somebody at {address} was turned away: {why}")

    def sum_up(self) -> None:
        """Say how many there were, if not all were named."""
        if (count := self._counts.total()) > self._said:
            more = "+" * ("other addresses" in self._counts)
            addresses = f"{len(self._counts)}{more} address{'es' * (len(self._counts) != 1)}"
            self._say(f"in all, {count} connections from {addresses} were turned away")
