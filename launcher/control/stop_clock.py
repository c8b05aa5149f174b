"""How long a stop may take: the ranks come to their last step, and write a checkpoint there."""

from __future__ import annotations

import time

LEAST_SECONDS = 30.0
FIRST_CHECKPOINT_SECONDS = 300.0
"""For a checkpoint that none was measured before."""
_FACTOR = 3
_STEPS = 3  # the one under way, and the two that the horizon lets ranks do without a word


def default_stop_seconds(step: float, checkpoint: float) -> float:
    """Return how long a stop may take, by what has been measured.

    Args:
        step: seconds of a slow one; 0 where none was measured.
        checkpoint: seconds of a slow one.
    """
    return max(LEAST_SECONDS, _FACTOR * (_STEPS * step + checkpoint))


class StopClock:
    """The patience with one stop.

    Args:
        seconds: for all of it.
        may_save_longer: the time of a checkpoint is not known: once it has begun it gets more.
    """

    def __init__(self, seconds: float, *, may_save_longer: bool) -> None:
        self._began = time.monotonic()
        self.seconds = seconds
        self._may_save_longer = may_save_longer

    def is_over(self, *, saving: bool) -> bool:
        """Tell whether the ranks have had their time.

        Args:
            saving: one of them has reached the checkpoint.
        """
        if saving and self._may_save_longer:
            self.seconds = max(self.seconds, FIRST_CHECKPOINT_SECONDS)
        return time.monotonic() - self._began > self.seconds
