"""The connections of a process group: found among others, and ended at once."""

from __future__ import annotations

import socket

import pytest

from lockstep.training.rank.peer_links import cut, new_links


def _pair(server: socket.socket) -> tuple[socket.socket, socket.socket]:
    near = socket.create_connection(server.getsockname())
    return near, server.accept()[0]


def test_new_connections_are_found_and_ended_and_no_others() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as peers,
        socket.create_server(("127.0.0.1", 0)) as store,
    ):
        before = _pair(peers)
        with new_links(store.getsockname()[1]) as links:
            near, far = _pair(peers)
            kept = _pair(store)
            local = socket.socketpair()
        assert links.keys() == {near.fileno(), far.fileno()}
        closed = near.fileno()
        near.close()  # as gloo closes what has failed; the number may be another file's by now
        with socket.socket() as other:
            assert other.fileno() == closed
            cut(links)
            with pytest.raises(OSError, match="not connected"):
                other.getpeername()
        assert far.recv(1) == b""
        for one, another in (before, kept, local):
            one.sendall(b"x")
            assert another.recv(1) == b"x"
        assert not links
        for left in (far, *before, *kept, *local):
            left.close()
