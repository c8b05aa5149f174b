"""One node's ``launch`` of several, by hand, and a connection as between two of them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.helpers.launch import LAUNCH, WATCHDOG
from tests.helpers.warm_launch import start_launch


@dataclass
class NodeLaunch:
    """One node's ``launch``; its processes carry a mark."""

    arguments: list[str]
    prefix: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        pipe, environment = subprocess.PIPE, {**os.environ, **self.environment, "NODE_MARK": self.mark}
        streams: dict[str, Any] = {"stdout": pipe, "stderr": pipe, "text": True}
        if self.prefix:
            command = [*self.prefix, *LAUNCH, *self.arguments]
            self.process = subprocess.Popen(command, env=environment, **streams)
        else:
            self.process = start_launch(*self.arguments, env=environment, **streams)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=WATCHDOG)
        return self.process.returncode, out, err

    def family(self) -> list[psutil.Process]:
        wanted, found = f"NODE_MARK={self.mark}".encode(), []
        for process in psutil.process_iter():
            try:
                environment = Path(f"/proc/{process.pid}/environ").read_bytes()
                if wanted in environment.split(b"\0") and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (OSError, psutil.Error):
                continue
        return found

    def check_nothing_is_left(self) -> None:
        deadline = time.monotonic() + 20
        while (left := self.family()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left == []


def start_two_nodes(
    hosts: list[NodeLaunch], *arguments: str, cpus: tuple[int, int] = (1, 2), **more: object
) -> tuple[NodeLaunch, NodeLaunch]:
    """The same command on node 0 and node 1."""
    command, *rest = arguments
    for rank, cpu in enumerate(cpus):
        own = [command, "--cpu", str(cpu), "--nodes", "2", "--node-rank", str(rank), *rest]
        hosts.append(NodeLaunch(own, **more))  # type: ignore[arg-type]
    return hosts[-2], hosts[-1]


def linked_sockets() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connecting = socket.create_connection(server.getsockname()[:2])
        accepted, _ = server.accept()
    return accepted, connecting
