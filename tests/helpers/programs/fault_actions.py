"""What a rank of the tables of faults does when it is its turn; imported by the programs that are started."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch


def compute(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sum(range(1000))


def compute_below(seconds: float) -> None:
    """In a program that the rank has started and waits for."""
    code = f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    subprocess.run([sys.executable, "-c", code], check=True)


def download(seconds: float) -> None:
    """A trickle that comes by ``recv``, which counts as no file's bytes."""
    code = (
        "import socket, sys, time\nhere = socket.socket(fileno=int(sys.argv[1]))\n"
        f"for _ in range({int(seconds * 20)}): here.sendall(b'x' * 64); time.sleep(0.05)"
    )
    here, there = socket.socketpair()
    number = str(there.fileno())
    with subprocess.Popen([sys.executable, "-c", code, number], pass_fds=[there.fileno()]):
        there.close()
        while here.recv(4096):
            pass


def write(seconds: float) -> None:
    """To a disk, hardly computing."""
    with tempfile.TemporaryFile() as file:
        for _ in range(int(seconds * 5)):
            file.write(b"x" * 4096)
            file.flush()
            time.sleep(0.2)


SLOW_ACTIONS = {
    "nap": time.sleep,
    "compute": compute,
    "compute-below": compute_below,
    "download": download,
    "write": write,
    "prompt": lambda _: input("go on? "),
}
"""What takes its time and is no fault; for how long says ``FAULT_SECONDS``."""


def fail(fault: str) -> None:
    if fault == "raise":
        raise ValueError("my own error")
    if fault == "exit-0":
        os._exit(0)
    if fault == "exit-7":
        sys.exit(7)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "abort":
        os.abort()
    if fault == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
        torch.empty(2**34, dtype=torch.uint8)
    if fault == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if fault == "sleep":
        time.sleep(600)
    if fault == "loader":  # the worker of this rank's own DataLoader
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
    if fault in SLOW_ACTIONS:
        SLOW_ACTIONS[fault](float(os.environ["FAULT_SECONDS"]))
    if fault in ("wait", "pause"):
        ready = Path(os.environ["FAULT_READY"])
        ready.with_suffix(".new").write_text("ready")
        ready.with_suffix(".new").rename(ready)
        while fault == "wait" or not ready.with_suffix(".go").exists():
            time.sleep(0.05)
