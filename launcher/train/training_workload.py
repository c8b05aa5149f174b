"""A training as a workload: what its supervisor does while the ranks train, and between two attempts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ...training.config import Duration
from ...training.rank import HorizonWords, WorldChange, found_micro_batch, take_ownership
from ..console import EpochTable, transcribe_to
from ..control import FollowerPage, HorizonControl, RankProcesses, Scaling
from ..failures import InterruptedRunError
from ..hang import HangLimit
from ..machine import World
from ..nodes import FollowerPeers
from ..runs import TRANSCRIPT, RunLock
from .plan import LaunchPlan
from .resume import find_resume_point, rewind_run
from .tracker_feeders import TrackerFeeders
from .train_request import TrainRequest
from .worker_workload import WorkerWorkload

_PROGRESS_SECONDS = 0.05


class TrainingWorkload(WorkerWorkload):
    """A training on node 0, or on the only node.

    Args:
        folder: of the run.
        plan: of the run.
        run_lock: of the run folder.
        rows: shows what is logged.
        feeders: send it to trackers.
        request: what the user asked for.
        first_step: that it begins at.
    """

    outcome_follows = True

    def __init__(
        self,
        folder: Path,
        plan: LaunchPlan,
        run_lock: RunLock,
        rows: EpochTable,
        feeders: TrackerFeeders,
        request: TrainRequest,
        first_step: int,
    ) -> None:
        self._control = HorizonControl(
            folder,
            plan.world.size,
            plan.config.checkpoint.every_minutes,
            request.supervision.stop_timeout,
            first_step,
            _minutes(plan.config.train.eval_every),
        )
        super().__init__([str(folder / "spec.json")], plan.world, fenced=True, page=self._control)
        self._scaling = Scaling(folder, self._control, plan.config.train.elastic, plan.world.size)
        self._folder = folder
        self._plan = plan
        self._run_lock = run_lock
        self._rows = rows
        self._feeders = feeders
        self._submitted = request.submitted
        self._micro_batch = found_micro_batch(folder)

    @property
    def horizon(self) -> HorizonWords:
        """What other nodes' ranks are to know of how far they may go."""
        return self._control.words()

    @property
    def is_stopping(self) -> bool:
        """Whether the ranks were asked to end, with a checkpoint or without one."""
        return self._control.stopping or self._control.interruption is not None

    @property
    def interruption(self) -> InterruptedRunError | None:
        """Set once everything is to end without a checkpoint."""
        return self._control.interruption

    def hang_limit(self, ceiling: float, least: float) -> HangLimit:
        """Return the silence that counts as a hang, as this run's own times tell it."""
        return self._control.hang_limit(ceiling, least)

    def tick(self) -> None:
        """Keep the run's lock, the job's time limit and the ranks' horizon; show what was logged."""
        self._run_lock.tick()
        if self._submitted is not None:
            self._submitted.keep_time_limit(self._control)
        self._rows.update(*self._control.standing)
        self._feeders.tick()
        self._control.note_longest_checkpoint(self._rows.longest_checkpoint)
        self._control.tick()

    def scale(self, processes: RankProcesses) -> WorldChange | None:
        """Change the number of processes where that was asked for; return a change that is done."""
        return self._scaling.tick(processes)

    def close(self) -> None:
        """Give back what was needed while the ranks trained."""
        self._scaling.close()
        super().close()

    def on_signal(self, number: int) -> bool:
        """Stop with a checkpoint; False for an interrupt of what is stopping already."""
        return self._control.handle_signal(number)

    def stop(self, by: str) -> None:
        """Stop with a checkpoint."""
        self._control.stop(by)

    def on_progress(self, first: int, rows: list[list[int]]) -> None:
        """Count another node's ranks in before the horizon is moved."""
        self._control.record_remote_progress(first, rows)

    @property
    def better_chance(self) -> str:
        """Return the smaller micro-batch that ranks have found when they ran out of memory in this attempt."""
        found = found_micro_batch(self._folder)
        return f"again with data.max_micro_batch={found}" if found != self._micro_batch else ""

    def prepare_restart(self, attempt: Path) -> str:
        """Rewind the run to its newest whole checkpoint; return from where it resumes."""
        self._run_lock.check()
        resume_point = find_resume_point(self._folder, self._plan.steps)
        take_ownership(self._folder, attempt.name)
        self._feeders.leave()
        rewind_run(self._folder, resume_point)
        first_step = resume_point.step if resume_point else 0
        self._rows.restart(first_step)
        self._control.restart(first_step)
        self._scaling.restart()
        return (
            f" from step {resume_point.step:,}"
            if resume_point
            else " from the start: no checkpoint was written yet"
        )

    def begin_attempt(self, attempt: Path) -> None:
        """Keep what is printed in the attempt's folder, and feed the trackers with what it logs."""
        self._micro_batch = found_micro_batch(self._folder)
        transcribe_to(attempt / TRANSCRIPT)
        self._feeders.start(attempt)


class FollowerTrainingWorkload(WorkerWorkload):
    """A training on a node other than node 0.

    Args:
        folder: of the run.
        world: the processes of this node.
        peers: the way to node 0.
    """

    def __init__(self, folder: Path, world: World, peers: FollowerPeers) -> None:
        self._follower_page = FollowerPage(world.processes)
        super().__init__([str(folder / "spec.json")], world, fenced=True, page=self._follower_page)
        self._peers = peers
        self._attempt = ""
        self._sent = 0.0

    def order(self, attempt: Path) -> dict[str, Any]:
        """Return the same as for any worker; from now on progress is reported for this attempt."""
        self._attempt = attempt.name
        return super().order(attempt)

    def on_horizon(self, message: dict[str, Any]) -> None:
        """Let the ranks of this node continue as far as node 0 says."""
        self._follower_page.apply_horizon(message)

    def tick(self) -> None:
        """Tell node 0 how far the ranks of this node are, where that is news."""
        if time.monotonic() - self._sent > _PROGRESS_SECONDS:
            self._sent = time.monotonic()
            if (rows := self._follower_page.changed_progress()) is not None:
                self._peers.send("progress", ranks=rows, attempt=self._attempt)

    def begin_attempt(self, _: Path) -> None:
        """Forget how far the ranks of the attempt before had come."""
        self._follower_page.reset()


def _minutes(every: Duration | None) -> float | None:
    """Return the minutes between two evaluations, where they follow the clock."""
    return float(every.amount) if every is not None and every.unit == "minutes" else None
