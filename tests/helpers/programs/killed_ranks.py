"""Ranks of Lockstep that are killed at a chosen call. No test: ``faults/test_kill_anywhere.py`` starts it.

``python -m tests.helpers.programs.killed_ranks`` reads jobs from stdin, one JSON document a line with ``folder``
(it has a ``spec.json``), ``world``, ``port``, ``threads``, ``kill`` (null, or ``place``, ``number`` and ``rank``) and
perhaps ``arguments`` of the worker and ``cwd``, forks that many ranks, and answers each job with a line of their exit
statuses. The
``number``-th call of ``place`` in an attempt, for ``step`` the run's step of that number, kills the rank, or with a
rank of null all of them in the same instant; what is left is killed as a supervisor would.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401 - DDP imports it in every rank otherwise

from lockstep.training import worker
from lockstep.training.checkpoint import sharded_writing
from lockstep.training.checkpoint import storage as checkpoint
from lockstep.training.loop import evaluation as evaluate
from lockstep.training.session import build
from lockstep.training.session.step_seeding import StepSeeder

KILL_POINTS: dict[str, tuple[Any, str]] = {
    "step": (StepSeeder, "reseed"),
    "evaluation": (evaluate, "evaluate_batch"),
    "checkpoint": (checkpoint, "sync"),
    "pruning": (checkpoint, "remove_checkpoint"),
}
"""What is counted; the call that is one too many is never made."""
SHARD_POINTS: dict[str, tuple[Any, str]] = {
    "checkpoint": (checkpoint, "sync"),
    "file": (checkpoint, "save_file"),
    "exchange": (sharded_writing, "_gathered"),
    "rename": (checkpoint.Path, "rename"),
}
"""Where ranks that write together may be killed."""
GRACE_SECONDS = 0.2  # for ranks that notice by themselves


def arm_kill(kill: dict[str, Any] | None, rank: int) -> None:
    """Make this rank die at its call."""
    if kill is None or (kill["rank"] is not None and kill["rank"] != rank):
        return
    owner, name = {**KILL_POINTS, **SHARD_POINTS}[kill["place"]]
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls = arguments[1] + 1 if kill["place"] == "step" else calls + 1
        if calls == kill["number"]:
            target = os.getpid() if kill["rank"] is not None else 0
            (os.kill if target else os.killpg)(target or os.getpgrp(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(owner, name, counted)
    if kill["place"] == "pruning":  # imported by name where it is used
        from lockstep.training.checkpoint import background_writer as writer

        writer.remove_checkpoint = counted


def _fork(job: dict[str, Any], rank: int, group: int) -> int:
    """The process id of a rank; in the rank itself it never returns."""
    if pid := os.fork():
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, group or pid)
        return pid
    status = 1
    try:
        os.setpgid(0, group)
        folder = Path(job["folder"])
        log = os.open(folder / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.chdir(job.get("cwd", "."))
        os.environ |= {"WORLD_SIZE": str(job["world"]), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(job["port"]),
            "GLOO_SOCKET_IFNAME": "lo",
        }
        os.environ["OMP_NUM_THREADS"] = str(job["threads"])
        if job["threads"] > 1:
            build._SHARED_FLOPS = 0  # else the small model would get one thread
        arm_kill(job["kill"], rank)
        status = worker.main([str(folder / "spec.json"), *job.get("arguments", [])])
    finally:
        os._exit(status)


def _wait(ranks: list[int]) -> list[int]:
    """Their statuses; after the first bad one the others have a moment, and are killed."""
    statuses: dict[int, int] = {}
    deadline: float | None = None
    while len(statuses) < len(ranks):
        for pid in ranks:
            if pid not in statuses and (ended := os.waitpid(pid, os.WNOHANG))[0]:
                statuses[pid] = os.waitstatus_to_exitcode(ended[1])
                if statuses[pid] and deadline is None:
                    deadline = time.monotonic() + GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            for pid in set(ranks) - statuses.keys():
                os.kill(pid, signal.SIGKILL)
            deadline = None
        time.sleep(0.002)
    return [statuses[pid] for pid in ranks]


def main() -> None:
    """Answer jobs until stdin ends."""
    for line in sys.stdin:
        job = json.loads(line)
        ranks: list[int] = []
        for rank in range(job["world"]):
            ranks.append(_fork(job, rank, ranks[0] if ranks else 0))
        sys.stdout.write(json.dumps(_wait(ranks)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
