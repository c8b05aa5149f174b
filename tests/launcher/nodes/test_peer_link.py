"""A link's lines: what is not proven is never parsed, and what is proven is bounded."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lockstep.launcher.nodes import peer_link as module
from lockstep.launcher.nodes.handshake import ANSWER_BYTES, LeaderHandshake, LinkError
from lockstep.launcher.nodes.peer_link import PeerLink, connect_to_leader
from tests.helpers.node_launch import linked_sockets

PATIENCE = 60.0
NOT_THE_OTHERS = "something else than the other node has written to it"


@pytest.fixture
def ends() -> Iterator[tuple[PeerLink, socket.socket]]:
    ours, theirs = linked_sockets()
    theirs.settimeout(PATIENCE)
    yield PeerLink(ours, b"key", 0), theirs
    ours.close()
    theirs.close()


def proven(link: PeerLink, number: int, text: bytes) -> bytes:
    """A line as the other side would write it."""
    return link._code(1, number, text) + text + b"\n"


def received(link: PeerLink, count: int = 1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < count and not link.closed:
        assert time.monotonic() < deadline
        found += link.receive()
    return found


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 4000 + b"\n",
        b"[" * 100_000 + b"\n",
        b"\n",
        b"\xff\n",
        b'{"kind": "end"}\n',
        b"0" * 32 + b"{}\n",
    ],
)
def test_a_line_that_is_not_proven_is_not_parsed_and_ends_the_link(
    ends: tuple[PeerLink, socket.socket], line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, other = ends
    other.sendall(proven(link, 0, b'{"kind": "first"}'))
    assert received(link) == [{"kind": "first"}]
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("it was parsed"))
    other.sendall(line)
    assert received(link) == []
    assert link.closed == NOT_THE_OTHERS


@pytest.mark.parametrize("text", [b"[" * 100_000, b"[]", b"{}", b'{"kind": 1}', b"{", b"\xff", b""])
def test_a_proven_line_that_is_no_message_ends_the_link(
    ends: tuple[PeerLink, socket.socket], text: bytes
) -> None:
    link, other = ends
    other.sendall(proven(link, 0, b'{"kind": "first"}') + proven(link, 1, text))
    assert received(link) == [{"kind": "first"}]
    assert received(link) == []
    assert link.closed == NOT_THE_OTHERS


def test_a_line_said_again_ends_the_link(ends: tuple[PeerLink, socket.socket]) -> None:
    link, other = ends
    other.sendall(2 * proven(link, 0, b'{"kind": "first"}'))
    assert received(link) == [{"kind": "first"}]
    assert received(link) == []
    assert link.closed == NOT_THE_OTHERS


def test_a_line_in_pieces_is_one_message(ends: tuple[PeerLink, socket.socket]) -> None:
    link, other = ends
    line = proven(link, 0, b'{"kind": "first"}')
    for at in range(len(line)):
        other.sendall(line[at : at + 1])
        assert link.receive() == [] or at == len(line) - 1
    assert link._received == 1


def test_a_line_without_end_ends_the_link(
    ends: tuple[PeerLink, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    link, other = ends
    monkeypatch.setattr(module, "_LONGEST_LINE", 1 << 18)
    writer = threading.Thread(target=send_until_closed, args=(other, b"x" * (1 << 16)))
    writer.start()
    assert received(link) == []
    writer.join(PATIENCE)
    assert link.closed == "a line without end"
    assert not link._in


def test_who_sends_without_end_does_not_stop_this_node(
    ends: tuple[PeerLink, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    link, other = ends
    monkeypatch.setattr(module, "_MOST_AT_ONCE", 1 << 17)
    writer = threading.Thread(target=send_until_closed, args=(other, b"x" * (1 << 16)))
    writer.start()
    before = 0
    for _ in range(20):
        link.receive()
        assert len(link._in) - before <= (1 << 17) + (1 << 16)
        before = len(link._in)
    link.close()
    writer.join(PATIENCE)


def send_until_closed(connection: socket.socket, data: bytes) -> None:
    try:
        while True:
            connection.sendall(data)
    except OSError:
        return


def test_a_node_that_does_not_read_is_given_up(
    ends: tuple[PeerLink, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    link, _ = ends
    monkeypatch.setattr(module, "_MOST_UNSENT", 1 << 20)
    for _ in range(200):
        link.send("tail", text="x" * (1 << 16))
    assert link.closed == "it does not take what is sent to it"


@pytest.mark.parametrize(
    "said",
    [b"", b"[" * 4000, b"x", bytes(ANSWER_BYTES), b'{"challenge": "00"}\n' * 10, None],
    ids=["nothing", "brackets", "one byte", "zeros", "an older version", "another secret"],
)
def test_who_only_seems_to_be_node_0_is_refused(said: bytes | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        impostor = threading.Thread(target=answer_once, args=(server, said))
        impostor.start()
        with pytest.raises(LinkError, match="what answers there is not node 0 of this launch"):
            connect_to_leader(server.getsockname()[:2], b"secret", PATIENCE)
        impostor.join(PATIENCE)


def answer_once(server: socket.socket, said: bytes | None) -> None:
    connection, _ = server.accept()
    with connection:
        opening = connection.recv(1000)
        if said is None:
            said = LeaderHandshake(b"secret", set()).take(opening)
            said = said[:-1] + bytes([said[-1] ^ 1])
        connection.sendall(said)


def test_an_impostor_that_says_a_byte_now_and_then_has_so_many_seconds_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()
        impostor = threading.Thread(target=drip, args=(server, over))
        impostor.start()
        with pytest.raises(LinkError, match="timed out"):
            connect_to_leader(server.getsockname()[:2], b"secret", 0.5)
        over.set()
        impostor.join(PATIENCE)


def drip(server: socket.socket, over: threading.Event) -> None:
    connection, _ = server.accept()
    with connection:
        while not over.wait(0.2):
            connection.sendall(b"x")


def test_the_last_word_is_heard_after_the_connection_is_gone() -> None:
    ours, theirs = linked_sockets()
    leader, follower = PeerLink(theirs, b"key", 0), PeerLink(ours, b"key", 1)
    follower.send("progress", step=3)  # that nobody reads any more, so that the end of the link is a reset
    leader.send("end", why="a hang")
    time.sleep(0.05)
    leader.close()
    for _ in range(20):
        follower.send("progress", step=4)
        time.sleep(0.01)
    assert follower.receive() == [{"kind": "end", "why": "a hang"}]
    assert follower.closed in ("Connection reset by peer", "Broken pipe"), "which it was told by sending"
