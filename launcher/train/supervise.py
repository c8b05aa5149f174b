"""A training under way: what is done many times a second, and what between an attempt that failed and the next."""

from __future__ import annotations

from pathlib import Path

from ...data.common import LockstepError, RankLostError
from ...training.rank import take_ownership
from ..console import EpochTable
from ..control import HorizonControl, JobContext
from ..failures import Ending
from ..hang import HangCoordinator, RankMonitor
from ..nodes import LeaderPeers
from ..options import SupervisionOptions
from ..runs import RunLock
from ..supervisor import Restarts
from .attempt import Attempt
from .plan import LaunchPlan
from .resume import find_resume_point, rewind_run
from .wandb_feeders import TrackerFeeders


class Course:
    """Trains to the end, or to where somebody wants it to stop; failed ranks are started again from a checkpoint.

    Args:
        steering: of all nodes' ranks.
        plan: of the run.
        supervision: how patient to be.
        rows: shows what is logged.
        feed: sends it to W&B.
        hold: on the run folder.
    """

    def __init__(
        self,
        steering: HorizonControl,
        plan: LaunchPlan,
        supervision: SupervisionOptions,
        rows: EpochTable,
        feed: TrackerFeeders,
        hold: RunLock,
    ) -> None:
        self._horizon_control = steering
        self._plan = plan
        self._supervision = supervision
        self._rows = rows
        self._tracker_feeders = feed
        self._hold = hold
        self.leader: LeaderPeers | None = None
        """To the other nodes."""
        self.submitted: JobContext | None = None
        """Of a SLURM job."""

    def run(self, attempt: Attempt) -> LockstepError | None:
        """Train; None when all ranks are done, else why not."""
        steering, self._folder = self._horizon_control, attempt.folder.parent
        steering.listen()
        if self.leader is not None:
            self.leader.on_progress, self.leader.on_stop = steering.note, steering.stop
        self._start_rank_monitor(attempt.folder)
        restarts = Restarts(
            self._folder,
            self._supervision.max_restarts,
            stopping=lambda: steering.stopping,
            prepare=self._prepare,
            begun=self._begin,
        )
        argv = [str(self._folder / "spec.json")]
        try:
            return attempt.run(
                argv,
                self._tick,
                fenced=True,
                page=steering,
                signalled=steering.signalled,
                restarts=restarts,
                look=self._look,
            )
        except RankLostError as error:  # the run is another's now
            return error
        finally:
            steering.close()

    def _start_rank_monitor(self, attempt: Path) -> None:
        """For hangs."""
        world, timeout = self._plan.world, self._supervision.hang_timeout
        lookout = RankMonitor(attempt, timeout, world.processes, self._horizon_control.said)
        self._inquiry = HangCoordinator(lookout, world.size, training=True, leader=self.leader)

    def _look(self, ending: Ending) -> None:
        self._inquiry.tick(ending)

    def _tick(self) -> None:
        self._hold.tick()
        if self.submitted is not None:
            self.submitted.tick(self._horizon_control)
        self._horizon_control.tick()
        if self.leader is not None:
            self.leader.share(self._horizon_control.words())
        self._rows.update()

    def _prepare(self, following: Path) -> str:
        """Make the run ready for another attempt; where that goes on from."""
        self._hold.check()
        point = find_resume_point(self._folder, self._plan.steps)
        take_ownership(self._folder, following.name)
        self._tracker_feeders.leave()
        rewind_run(self._folder, point)
        self._rows.reopen()
        self._horizon_control.reset()
        return f" from step {point.step:,}" if point else " from the start: no checkpoint was written yet"

    def _begin(self, following: Path) -> None:
        self._tracker_feeders.start(following)
        self._start_rank_monitor(following)
