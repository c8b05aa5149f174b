"""One run on this machine, from the resolved config to its outcome."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...data.common import EndedBySignal, LockstepError, RankLostError, UsageError, write_json
from ...data.config import DatasetInfo
from ...training.checkpoint import checkpoints_folder, newest_checkpoint_step
from ...training.config import RunSpec, read_spec
from ...training.rank import take_ownership
from ..config import ResolvedConfig, found_yaml, resolve, to_yaml
from ..console import (
    EpochTable,
    ProgressView,
    RunShape,
    print_explained,
    print_failure_card,
    print_json,
    print_messages,
    print_results,
    transcribe_to,
)
from ..failures import CancelledRunError, InterruptedRunError, NothingToSaveError
from ..machine import Reservation, World, reserve_gpus
from ..nodes import LeaderSession, await_message, join_as_follower, lead_nodes, wait_until_visible
from ..runs import (
    TRANSCRIPT,
    RunLock,
    find_run,
    hold_run_lock,
    read_outcome,
    record_stop_reason,
    refuse_if_queued,
    runs_root,
    take_request,
)
from ..supervisor import Launch, next_attempt_folder
from .data_preparation import DataPreparation, Preparer
from .initial_weights import find_initial_weights
from .plan import LaunchPlan, plan_summary, plan_table
from .resume import (
    RunTarget,
    find_resume_point,
    find_run_target,
    prepare_resume,
    refuse_finished,
    refuse_other_batches,
    scaled_as_before,
    submitted_run_target,
)
from .run_files import build_run_spec, write_run_files
from .schedule_lines import rate_lines, schedule_document
from .tracker_feeders import TrackerFeeders
from .train_request import TrainRequest
from .training_workload import FollowerTrainingWorkload, TrainingWorkload
from .worker_workload import worker_agent


def read_run_config(run: str, overrides: list[str]) -> ResolvedConfig:
    """Read a run's own config, with ``overrides``."""
    folder = find_run(run)
    resolved = resolve(str(folder / "config.yaml"), overrides)
    return replace(resolved, name=folder.name, base=read_spec(folder / "spec.json").base)


def dry_run(resolved: ResolvedConfig, request: TrainRequest) -> int:
    """Print the plan and start nothing."""
    with reserve_gpus(request.gpus, request.cpu, hold_locks=False) as reservation:
        world = reservation.world
    resolved, facts = resolved.with_found(DataPreparation(resolved.config.data, resolved.base).wait())
    plan = LaunchPlan(request.name or resolved.name, resolved.config, facts, world)
    schedules = {
        name: schedule_document(part, plan.length, resolved.base)
        for name, part in plan.config.parts().items()
    }
    if request.json:
        spec = build_run_spec(plan, resolved.base, None).to_json()
        document = {**plan.to_json(), "schedule": schedules.get("", schedules)}
        print_json({"schema_version": 1, "status": "planned", "plan": document, "spec": spec})
    else:
        rates = rate_lines(plan.config, plan.length, schedules)
        print_explained([*plan_summary(plan), *plan_table(plan), *rates])
        print_results(["", *_config_yaml(resolved, facts).splitlines()])
    return 0


def _config_yaml(resolved: ResolvedConfig, facts: DatasetInfo) -> str:
    return to_yaml(resolved) + found_yaml(facts.found)


def train(resolved: ResolvedConfig, request: TrainRequest) -> int:
    """Train a new run, or resume one; return the exit status."""
    request.nodes.check()
    if request.nodes.count > 1 and request.name is None and request.resume in ("auto", "never"):
        raise UsageError(f"--nodes {request.nodes.count}: which run is it?", "give all nodes the same --name")
    as_this_node = _train_as_leader if request.nodes.is_leader else _train_as_follower
    return as_this_node(resolved, request)


def _train_as_follower(resolved: ResolvedConfig, request: TrainRequest) -> int:
    """Train on a node other than node 0, which decides everything."""
    folder = _folder_of(request)
    with (
        reserve_gpus(request.gpus, request.cpu, task=request.nodes.task) as reservation,
        join_as_follower(
            request.nodes, lambda: folder if folder.is_dir() else None, "train", reservation.world
        ) as node,
    ):
        node.prepare_data(lambda: _prepare_data(resolved).fingerprint)
        go = await_message(node.link, "go")
        attempt = wait_until_visible(folder / go["attempt"])
        agent = worker_agent(
            attempt, node.world, reservation.descriptors, max_log_mb=resolved.config.log.max_mb
        )
        with Launch(attempt, agent, node.world, request.supervision, node.peers) as launch:
            end = launch.follow(FollowerTrainingWorkload(folder, node.world, node.peers), go)
        return node.report_end(end)


