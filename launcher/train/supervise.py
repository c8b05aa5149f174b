"""A training under way: what is done many times a second, and what between an attempt that failed and the next."""

from __future__ import annotations

from pathlib import Path

from ...data.common import LockstepError, RankLostError
from ...training.rank import take_over
from ..console import EpochTable
from ..control import Steering, Submitted
from ..failures import Ending
from ..hang import Inquiry, Lookout
from ..nodes import Leader
from ..options import Supervision
from ..runs import Hold
from ..supervisor import Restarts
from .attempt import Attempt
from .plan import LaunchPlan
from .resume import find_point, rewind_to
from .wandb_feeders import Feeding


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
        steering: Steering,
        plan: LaunchPlan,
        supervision: Supervision,
        rows: EpochTable,
        feed: Feeding,
        hold: Hold,
    ) -> None:
        self._steering = steering
        self._plan = plan
        self._supervision = supervision
        self._rows = rows
        self._feed = feed
        self._hold = hold
        self.leader: Leader | None = None
        """To the other nodes."""
        self.submitted: Submitted | None = None
        """Of a SLURM job."""

    def run(self, attempt: Attempt) -> LockstepError | None:
        """Train; None when all ranks are done, else why not."""
        steering, self._folder = self._steering, attempt.folder.parent
        steering.listen()
        if self.leader is not None:
            self.leader.on_progress, self.leader.on_stop = steering.note, steering.stop
        self._watch_over(attempt.folder)
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

    def _watch_over(self, attempt: Path) -> None:
        """For hangs."""
        world, timeout = self._plan.world, self._supervision.hang_timeout
        lookout = Lookout(attempt, timeout, world.processes, self._steering.said)
        self._inquiry = Inquiry(lookout, world.size, training=True, leader=self.leader)

    def _look(self, ending: Ending) -> None:
        self._inquiry.tick(ending)

    def _tick(self) -> None:
        self._hold.tick()
        if self.submitted is not None:
            self.submitted.tick(self._steering)
        self._steering.tick()
        if self.leader is not None:
            self.leader.share(self._steering.words())
        self._rows.update()

    def _prepare(self, following: Path) -> str:
        """Make the run ready for another attempt; where that goes on from."""
        self._hold.check()
        point = find_point(self._folder, self._plan.steps)
        take_over(self._folder, following.name)
        self._feed.leave()
        rewind_to(self._folder, point)
        self._rows.turn()
        self._steering.renew()
        return f" from step {point.step:,}" if point else " from the start: no checkpoint was written yet"

    def _begin(self, following: Path) -> None:
        self._feed.start(following)
        self._watch_over(following)
