"""Node 0's open door: nobody who connects may end it, block it, or keep a node out."""

from __future__ import annotations

import random
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.launcher.nodes import acceptor as module
from lockstep.launcher.nodes.acceptor import Acceptor
from lockstep.launcher.nodes.handshake import ANSWER_BYTES, FollowerHandshake
from lockstep.launcher.nodes.peer_link import PeerLink
from tests.helpers.hostile_peers import Crowd, dead_connection, hostile_bytes

SECRET = b"the secret"
PATIENCE = 60.0


class Door:
    """An acceptor on a port of its own, and what it says."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.listener = socket.create_server((address, 0))
        self.listener.settimeout(0)
        self.place = self.listener.getsockname()[:2]
        self.notes: list[str] = []
        self.acceptor = Acceptor([self.listener], SECRET, self.notes.append)

    def connect(self, said: bytes = b"") -> socket.socket:
        connection = socket.create_connection(self.place, timeout=PATIENCE)
        connection.sendall(said)
        return connection

    def crowd(self, count: int) -> list[socket.socket]:
        """So many who say nothing, all of whom node 0 has seen."""
        connections = []
        for _ in range(count):
            connections.append(self.connect())
            self.serve(1)
        return connections

    def serve(self, turns: int = 3) -> list[PeerLink]:
        return [link for _ in range(turns) for link in self.acceptor.accept(0.02)]

    def let_a_node_in(self) -> None:
        """Connect as a node does, which must be let in before long."""
        handshake = FollowerHandshake(SECRET)
        deadline = time.monotonic() + PATIENCE
        with self.connect(handshake.opening) as connection:
            connection.settimeout(0)
            answer = b""
            while len(answer) < ANSWER_BYTES:
                assert time.monotonic() < deadline
                assert self.serve(1) == []
                try:
                    answer += connection.recv(ANSWER_BYTES - len(answer))
                except BlockingIOError:
                    continue
            connection.sendall(handshake.take(answer))
            while not (links := self.serve(1)):
                assert time.monotonic() < deadline
            other = PeerLink(connection, handshake.key, 1)
            other.send("hello", node=1)
            while (message := links[0].take("hello")) is None:
                assert time.monotonic() < deadline
        assert message == {"kind": "hello", "node": 1}
        assert len(links) == 1
        links[0].close()


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    door.acceptor.__exit__(None, None, None)
    door.listener.close()


def test_a_connection_that_is_reset_is_nothing(door: Door) -> None:
    for said in (b"", b"x", FollowerHandshake(SECRET).opening):
        dead_connection(door.place, said)
        assert door.serve() == []
    door.let_a_node_in()


@pytest.mark.parametrize("said", [b"[" * 4000, b'{"challenge": 1}\n', b"\n", bytes(64)])
def test_what_proves_nothing_is_answered_with_nothing(door: Door, said: bytes) -> None:
    with door.connect(said) as connection:
        assert door.serve() == []
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert door.notes == ["somebody at 127.0.0.1 was turned away: it says nothing that a node would say"]
    door.let_a_node_in()


def test_a_byte_now_and_then_keeps_nobody_out_and_does_not_stay(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HANDSHAKE_SECONDS", 0.5)
    opening = FollowerHandshake(SECRET).opening
    with door.connect(opening[:1]) as slow:
        door.serve()
        door.let_a_node_in()
        deadline = time.monotonic() + PATIENCE
        with pytest.raises(OSError, match=r"reset|Broken pipe"):  # noqa: PT012 - the byte at which it is over
            for byte in opening[1:]:
                assert time.monotonic() < deadline
                slow.sendall(bytes([byte]))
                door.serve(2)
    assert door.notes == ["somebody at 127.0.0.1 was turned away: it has proven nothing for 0.5 s"]


def test_many_who_stay_silent_lose_their_places_and_a_node_does_not(door: Door) -> None:
    handshake = FollowerHandshake(SECRET)
    with door.connect(handshake.opening) as node:  # it has proven something, and waits for the answer
        door.serve()
        silent = door.crowd(200)
        kept = len(silent) - sum(is_closed(connection) for connection in silent)
        assert kept <= module._UNPROVEN_OF_ADDRESS
        door.let_a_node_in()
        node.settimeout(PATIENCE)
        answer = node.recv(ANSWER_BYTES)
        node.sendall(handshake.take(answer))
        (link,) = door.serve()
        link.close()
    for connection in silent:
        connection.close()


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_those_of_one_address_do_not_push_out_another(door: Door) -> None:
    crowd = door.crowd(module._UNPROVEN_OF_ADDRESS)
    other = socket.create_connection(door.place, source_address=("127.0.0.2", 0))
    door.serve()
    crowd += door.crowd(3 * module._UNPROVEN)
    assert not is_closed(other)
    for connection in (*crowd, other):
        connection.close()


def test_many_addresses_have_places_for_so_many_only(door: Door) -> None:
    connections = []
    for number in range(2, 2 + 3 * module._UNPROVEN):
        connections.append(socket.create_connection(door.place, source_address=(f"127.0.1.{number}", 0)))
        door.serve(1)
    assert sum(not is_closed(connection) for connection in connections) == module._UNPROVEN
    for connection in connections:
        connection.close()


def test_no_descriptor_left_is_a_pause_not_an_end(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = door.crowd(20)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = door.connect(FollowerHandshake(SECRET).opening)
    used = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
    try:
        door.serve(60)
        assert len(door.acceptor._opened) == 1  # it got the place of one who is silent
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for connection in (*crowd, waiting):
        connection.close()


def test_who_was_turned_away_is_named_a_few_times_and_then_counted(door: Door) -> None:
    for number in range(2, 12):
        for _ in range(2):
            with socket.create_connection(door.place, source_address=(f"127.0.0.{number}", 0)) as connection:
                connection.sendall(b"x" * 64)
                door.serve(2)
    assert len(door.notes) == 3
    door.acceptor.__exit__(None, None, None)
    assert door.notes[3:] == ["in all, 20 connections from 10 addresses were turned away"]


@pytest.mark.parametrize(
    ("seconds", "seed"),
    [(2, 0), pytest.param(60, random.randrange(2**32), marks=pytest.mark.exhaustive, id="a minute")],
)
def test_whatever_strangers_say_a_node_gets_in(door: Door, seconds: float, seed: int) -> None:
    print("seed", seed)
    draw, crowd = random.Random(seed), Crowd(door.place, seed)
    until = time.monotonic() + seconds
    met = 0
    while time.monotonic() < until or met < 2:
        for _ in range(draw.randrange(100)):
            crowd.push()
        with door.connect(hostile_bytes(draw)):
            door.let_a_node_in()
        met += 1
    assert sum(map(len, door.acceptor._unproven.values())) <= module._UNPROVEN
    crowd.close()
    assert len(door.notes) <= 3
