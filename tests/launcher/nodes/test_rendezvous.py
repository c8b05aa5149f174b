"""Two nodes that meet in threads of one process, whoever else connects."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from lockstep.data.common.errors import LockstepError, UsageError
from lockstep.launcher.nodes import rendezvous as module
from lockstep.launcher.nodes.handshake import FollowerHandshake
from lockstep.launcher.nodes.node_layout import NodeLayout
from lockstep.launcher.nodes.peer_link import PeerLink, connect_to_leader
from lockstep.launcher.nodes.reachability import open_probe, unreachable_addresses
from lockstep.launcher.nodes.rendezvous import await_followers, join_leader
from lockstep.launcher.options import NodeOptions
from tests.helpers.hostile_peers import Crowd, Flood, dead_connection
from tests.helpers.launch import free_port

ABOUT = {"kind": "run", "version": "1", "device": "cpu"}
HELLO = {
    "node": 1,
    "nodes": 2,
    "about": ABOUT,
    "processes": 1,
    "host": "b",
    "word": "",
    "probe": ["127.0.0.1", 1],
}
PATIENCE = 60.0


class Leader(threading.Thread):
    """Node 0, in a thread."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.links: dict[int, PeerLink] = {}
        self.layout: NodeLayout | None = None
        self.start()

    def run(self) -> None:
        self.links, self.layout = await_followers(NodeOptions(2, 0), self.folder, ABOUT, 1)
        for link in self.links.values():
            link.send("layout", run="r", processes=[1, 2], address="127.0.0.1", hosts=["a", "b"], shared=True)

    @property
    def document(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while not (document := module._read(self.folder)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return document

    @property
    def place(self) -> tuple[str, int]:
        return next((host, port) for host, port in self.document["places"] if host == "127.0.0.1")

    def meet(self) -> None:
        """A node comes, and both know each other."""
        link, layout = join_leader(NodeOptions(2, 1), lambda: self.folder, ABOUT, 2)
        self.join(PATIENCE)
        assert (layout.processes, list(self.links)) == ((1, 2), [1])
        assert self.layout is not None
        assert (self.layout.processes, self.layout.shared) == ((1, 2), True)
        for end in (link, *self.links.values()):
            end.close()


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Leader]:
    leader = Leader(tmp_path)
    yield leader
    if leader.is_alive():
        leader.meet()


def linked(leader: Leader) -> PeerLink:
    return connect_to_leader(leader.place, leader.document["secret"].encode(), PATIENCE)


def test_dead_connections_brackets_and_silence_change_nothing(
    leader: Leader, capsys: pytest.CaptureFixture[str]
) -> None:
    for said in (b"", b"[" * 4000, FollowerHandshake(b"another").opening):
        dead_connection(leader.place, said)
    with socket.create_connection(leader.place), socket.create_connection(leader.place) as brackets:
        brackets.sendall(b"[" * 4000)
        leader.meet()
    assert "somebody at 127.0.0.1 was turned away" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"node": "x"},
        {"probe": 1},
        {"probe": None},
        {"about": 3},
        {"processes": None},
        {"node": [1]},
        {"word": ...},
    ],
)
def test_a_node_that_introduces_itself_wrongly_is_refused_and_the_launch_goes_on(
    leader: Leader, change: dict[str, Any]
) -> None:
    hello = {key: value for key, value in (HELLO | change).items() if value is not ...}
    link = linked(leader)
    link.send("hello", **hello)
    with pytest.raises(UsageError, match="in a way that this version does not know"):
        module.await_message(link, "reach")
    link.close()
    leader.meet()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"node": 2}, "it is node 2 of 2"),
        ({"node": 0}, "it is node 0 of 2"),
        ({"nodes": 3}, "it is node 1 of 3"),
        ({"about": {**ABOUT, "version": "2"}}, "it would start"),
    ],
)
def test_a_node_of_another_launch_is_refused(leader: Leader, change: dict[str, Any], words: str) -> None:
    link = linked(leader)
    link.send("hello", **HELLO | change)
    with pytest.raises(UsageError, match=words):
        module.await_message(link, "reach")
    link.close()
    leader.meet()


def test_a_node_that_proves_itself_and_then_says_nothing_keeps_nobody_out(leader: Leader) -> None:
    links = [linked(leader) for _ in range(3)]
    links[1].send("something else")
    leader.meet()
    for link in links:
        link.close()


def test_a_node_behind_a_stranger_on_the_same_address_finds_node_0(leader: Leader, tmp_path: Path) -> None:
    """The run folder names several addresses; behind some of them there may be somebody else."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        silent = threading.Thread(target=accept_and_wait, args=(stranger,))
        silent.start()
        document = leader.document
        document["places"] = [list(stranger.getsockname()[:2]), list(leader.place)]
        other = tmp_path / "other"
        other.mkdir()
        (other / module._FILE).write_text(json.dumps(document))
        link, _ = join_leader(NodeOptions(2, 1), lambda: other, ABOUT, 2)
        silent.join(PATIENCE)
    leader.join(PATIENCE)
    assert list(leader.links) == [1]
    assert not link.closed
    link.close()
    for end in leader.links.values():
        end.close()


def accept_and_wait(server: socket.socket) -> None:
    with server.accept()[0] as connection:
        while connection.recv(1000):
            pass


@pytest.mark.exhaustive
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_a_node_meets_node_0_while_others_connect_as_often_as_they_can(
    leader: Leader, processes: int
) -> None:
    with Flood(leader.place, processes) as flood:
        began = time.monotonic()
        leader.meet()
        print("met after", time.monotonic() - began, "s")
    print(flood.connections / flood.seconds, "connections and", flood.bytes / flood.seconds, "bytes a second")
    assert flood.connections > 0


def test_somebody_who_fills_the_probes_queue_is_no_firewall() -> None:
    with open_probe("127.0.0.1") as place:
        crowd = Crowd(place, 0)
        for _ in range(2000):
            crowd.push()
        assert unreachable_addresses({"1": place}) == []
        crowd.close()
    assert unreachable_addresses({"1": place})[0][2] == "Connection refused"


def test_a_document_that_no_node_0_has_written_is_none(tmp_path: Path) -> None:
    for text in ("", "[" * 4000, "[]", "1", '{"places"'):
        (tmp_path / module._FILE).write_text(text)
        assert module._read(tmp_path) == {}


def test_node_0s_refusal_is_an_error_of_the_class_it_was(leader: Leader) -> None:
    link = linked(leader)
    link.send("hello", **HELLO | {"node": 7})
    with pytest.raises(LockstepError) as caught:
        module.await_message(link, "reach")
    assert caught.value.exit_status == UsageError.exit_status
    link.close()
    leader.meet()


def test_a_node_that_comes_before_node_0_has_its_folder_still_sees_that_it_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Node 0 listens, and may be found, a moment before it has written into the folder."""
    monkeypatch.setenv("LOCKSTEP_KEY", "a secret")
    place = f"127.0.0.1:{free_port()}"
    looks = iter([None])
    with ThreadPoolExecutor() as pool:
        leader = pool.submit(await_followers, NodeOptions(2, 0, place), tmp_path, ABOUT, 1)
        while not (tmp_path / ".meeting.json").exists():
            assert not leader.done(), leader.result()
        follower = pool.submit(join_leader, NodeOptions(2, 1, place), lambda: next(looks, tmp_path), ABOUT, 1)
        links, layout = leader.result(60)
        links[1].send("layout", **asdict(layout))
        link, own = follower.result(60)
    assert layout.shared
    assert own.shared
    link.close()
    links[1].close()
