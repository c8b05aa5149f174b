"""One run on this machine, from the resolved config to its outcome."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from ...data.common import LockstepError, RankLostError, UsageError, write_json
from ...training.rank import take_ownership
from ..config import ResolvedConfig, to_yaml
from ..console import EpochTable, print_failure_card, put, put_json, say
from ..control import HorizonControl
from ..hang import FollowerRankMonitor, RankMonitor
from ..machine import Reservation, World, reserve_gpus
from ..nodes import FollowerPage, LeaderSession, awaited, following, lead_nodes, seen
from ..runs import RunLock, find_run, hold_run_lock, read_outcome, refuse_if_queued, runs_root
from ..supervisor import next_attempt_folder
from .attempt import Attempt, Look
from .data_preparation import DataPreparation
from .initial_weights import find_initial_weights
from .plan import LaunchPlan, summary, table
from .resume import (
    RunTarget,
    find_resume_point,
    find_run_target,
    go_on,
    refuse_finished,
    submitted_run_target,
)
from .run_files import build_run_spec, write_run_files
from .supervise import Course
from .train_request import Request
from .wandb_feeders import TrackerFeeders


def dry_run(resolved: ResolvedConfig, request: Request) -> int:
    """Print the plan and start nothing."""
    with reserve_gpus(request.gpus, request.cpu, hold_locks=False) as reservation:
        world = reservation.world
    facts = DataPreparation(resolved.config.data, resolved.base).wait()
    plan = LaunchPlan(request.name or resolved.name, resolved.config, facts, world)
    if request.json:
        spec = build_run_spec(plan, resolved.base, None).to_json()
        put_json({"schema_version": 1, "status": "planned", "plan": plan.to_json(), "spec": spec})
    else:
        put([*summary(plan), *table(plan), "", *to_yaml(resolved).splitlines()])
    return 0


def train(resolved: ResolvedConfig, request: Request) -> int:
    """Train a new run, or one that is there on; the exit status."""
    request.nodes.check()
    if request.nodes.count > 1 and request.name is None and request.resume in ("auto", "never"):
        raise UsageError(f"--nodes {request.nodes.count}: which run is it?", "give all nodes the same --name")
    with reserve_gpus(request.gpus, request.cpu) as reservation:
        if not request.nodes.leads:
            return _follow(resolved, request, reservation)
        return _train_on(resolved, request, reservation)


def _follow(resolved: ResolvedConfig, request: Request, reservation: Reservation) -> int:
    """Train as another node than node 0, which decides everything; the exit status."""
    folder = _seen_place(request)
    with following(
        request.nodes, lambda: folder if folder.is_dir() else None, "train", reservation.world
    ) as node:
        node.prepared(lambda: DataPreparation(resolved.config.data, resolved.base).wait().fingerprint)
        go = awaited(node.link, "go")
        page = FollowerPage(node.world.processes)

        def look(attempt: Path) -> Look:
            lookout = RankMonitor(attempt, request.supervision.hang_timeout, node.world.processes, page.said)
            return FollowerRankMonitor(lookout, node.others).tick

        attempt = seen(folder / go["attempt"])
        try:
            with Attempt(attempt, node.world, reservation.descriptors, node.others) as ranks:
                argv = [str(folder / "spec.json")]
                ending = ranks.follow(
                    argv,
                    lambda: node.send_progress(page, ranks.folder),
                    page,
                    go,
                    node.others,
                    look,
                )
            return node.conclude(ending)
        finally:
            page.close()


def _seen_place(request: Request) -> Path:
    """Where node 0 will have the run."""
    if request.submitted is not None:
        return request.submitted.folder
    if request.resume not in ("auto", "never"):
        return find_run(request.resume)
    return runs_root() / (request.name or "")


def _train_on(resolved: ResolvedConfig, request: Request, reservation: Reservation) -> int:
    world = reservation.world
    place = _place(resolved, request)
    if place.before is not None:
        refuse_finished(place, LaunchPlan(place.folder.name, resolved.config, place.before.facts, world))
    reservation.name(place.folder.name)
    try:
        with (
            hold_run_lock(place.folder) as hold,
            lead_nodes(request.nodes, place.folder, "train", world, shared=True) as lead,
        ):
            failure = _train(place, resolved, request, reservation, hold, lead)
            status = _conclude(place.folder, failure, request)
            lead.end(failure, status)
            return status
    finally:
        if request.submitted is None and not (place.folder / "spec.json").exists():
            shutil.rmtree(place.folder)  # nothing was started: the name is free again


def _place(resolved: ResolvedConfig, request: Request) -> RunTarget:
    if request.submitted is None:
        refuse_if_queued(_seen_place(request))
        return find_run_target(resolved, request.name, request.resume)
    return submitted_run_target(request.submitted.folder, resolved)


def _train(
    place: RunTarget,
    resolved: ResolvedConfig,
    request: Request,
    reservation: Reservation,
    hold: RunLock,
    lead: LeaderSession,
) -> LockstepError | None:
    folder, world = place.folder, lead.world
    weights = () if place.before else find_initial_weights(resolved)
    with Attempt(
        next_attempt_folder(folder, "attempt"), world, reservation.descriptors, lead.leader
    ) as attempt:
        hold.check()
        take_ownership(
            folder, attempt.folder.name
        )  # before the checkpoint is looked for: no other attempt adds one
        facts = attempt.prepare(resolved.config.data, resolved.base)
        lead.agree(facts.fingerprint)
        plan = LaunchPlan(folder.name, resolved.config, facts, world)
        go_on(place, facts, find_resume_point(folder, plan.steps) if place.before else None)
        spec = build_run_spec(plan, resolved.base, place.before, weights)
        if request.submitted is not None:
            spec = replace(spec, wandb_id=request.submitted.wandb_id)
        hold.check()
        write_run_files(folder, plan, spec, to_yaml(resolved))
        say(summary(plan))
        rows = EpochTable(folder / "metrics.jsonl", plan.steps, sys.stderr if request.json else sys.stdout)
        feed = TrackerFeeders(spec, folder)
        feed.start(attempt.folder)
        failure = _course(attempt, plan, request, rows, feed, hold, lead)
        rows.close()
        failure = _record(folder, failure, world, hold)
        feed.finish(failure)
    return failure


def _course(
    attempt: Attempt,
    plan: LaunchPlan,
    request: Request,
    rows: EpochTable,
    feed: TrackerFeeders,
    hold: RunLock,
    lead: LeaderSession,
) -> LockstepError | None:
    """Train to the end, or to where somebody wants it to stop."""
    steering = HorizonControl(attempt.folder.parent, plan.world.size, plan.config.checkpoint.every_minutes)
    course = Course(steering, plan, request.supervision, rows, feed, hold)
    course.leader, course.submitted = lead.leader, request.submitted
    return course.run(attempt)


def _record(folder: Path, failure: LockstepError | None, world: World, hold: RunLock) -> LockstepError | None:
    """Write the outcome where rank 0 has not, first of all: what comes after may be interrupted."""
    try:
        hold.check()
    except RankLostError as error:
        return error
    if failure is None and read_outcome(folder) is not None:
        return None
    failure = failure or LockstepError("the run ended without an outcome", f"see the logs in {folder}")
    outcome = {
        "schema_version": 1,
        "run": folder.name,
        "run_dir": str(folder),
        "status": "failed",
        "exit_code": failure.exit_status,
        "world_size": world.size,
        "error": failure.to_json(),
    }
    try:
        write_json(folder / "outcome.json", outcome)
    except OSError as error:  # what ended the run matters more than that it cannot be noted down
        say([f"warning: {folder / 'outcome.json'} cannot be written: {error.strerror}"])
    return failure


def _conclude(folder: Path, failure: LockstepError | None, request: Request) -> int:
    """Tell how it ended; the card last."""
    if request.json:
        put_json(read_outcome(folder) or {})
    if failure is not None:
        print_failure_card(failure)
        return failure.exit_status
    outcome = read_outcome(folder) or {}
    if outcome.get("status") == "stopped":
        say([f"stopped after {outcome['steps']:,} steps; continue with `launch resume {folder.name}`"])
        return int(outcome["exit_code"])
    say([f"done: {_short(folder)}  (evaluate it again with `launch eval {folder.name}`)"])
    return 0


def _short(folder: Path) -> str:
    relative = os.path.relpath(folder)
    return relative if not relative.startswith("..") else str(folder)
