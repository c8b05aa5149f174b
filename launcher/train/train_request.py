"""What users ask of a training, besides its config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..control import HorizonControl
from ..options import NodeOptions, SupervisionOptions


@dataclass(frozen=True)
class SubmittedRun:
    """A run that ``launch submit`` has laid out, as its supervisor in a job knows it."""

    folder: Path
    wandb_id: str
    """Made at submission: every attempt of every job is the same W&B run."""
    keep_time_limit: Callable[[HorizonControl], None]
    """Stops the training in time; called many times a second."""


@dataclass(frozen=True)
class TrainRequest:
    """The request of the command line, besides the config."""

    gpus: str | None
    cpu: int | None
    json: bool
    name: str | None = None
    resume: str = "auto"
    nodes: NodeOptions = field(default_factory=NodeOptions)
    supervision: SupervisionOptions = field(default_factory=SupervisionOptions)
    submitted: SubmittedRun | None = None
    """Where a job of SLURM trains it."""
