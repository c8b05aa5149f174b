"""What counts as work, by what the kernel tells of real processes, on a machine whose cores others want, too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from lockstep.launcher.process import proc_stats as proc
from tests.helpers.fault_launch import BUSY_PROCESSES, busy_cores

SECONDS = 4.0
READY = "print('ready', flush=True)\n"
CASES = {  # what a process does -> its code, and whether that is work
    "computes": ("while True: pass", True),
    "computes where others go first": ("import os; os.nice(19)\nwhile True: pass", True),
    "computes in a thread": (
        "import threading\ndef work():\n  while True: pass\nt = threading.Thread(target=work); t.start(); t.join()",
        True,
    ),
    "waits for a child that computes": (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])",
        True,
    ),
    "writes now and then": (
        (
            "import tempfile, time\nwith tempfile.TemporaryFile() as f:\n"
            "  while True: f.write(b'x' * 4096); f.flush(); time.sleep(0.5)"
        ),
        True,
    ),
    "waits for others": ("import socket; here, there = socket.socketpair(); here.recv(1)", False),
    "waits, with a thread that looks round": (
        (
            "import socket, threading, time\ndef look():\n  while True: time.sleep(0.1)\n"
            "threading.Thread(target=look).start(); here, there = socket.socketpair(); here.recv(1)"
        ),
        False,
    ),
    "sleeps, and says so": (
        "import sys, time\nwhile True: sys.stderr.write('still waiting\\n'); time.sleep(1)",
        False,
    ),
}


@pytest.mark.exhaustive
def test_work_is_told_from_waiting_on_a_loaded_machine() -> None:
    with busy_cores(BUSY_PROCESSES), ExitStack() as stack:
        running = {}
        for case, (code, _) in CASES.items():
            child = subprocess.Popen(
                [sys.executable, "-c", READY + code],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
            stack.callback(child.wait)
            stack.callback(lambda pid=child.pid: _end(pid))
            stack.callback(child.stdout.close)
            running[case] = child
        for child in running.values():
            assert child.stdout.readline() == b"ready\n"
        time.sleep(SECONDS)  # what they import and start
        before = {case: proc.resource_use(child.pid) for case, child in running.items()}
        time.sleep(SECONDS)
        found = {
            case: proc.is_active(before[case], proc.resource_use(child.pid))
            for case, child in running.items()
        }
    assert found == {case: works for case, (_, works) in CASES.items()}


def _end(group: int) -> None:
    os.killpg(group, signal.SIGKILL)
