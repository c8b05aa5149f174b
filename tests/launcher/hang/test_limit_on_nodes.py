"""The limit that a run learns, on two nodes: node 0 learns from the ranks of both, and both look after that time.

Node 0's and the other node's sides are the real ones, over a real connection; the ranks are one sleeping process.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lockstep.launcher.control.follower_page import FollowerPage
from lockstep.launcher.control.horizon_control import HorizonControl
from lockstep.launcher.hang.coordinator import HangCoordinator
from lockstep.launcher.hang.follower_monitor import FollowerRankMonitor
from lockstep.launcher.hang.progress_times import FIRST_STEPS
from lockstep.launcher.hang.rank_monitor import RankMonitor
from lockstep.launcher.nodes.node_layout import NodeLayout
from lockstep.launcher.nodes.peer_link import PeerLink
from lockstep.launcher.nodes.peers import FollowerPeers, LeaderPeers
from lockstep.training.rank.control_page import PHASES
from tests.helpers.node_launch import linked_sockets

CEILING, LEAST = 600.0, 10.0
TRAINING, EVALUATION = PHASES.index("training"), PHASES.index("evaluation")
PATIENCE = 20.0


class TwoNodes:
    """A rank on each of two nodes; ``say`` is what both say of themselves, as signs of life at such times."""

    def __init__(self, folder: Path, pid: int, close: ExitStack) -> None:
        near, far = linked_sockets()
        layout = NodeLayout("run", (1, 1), "127.0.0.1", ("a", "b"), shared=True)
        links = [PeerLink(far, b"key", 0), PeerLink(near, b"key", 1)]
        self.leader = LeaderPeers({1: links[0]}, layout, 30)
        self.follower = FollowerPeers(links[1], layout, 1, 30)
        self.control, self.page = HorizonControl(folder, 2), FollowerPage(1)
        for each in (self.leader, self.follower, self.control, self.page):
            close.callback(each.close)
        monitors = [RankMonitor(folder / "attempt-1", CEILING, 1, lambda _: (0, "training", 1)) for _ in "ab"]
        self.limits = lambda: [monitor.limit for monitor in monitors]
        self.coordinator = HangCoordinator(
            monitors[0], 2, self.leader, training=True, warn=pytest.fail,
            limit=lambda: self.control.hang_limit(CEILING, LEAST),
        )  # fmt: skip
        self.other = FollowerRankMonitor(monitors[1], self.follower)
        self.pid, self.clock = pid, 1

    def say(self, seconds: float, step: int, *phases: int) -> None:
        """Each node's rank says its phase, so many seconds after what it has said before."""
        self.clock += int(seconds * 1e9)
        for rank, phase in enumerate(phases):
            self.control.record_remote_progress(rank, [[step, phase, self.clock]])
        self.control.tick()
        self.coordinator.find_hang({0: self.pid}, ())

    def agree(self, seconds: float) -> None:
        """Wait until both nodes have this limit."""
        deadline = time.monotonic() + PATIENCE
        while self.limits() != [pytest.approx(seconds)] * 2:
            assert time.monotonic() < deadline, self.limits()
            for _, message in self.follower.receive():
                if message["kind"] == "hang limit":
                    self.other.take_limit(message["seconds"])
            time.sleep(0.01)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[TwoNodes]:
    (tmp_path / "attempt-1").mkdir()
    with subprocess.Popen(["sleep", "600"]) as process, ExitStack() as close:
        close.callback(process.kill)
        yield TwoNodes(tmp_path, process.pid, close)


def test_both_nodes_look_after_the_limit_that_node_0_learns_from_the_ranks_of_both(nodes: TwoNodes) -> None:
    for step in range(FIRST_STEPS + 3):
        nodes.say(0.05, step, TRAINING, TRAINING)
    nodes.agree(LEAST)
    nodes.say(1.5, FIRST_STEPS + 3, TRAINING, TRAINING)
    nodes.agree(30)
    nodes.say(0.05, FIRST_STEPS + 4, TRAINING, EVALUATION)  # the other node's first: nothing is known of it
    nodes.agree(CEILING)
    nodes.say(0.05, FIRST_STEPS + 4, TRAINING, TRAINING)
    nodes.agree(30)
