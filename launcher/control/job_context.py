"""What a supervisor in a SLURM job knows beyond the command line: the run's folder is there, and time is limited."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ..runs import note_stop
from .horizon_control import Steering
from .time_limit import LIMIT, Deadline


@dataclass(frozen=True)
class Submitted:
    """A run that ``launch submit`` has laid out."""

    folder: Path
    wandb_id: str
    """Minted at submission: every attempt of every job is the same W&B run."""
    deadline: Deadline

    def tick(self, steering: Steering) -> None:
        """Stop a training in time."""
        self.deadline.pace.see(time.monotonic(), steering.steps)
        if not steering.stopping and self.deadline.is_due:
            left = self.deadline.seconds_left or 0.0
            note_stop(self.folder, LIMIT)
            steering.stop(f"{LIMIT}, in {left:.0f} s")
