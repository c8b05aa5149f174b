"""A run's processes: agent, data's preparation beside it, ranks, their next start in place, and the end of them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from ...data.common import LockstepError
from ...data.config import DataConfig, DatasetInfo
from ..control import SupervisorPage
from ..failures import Ending, diagnose_failure, is_root_cause_known
from ..machine import World
from ..nodes import FollowerPage, FollowerPeers, SingleNode
from ..process import remove_unused_dumps
from ..supervisor import Job, Known, Restarts, Supervisor, agent_order, visible_gpus
from .data_preparation import SAME_HASHES, DataPreparation

Look = Callable[[Ending], None]
"""May put a hang into the ending."""
_MODULES = ("torch", "torch.distributed", "accelerate", "torch._dynamo")
"""Imported once for all ranks. DDP imports torch._dynamo, in every rank otherwise: 5.4 s to the first all-reduce,
not 2.2 s."""


class Attempt:
    """The agent's start, overlapping with the data's preparation; leaving it leaves no process behind.

    Args:
        folder: of this attempt, made here; its name is the token that fences older attempts off.
        world: the processes.
        keep: open files that the agent inherits: with them the locks on the GPUs outlive this process for as
            long as the agent does.
        others: the other nodes.
    """

    def __init__(
        self, folder: Path, world: World, keep: tuple[int, ...] = (), others: SingleNode | None = None
    ) -> None:
        if world.node == 0:
            folder.mkdir(mode=0o700)
        self.folder = folder
        self._world = world
        environment = {**visible_gpus(world), **SAME_HASHES}
        log = folder / (f"agent-{world.node}.log" if world.node else "agent.log")
        job = Job(world.threads, environment, _MODULES, log, keep=keep)
        self._supervisor = Supervisor(job, is_root_cause_known(folder), owed=True, others=others)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._supervisor.cancel()

    def prepare(self, config: DataConfig, base: Path) -> DatasetInfo:
        """The data's facts, while the agent imports torch."""
        return DataPreparation(config, base).wait()

    def run(
        self,
        argv: list[str],
        tick: Callable[[], None],
        *,
        fenced: bool,
        page: SupervisorPage | None = None,
        signalled: Callable[[int], bool] | None = None,
        restarts: Restarts | None = None,
        look: Look = lambda _: None,
    ) -> LockstepError | None:
        """Let the ranks work; None when all are done, else why not.

        Args:
            argv: of the worker.
            tick: called now and then.
            fenced: the attempt owns the run; only then may its ranks write checkpoints and events.
            page: where the ranks say how far they are.
            signalled: told of each signal; False where it should end everything at once.
            restarts: of ranks that have failed; without it there are none.
            look: called now and then; may put a hang into the ending.
        """
        if signalled is not None:
            self._supervisor.on_signal = signalled
        order = agent_order(self.folder, self._world, self._environment(page, fenced=fenced))
        limit = restarts.limit if restarts else 0
        self._supervisor.on_idle_check = look
        self._supervisor.go(order | {"argv": argv, "max_restarts": limit})

        def again(ending: Ending) -> tuple[dict[str, Any], Known] | None:
            failure = self._diagnose(ending)
            folder = restarts.next(failure) if restarts and failure else None
            if folder is None:
                return None
            remove_unused_dumps(self.folder)
            self.folder = folder
            environment = self._environment(page, fenced=fenced)
            return {"attempt_dir": str(folder), "environment": environment}, is_root_cause_known(folder)

        try:
            return self._diagnose(self._supervisor.watch(tick, again if limit else None))
        finally:
            remove_unused_dumps(self.folder)

    def follow(
        self,
        argv: list[str],
        tick: Callable[[], None],
        page: FollowerPage,
        go: dict[str, Any],
        others: FollowerPeers,
        look: Callable[[Path], Look],
    ) -> Ending:
        """Another node's ranks: work until node 0 says that it is over.

        Args:
            argv: of the worker.
            tick: called now and then.
            page: of this node's ranks.
            go: node 0's order to start: where its store is, and how many restarts it may count.
            others: node 0; its orders to start again are obeyed here.
            look: called now and then in each attempt, whose folder it is made for.
        """
        self._supervisor.on_signal = others.signalled

        def again(message: dict[str, Any]) -> None:
            self.folder = self.folder.with_name(message["attempt"])
            page.reset()
            environment = self._environment(page, fenced=True)
            order = {"attempt_dir": str(self.folder), "environment": environment}
            self._supervisor.on_idle_check = look(self.folder)
            self._supervisor.restart(order, is_root_cause_known(self.folder))

        others.commands |= {"restart": again, "horizon": page.obey}
        self._supervisor.on_idle_check = look(self.folder)
        order = agent_order(self.folder, self._world, self._environment(page, fenced=True))
        self._supervisor.go(order | {"argv": argv, "port": go["port"], "max_restarts": go["max_restarts"]})
        try:
            return self._supervisor.watch(tick)
        finally:
            remove_unused_dumps(self.folder)

    def _environment(self, page: SupervisorPage | None, *, fenced: bool) -> dict[str, str]:
        return {
            "LOCKSTEP_ATTEMPT_DIR": str(self.folder),
            "LOCKSTEP_DEVICE": self._world.device,  # of this attempt; an evaluation may differ from its run
            **({"LOCKSTEP_TOKEN": self.folder.name} if fenced else {}),
            **(page.environment if page else {}),
        }

    def _diagnose(self, ending: Ending) -> LockstepError | None:
        return diagnose_failure(self.folder, ending, self._world.size)
