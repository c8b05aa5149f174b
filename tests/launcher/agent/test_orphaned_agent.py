"""An agent that loses its supervisor while it imports: nothing but the kernel can end it then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

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
