"""The processes of a launch on one machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..options import LocalTask


@dataclass(frozen=True)
class World:
    """The processes of a run on one machine, and how many there are on others."""

    device: Literal["cpu", "gpu"]
    processes: int
    threads: int
    """Per process."""
    gpus: tuple[str, ...]
    """One for each process, as CUDA_VISIBLE_DEVICES names it; empty on the CPU."""
    cores: int
    cores_why: str = ""
    """Why these are fewer than the machine has."""
    cpus: tuple[tuple[int, ...], ...] = ()
    """The CPUs that each process keeps to, near its GPU; empty where all are equally near."""
    nodes: tuple[int, ...] = ()
    """Processes of each node; empty where there is one alone."""
    node: int = 0
    """Which of them this one is."""
    task: LocalTask | None = None
    """Where another starter has started several tasks on this machine, each of which has one of the processes."""
    visible: tuple[str, ...] = ()
    """The GPUs that a process of such a task sees, its own at its local rank; empty where it sees ``gpus``."""

    @property
    def local_rank(self) -> int:
        """The local rank of the first process; 0 for a task that is shown one GPU, as torchrun numbers such ranks."""
        return self.task.rank if self.task and len(self.visible) != 1 else 0

    @property
    def size(self) -> int:
        """The world size: processes of all nodes."""
        return sum(self.nodes) or self.processes

    @property
    def machines(self) -> int:
        """How many machines the processes are on."""
        return self.task.nodes if self.task else len(self.nodes) or 1

    @property
    def first(self) -> int:
        """The first rank of this node."""
        return sum(self.nodes[: self.node])
