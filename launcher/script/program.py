"""``launch run``: any program that torchrun could start, under this launcher's supervision."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...data.common import STOPPED, LockstepError, UsageError, write_json
from ...training.config import DEFAULT_LOG_MB
from ..agent import argv_bytes
from ..console import best_effort, print_failure_card, print_messages
from ..machine import Reservation, World, reserve_gpus
from ..nodes import (
    FollowerSession,
    SingleNode,
    await_message,
    join_as_follower,
    lead_nodes,
    rendezvous_key,
    wait_until_visible,
)
from ..options import NodeOptions, SupervisionOptions
from ..process import user_umask
from ..runs import RunLock, create_run, hold_run_lock, program_stem, runs_root
from ..supervisor import (
    AgentStart,
    Launch,
    LiveView,
    RankOutputs,
    modules_to_preimport,
    next_attempt_folder,
    visible_gpus,
)
from ..worlds import rank_environment
from .script_source import notes_on_arguments, read_source
from .script_workload import ScriptWorkload, StoppedScriptError


@dataclass(frozen=True)
class ScriptRequest:
    """The request of ``launch run``.

    Args:
        argv: ``SCRIPT ARGS…`` or ``-m MODULE ARGS…``.
        start: ``fork`` where that is safe, or ``exec``: a fresh process for each rank.
    """

    argv: list[str]
    gpus: str | None
    cpu: int | None
    name: str | None = None
    start: str = "fork"
    nodes: NodeOptions = field(default_factory=NodeOptions)
    supervision: SupervisionOptions = field(default_factory=SupervisionOptions)
    max_log_mb: int = DEFAULT_LOG_MB
    """Megabytes of a rank's log in one attempt."""
    folder: Path | None = None
    """Of the run, where ``launch submit`` has made it; else it is made here."""

    @property
    def stem(self) -> str:
        """Of the run's name, if none was given."""
        return program_stem(self.argv)


def run(request: ScriptRequest) -> int:
    """Run a script or module to its end; return the exit status."""
    source = read_source(request.argv)
    request.nodes.check()
    _refuse_strangers(request)
    with reserve_gpus(request.gpus, request.cpu, request.name or "", task=request.nodes.task) as reservation:
        if not request.nodes.is_leader:
            return _follow(request, reservation, source)
        folder = request.folder or create_run(request.name, request.stem)
        reservation.name(folder.name)
        with (
            hold_run_lock(folder) as run_lock,
            lead_nodes(request.nodes, folder, "run", reservation.world, shared=False) as session,
        ):
            write_json(folder / "run.json", _describe(request, session.world))
            print_messages(_summary(folder, request, session.world))
            print_messages(f"note: {note}" for note in notes_on_arguments(request.argv, source))
            attempt = next_attempt_folder(folder, "attempt")
            attempt.mkdir(mode=0o700)
            launch, script = _launch(
                attempt, request, session.world, source, reservation.descriptors, run_lock, session.peers
            )
            with launch:
                launch.listen()
                failure = launch.run(script)
            run_lock.check()
            with best_effort():  # how the script ended is not for the disk to decide
                write_json(folder / "outcome.json", _outcome(folder, session.world, failure))
            session.announce_end(failure, 0 if failure is None else failure.exit_status)
    if isinstance(failure, StoppedScriptError):
        print_messages([failure.message])
    elif failure is not None:
        print_failure_card(failure)
    return 0 if failure is None else failure.exit_status


def _refuse_strangers(request: ScriptRequest) -> None:
    """Refuse nodes that have no secret by which they know each other, or no place to meet."""
    if request.nodes.count == 1 or request.folder is not None or rendezvous_key() is not None:
        if not request.nodes.rendezvous and request.name is None and request.nodes.count > 1:
            raise UsageError("--nodes: where do they meet?", "say --rendezvous HOST:PORT on every node")
        return
    if request.name is None:
        raise UsageError(
            f"--nodes {request.nodes.count}: nodes know each other by a secret",
            "give the run the same --name on shared storage, or set LOCKSTEP_KEY to the same secret on every node",
        )


def _follow(request: ScriptRequest, reservation: Reservation, source: str) -> int:
    """Run it on a node other than node 0, which decides everything; return the exit status."""
    named = request.folder or runs_root() / (request.name or "")
    nodes = request.nodes
    with join_as_follower(
        nodes, lambda: named if named.is_dir() else None, "run", reservation.world
    ) as follower:
        shared = follower.layout.shared
        folder = named if shared else create_run(f"{follower.layout.run}.node-{nodes.rank}", "run")
        with nullcontext() if shared else hold_run_lock(folder):
            status = _follow_in(folder, follower, request, reservation, source)
            if not shared:
                with best_effort():
                    write_json(folder / "outcome.json", follower_outcome(folder, follower.world, status))
    return status


