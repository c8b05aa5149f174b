"""The files of a SLURM of two nodes on one machine, which listens on 127.0.0.1 alone.

Measured with SLURM 22.05 of Debian 12. Every path lies in the cluster's own folder.
"""

from __future__ import annotations

import os
import platform
import random
import secrets
import socket
from contextlib import ExitStack
from pathlib import Path

from ..slurm import CONF

NODES = ("n1", "n2")
_DEVICES = ("/dev/null", "/dev/zero")  # of a plain file SLURM 22.05 counts, but sets no CUDA_VISIBLE_DEVICES
GPUS = len(_DEVICES)
"""Per node, for jobs to ask for: there is no GPU behind them."""
_FEWEST_CPUS = 8
_KEY_BYTES = 1024
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")

_CONF = """\
ClusterName=sandbox
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
# The daemons listen on the addresses of their nodes, not on every one of the machine.
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# A node may have more CPUs than the machine.
SlurmdParameters=config_overrides
KillWait=5
SlurmdTimeout=10
JobRequeue=1
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]},{ports[2]}] \
CPUs={cpus} Sockets=1 CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory={memory} \
Gres=gpu:{gpus} State=UNKNOWN
PartitionName=low Nodes=n[1-2] Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=high Nodes=n[1-2] PriorityTier=10
PartitionName=cancel Nodes=n[1-2] PriorityTier=1 PreemptMode=CANCEL GraceTime=10 MaxTime=1:00:00
"""


def cpus_per_node() -> int:
    """Return the CPUs of each node, which are enough for a job of a few processes even on a small machine."""
    return max(_FEWEST_CPUS, os.cpu_count() or 1)


def write_files(folder: Path) -> None:
    """Write everything that the daemons read into an empty folder."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    host = platform.node().partition(".")[0]
    text = _CONF.format(
        folder=folder, host=host, ports=_free_ports(), cpus=cpus_per_node(), memory=memory, gpus=GPUS
    )
    (folder / CONF).write_text(text)
    (folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n")
    for number, device in enumerate(_DEVICES):
        (folder / f"gpu{number}").symlink_to(device)
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(_KEY_BYTES))
    key.chmod(0o400)


def _free_ports() -> list[int]:
    """Find a free port for the controller and one for each node; in ascending order, as SLURM's lists need them.

    They lie below those that the kernel gives to outgoing connections: a node that is started again finds its own.
    """
    lowest = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 32768
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < 1 + len(NODES):
            port = random.randrange(max(1024, lowest // 2), lowest)  # noqa: S311 -- which one is not a secret
            server = held.enter_context(socket.socket())
            try:
                server.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    return sorted(ports)
