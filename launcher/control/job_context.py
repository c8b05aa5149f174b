"""What a supervisor in a SLURM job knows beyond the command line: the run's folder is there, and time is limited."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ..runs import record_stop_reason
from .horizon_control import HorizonControl
from .time_limit import LIMIT, TimeLimitWatch


@dataclass(frozen=True)
class JobContext:
    """A run that ``launch submit`` has laid out."""

    folder: Path
    wandb_id: str
    """Minted at submission: every attempt of every job is the same W&B run."""
    deadline: TimeLimitWatch

    def tick(self, steering: HorizonControl) -> None:
        """Stop a training in time."""
        self.deadline.pace.see(time.monotonic(), steering.steps)
        if not steering.stopping and self.deadline.is_due:
            left = self.deadline.seconds_left or 0.0
            record_stop_reason(self.folder, LIMIT)
            steering.stop(f"{LIMIT}, in {left:.0f} s")
