"""How an agent is started: its code, command line and environment; and the order to start the ranks."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...training.rank import PAGE_ROW
from ..machine import CPUS, World, to_variable
from ..process import duplicate_high
from .data_request import DataRequest
from .rank_outputs import RankOutputs

_HIGH = 200
AGENT_CODE = (
    b"import sys; sys.flags.safe_path or sys.path.pop(0); "  # a module of the user's must not shadow one of ours
    # Later the descriptor is another file, a pipe perhaps: who formats a stack must not read "its source" there.
    b"import linecache; linecache.cache[__file__] = (0, None, [], __file__); del __file__; "
    b"import lockstep.launcher.agent.rank_end; "  # what is registered first at exit is the last to be called
    b"from lockstep.launcher.agent.agent import main; sys.exit(main())"
)
"""The agent's whole code."""


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


def agent_argv(code: str, min_argv_bytes: int) -> list[str]:
    """Return the agent's command line, padded to the length of a rank's, which replaces it in ``ps``."""
    agent_argv = [sys.executable, "-u", code]
    missing = min_argv_bytes - sum(len(os.fsencode(part)) + 1 for part in agent_argv)
    return [*agent_argv, "." * (missing - 1)] if missing > 0 else agent_argv


def memory_descriptor(data: bytes) -> int:
    """Return a descriptor that ``data`` can be read from.

    Its number is high, so that no file or pipe of the user's gets it later: whoever looks for the source of the
    agent's frame under this name, past linecache, must find nothing. Number 9 was a pipe of the loader's.
    """
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    high = duplicate_high(reader, _HIGH)
    os.close(reader)
    return high


def bound_socket(address: str) -> socket.socket:
    """Bind a socket: node 0's becomes that of the ranks' store, the others' is not used."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, 0), family=family)


def thread_environment(threads: int) -> dict[str, str]:
    """Return variables that torch and NumPy read when imported; one node's traffic stays on the loopback interface.

    Threads that wait for work sleep instead of spinning: on a machine that something else uses as well, two
    spinning threads made a step of a small model ten times slower (1.6 ms with one thread, 18.8 ms with two).
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    loopback = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}  # another one for several nodes
    waiting = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    return {**dict.fromkeys(names, str(threads)), **loopback, **waiting}


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
