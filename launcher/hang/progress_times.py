"""How long steps, batches of evaluations and checkpoints take in this run, and how long a silence is a hang by that.

Pure: it gets what the ranks have reported, and when. What is rare and slow keeps the fixed limit: the first steps, in
which models are compiled and algorithms chosen, the first evaluation, the first checkpoint, every start and every end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["step", "batch of an evaluation", "checkpoint"]
_KINDS: dict[str, Kind] = {
    "training": "step",
    "evaluation": "batch of an evaluation",
    "checkpoint": "checkpoint",
}
FACTOR = 20
FIRST_STEPS = 10
_LEAST_CHECKPOINT_SECONDS = 60.0
"""A checkpoint that finds the one before it still being written waits for that, as long as the disk takes."""


@dataclass(frozen=True)
class HangLimit:
    """The silence after which ranks are looked at as hanging."""

    seconds: float
    kind: Kind | None = None
    """What it was learned from; None where it is the fixed one."""
    slowest: float = 0.0
    """Seconds of the slowest of its kind so far."""


@dataclass
class _Rank:
    steps: int
    phase: str
    stamp: int
    first: int | None = None
    """The step that it began at."""
    left: set[str] = field(default_factory=set)
    """Phases that it has been through."""


class ProgressTimes:
    """The times of one attempt, as the ranks' signs of life tell them."""

    def __init__(self) -> None:
        self._ranks: dict[int, _Rank] = {}
        self._slowest: dict[Kind, float] = {}
        self.slowest_step = 0.0
        """Seconds of the slowest step so far, the first ones included; 0 while none is known."""

    def see(self, rank: int, steps: int, phase: str, stamp: int) -> None:
        """Take what a rank says of itself.

        Args:
            rank: which.
            steps: that it has done.
            phase: one of ``PHASES``.
            stamp: of its last sign of life, in nanoseconds of its own clock.
        """
        known = self._ranks.setdefault(rank, _Rank(steps, phase, stamp))
        if stamp == known.stamp:
            return
        self._measure(known, steps, (stamp - known.stamp) / 1e9)
        if phase != known.phase:
            known.left.add(known.phase)
        if known.first is None and phase != "starting":
            known.first = steps
        known.steps, known.phase, known.stamp = steps, phase, stamp

    def _measure(self, known: _Rank, steps: int, seconds: float) -> None:
        kind = _KINDS.get(known.phase)
        if kind is None:
            return
        each = seconds / max(1, steps - known.steps)
        if kind == "step":
            self.slowest_step = max(each, self.slowest_step)
            if self._is_early(known):
                return
        self._slowest[kind] = max(each, self._slowest.get(kind, 0.0))

    def _is_early(self, known: _Rank) -> bool:
        return known.first is None or known.steps < known.first + FIRST_STEPS

    def hang_limit(self, ceiling: float, least: float) -> HangLimit:
        """Return the limit of what the ranks do now, the longest where they do different things.

        Args:
            ceiling: the fixed limit, in seconds.
            least: of what is learned, in seconds.
        """
        limits = [
            self._limit(rank, ceiling, least) for rank in self._ranks.values() if rank.phase != "waiting"
        ]
        return max(limits, key=lambda limit: limit.seconds, default=HangLimit(ceiling))

    def _limit(self, rank: _Rank, ceiling: float, least: float) -> HangLimit:
        kind = _KINDS.get(rank.phase)
        is_first = kind != "step" and rank.phase not in rank.left
        if kind is None or kind not in self._slowest or is_first or self._is_early(rank):
            return HangLimit(ceiling)
        floor = max(least, _LEAST_CHECKPOINT_SECONDS) if kind == "checkpoint" else least
        seconds = max(floor, FACTOR * self._slowest[kind])
        return HangLimit(seconds, kind, self._slowest[kind]) if seconds < ceiling else HangLimit(ceiling)
