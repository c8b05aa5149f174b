"""Workloads of ``training/worker.py``: its ranks train, evaluate, or do a task of ``launch check``."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...training.rank import take_ownership
from ..console import EpochTable
from ..control import HorizonControl, JobContext, SupervisorPage
from ..machine import World
from ..nodes import FollowerPage, FollowerPeers
from ..runs import Hold
from ..supervisor import AgentStart, Workload, visible_gpus
from .data_preparation import SAME_HASHES
from .plan import LaunchPlan
from .resume import find_resume_point, rewind_run
from .wandb_feeders import TrackerFeeders

_PROGRESS_SECONDS = 0.05
_MODULES = ("torch", "torch.distributed", "accelerate", "torch._dynamo")
"""Imported once for all ranks. DDP imports torch._dynamo, in every rank otherwise: 5.4 s to the first all-reduce,
not 2.2 s."""


def worker_agent(attempt: Path, world: World, keep: tuple[int, ...] = ()) -> AgentStart:
    """Make the folder of an attempt; how the agent of the worker's ranks is started in it.

    Args:
        attempt: made by node 0; its name is the token that fences older attempts off.
        world: the processes.
        keep: open files that the agent inherits: with them the locks on the GPUs outlive this process for as
            long as the agent does.
    """
    if world.node == 0:
        attempt.mkdir(mode=0o700)
    log = attempt / (f"agent-{world.node}.log" if world.node else "agent.log")
    return AgentStart(world.threads, {**visible_gpus(world), **SAME_HASHES}, _MODULES, log, keep=keep)


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
        return self._page.said if self._page is not None else None

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


class Training(WorkerWorkload):
    """A training on node 0, or on the only node.

    Args:
        folder: of the run.
        plan: of the run.
        hold: on the run folder.
        rows: shows what is logged.
        feeders: send it to trackers.
        job: of SLURM, whose time limit the training keeps; None outside of one.
    """

    def __init__(
        self,
        folder: Path,
        plan: LaunchPlan,
        hold: Hold,
        rows: EpochTable,
        feeders: TrackerFeeders,
        job: JobContext | None,
    ) -> None:
        self._control = HorizonControl(folder, plan.world.size, plan.config.checkpoint.every_minutes)
        super().__init__([str(folder / "spec.json")], plan.world, fenced=True, page=self._control)
        self._folder = folder
        self._plan = plan
        self._hold = hold
        self._rows = rows
        self._feeders = feeders
        self._job = job
        self._control.listen()

    @property
    def horizon(self) -> tuple[int, int, bool]:
        """What other nodes' ranks are to know of how far they may go."""
        return self._control.words()

    @property
    def is_stopping(self) -> bool:
        """Whether the ranks were asked to end with a checkpoint."""
        return self._control.stopping

    def tick(self) -> None:
        """Keep the run's lock, the job's time limit and the ranks' horizon; show what was logged."""
        self._hold.tick()
        if self._job is not None:
            self._job.tick(self._control)
        self._control.tick()
        self._rows.update()

    def on_signal(self, number: int) -> bool:
        """Stop with a checkpoint; False for an interrupt of what is stopping already."""
        return self._control.signalled(number)

    def stop(self, by: str) -> None:
        """Stop with a checkpoint."""
        self._control.stop(by)

    def on_progress(self, first: int, rows: list[list[int]]) -> None:
        """Count another node's ranks in before the horizon is moved."""
        self._control.note(first, rows)

    def prepare_restart(self, attempt: Path) -> str:
        """Rewind the run to its newest whole checkpoint; say from where it goes on."""
        self._hold.check()
        point = find_resume_point(self._folder, self._plan.steps)
        take_ownership(self._folder, attempt.name)
        self._feeders.leave()
        rewind_run(self._folder, point)
        self._rows.turn()
        self._control.reset()
        return f" from step {point.step:,}" if point else " from the start: no checkpoint was written yet"

    def begin_attempt(self, attempt: Path) -> None:
        """Feed the trackers with what the attempt logs."""
        self._feeders.start(attempt)


class FollowingTraining(WorkerWorkload):
    """A training on a node other than node 0.

    Args:
        folder: of the run.
        world: the processes of this node.
        peers: the way to node 0.
    """

    def __init__(self, folder: Path, world: World, peers: FollowerPeers) -> None:
        self._follower_page = FollowerPage(world.processes)
        super().__init__([str(folder / "spec.json")], world, fenced=True, page=self._follower_page)
        self._peers = peers
        self._attempt = ""
        self._sent = 0.0

    def order(self, attempt: Path) -> dict[str, Any]:
        """As every worker's; progress is reported for this attempt from now on."""
        self._attempt = attempt.name
        return super().order(attempt)

    def on_horizon(self, message: dict[str, Any]) -> None:
        """Let the ranks of this node go on as far as node 0 says."""
        self._follower_page.obey(message)

    def tick(self) -> None:
        """Tell node 0 how far the ranks of this node are, where that is news."""
        if time.monotonic() - self._sent > _PROGRESS_SECONDS:
            self._sent = time.monotonic()
            if (rows := self._follower_page.news()) is not None:
                self._peers.tell("progress", ranks=rows, attempt=self._attempt)

    def begin_attempt(self, _: Path) -> None:
        """Forget how far the ranks of the attempt before had come."""
        self._follower_page.reset()