def _follow_in(
    folder: Path, follower: FollowerSession, request: ScriptRequest, reservation: Reservation, source: str
) -> int:
    """Run this node's ranks until node 0 says that it is over; return the exit status."""
    go = await_message(follower.link, "go")
    attempt = folder / go["attempt"]
    if follower.layout.shared:
        wait_until_visible(attempt)
    else:
        attempt.mkdir(mode=0o700)
        write_json(folder / "run.json", _describe(request, follower.world))
    launch, script = _launch(
        attempt, request, follower.world, source, reservation.descriptors, None, follower.peers
    )
    with launch:
        end = launch.follow(script, go)
    return follower.report_end(end)


def debug(request: ScriptRequest) -> int:
    """Replace this process by the program, as its only rank, so that ``breakpoint()`` works on this terminal.

    Raises:
        UsageError: more than one was asked for.
    """
    if request.cpu not in (None, 1) or request.gpus not in (None, "1") or request.nodes.count > 1:
        hint = "leave --cpu, --gpus and --nodes out; CUDA_VISIBLE_DEVICES chooses its GPU"
        raise UsageError("--debug is one process, and more or others were asked for", hint)
    read_source(request.argv)
    alone = {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1", "ROLE_RANK": "0", "ROLE_WORLD_SIZE": "1", "ROLE_NAME": "default",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0",
    }  # fmt: skip
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if request.cpu else {}
    sys.stdout.flush()
    os.execve(  # noqa: S606 - no shell is wanted
        sys.executable,
        [sys.executable, "-u", *request.argv],
        {**rank_environment(os.environ), **alone, **hidden},
    )


def _launch(
    attempt: Path,
    request: ScriptRequest,
    world: World,
    source: str,
    inherited_descriptors: tuple[int, ...],
    run_lock: RunLock | None,
    peers: SingleNode,
) -> tuple[Launch, ScriptWorkload]:
    """Start the agent of this node; return the launch, and what it is to run."""
    view = LiveView()
    outputs = RankOutputs(
        attempt,
        world.processes,
        view,
        world.first,
        max_mb=request.max_log_mb,
        notify=lambda text: view.tick([text]),
    )
    order = {
        "program": request.argv,
        "start": request.start,
        "umask": user_umask(),
    }
    start = AgentStart(
        threads=world.threads,
        environment=_environment(world),
        modules=modules_to_preimport(source),
        log=attempt / (f"agent-{world.node}.log" if world.node else "agent.log"),
        min_argv_bytes=argv_bytes([sys.executable, "-u", *request.argv]),
        stdin=True,
        inherited_descriptors=inherited_descriptors,
        outputs=outputs,
    )
    options = request.supervision
    launch = Launch(attempt, start, world, options, peers)
    return launch, ScriptWorkload(attempt.parent, order, view, options.grace, run_lock)


def _environment(world: World) -> dict[str, str]:
    """Return additions to the ranks' environment; what the user has set for threads stands, as under torchrun."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**visible_gpus(world), **{name: os.environ[name] for name in names if os.environ.get(name)}}


def _describe(request: ScriptRequest, world: World) -> dict[str, Any]:
    """Return ``run.json``: what was started, in place of a trained run's spec."""
    return {
        "schema_version": 1,
        "kind": "run",
        "program": request.argv,
        "folder": str(Path.cwd()),
        "device": world.device,
        "processes": world.size,
        "nodes": list(world.nodes) or [world.processes],
        "threads": world.threads,
        "gpus": list(world.gpus),
        "start": request.start,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _summary(folder: Path, request: ScriptRequest, world: World) -> list[str]:
    kind = "GPU" if world.gpus else "CPU"
    processes = f"{world.size} {kind} process{'es' * (world.size != 1)}"
    processes += f" on {world.machines} nodes" if world.machines > 1 else ""
    threads = f"{world.threads} thread{'s' * (world.threads != 1)} each"
    lines = [f"{folder.name}: {processes}, {threads}: {' '.join(request.argv)}"]
    if world.processes > world.cores:
        lines.append(f"note: {world.processes} processes share {world.cores} cores")
    if world.cores_why:
        lines.append(f"note: {world.cores_why}")
    return lines


def follower_outcome(folder: Path, world: World, status: int) -> dict[str, Any]:
    """Describe the end of a node's own folder, where it does not see that of node 0: of the end it knows the status."""
    words = {0: "done", STOPPED: "stopped"}
    return _ended(folder, world, words.get(status, "failed"), status)


def _outcome(folder: Path, world: World, failure: LockstepError | None) -> dict[str, Any]:
    status = 0 if failure is None else failure.exit_status
    stopped = isinstance(failure, StoppedScriptError)
    words = "done" if failure is None else "stopped" if stopped else "failed"
    error = {} if failure is None or stopped else {"error": failure.to_json()}
    return {**_ended(folder, world, words, status), **error}


def _ended(folder: Path, world: World, words: str, status: int) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "run": folder.name,
        "run_dir": str(folder),
        "status": words,
        "exit_code": status,
        "world_size": world.size,
    }
