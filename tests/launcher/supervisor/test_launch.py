"""One supervised launch: real processes of a small script, and a workload that notes what it is asked."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from lockstep.data.common.errors import LockstepError, MachineError, RankLostError, UsageError
from lockstep.launcher.failures.attempt_end import AttemptEnd
from lockstep.launcher.failures.root_cause import InterruptedRunError
from lockstep.launcher.machine.process_layout import World
from lockstep.launcher.nodes.node_layout import NodeLayout
from lockstep.launcher.nodes.peer_link import PeerLink
from lockstep.launcher.nodes.peers import FollowerPeers, LeaderPeers
from lockstep.launcher.options.supervision import SupervisionOptions
from lockstep.launcher.supervisor.agent_start import AgentStart
from lockstep.launcher.supervisor.launch import Launch, _Following
from lockstep.launcher.supervisor.workload import Workload
from tests.helpers.node_launch import linked_sockets

WORLD = World("cpu", 2, 1, (), 2)
FAILS_ONCE = """
import os, sys
if os.environ["RANK"] == "1" and os.environ["ATTEMPT"] == "attempt-1":
    sys.exit(1)
"""
WAITS = """
import os, signal, sys, time
from pathlib import Path
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
Path(sys.argv[1], "ready-" + os.environ["RANK"]).touch()
time.sleep(600)
"""
_PR_SET_CHILD_SUBREAPER = 36


class Recorder(Workload):
    """Ranks of a script; what is asked of it is noted."""

    requires_done = False

    def __init__(self, script: Path, *arguments: str) -> None:
        self.program = [str(script), *arguments]
        self.calls: list[str] = []
        self.end: AttemptEnd | None = None
        self.grace: float | None = None
        self.on_tick: Callable[[], object] = lambda: None

    @property
    def asked_to_end(self) -> tuple[int, float] | None:
        return None if self.grace is None else (signal.SIGTERM, self.grace)

    @property
    def is_stopping(self) -> bool:
        return self.grace is not None

    def order(self, attempt: Path) -> dict[str, Any]:
        return {"program": self.program, "environment": {"ATTEMPT": attempt.name}}

    def tick(self) -> None:
        self.on_tick()

    def prepare_restart(self, attempt: Path) -> str:
        self.calls.append(f"prepare {attempt.name}")
        assert not attempt.exists()
        return " from the start"

    def begin_attempt(self, attempt: Path) -> None:
        self.calls.append(f"begin {attempt.name}")
        assert attempt.is_dir()

    def failure(self, attempt: Path, end: AttemptEnd, world: World) -> LockstepError | None:
        self.calls.append(f"diagnose {attempt.name}")
        self.end = end
        return super().failure(attempt, end, world)

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture(autouse=True)
def own_children() -> Iterator[None]:
    """A supervisor makes its process adopt orphans; afterwards this one is as before, and nothing is left below it."""
    before = set(psutil.Process().children(recursive=True))
    yield
    left = set(psutil.Process().children(recursive=True)) - before
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0)
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
    for process in left:
        os.waitpid(process.pid, 0)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(FAILS_ONCE)
    return path


def launched(tmp_path: Path, max_restarts: int = 0, peers: FollowerPeers | None = None) -> Launch:
    attempt = tmp_path / "run" / "attempt-1"
    attempt.mkdir(parents=True)
    start = AgentStart(1, {}, ("json",), attempt / "agent.log")
    return Launch(
        attempt,
        start,
        WORLD,
        SupervisionOptions(0, max_restarts),
        peers,
    )


def waiting(script: Path, then: Callable[[], object], how: str = "listens") -> Recorder:
    """Ranks that wait to be ended; once they are all there, something is done."""
    script.write_text(WAITS)
    workload = Recorder(script, str(script.parent), how)
    pending = [then]

    def tick() -> None:
        if pending and len(list(script.parent.glob("ready-*"))) == WORLD.size:
            pending.pop()()

    workload.on_tick = tick
    return workload


def test_ranks_that_fail_are_started_again_and_all_is_well(
    tmp_path: Path, script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workload = Recorder(script)
    with launched(tmp_path, max_restarts=1) as launch:
        assert launch.run(workload) is None
    restart = ["diagnose attempt-1", "prepare attempt-2", "begin attempt-2"]
    assert workload.calls == [*restart, "close", "diagnose attempt-2"]
    assert workload.end is not None
    assert (workload.end.done, workload.end.lost) == ({0, 1}, {})
    said = "rank 1 of 2: sys.exit(1): restart 1 of 1 from the start"
    assert said in capsys.readouterr().err


def test_what_would_fail_again_is_not_started_again(
    tmp_path: Path, script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fenced(Recorder):
        def prepare_restart(self, _: Path) -> str:
            raise RankLostError("the run is another's now", "")

    workload = Fenced(script)
    with launched(tmp_path, max_restarts=3) as launch:
        failure = launch.run(workload)
    assert failure is not None
    assert "rank 1 of 2: sys.exit(1)" in failure.message  # why the ranks failed, not why there is no restart
    assert "no restart: the run is another's now" in capsys.readouterr().err
    assert not (tmp_path / "run" / "attempt-2").exists()
    assert workload.may_pass(failure)
    assert not any(workload.may_pass(error("", "")) for error in (UsageError, MachineError))


def test_ranks_that_are_asked_to_end_get_sigterm_and_are_not_started_again(
    tmp_path: Path, script: Path
) -> None:
    workload = waiting(script, lambda: setattr(workload, "grace", 60.0))
    with launched(tmp_path, max_restarts=1) as launch:
        assert launch.run(workload) is not None
    assert workload.end is not None
    assert not workload.end.grace_exceeded
    assert workload.end.lost == {0: signal.SIGTERM, 1: signal.SIGTERM}
    assert not (tmp_path / "run" / "attempt-2").exists()


def test_ranks_that_do_not_end_are_killed_after_their_grace(tmp_path: Path, script: Path) -> None:
    workload = waiting(script, lambda: setattr(workload, "grace", 0.3), "deaf")
    began = time.monotonic()
    with launched(tmp_path) as launch:
        launch.run(workload)
    assert time.monotonic() - began < 60
    assert workload.end is not None
    assert workload.end.grace_exceeded
    assert workload.end.lost == {}


def test_a_signal_that_the_workload_does_not_act_on_ends_everything(tmp_path: Path, script: Path) -> None:
    workload = waiting(script, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    with launched(tmp_path, max_restarts=1) as launch:
        failure = launch.run(workload)
    assert isinstance(failure, InterruptedRunError)
    assert failure.exit_status == 128 + signal.SIGUSR1
    assert workload.calls == ["close", "diagnose attempt-1"]


def test_what_a_tick_raises_ends_everything(tmp_path: Path, script: Path) -> None:
    def fail() -> None:
        raise RankLostError("the run is another's now", "")

    workload = waiting(script, fail)
    with launched(tmp_path) as launch, pytest.raises(RankLostError, match="another's"):
        launch.run(workload)
    assert workload.calls == ["close"]


def test_a_follower_takes_what_ended_ranks_have_printed_before_their_attempt_is_over(tmp_path: Path) -> None:
    """Else their last words would count as the next attempt's."""
    calls: list[str] = []

    class Ending(Recorder):
        def on_end(self, attempt: Path, end: AttemptEnd, world: World) -> None:
            calls.append(f"end of {attempt.name}")

        def begin_attempt(self, attempt: Path) -> None:
            calls.append(f"begin {attempt.name}")

    launch: Any = SimpleNamespace(
        attempt=tmp_path / "attempt-1",
        options=SupervisionOptions(0),
        world=WORLD,
        take_outputs=lambda: calls.append("take outputs"),
        supervisor=SimpleNamespace(restart=lambda order: calls.append(Path(order["attempt_dir"]).name)),
    )
    peers: Any = SimpleNamespace(send=lambda *_, **__: None, pass_signal=None)
    following = _Following(launch, Ending(tmp_path / "script.py"), peers)
    following.on_message(0, {"kind": "restart", "attempt": "attempt-2"})
    assert calls == ["take outputs", "end of attempt-1", "begin attempt-2", "attempt-2"]


def test_a_follower_believes_node_0_where_its_own_agent_is_gone_as_well(tmp_path: Path, script: Path) -> None:
    """The store is node 0's: where that ends, the engine here fails at once, and says nothing of the cause."""
    layout = NodeLayout("run", (2, 2), "127.0.0.1", ("node-a", "node-b"), shared=True)
    links = [PeerLink(connection, b"key", end) for end, connection in enumerate(linked_sockets())]
    leader, follower = LeaderPeers({1: links[0]}, layout, 30), FollowerPeers(links[1], layout, 1, 30)
    before = set(psutil.Process().children())
    with launched(tmp_path, peers=follower) as launch:
        (agent,) = set(psutil.Process().children()) - before
        leader.send("end", error=None, exit_code=3)
        agent.kill()
        while agent.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        end = launch.follow(Recorder(script), {"port": 1, "max_restarts": 0})
    leader.close()
    follower.close()
    assert end.agent_status == -signal.SIGKILL
    assert end.leader_message == {"kind": "end", "error": None, "exit_code": 3}
