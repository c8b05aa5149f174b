"""When a run is evaluated: a function of the step, or of the supervisor's clock."""

from __future__ import annotations

import math
from fractions import Fraction

from ..config import Duration


class EvaluationTimes:
    """The steps after which a run is evaluated.

    Args:
        every: ``train.eval_every``; None is every epoch, and minutes are no steps.
        steps_per_epoch: of the run.
    """

    def __init__(self, every: Duration | None, steps_per_epoch: int) -> None:
        self.by_clock = every is not None and every.unit == "minutes"
        self._interval = Fraction(steps_per_epoch)
        if every is not None and not self.by_clock:
            self._interval = every.exact_steps(steps_per_epoch, 0)
        self._next = -1

    def is_due(self, step: int) -> bool:
        """Say whether an evaluation follows so many steps; asked of steps in any order, and mostly of the next."""
        if not self._next - self._interval < step <= self._next:
            self._next = self._at_or_after(step)
        return step == self._next and step > 0 and not self.by_clock

    def _at_or_after(self, step: int) -> int:
        """Return the first due step from ``step`` on: a multiple of the interval, up to the next whole step."""
        times = max(1, math.floor(step / self._interval))
        while math.ceil(times * self._interval) < step:
            times += 1
        return math.ceil(times * self._interval)