def _folder_of(request: TrainRequest) -> Path:
    """Return the folder in which node 0 has the run, or will have it."""
    if request.submitted is not None:
        return request.submitted.folder
    if request.resume not in ("auto", "never"):
        return find_run(request.resume)
    return runs_root() / (request.name or "")


def _train_as_leader(resolved: ResolvedConfig, request: TrainRequest) -> int:
    """Train on node 0, or on the only node."""
    expected = _folder_of(request)
    with reserve_gpus(request.gpus, request.cpu, task=request.nodes.task) as reservation:
        if request.submitted is None:
            refuse_if_queued(expected)
            target = find_run_target(resolved, request.name, request.resume)
        else:
            target = submitted_run_target(expected, resolved)
        if target.previous_spec is not None:
            name, facts = target.folder.name, target.previous_spec.facts
            config = resolved.with_found(facts)[0].config
            refuse_finished(target, LaunchPlan(name, config, facts, reservation.world))
        reservation.name(target.folder.name)
        try:
            return _train_target(target, resolved, request, reservation)
        finally:
            if request.submitted is None and not (target.folder / "spec.json").exists():
                shutil.rmtree(target.folder)  # nothing was started: the name is free again


def _train_target(
    target: RunTarget, resolved: ResolvedConfig, request: TrainRequest, reservation: Reservation
) -> int:
    """Train together with the other nodes, in a folder that this process has locked."""
    with (
        hold_run_lock(target.folder) as run_lock,
        lead_nodes(request.nodes, target.folder, "train", reservation.world, shared=True) as session,
    ):
        failure = _supervise(target, resolved, request, reservation.descriptors, run_lock, session)
        status = _conclude(target.folder, failure, as_json=request.json)
        session.announce_end(failure, status)
        return status


def _supervise(
    target: RunTarget,
    resolved: ResolvedConfig,
    request: TrainRequest,
    inherited_descriptors: tuple[int, ...],
    run_lock: RunLock,
    session: LeaderSession,
) -> LockstepError | None:
    """Prepare the run while the agent starts, train, and see that there is an outcome."""
    folder, world = target.folder, session.world
    attempt = next_attempt_folder(folder, "attempt")
    elastic = resolved.config.train.elastic
    agent = worker_agent(
        attempt,
        world,
        inherited_descriptors,
        max_log_mb=resolved.config.log.max_mb,
        spare=max(0, elastic.max - world.size) if elastic else 0,
    )
    transcribe_to(attempt / TRANSCRIPT)
    view = ProgressView(world.size)
    with Launch(attempt, agent, world, request.supervision, session.peers) as launch, view:
        run_lock.check()
        take_ownership(folder, attempt.name)  # before a checkpoint is looked for: no other attempt adds one
        try:
            resolved, plan, spec, first_step = _prepare(
                target, resolved, request, session, launch.data, view.waiting
            )
            run_lock.check()
            launch.listen()
        except EndedBySignal as ended:
            return _ended_early(folder, ended, world)
        write_run_files(folder, plan, spec, _config_yaml(resolved, plan.facts))
        print_messages(plan_summary(plan))
        view.begin(RunShape(plan.steps, plan.batches.steps, plan.config.data.batch_size), first_step)
        rows = EpochTable(folder / "metrics.jsonl", view, sys.stderr if request.json else sys.stdout)
        feeders = TrackerFeeders(spec, folder)
        feeders.start(attempt)
        try:
            failure = launch.run(TrainingWorkload(folder, plan, run_lock, rows, feeders, request, first_step))
        except RankLostError as error:  # the run is another's now
            failure = error
        rows.close()
        failure = _record(folder, failure, world, run_lock)
        feeders.finish(failure)
    return failure


