"""A rank that the others wait for: each measures how long it waits, and now and then all learn of all.

On a processor only: what a GPU waits for, its process does not see.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from ..rank import Group
from ..session import AlternatingStep, TrainStep

STEPS = 50
"""That a rank has to be late in, on the average, twice in a row: once may be another program's doing."""
_SHARE = 0.05
"""Of the time, less than which is not worth a word."""


def straggler(waits: list[float], seconds: float) -> tuple[int, float] | None:
    """Return the rank that the others wait for, and the seconds that they do; None where none costs enough.

    The last to come does not wait; where ranks take turns at being late, all of them do. What one costs is what would
    be gained if it were as fast as the next.

    Args:
        waits: seconds of each rank in the exchange of gradients.
        seconds: that the steps took.
    """
    slowest = min(range(len(waits)), key=waits.__getitem__)
    lag = min(wait for rank, wait in enumerate(waits) if rank != slowest) - waits[slowest]
    return (slowest, lag) if lag > _SHARE * seconds else None


class Stragglers:
    """Adds up what ranks wait; the sums are under way while training continues, and read ``STEPS`` later.

    Args:
        group: of two ranks or more, all of which count the same steps.
        stepper: measures what this rank waits.
    """

    def __init__(self, group: Group, stepper: TrainStep | AlternatingStep) -> None:
        self._group = group
        self._stepper = stepper
        self._pending: tuple[Any, torch.Tensor, float] | None = None
        self._said: set[int] = set()
        self._late: int | None = None
        self.begin()

    @classmethod
    def for_ranks(cls, group: Group, stepper: TrainStep | AlternatingStep) -> Stragglers | None:
        """Watch where there is something to see."""
        return cls(group, stepper) if group.world_size > 1 and group.device.type == "cpu" else None

    def begin(self) -> None:
        """Begin to count anew, as after an evaluation."""
        self._count = 0
        self._started, self._waited = time.monotonic(), self._stepper.waited

    def close(self) -> None:
        """Wait for the sums that are under way, before the ranks part."""
        if self._pending is not None:
            self._pending[0].wait()

    def add(self) -> dict[str, Any] | None:
        """Count a step; return what is to be said of a rank, at most once of each."""
        self._count += 1
        return self._turn() if self._count == STEPS else None

    def _turn(self) -> dict[str, Any] | None:
        """Read the sums of the last time, and send those of this one."""
        found, pending = None, self._pending
        if pending is not None:
            handle, values, seconds = pending
            handle.wait()
            found = straggler(values.tolist(), seconds)
        late, self._late = found is not None and found[0] == self._late, None if found is None else found[0]
        waits = torch.zeros(self._group.world_size, dtype=torch.float64)
        waits[self._group.rank] = self._stepper.waited - self._waited
        self._pending = (self._group.all_reduce_sum_async(waits), waits, time.monotonic() - self._started)
        self.begin()
        if found is None or pending is None or not late or found[0] in self._said:
            return None
        self._said.add(found[0])
        return {
            "rank": found[0],
            "steps": STEPS,
            "lag_milliseconds": 1e3 * found[1] / STEPS,
            "share": found[1] / pending[2],
        }
