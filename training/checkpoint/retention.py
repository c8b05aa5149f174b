"""Which checkpoints stay: the newest, and the best by a metric."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..components import oriented
from ..config import CheckpointConfig
from ..tracking import plain


@dataclass
class BestCheckpoints:
    """The best evaluations so far, best first."""

    monitor: str = ""
    entries: list[dict[str, Any]] = field(default_factory=list)
    """``{"step", "value"}``."""

    def update(self, config: CheckpointConfig, step: int, metrics: dict[str, float]) -> bool:
        """Rank the evaluation after ``step``; return whether its checkpoint is among those to keep."""
        if self.monitor != config.monitor:
            self.monitor, self.entries = config.monitor, []
        if oriented(config, metrics.get(config.monitor)) == -math.inf:
            return False  # what is not a number is not the best, even of one
        entry = {"step": step, "value": plain(metrics[config.monitor])}
        everyone = [*(e for e in self.entries if e["step"] != step), entry]
        everyone.sort(key=lambda e: oriented(config, e["value"]), reverse=True)  # stable: of equals the older
        self.entries = everyone[: config.keep_best]
        return entry in self.entries

    @property
    def steps(self) -> set[int]:
        """Return the steps whose checkpoints are kept."""
        return {int(entry["step"]) for entry in self.entries}


def superseded(found: list[int], keep_last: int | None, best: set[int]) -> list[int]:
    """Return the steps whose checkpoints may be removed, once the newest of ``found`` is committed.

    Args:
        found: steps of the checkpoints that are there, in any order.
        keep_last: how many of the newest stay; None is all.
        best: which stay besides.
    """
    if keep_last is None:
        return []
    older = sorted(found, reverse=True)[keep_last:]
    return sorted(set(older) - best)
