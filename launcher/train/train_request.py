"""What people ask of a training, beside its config."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..control import JobContext
from ..options import Nodes, SupervisionOptions


@dataclass(frozen=True)
class Request:
    """What the command line asks for, beside the config."""

    gpus: str | None
    cpu: int | None
    json: bool
    name: str | None = None
    resume: str = "auto"
    nodes: Nodes = field(default_factory=Nodes)
    supervision: SupervisionOptions = field(default_factory=SupervisionOptions)
    submitted: JobContext | None = None
    """Of a SLURM job."""
