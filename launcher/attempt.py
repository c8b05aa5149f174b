"""One start of a run's processes: agent, data's preparation beside it, ranks, and the end of them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

from ..data.errors import LockstepError
from ..data.facts import DataFacts
from ..data.spec import DataConfig
from .failure import diagnose
from .numa import CPUS, to_variable
from .plan import World
from .prepare import SAME_HASHES, Preparation
from .supervisor import Supervisor


class Attempt:
    """The agent's start, overlapping with the data's preparation; leaving it leaves no process behind.

    Args:
        folder: of this attempt, made here; its name is the token that fences older attempts off.
        world: the processes.
        keep: open files that the agent inherits: with them the locks on the GPUs outlive this process for as
            long as the agent does.
    """

    def __init__(self, folder: Path, world: World, keep: tuple[int, ...] = ()) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self._world = world
        visible = {**visible_gpus(world), **SAME_HASHES}
        self._supervisor = Supervisor(world.threads, visible, folder / "agent.log", keep)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._supervisor.cancel()

    def prepare(self, config: DataConfig, base: Path) -> DataFacts:
        """The data's facts, while the agent imports torch."""
        return Preparation(config, base).wait()

    def run(self, argv: list[str], tick: Callable[[], None], *, fenced: bool) -> LockstepError | None:
        """Let the ranks work; None when all are done, else why not.

        Args:
            argv: of the worker.
            tick: called now and then.
            fenced: the attempt owns the run; only then may its ranks write checkpoints and events.
        """
        environment = {
            "LOCKSTEP_ATTEMPT_DIR": str(self.folder),
            "LOCKSTEP_DEVICE": self._world.device,  # of this attempt; an evaluation may differ from its run
            **({"LOCKSTEP_TOKEN": self.folder.name} if fenced else {}),
        }
        order = {
            "run": self.folder.parent.name,
            "processes": self._world.processes,
            "argv": argv,
            "attempt_dir": str(self.folder),
            "environment": environment,
        }
        self._supervisor.go(order)
        return diagnose(self.folder, self._supervisor.watch(tick), self._world.processes)


def visible_gpus(world: World) -> dict[str, str]:
    """A chosen GPU is number LOCAL_RANK of those that the ranks see; numbers mean what nvidia-smi means by them."""
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(world.gpus),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        CPUS: to_variable(world.cpus),
    }


def next_attempt(folder: Path, kind: str) -> Path:
    """``KIND-K`` with the first K that is free."""
    number = 1
    while (folder / f"{kind}-{number}").exists():
        number += 1
    return folder / f"{kind}-{number}"
