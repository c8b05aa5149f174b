"""When a run is evaluated: a function of the step, or of the supervisor's clock."""

from __future__ import annotations

import math
from fractions import Fraction

from ..config import Duration
from ..rank import RankControl


class EvaluationTimes:
    """The steps after which a run is evaluated.

    Args:
        every: ``train.eval_every``; None is every epoch, and minutes are not steps.
        steps_per_epoch: of the run.
    """

    def __init__(self, every: Duration | None, steps_per_epoch: int) -> None:
        self.by_clock = every is not None and every.unit == "minutes"
        self._interval = Fraction(steps_per_epoch)
        if every is not None and not self.by_clock:
            self._interval = every.exact_steps(steps_per_epoch, 0)
        self._due = (-1, -1)
        """A step that is due, and the one before it that is: all between them wait for the first."""

    def is_due(self, step: int) -> bool:
        """Say whether an evaluation follows this many steps; asked of steps in any order, and mostly of the next.

        0.2 µs for nearly every step; a comparison with the interval's fractions took 2.8.
        """
        following, before = self._due
        if not before < step <= following:
            following, before = self._due = self._around(step)
        return step == following and step > 0 and not self.by_clock

    def is_due_after_epoch(self, step: int, control: RankControl, *, pending: bool) -> bool:
        """Say whether an evaluation follows an epoch, also by the clock.

        Args:
            step: the steps done.
            control: of this rank; ranks know alike what the clock has asked for once the next step may start.
            pending: the clock's was cut short here by a stop.
        """
        if not self.by_clock:
            return self.is_due(step)
        return pending or (control.may_start(step) and control.is_evaluation_due(step))

    def _around(self, step: int) -> tuple[int, int]:
        """Return the first due step from ``step`` on, a multiple of the interval rounded up, and the last before it."""
        times = max(1, math.floor(step / self._interval))
        while math.ceil(times * self._interval) < step:
            times += 1
        before = math.ceil((times - 1) * self._interval) if times > 1 else -1
        return math.ceil(times * self._interval), before
