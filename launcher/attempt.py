"""One start of a run's processes: agent, data's preparation beside it, ranks, and the end of them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from ..data.errors import LockstepError
from ..data.facts import DataFacts
from ..data.spec import DataConfig
from .ending import Ending
from .failure import cause_known, diagnose
from .plan import World
from .prepare import SAME_HASHES, Preparation
from .supervisor import Job, Supervisor

_MODULES = ("torch", "torch.distributed", "accelerate", "torch._dynamo")
"""Imported once for all ranks. DDP imports torch._dynamo, in every rank otherwise: 5.4 s to the first all-reduce,
not 2.2 s."""


class Attempt:
    """The agent's start, overlapping with the data's preparation; leaving it leaves no process behind.

    Args:
        folder: of this attempt, made here; its name is the token that fences older attempts off.
        world: the processes.
    """

    def __init__(self, folder: Path, world: World) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self._world = world
        environment = {**visible_gpus(world), **SAME_HASHES}
        job = Job(world.threads, environment, _MODULES, folder / "agent.log")
        self._supervisor = Supervisor(job, cause_known(folder), owed=True)

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
        order = order_of(self.folder, self._world, environment) | {"argv": argv}
        self._supervisor.go(order)
        return self._diagnose(self._supervisor.watch(tick))

    def _diagnose(self, ending: Ending) -> LockstepError | None:
        return diagnose(self.folder, ending, self._world.processes)


def visible_gpus(world: World) -> dict[str, str]:
    """A chosen GPU is number LOCAL_RANK of those that the ranks see."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(world.gpus)}


def order_of(folder: Path, world: World, environment: dict[str, str]) -> dict[str, Any]:
    """What the agent is told, but for what the ranks run."""
    return {
        "run": folder.parent.name,
        "processes": world.processes,
        "attempt_dir": str(folder),
        "environment": environment,
        "start": "fork",
        "umask": 0o077,
        "program": None,
        "argv": None,
        "streams": None,
    }


def next_attempt(folder: Path, kind: str) -> Path:
    """``KIND-K`` with the first K that is free."""
    number = 1
    while (folder / f"{kind}-{number}").exists():
        number += 1
    return folder / f"{kind}-{number}"


def modules_for(source: str) -> Sequence[str]:
    """What is worth importing before the fork: torch, and what the program's own text says it uses."""
    modules = ["torch", "torch.distributed"]
    if any(
        word in source for word in ("DistributedDataParallel", "DDP", "fully_shard", "accelerate", "compile(")
    ):
        modules.append("torch._dynamo")
    return [*modules, *(name for name in ("accelerate", "torchvision") if name in source)]
