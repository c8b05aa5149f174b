"""``launch run``: any program that torchrun could start, under this launcher's supervision."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...data.common import LockstepError, UsageError, write_json
from ..agent import argv_bytes
from ..console import print_failure_card, say
from ..failures import is_root_cause_known
from ..hang import FollowerRankMonitor, RankMonitor
from ..machine import Reservation, World, reserve_gpus
from ..nodes import LeaderSession, awaited, following, lead_nodes, rendezvous_key, seen
from ..options import Nodes, SupervisionOptions
from ..process import remove_unused_dumps, user_umask
from ..runs import RunLock, create_run, hold_run_lock, program_stem, runs_root
from ..supervisor import (
    Job,
    LiveView,
    RankOutputs,
    Supervisor,
    agent_order,
    modules_to_preimport,
    next_attempt_folder,
    visible_gpus,
)
from .supervise import Script, StoppedScriptError


@dataclass(frozen=True)
class ScriptRequest:
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
    supervision: SupervisionOptions = field(default_factory=SupervisionOptions)
    folder: Path | None = None
    """Of the run, where ``launch submit`` has made it; else it is made here."""

    @property
    def stem(self) -> str:
        """Of the run's name, if none was given."""
        return program_stem(self.argv)


def run(program: ScriptRequest) -> int:
    """Run it to its end; the exit status."""
    source = _source(program)
    program.nodes.check()
    _refuse_strangers(program)
    with reserve_gpus(program.gpus, program.cpu, program.name or "") as reservation:
        if not program.nodes.leads:
            return _follow(program, reservation, source)
        folder = program.folder or create_run(program.name, program.stem)
        reservation.name(folder.name)
        with (
            hold_run_lock(folder) as hold,
            lead_nodes(program.nodes, folder, "run", reservation.world, shared=False) as lead,
        ):
            write_json(folder / "run.json", _describe(program, lead.world))
            say(_summary(folder, program, lead.world))
            attempt = next_attempt_folder(folder, "attempt")
            failure = _attempts(attempt, program, source, reservation.descriptors, hold, lead)
            hold.check()
            write_json(folder / "outcome.json", _outcome(folder, lead.world, failure))
            lead.end(failure, 0 if failure is None else failure.exit_status)
    if isinstance(failure, StoppedScriptError):
        say([failure.message])
    elif failure is not None:
        print_failure_card(failure)
    return 0 if failure is None else failure.exit_status


def _refuse_strangers(program: ScriptRequest) -> None:
    """Nodes know each other by a secret."""
    if program.nodes.count == 1 or program.folder is not None or rendezvous_key() is not None:
        if not program.nodes.rendezvous and program.name is None and program.nodes.count > 1:
            raise UsageError("--nodes: where do they meet?", "say --rendezvous HOST:PORT on every node")
        return
    if program.name is None:
        raise UsageError(
            f"--nodes {program.nodes.count}: nodes know each other by a secret",
            "give the run the same --name on shared storage, or set LOCKSTEP_KEY to the same secret on every node",
        )


def _follow(program: ScriptRequest, reservation: Reservation, source: str) -> int:
    """Run it as another node than node 0, which decides everything; the exit status."""
    named = program.folder or runs_root() / (program.name or "")
    nodes = program.nodes
    with following(nodes, lambda: named if named.is_dir() else None, "run", reservation.world) as node:
        shared = node.layout.shared
        folder = named if shared else create_run(f"{node.layout.run}.node-{nodes.rank}", "run")
        go = awaited(node.link, "go")
        attempt = folder / go["attempt"]
        if shared:
            seen(attempt)
        else:
            attempt.mkdir(mode=0o700)
            write_json(folder / "run.json", _describe(program, node.world))
        job, order, view = _job(attempt, program, node.world, source, reservation.descriptors)
        supervisor = Supervisor(job, is_root_cause_known(attempt), owed=False, others=node.others)
        supervisor.on_signal = node.others.signalled

        def watch_over(attempt: Path) -> None:
            lookout = RankMonitor(attempt, program.supervision.hang_timeout, node.world.processes)
            supervisor.on_idle_check = FollowerRankMonitor(lookout, node.others).tick

        def again(told: dict[str, Any]) -> None:
            watch_over(folder / told["attempt"])
            _turn(supervisor, view, folder / told["attempt"])

        node.others.commands["restart"] = again
        watch_over(attempt)
        try:
            supervisor.go({**order, "port": go["port"], "max_restarts": go["max_restarts"]})
            ending = supervisor.watch(lambda: view.tick(supervisor.notes))
        finally:
            supervisor.cancel()
            view.close()
            for used in folder.glob("attempt-*"):
                remove_unused_dumps(used)
        return node.conclude(ending)


def _turn(supervisor: Supervisor, view: LiveView, attempt: Path) -> None:
    """Node 0 starts the ranks again."""
    attempt.mkdir(mode=0o700, exist_ok=True)
    view.turn()
    supervisor.restart({"attempt_dir": str(attempt), "environment": {}}, is_root_cause_known(attempt))


