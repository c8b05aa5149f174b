"""``launch run``: any program that torchrun could start, under this launcher's supervision."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.errors import LockstepError, UsageError
from .console import card, say
from .failure import cause_known, diagnose
from .lock import held
from .lookout import Lookout
from .nodes import Nodes
from .orders import Job, modules_for, next_attempt, order_of, visible_gpus
from .outputs import Outputs
from .rank import room_for
from .reserve import reserved
from .runs import create_run, write_json
from .supervision import Supervision
from .supervisor import Supervisor
from .umask import of_the_user
from .view import View
from .world import World


@dataclass(frozen=True)
class Program:
    """What ``launch run`` was asked to run.

    Args:
        argv: ``SCRIPT ARGS…`` or ``-m MODULE ARGS…``.
        start: ``fork`` where that is safe, or ``exec``: a fresh process for each rank.
    """

    argv: list[str]
    gpus: str | None
    cpu: int | None
    name: str | None = None
    start: str = "fork"
    nodes: Nodes = field(default_factory=Nodes)
    supervision: Supervision = field(default_factory=Supervision)

    @property
    def stem(self) -> str:
        """Of the run's name, if none was given."""
        stem = self.argv[1].rpartition(".")[2] if self.argv[0] == "-m" else Path(self.argv[0]).stem
        return (
            "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in stem)[:60].lstrip(
                "._-"
            )
            or "run"
        )


def run(program: Program) -> int:
    """Run it to its end; the exit status."""
    source = _source(program)
    with reserved(program.gpus, program.cpu, program.name or "") as reservation:
        world = reservation.world
        folder = create_run(program.name, program.stem)
        reservation.name(folder.name)
        with held(folder):
            write_json(folder / "run.json", _describe(program, world))
            say(_summary(folder, program, world))
            attempt = next_attempt(folder, "attempt")
            failure = _attempt(attempt, program, world, source, reservation.descriptors)
            write_json(folder / "outcome.json", _outcome(folder, world, failure))
    if failure is not None:
        card(failure)
        return failure.exit_status
    return 0


def debug(program: Program) -> int:
    """One process on this very terminal, where ``breakpoint()`` works; this process becomes it."""
    _source(program)
    alone = {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1", "ROLE_RANK": "0", "ROLE_WORLD_SIZE": "1", "ROLE_NAME": "default",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0",
    }  # fmt: skip
    os.environ.update(alone)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-u", *program.argv])  # noqa: S606 - no shell is wanted


def _source(program: Program) -> str:
    """The program's own text, as far as it can be told without running it; empty where it cannot.

    Raises:
        UsageError: there is no such script or module.
    """
    if program.argv[0] == "-m" and len(program.argv) < 2:  # noqa: PLR2004 - the option and its value
        raise UsageError("-m: a module's name is missing", "launch run [OPTIONS] -m MODULE [ARGS]")
    path = _module_file(program.argv[1]) if program.argv[0] == "-m" else Path(program.argv[0])
    if path is None:
        return ""
    if not path.exists():
        raise UsageError(f"{path}: there is no such script", "launch run [OPTIONS] SCRIPT [ARGS]")
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    return ""


def _module_file(name: str) -> Path | None:
    """The file of a module on the path or in this folder; nothing is imported for it."""
    for folder in (str(Path.cwd()), *sys.path):
        base = Path(folder, *name.split("."))
        for path in (base.with_suffix(".py"), base / "__main__.py"):
            if path.is_file():
                return path
    return None


def _attempt(
    folder: Path, program: Program, world: World, source: str, keep: tuple[int, ...]
) -> LockstepError | None:
    folder.mkdir(mode=0o700)
    view = View()
    outputs = Outputs(folder, world.processes, view)
    streams = [[0, *outputs.streams(rank)] for rank in range(world.processes)]
    job = Job(
        threads=world.threads,
        environment=_environment(world),
        modules=modules_for(source),
        log=folder / "agent.log",
        room=room_for([sys.executable, "-u", *program.argv]),
        stdin=True,
        keep=keep,
        outputs=outputs,
    )
    supervisor = Supervisor(job, cause_known(folder), owed=False)
    lookout = Lookout(folder, program.supervision.hang_timeout, world.processes, warn=supervisor.notes.append)
    supervisor.on_look = lookout.tick
    try:
        order = order_of(folder, world, {}) | {
            "program": program.argv,
            "streams": streams,
            "start": program.start,
            "umask": of_the_user(),
        }
        supervisor.go(order)
        ending = supervisor.watch(lambda: view.tick(supervisor.notes))
    finally:
        supervisor.cancel()
        view.close()
        lookout.close()
    return diagnose(folder, ending, world.processes, script=True)


def _environment(world: World) -> dict[str, str]:
    """What the user has set for threads stands, as under torchrun."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**visible_gpus(world), **{name: os.environ[name] for name in names if os.environ.get(name)}}


def _describe(program: Program, world: World) -> dict[str, Any]:
    """``run.json``: what was started, in place of a trained run's spec."""
    return {
        "schema_version": 1,
        "kind": "run",
        "program": program.argv,
        "folder": str(Path.cwd()),
        "device": world.device,
        "processes": world.processes,
        "threads": world.threads,
        "gpus": list(world.gpus),
        "start": program.start,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _summary(folder: Path, program: Program, world: World) -> list[str]:
    kind = "GPU" if world.gpus else "CPU"
    processes = f"{world.processes} {kind} process{'es' * (world.processes != 1)}"
    threads = f"{world.threads} thread{'s' * (world.threads != 1)} each"
    lines = [f"{folder.name}: {processes}, {threads}: {' '.join(program.argv)}"]
    if world.processes > world.cores:
        lines.append(f"note: {world.processes} processes share {world.cores} cores")
    return lines


def _outcome(folder: Path, world: World, failure: LockstepError | None) -> dict[str, Any]:
    status = 0 if failure is None else failure.exit_status
    return {
        "schema_version": 1,
        "run": folder.name,
        "run_dir": str(folder),
        "status": "done" if failure is None else "failed",
        "exit_code": status,
        "world_size": world.processes,
        **({} if failure is None else {"error": failure.to_json()}),
    }
