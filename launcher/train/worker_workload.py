"""Workloads of ``training/worker.py``: its ranks train, evaluate, or do a task of ``launch check``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...training.config import DEFAULT_LOG_MB
from ..agent import PREPARATION, argv_bytes
from ..control import SupervisorPage
from ..machine import World
from ..supervisor import AgentStart, DataRequest, RankOutputs, Workload, visible_gpus
from .data_preparation import SAME_HASHES

_FIRST = ("torch", "torch.distributed", "lockstep.data.prepare")
"""Imported once for all ranks and for the preparation of the data, which starts when these are there."""
_FOR_TRAINING = ("accelerate", "torch._dynamo")
"""DDP imports torch._dynamo, in every rank otherwise: 5.4 s to the first all-reduce, not 2.2 s; and so does every
optimizer. An evaluation needs neither, and is spared a quarter of its processor time."""
_WORKER = "lockstep.training.worker"
"""Its modules would cost each rank 0.3 s of processor time; here that is once, while the data is prepared."""


def worker_agent(
    attempt: Path,
    world: World,
    inherited_descriptors: tuple[int, ...] = (),
    *,
    max_log_mb: int = DEFAULT_LOG_MB,
    spare: int = 0,
    trains: bool = True,
) -> AgentStart:
    """Make the folder of an attempt; return how the agent of the worker's ranks is started in it.

    Args:
        attempt: made by node 0; its name is the token that fences older attempts off.
        world: the processes.
        inherited_descriptors: open files that the agent inherits: with them the locks on the GPUs outlive this
            process for as long as the agent does.
        max_log_mb: of each rank.
        spare: how many processes may join.
        trains: the ranks will have an optimizer.
    """
    if world.node == 0:
        attempt.mkdir(mode=0o700)
    log = attempt / (f"agent-{world.node}.log" if world.node else "agent.log")
    return AgentStart(
        world.threads,
        {**visible_gpus(world), **SAME_HASHES},
        (*_FIRST, *(_FOR_TRAINING if trains else ()), _WORKER),
        log,
        min_argv_bytes=argv_bytes(PREPARATION),
        inherited_descriptors=inherited_descriptors,
        outputs=RankOutputs(attempt, world.processes, None, world.first, max_mb=max_log_mb, spare=spare),
        data=DataRequest(),
    )


class WorkerWorkload(Workload):
    """Ranks that run the worker.

    Args:
        argv: of the worker.
        world: the processes.
        fenced: the attempt owns the run; only then may its ranks write checkpoints and events.
        page: where the ranks say how far they are.
    """

    def __init__(
        self, argv: list[str], world: World, *, fenced: bool, page: SupervisorPage | None = None
    ) -> None:
        self._argv = argv
        self._device = world.device
        self._fenced = fenced
        self._page = page
        self.reports_progress = page is not None

    @property
    def progress(self) -> Callable[[int], tuple[int, str, int]] | None:
        """How far each rank of this node is, where it says so."""
        return self._page.progress_of if self._page is not None else None

    def order(self, attempt: Path) -> dict[str, Any]:
        """Return the worker's arguments and the environment of its ranks."""
        environment = {
            "LOCKSTEP_ATTEMPT_DIR": str(attempt),
            "LOCKSTEP_DEVICE": self._device,  # of this attempt; an evaluation may differ from its run
            **({"LOCKSTEP_TOKEN": attempt.name} if self._fenced else {}),
            **(self._page.environment if self._page else {}),
        }
        return {"argv": self._argv, "environment": environment}

    def close(self) -> None:
        """Give the page back."""
        if self._page is not None:
            self._page.close()
