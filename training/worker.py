"""One rank, however it is started: by ``launch``, ``torchrun -m lockstep.training.worker RUN/spec.json`` or accelerate.

Reads torchrun's environment variables and nothing else. Writes its failure to ``attempt-K/error-R.json`` before
it ends, and ends at once: a process group that is broken can hang in its own clean-up.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..data.common import DamagedError, write_json
from .checkpoint import (
    ResumedState,
    StoredCheckpoint,
    checkpoint_path,
    checkpoints_folder,
    list_checkpoints,
    load_frozen_weights,
    load_initial_weights,
    load_weights,
    newest_intact,
    open_checkpoint,
    open_newest,
    read_manifest,
    restore,
    step_of,
    wait_for_checkpoint,
)
from .config import RunSpec, read_spec
from .elastic import ElasticWorld, join_world
from .inference import InputFeed, PredictionRequest, open_inputs, predict
from .loop import TrainLoop, Views, evaluate, keep_views
from .rank import (
    JOINING,
    FencingToken,
    Group,
    MicroBatchSearch,
    RankControl,
    alone,
    join,
    reported,
    tune_cpu_and_allocator,
)
from .session import Session, Training, add_autocast, build_session, build_training, materialise_lazy_modules
from .tracking import EventLog, FeederProcesses, plain, rewind, rows_logged


def main(argv: list[str], send: Callable[[dict[str, Any]], None] | None = None) -> int:
    """Run ``SPEC [--eval [--on SPEC] [STEP] [--split NAME] | --predict FILE]``; return the exit status.

    ``--on`` evaluates by another spec, which is the run's with other data.

    Args:
        argv: the arguments.
        send: takes the report of an error that the disk has no room for.
    """
    path = Path(argv[0]).resolve()
    attempt = Path(os.environ.get("LOCKSTEP_ATTEMPT_DIR") or path.parent / "attempt-1")
    attempt.mkdir(parents=True, exist_ok=True)
    rank = int(os.environ.get("RANK", "0"))
    tune_cpu_and_allocator()
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads:
        torch.set_num_threads(int(threads))
    task = _predict if "--predict" in argv else _evaluate if "--eval" in argv else _train
    return reported(lambda: _run(task, path, argv[2:]), attempt, rank, wait_for_checkpoint, send)


def run_and_exit(argv: list[str]) -> None:
    """Run ``main``, then end the process without the clean-up that a broken process group hangs in."""
    status = main(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    if status:
        os._exit(status)


def _run(task: Callable[[RunSpec, Group, Path, list[str]], int], path: Path, rest: list[str]) -> int:
    on, rest = (Path(rest[1]), rest[2:]) if rest[:1] == ["--on"] else (path, rest)
    written = read_spec(on)
    meet = alone if JOINING in os.environ else join
    group = meet(gpu=os.environ.get("LOCKSTEP_DEVICE", written.device) == "gpu")
    search = MicroBatchSearch(written, path.parent, group.world_size)
    with search.halving():
        status = task(search.spec, group, path.parent, rest)
    group.close()
    return status


def _train(spec: RunSpec, group: Group, folder: Path, _: list[str]) -> int:
    control = RankControl.from_environment(group.local_rank)
    if spec.config.train.elastic is not None:
        group = replace(group, has_lost=control.has_lost)
    session = build_session(spec, group, folder=folder)
    load_frozen_weights(session)
    joins = JOINING in os.environ
    if not joins and not list_checkpoints(checkpoints_folder(folder)):
        _take_initial_weights(session, folder)
    training = build_training(session)
    fence = FencingToken(folder, os.environ.get("LOCKSTEP_TOKEN"), control.touch)
    fence.check()  # before the record is cut
    resumed = join_world(training, control) if joins else _resume_from_checkpoint(training, folder)
    group = session.group  # of a process that has joined another one
    elastic, writes = spec.config.train.elastic, group.rank == 0
    events = EventLog(folder / "metrics.jsonl" if elastic or writes else None, fence.check, writes=writes)
    feeders = FeederProcesses(spec, folder)
    if group.rank == 0 and "LOCKSTEP_ATTEMPT_DIR" not in os.environ:  # else the supervisor starts them
        feeders.start(folder / "attempt-1")
    world = ElasticWorld(training, control, events) if elastic else None
    result = TrainLoop(training, folder, events, resumed, fence, control, world).run()
    if not result:
        return 0  # other ranks continue without this one
    group = session.group  # of an elastic run perhaps another one
    outcome = {**_outcome_header(spec, group, folder), **result}
    if group.rank == 0:
        fence.check()
        write_json(folder / "outcome.json", outcome, durable=True)
        events.write("end", status=outcome["status"], step=outcome["steps"])
    events.close()
    for warning in feeders.finish(0):
        sys.stderr.write(f"warning: {warning}\n")
    group.close()
    return int(outcome["exit_code"])


def _take_initial_weights(session: Session, folder: Path) -> None:
    """Load ``model.weights``; which tensors were loaded stands in the run folder, where not all of them were."""
    report = load_initial_weights(session, session.spec.weights)
    if report is not None and report.differences() and session.group.rank == 0:
        (folder / "weights.txt").write_text("".join(f"{row}\n" for row in report.table()), encoding="utf-8")


def _resume_from_checkpoint(training: Training, folder: Path) -> ResumedState | None:
    """Resume from the newest whole checkpoint; rank 0 says which, so that all take the same."""
    group = training.session.group
    checkpoints = checkpoints_folder(folder)
    step = -1
    if group.rank == 0 and list_checkpoints(checkpoints):
        step = step_of(newest_intact(checkpoints)[0])
    chosen = int(group.sum(torch.tensor([step if group.rank == 0 else 0], device=group.device)))
    if chosen < 0:
        if group.rank == 0:
            rewind(folder / "metrics.jsonl", -1, 0)
        return None
    path = checkpoint_path(checkpoints, chosen)
    snapshot = open_checkpoint(path, set(read_manifest(path)["files"]))  # rank 0 has verified it
    if group.rank == 0:
        rows, pending = rows_logged(snapshot.state, training.steps), snapshot.state["pending"]
        rewind(folder / "metrics.jsonl", chosen, rows, pending=pending)
    return restore(training, snapshot)


def _evaluate(spec: RunSpec, group: Group, folder: Path, rest: list[str]) -> int:
    control = RankControl.from_environment(group.local_rank)
    steps, _, split = " ".join(rest).partition("--split")
    splits = (split.strip(),) if split else None
    session = build_session(spec, group, training=False, splits=splits)
    load_frozen_weights(session)
    started = time.monotonic()
    path, snapshot, damaged = _load_checkpoint(session, folder, int(steps) if steps.strip() else None)

    def keep_alive() -> bool:
        control.touch()
        return False  # nobody wants it to be abandoned

    control.enter("evaluation")
    views: Views = {}
    metrics = evaluate(session, keep_alive, views) or {}
    control.enter("ending")
    if group.rank == 0:
        document = {
            **_outcome_header(spec, group, folder),
            "checkpoint": path.name,
            "step": snapshot.state["step"],
            "epochs": snapshot.state["epoch"],
            "data": spec.facts.name,
            "splits": list(session.val_feeds),
            "metrics": {key: plain(value) for key, value in metrics.items()},
            "damaged": [error.message for error in damaged],
            "seconds": round(time.monotonic() - started, 3),
        }
        attempt = Path(os.environ.get("LOCKSTEP_ATTEMPT_DIR") or folder)
        if attempt != folder:  # that of the run is the training's
            keep_views(attempt, views, step=document["step"], epoch=document["epochs"])
        write_json(attempt / "eval.json", document, durable=True)
    return 0


def _load_checkpoint(
    session: Session, folder: Path, step: int | None
) -> tuple[Path, StoredCheckpoint, list[DamagedError]]:
    """Put the weights of a step, or of the newest whole checkpoint, into the model; return what was found."""
    path, snapshot, damaged = open_newest(checkpoints_folder(folder), step)
    materialise_lazy_modules(session, snapshot.weights)
    load_weights(session.model, snapshot.weights, f"{session.spec.run} {path.name}", exact=False)
    add_autocast(session)
    return path, snapshot, damaged


def _predict(spec: RunSpec, group: Group, folder: Path, rest: list[str]) -> int:
    control = RankControl.from_environment(group.local_rank)
    control.enter("evaluation")
    question = json.loads(Path(rest[0]).read_text(encoding="utf-8"))
    request = PredictionRequest(**{**question, "sources": tuple(question["sources"])})
    rows = open_inputs(spec, request)
    splits = () if request.split is None else (request.split,)
    inputs = None if rows is None else partial(InputFeed, rows, group.device)
    session = build_session(spec, group, training=False, splits=splits, inputs=inputs)
    load_frozen_weights(session)
    _load_checkpoint(session, folder, request.step)
    predict(session, rows, request, Path(rest[0]).with_name(f"part-{group.rank}.jsonl"), control.touch)
    control.enter("ending")
    return 0


def _outcome_header(spec: RunSpec, group: Group, folder: Path) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "run": spec.run,
        "run_dir": str(folder),
        "status": "done",
        "exit_code": 0,
        "world_size": group.world_size,
    }


if __name__ == "__main__":
    run_and_exit(sys.argv[1:])