def _prepare(
    target: RunTarget,
    resolved: ResolvedConfig,
    request: TrainRequest,
    session: LeaderSession,
    preparer: Preparer | None,
    meanwhile: Callable[[str, str], None],
) -> tuple[ResolvedConfig, LaunchPlan, RunSpec, int]:
    """Prepare data and run folder; return config, plan and spec, and the step that the ranks begin at."""
    folder, before = target.folder, target.previous_spec
    weights = () if before else find_initial_weights(resolved)
    resolved, facts = resolved.with_found(_prepare_data(resolved, preparer, meanwhile))
    if before:
        refuse_other_batches(target, resolved)
        facts = scaled_as_before(before.facts, facts)
    session.agree_on_data(facts.fingerprint)
    plan = LaunchPlan(folder.name, resolved.config, facts, session.world)
    resume_point = find_resume_point(folder, plan.steps) if before else None
    prepare_resume(target, facts, resume_point)
    spec = build_run_spec(plan, resolved.base, before, weights)
    if request.submitted is not None:
        spec = replace(spec, wandb_id=request.submitted.wandb_id)
    return resolved, plan, spec, resume_point.step if resume_point else 0


def _prepare_data(
    resolved: ResolvedConfig,
    preparer: Preparer | None = None,
    meanwhile: Callable[[str, str], None] = lambda *_: None,
) -> DatasetInfo:
    """Prepare all that the ranks of this node need, decoded images included."""
    data, base = resolved.config.data, resolved.base
    return DataPreparation(data, base, build_cache=True, by=preparer).wait(meanwhile)


def _ended_early(folder: Path, ended: EndedBySignal, world: World) -> InterruptedRunError:
    """Record a signal that came while the run was being prepared."""
    asked = take_request(folder)
    failure: InterruptedRunError
    if asked is not None and asked.what == "cancel":
        failure = CancelledRunError(asked.by)
    else:
        record_stop_reason(folder, ended.name)
        step = newest_checkpoint_step(checkpoints_folder(folder), 0)
        failure = NothingToSaveError(ended.number, ended.name, step)
    _write_outcome(folder, failure, world)
    return failure


def _record(
    folder: Path, failure: LockstepError | None, world: World, run_lock: RunLock
) -> LockstepError | None:
    """Write the outcome if rank 0 has not. This comes first, because what follows may be interrupted."""
    try:
        run_lock.check()
    except RankLostError as error:
        return error
    if (failure is None or isinstance(failure, InterruptedRunError)) and read_outcome(folder) is not None:
        return None  # an interrupt that came when all was done has ended nothing
    failure = failure or LockstepError("the run ended without an outcome", f"see the logs in {folder}")
    _write_outcome(folder, failure, world)
    return failure


def _write_outcome(folder: Path, failure: LockstepError, world: World) -> None:
    """Write how a run ended that did not come to its end by itself."""
    status = failure.outcome if isinstance(failure, InterruptedRunError) else "failed"
    outcome = {
        "schema_version": 1,
        "run": folder.name,
        "run_dir": str(folder),
        "status": status,
        "exit_code": failure.exit_status,
        "world_size": world.size,
        **({"error": failure.to_json()} if status == "failed" else {}),
    }
    try:
        write_json(folder / "outcome.json", outcome)
    except OSError as error:  # what ended the run matters more than that it cannot be noted down
        print_messages([f"warning: {folder / 'outcome.json'} cannot be written: {error.strerror}"])


def _conclude(folder: Path, failure: LockstepError | None, *, as_json: bool) -> int:
    """Tell how the run ended, the failure card last; return the exit status."""
    if as_json:
        print_json(read_outcome(folder) or {})
    if isinstance(failure, InterruptedRunError) and failure.outcome != "failed":
        again = f"; resume it with `launch resume {folder.name}`" if (folder / "spec.json").exists() else ""
        print_messages([f"{failure.message}{again}"])
        return failure.exit_status
    if failure is not None:
        print_failure_card(failure)
        return failure.exit_status
    outcome = read_outcome(folder) or {}
    if outcome.get("status") == "stopped":
        print_messages(
            [f"stopped after {outcome['steps']:,} steps; resume it with `launch resume {folder.name}`"]
        )
        return int(outcome["exit_code"])
    print_messages([f"done: {_short(folder)}  (evaluate it again with `launch eval {folder.name}`)"])
    return 0


def _short(folder: Path) -> str:
    relative = os.path.relpath(folder)
    return relative if not relative.startswith("..") else str(folder)
