"""One run on this machine, from the resolved config to its outcome."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..data.errors import LockstepError
from ..training.runspec import read_spec
from ..training.wandb_feed import finish_feeder, start_feeder
from .config import ResolvedConfig, to_yaml
from .console import EpochTable, card, put, put_json, say
from .failure import diagnose
from .machine import read_machine
from .plan import LaunchPlan, World, choose_world, summary, table
from .prepare import Preparation
from .runs import create_run, fill_run, find_run, read_outcome, run_spec, write_json
from .supervisor import Supervisor


@dataclass(frozen=True)
class Request:
    """What the command line asks for, beside the config."""

    gpus: str | None
    cpu: int | None
    json: bool
    name: str | None = None


def dry_run(resolved: ResolvedConfig, request: Request) -> int:
    """Print the plan and start nothing."""
    world = choose_world(read_machine(), request.gpus, request.cpu)
    facts = Preparation(resolved.config.data, resolved.base).wait()
    plan = LaunchPlan(request.name or resolved.name, resolved.config, facts, world)
    if request.json:
        spec = run_spec(plan, resolved.base).to_json()
        put_json({"schema_version": 1, "status": "planned", "plan": plan.to_json(), "spec": spec})
    else:
        put([*summary(plan), *table(plan), "", *to_yaml(resolved).splitlines()])
    return 0


def train(resolved: ResolvedConfig, request: Request) -> int:
    """Train; the exit status."""
    world = choose_world(read_machine(), request.gpus, request.cpu)
    folder = create_run(request.name, resolved.name)
    attempt = folder / "attempt-1"
    try:
        with _Attempt(attempt, world) as started:
            plan = LaunchPlan(folder.name, resolved.config, started.prepare(resolved), world)
            fill_run(folder, plan, resolved.base, to_yaml(resolved))
            say(summary(plan))
            rows = EpochTable(
                folder / "metrics.jsonl", plan.steps, sys.stderr if request.json else sys.stdout
            )
            feeder = start_feeder(read_spec(folder / "spec.json"), folder, attempt / "wandb.log")
            failure = started.run(folder, [str(folder / "spec.json")], rows.update)
            rows.close()
            warning = finish_feeder(feeder, 0 if failure is None else failure.exit_status)
            say([f"warning: {warning}; see {attempt / 'wandb.log'}"] if warning else [])
    finally:
        if not (folder / "spec.json").exists():
            shutil.rmtree(folder)  # nothing was started: the name is free again
    return _conclude(folder, failure, request, world)


def evaluate(name: str, request: Request, step: int | None) -> int:
    """Evaluate a run's newest whole checkpoint, or the one of ``step``; the exit status."""
    folder = find_run(name)
    spec = read_spec(folder / "spec.json")
    cpu = request.cpu if request.cpu or request.gpus or spec.device == "gpu" else 1
    world = choose_world(read_machine(), request.gpus, cpu)
    attempt = _next_attempt(folder, "eval")
    argv = [str(folder / "spec.json"), "--eval", *([] if step is None else [str(step)])]
    with _Attempt(attempt, world) as started:
        failure = started.run(folder, argv, lambda: None)
    if failure is not None:
        raise failure
    document = json.loads((attempt / "eval.json").read_text(encoding="utf-8"))
    for damaged in document["damaged"]:
        say([f"warning: passed over: {damaged}"])
    if request.json:
        put_json(document)
    else:
        put(
            [
                f"{document['run']} {document['checkpoint']}",
                *(f"{k}  {_figure(v)}" for k, v in document["metrics"].items()),
            ]
        )
    return 0


class _Attempt:
    """The agent's start, overlapping with the data's preparation; leaving it leaves no process behind."""

    def __init__(self, folder: Path, world: World) -> None:
        folder.mkdir(mode=0o700)
        self._folder = folder
        self._world = world
        # A chosen GPU is number LOCAL_RANK of those that the ranks see.
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(world.gpus)}
        self._supervisor = Supervisor(world.threads, visible, folder / "agent.log")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._supervisor.cancel()

    def prepare(self, resolved: ResolvedConfig) -> Any:
        return Preparation(resolved.config.data, resolved.base).wait()

    def run(self, run: Path, argv: list[str], tick: Callable[[], None]) -> LockstepError | None:
        """Let the ranks work; None when all are done, else why not."""
        self._supervisor.go(
            {
                "run": run.name,
                "processes": self._world.processes,
                "argv": argv,
                "attempt_dir": str(self._folder),
                "environment": {
                    "LOCKSTEP_ATTEMPT_DIR": str(self._folder),
                    "LOCKSTEP_DEVICE": self._world.device,  # of this attempt; an evaluation may differ from its run
                },
            }
        )
        return diagnose(self._folder, self._supervisor.watch(tick), self._world.processes)


def _next_attempt(folder: Path, kind: str) -> Path:
    number = 1
    while (folder / f"{kind}-{number}").exists():
        number += 1
    return folder / f"{kind}-{number}"


def _conclude(folder: Path, failure: LockstepError | None, request: Request, world: World) -> int:
    """Write what is missing of the outcome, and tell it."""
    outcome = read_outcome(folder) if failure is None else None
    if failure is not None or outcome is None:
        failure = failure or LockstepError("the run ended without an outcome", f"see {folder / 'attempt-1'}")
        outcome = {
            "schema_version": 1,
            "run": folder.name,
            "run_dir": str(folder),
            "status": "failed",
            "exit_code": failure.exit_status,
            "world_size": world.processes,
            "error": failure.to_json(),
        }
        write_json(folder / "outcome.json", outcome)
    if request.json:
        put_json(outcome)
    if failure is not None:
        card(failure)
        return failure.exit_status
    say([f"done: {_short(folder)}  (evaluate it again with `launch eval {folder.name}`)"])
    return 0


def _figure(value: float | None) -> str:
    return "nan" if value is None else f"{value:.6g}"


def _short(folder: Path) -> str:
    relative = os.path.relpath(folder)
    return relative if not relative.startswith("..") else str(folder)
