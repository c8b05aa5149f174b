"""What an agent is given when it is started, and the order to start the ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...training.rank import PAGE_ROW
from ..machine import CPUS, World, to_variable
from .data_request import DataRequest
from .rank_outputs import RankOutputs


@dataclass(frozen=True)
class AgentStart:
    """The start of an agent, before its order to start the ranks."""

    threads: int
    """Per rank; has to be known before torch is imported."""
    environment: dict[str, str]
    """Additions to the ranks' environment."""
    modules: Sequence[str]
    """Imported before the ranks are forked."""
    log: Path
    """The agent's own output."""
    min_argv_bytes: int = 0
    """Bytes that the agent's command line should have at least, so that ranks can show theirs in its place."""
    stdin: bool = False
    """Whether ranks read this process's stdin; else there is nothing for them to read."""
    inherited_descriptors: Sequence[int] = ()
    """Open files that the agent inherits."""
    outputs: RankOutputs | None = None
    """Where the ranks print; without it each to its log, unseen."""
    data: DataRequest | None = None
    """How it can be asked to prepare data."""


def visible_gpus(world: World) -> dict[str, str]:
    """Return variables that make a rank's GPU number LOCAL_RANK of those it sees, numbered as by nvidia-smi."""
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(world.visible or world.gpus),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        CPUS: to_variable([*[()] * world.local_rank, *world.cpus]) if world.cpus else "",
    }


def agent_order(folder: Path, world: World) -> dict[str, Any]:
    """Return the order to the agent of any launch, to which what the ranks run is added."""
    return {
        "run": folder.parent.name,
        "processes": world.processes,
        "local": _local_numbers(world),
        "max_restarts": 0,
        "attempt_dir": str(folder),
        "environment": {},
        "start": "fork",
        "umask": 0o077,
        "program": None,
        "argv": None,
        "streams": None,
    }


def _local_numbers(world: World) -> dict[str, str]:
    """Return the ranks' variables of their machine where this node is one of several tasks on it."""
    if world.task is None:
        return {}
    return {
        "LOCAL_RANK": str(world.local_rank),
        "LOCAL_WORLD_SIZE": str(world.task.count),
        "GROUP_RANK": str(world.task.node),
        "GROUP_WORLD_SIZE": str(world.task.nodes),
        PAGE_ROW: "0",
    }


def next_attempt_folder(folder: Path, kind: str) -> Path:
    """Return ``KIND-K`` with the lowest K that is free."""
    number = 1
    while (folder / f"{kind}-{number}").exists():
        number += 1
    return folder / f"{kind}-{number}"


def modules_to_preimport(source: str) -> Sequence[str]:
    """Return what is worth importing before the fork: torch, and what the program's own text says it uses."""
    modules = ["torch", "torch.distributed"]
    if any(
        word in source for word in ("DistributedDataParallel", "DDP", "fully_shard", "accelerate", "compile(")
    ):
        modules.append("torch._dynamo")
    return [*modules, *(name for name in ("accelerate", "torchvision") if name in source)]