def debug(program: ScriptRequest) -> int:
    """One process on this very terminal, where ``breakpoint()`` works; this process becomes it.

    Raises:
        UsageError: more than one was asked for.
    """
    if program.cpu not in (None, 1) or program.gpus not in (None, "1") or program.nodes.count > 1:
        hint = "leave --cpu, --gpus and --nodes out; CUDA_VISIBLE_DEVICES chooses its GPU"
        raise UsageError("--debug is one process, and more or others were asked for", hint)
    _source(program)
    alone = {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1", "ROLE_RANK": "0", "ROLE_WORLD_SIZE": "1", "ROLE_NAME": "default",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0",
    }  # fmt: skip
    os.environ.update(alone | ({"CUDA_VISIBLE_DEVICES": ""} if program.cpu else {}))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-u", *program.argv])  # noqa: S606 - no shell is wanted


def _source(program: ScriptRequest) -> str:
    """The program's own text, as far as it can be told without running it; empty where it cannot.

    Raises:
        UsageError: there is no such script or module, or it cannot be read.
    """
    path = _module(program.argv[1:]) if program.argv[0] == "-m" else _script(Path(program.argv[0]))
    if path is None or path.is_dir():
        return ""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "it has to be a file that you may read") from error


def _script(path: Path) -> Path:
    if not path.exists():
        python = "leave `python` out: " if path.name.startswith("python") else ""
        raise UsageError(f"{path}: there is no such script", f"{python}launch run [OPTIONS] SCRIPT [ARGS]")
    if path.is_dir() and not (path / "__main__.py").exists():
        raise UsageError(f"{path}: a folder without a __main__.py", "name the script in it")
    return path / "__main__.py" if path.is_dir() else path


def _module(words: list[str]) -> Path | None:
    """The file of a module on the path or in this folder, None where that is not so simple; nothing is imported."""
    if not words:
        raise UsageError("-m: a module's name is missing", "launch run [OPTIONS] -m MODULE [ARGS]")
    if words[0].endswith(".py") and Path(words[0]).is_file():
        raise UsageError(f"-m {words[0]}: that is a script, not a module's name", f"launch run {words[0]}")
    top = words[0].partition(".")[0]
    with suppress(ValueError):  # it is loaded here, and says nothing of its origin
        if not (PathFinder.find_spec(top, [str(Path.cwd())]) or find_spec(top)):
            raise UsageError(f"-m {words[0]}: there is no such module", "look at PYTHONPATH")
    for folder in (str(Path.cwd()), *sys.path):
        base = Path(folder, *words[0].split("."))
        for path in (base.with_suffix(".py"), base / "__main__.py"):
            if path.is_file():
                return path
    return None


def _attempts(
    folder: Path,
    program: ScriptRequest,
    source: str,
    keep: tuple[int, ...],
    hold: RunLock,
    lead: LeaderSession,
) -> LockstepError | None:
    folder.mkdir(mode=0o700)
    job, order, view = _job(folder, program, lead.world, source, keep)
    script = Script(folder, job, program.supervision, view, hold.tick, lead.leader)
    return script.run(order, lead.world.size)


def _job(
    folder: Path, program: ScriptRequest, world: World, source: str, keep: tuple[int, ...]
) -> tuple[Job, dict[str, Any], LiveView]:
    """What the agent of this node is started for and told, and what shows people what its ranks print."""
    view = LiveView()
    outputs = RankOutputs(folder, world.processes, view, world.first)
    streams = [[0, *outputs.streams(rank)] for rank in range(world.processes)]
    job = Job(
        threads=world.threads,
        environment=_environment(world),
        modules=modules_to_preimport(source),
        log=folder / (f"agent-{world.node}.log" if world.node else "agent.log"),
        room=argv_bytes([sys.executable, "-u", *program.argv]),
        stdin=True,
        keep=keep,
        outputs=outputs,
    )
    order = agent_order(folder, world, {}) | {
        "program": program.argv,
        "streams": streams,
        "start": program.start,
        "umask": user_umask(),
    }
    return job, order, view


def _environment(world: World) -> dict[str, str]:
    """What the user has set for threads stands, as under torchrun."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**visible_gpus(world), **{name: os.environ[name] for name in names if os.environ.get(name)}}


def _describe(program: ScriptRequest, world: World) -> dict[str, Any]:
    """``run.json``: what was started, in place of a trained run's spec."""
    return {
        "schema_version": 1,
        "kind": "run",
        "program": program.argv,
        "folder": str(Path.cwd()),
        "device": world.device,
        "processes": world.size,
        "nodes": list(world.nodes) or [world.processes],
        "threads": world.threads,
        "gpus": list(world.gpus),
        "start": program.start,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _summary(folder: Path, program: ScriptRequest, world: World) -> list[str]:
    kind = "GPU" if world.gpus else "CPU"
    processes = f"{world.size} {kind} process{'es' * (world.size != 1)}"
    processes += f" on {len(world.nodes)} nodes" if world.nodes else ""
    threads = f"{world.threads} thread{'s' * (world.threads != 1)} each"
    lines = [f"{folder.name}: {processes}, {threads}: {' '.join(program.argv)}"]
    if world.processes > world.cores:
        lines.append(f"note: {world.processes} processes share {world.cores} cores")
    if world.cores_why:
        lines.append(f"note: {world.cores_why}")
    return lines


def _outcome(folder: Path, world: World, failure: LockstepError | None) -> dict[str, Any]:
    status = 0 if failure is None else failure.exit_status
    stopped = isinstance(failure, StoppedScriptError)
    return {
        "schema_version": 1,
        "run": folder.name,
        "run_dir": str(folder),
        "status": "done" if failure is None else "stopped" if stopped else "failed",
        "exit_code": status,
        "world_size": world.size,
        **({} if failure is None or stopped else {"error": failure.to_json()}),
    }
