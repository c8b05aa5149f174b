"""What node 0 and a node that follows it tell each other, over a real connection."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lockstep.data.common.errors import RankLostError
from lockstep.launcher.nodes.node_layout import NodeLayout
from lockstep.launcher.nodes.peer_link import PeerLink
from lockstep.launcher.nodes.peers import FollowerPeers, LeaderPeers, SingleNode
from tests.helpers.node_launch import linked_sockets
from tests.helpers.rank_errors import EXIT_3_STATUS, write_error

LAYOUT = NodeLayout("run", (1, 2), "127.0.0.1", ("node-a", "node-b"), shared=True)
PATIENCE = 20.0
RANK_2_STARTED = {"kind": "started", "rank": 2, "pid": 7, "fresh": ""}


class Pair(NamedTuple):
    """Both sides of a launch over two nodes, and the link of each."""

    leader: LeaderPeers
    follower: FollowerPeers
    leader_link: PeerLink
    follower_link: PeerLink


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = linked_sockets()
    yield pair
    for end in pair:
        end.close()


@pytest.fixture
def pair(sockets: tuple[socket.socket, socket.socket]) -> Iterator[Pair]:
    links = [PeerLink(connection, b"key", end) for end, connection in enumerate(sockets)]
    pair = Pair(LeaderPeers({1: links[0]}, LAYOUT, 30), FollowerPeers(links[1], LAYOUT, 1, 30), *links)
    yield pair
    pair.leader.close()
    pair.follower.close()


def received(peers: SingleNode, enough: Callable[[list[tuple[int, dict[str, Any]]]], bool]) -> list[Any]:
    """What has come until it is enough."""
    found: list[tuple[int, dict[str, Any]]] = []
    deadline = time.monotonic() + PATIENCE
    while not enough(found):
        assert time.monotonic() < deadline, found
        found += peers.receive()
        time.sleep(0.01)
    return found


def messages(peers: SingleNode, count: int) -> list[tuple[int, dict[str, Any]]]:
    return received(peers, lambda found: len(found) >= count)


def test_node_0_has_to_know_of_all_ranks_and_the_others_of_their_own(pair: Pair) -> None:
    assert pair.leader.known_ranks(1) == range(3)
    assert pair.follower.known_ranks(2) == range(1, 3)
    assert SingleNode().known_ranks(4) == range(4)
    assert pair.leader.first_rank(1) == 1
    assert (pair.leader.is_leader, pair.follower.is_leader) == (True, False)


def test_a_rank_is_reported_with_its_account_and_the_end_of_its_log(pair: Pair, tmp_path: Path) -> None:
    write_error(tmp_path, 2, message="ValueError: broken")
    (tmp_path / "rank-2.log").write_text("x" * 10_000 + "the end")
    pair.follower.report_rank({"kind": "engine", "pid": 3}, tmp_path)  # of no interest elsewhere
    pair.follower.report_rank(RANK_2_STARTED, tmp_path)
    pair.follower.report_rank({"kind": "ended", "rank": 2, "status": EXIT_3_STATUS}, tmp_path)
    (_, first), (node, second) = messages(pair.leader, 2)
    assert first == {"kind": "rank", "message": RANK_2_STARTED, "host": "node-b"}
    assert (node, second["kind"], second["host"]) == (1, "rank", "node-b")
    report = second["message"]
    assert report["account"]["message"] == "ValueError: broken"
    assert len(report["tail"]) == 8192
    assert report["tail"].endswith("the end")
    assert abs(report["time_ns"] - time.time_ns()) < PATIENCE * 1e9


def test_an_account_comes_in_node_0s_time(pair: Pair, tmp_path: Path) -> None:
    ahead = 3_600 * 10**9
    pair.leader_link.send("pong", sent=time.time_ns(), now=time.time_ns() + ahead)
    assert messages(pair.follower, 0) == []
    received(pair.follower, lambda _: pair.follower.clock_offset_ns != 0)
    assert abs(pair.follower.clock_offset_ns - ahead) < PATIENCE * 1e9
    write_error(tmp_path, 1, time_ns=5)
    pair.follower.report_rank({"kind": "ended", "rank": 1, "status": EXIT_3_STATUS}, tmp_path)
    ((_, message),) = messages(pair.leader, 1)
    assert message["message"]["account"]["time_ns"] == 5 + pair.follower.clock_offset_ns


def test_progress_of_an_earlier_attempt_is_dropped(pair: Pair) -> None:
    pair.leader.send("restart", attempt="attempt-2")
    for attempt, steps in (("attempt-1", 9), ("attempt-2", 4)):
        pair.follower.send("progress", attempt=attempt, ranks=[[steps, 0, 1]])
    assert messages(pair.follower, 1) == [(0, {"kind": "restart", "attempt": "attempt-2"})]
    pair.follower.send("last")
    found = received(pair.leader, lambda found: bool(found) and found[-1][1]["kind"] == "last")
    assert [message["ranks"] for _, message in found if message["kind"] == "progress"] == [[[4, 0, 1]]]


def test_node_0_waits_for_every_answer(pair: Pair) -> None:
    pair.follower.send("prepared", fingerprint="f")
    assert pair.leader.ask("prepared")[1]["fingerprint"] == "f"


def test_a_node_whose_link_is_closed_is_lost(pair: Pair) -> None:
    pair.follower_link.close()
    received(pair.leader, lambda _: bool(pair.leader.lost_node))
    words = "node 1 (node-b, ranks 1 to 2) was lost: it was closed by the other side"
    assert pair.leader.lost_node == words
    assert list(pair.leader.links()) == []
    with pytest.raises(RankLostError, match="was lost"):
        pair.leader.ask("prepared")


def test_silence_loses_a_node_on_both_sides(sockets: tuple[socket.socket, socket.socket]) -> None:
    link, other = (PeerLink(connection, b"key", end) for end, connection in enumerate(sockets))
    leader, follower = LeaderPeers({1: link}, LAYOUT, 0.2), FollowerPeers(other, LAYOUT, 1, 0.2)
    time.sleep(0.3)  # less than a heartbeat
    list(leader.receive())
    list(follower.receive())
    leader.close()
    follower.close()
    assert leader.lost_node == "node 1 (node-b, ranks 1 to 2) was lost: no word from it for 0.2 s"
    assert follower.leader_message == {"lost": "no word from it for 0.2 s"}


def test_a_node_that_speaks_out_of_turn_is_lost(pair: Pair, sockets: tuple[Any, Any]) -> None:
    sockets[1].setblocking(True)  # noqa: FBT003 - its only form
    sockets[1].sendall(json.dumps({"kind": "stop", "by": "nobody"}).encode() + b"\n")
    assert received(pair.leader, lambda _: bool(pair.leader.lost_node)) == []
    assert "something else than the other node has written to it" in pair.leader.lost_node


def test_node_0s_last_word_counts_more_than_its_order_to_kill(pair: Pair) -> None:
    pair.leader.send("kill")
    received(pair.follower, lambda _: pair.follower.leader_message is not None)
    assert pair.follower.leader_message == {"kind": "kill"}
    pair.leader.send("end", error=None, exit_code=3)
    pair.leader.send("kill")
    pair.leader.send("last")
    messages(pair.follower, 1)
    assert pair.follower.leader_message == {"kind": "end", "error": None, "exit_code": 3}


def test_without_node_0_a_follower_ends(pair: Pair) -> None:
    pair.leader.close()
    received(pair.follower, lambda _: pair.follower.leader_message is not None)
    assert pair.follower.leader_message == {"lost": "it was closed by the other side"}


def test_the_horizon_is_told_when_it_has_changed(pair: Pair) -> None:
    for horizon in ((4, 0, False, 0), (4, 0, False, 0), (6, 4, True, 5)):
        pair.leader.share_horizon(horizon)
    pair.leader.send("last")
    found = messages(pair.follower, 3)
    words = ("horizon", "checkpoint_at", "final", "evaluate_at")
    assert [tuple(message.get(word) for word in words) for _, message in found] == [
        (4, 0, False, 0),
        (6, 4, True, 5),
        (None, None, None, None),
    ]


def test_a_signal_to_a_follower_asks_node_0_to_stop_and_a_second_interrupt_ends_it(pair: Pair) -> None:
    assert pair.follower.pass_signal(signal.SIGTERM)
    assert pair.follower.pass_signal(signal.SIGTERM)
    assert not pair.follower.pass_signal(signal.SIGINT)
    pair.follower.send("last")
    found = received(pair.leader, lambda found: bool(found) and found[-1][1]["kind"] == "last")
    assert [message["by"] for _, message in found if message["kind"] == "stop"] == ["SIGTERM"]
