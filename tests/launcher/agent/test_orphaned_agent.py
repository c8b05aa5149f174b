"""An agent that loses its supervisor while it imports, or while it starts its ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers.launch import WATCHDOG

SUPERVISOR = """
import sys, time
from pathlib import Path
from lockstep.launcher.nodes.peers import SingleNode
from lockstep.launcher.supervisor.agent_start import AgentStart
from lockstep.launcher.supervisor.supervisor import Supervisor
here = Path(sys.argv[1])
environment = {"PYTHONPATH": str(here), "HERE": str(here)}
supervisor = Supervisor(AgentStart(1, environment, ("slow_import",), here / "agent.log"), SingleNode())
time.sleep(600)
"""
SLOW = """
import os, time
from pathlib import Path
path = Path(os.environ["HERE"], "importing")
path.with_suffix(".new").write_text(str(os.getpid()))
path.with_suffix(".new").rename(path)
time.sleep(600)
"""
STARTING = """
import json, os, socket, sys
from lockstep.launcher.agent.agent import Agent, RunInChild
here = sys.argv[1]
orders, supervisor = os.pipe()
order = {"program": [here + "/script.py"], "attempt_dir": here, "streams": [[0, 2, 2]] * 3, "start": "fork"}
agent = Agent(order, orders, 1, -1, {str(os.getpid())})
agent._events.on_child(agent._reap)
agent._socket, engine = socket.socketpair()
start = {rank: {"RANK": str(rank)} for rank in range(3)}
engine.sendall((json.dumps({"start": start}) + chr(10)).encode())
if sys.argv[2] == "gone":
    os.close(supervisor)
try:
    agent._hear_engine()
except RunInChild:  # a rank
    os._exit(0)
"""


@pytest.mark.parametrize(("supervisor", "status", "started"), [("there", 0, 3), ("gone", 1, 0)])
def test_an_agent_starts_no_rank_without_its_supervisor(
    tmp_path: Path, supervisor: str, status: int, started: int
) -> None:
    (tmp_path / "script.py").write_text("")
    command = [sys.executable, "-c", STARTING, str(tmp_path), supervisor]
    agent = subprocess.run(command, stdout=subprocess.PIPE, timeout=WATCHDOG, check=False)
    assert agent.returncode == status
    assert agent.stdout.count(b'"started"') == started


def test_an_agent_in_the_middle_of_an_import_ends_with_its_supervisor(tmp_path: Path) -> None:
    (tmp_path / "slow_import.py").write_text(SLOW)
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(tmp_path)])
    deadline = time.monotonic() + WATCHDOG
    while not (tmp_path / "importing").exists():
        assert supervisor.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    agent = psutil.Process(int((tmp_path / "importing").read_text()))
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    psutil.wait_procs([agent], timeout=20)
    ended = not agent.is_running() or agent.status() == psutil.STATUS_ZOMBIE
    if not ended:
        agent.kill()
    assert ended
