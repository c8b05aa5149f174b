"""``--hosts``: the command that starts all nodes of a launch, from any machine that reaches them by ssh."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..console import print_messages
from ..nodes import rendezvous_key
from ..options import NodeOptions
from ..runs import runs_root, safe_stem
from ..supervisor import LiveView
from .carried_environment import carried_variables
from .host_group import HostGroup
from .host_list import Host, find_hosts
from .host_outputs import HostOutputs, host_label
from .hosts_launch import HostsLaunch
from .node_command import UserCommand, check_counts
from .preflight import check_hosts


@dataclass(frozen=True)
class HostsRequest:
    """The request of a launch on several hosts.

    Args:
        hosts: of ``--hosts``.
        hostfile: of ``--hostfile``.
        rendezvous: where the nodes are to meet; empty: where they can.
        stem: of the run's name, where a new run has none.
        shared: whether all nodes have to see the run folder.
        program: the script and its arguments, which end the command line.
    """

    arguments: Sequence[str]
    hosts: str | None
    hostfile: Path | None
    rendezvous: str
    gpus: str | None
    cpu: int | None
    name: str | None
    stem: str
    shared: bool
    program: Sequence[str] = field(default_factory=list)
    run: Path | None = None
    """The folder of an existing run that is resumed."""


def launch_on_hosts(request: HostsRequest) -> int:
    """Check all hosts, start a node on each, and wait for their end; return the exit status.

    Raises:
        LockstepError: a host cannot take part.
    """
    hosts = find_hosts(request.hosts, request.hostfile)
    command = _command(request)
    check_counts(hosts, command)
    shared = (request.run or runs_root()) if request.shared else None
    outputs = HostOutputs(LiveView(host_label([host.name for host in hosts])))
    with HostGroup(hosts, outputs.take) as group:
        rendezvous = check_hosts(group, shared, request.rendezvous)
        print_messages(_summary(hosts, rendezvous, group))
        key = (rendezvous_key() or secrets.token_hex(16).encode()).decode()
        return HostsLaunch(group, outputs).run(command, rendezvous, _environment(), key)


def _command(request: HostsRequest) -> UserCommand:
    if request.rendezvous:
        NodeOptions(2, rendezvous=request.rendezvous).check()
    made_up = f"{safe_stem(request.stem)}-{time.strftime('%Y%m%d-%H%M%S')}"
    name = "" if request.run is not None else request.name or made_up
    return UserCommand(request.arguments, request.program, name, request.gpus, request.cpu)


def _environment() -> dict[str, str]:
    carried = carried_variables(os.environ)
    return carried | ({"LOCKSTEP_RUNS": str(runs_root())} if carried.get("LOCKSTEP_RUNS") else {})


def _summary(hosts: Sequence[Host], rendezvous: str, group: HostGroup) -> list[str]:
    """Say which host is node 0, where the nodes meet, and which torch differs."""
    here = [" (this machine)" if host.is_here else "" for host in hosts]
    names = [f"{host.name}{where}" for host, where in zip(hosts, here, strict=True)]
    meeting = f"; they meet at {rendezvous}" if rendezvous else ""
    lines = [f"hosts: node 0 is {names[0]}" + "".join(f", {name}" for name in names[1:]) + meeting]
    torch = [str((connection.hello or {}).get("torch")) for connection in group.connections]
    lines += [
        f"note: {host.name} has torch {own}, and node 0 torch {torch[0]}"
        for host, own in zip(hosts, torch, strict=True)
        if own != torch[0]
    ]
    return lines
