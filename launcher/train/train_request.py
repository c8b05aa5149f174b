"""What people ask of a training, beside its config."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..control import Submitted
from ..options import Nodes, Supervision


@dataclass(frozen=True)
class Request:
    """What the command line asks for, beside the config."""

    gpus: str | None
    cpu: int | None
    json: bool
    name: str | None = None
    resume: str = "auto"
    nodes: Nodes = field(default_factory=Nodes)
    supervision: Supervision = field(default_factory=Supervision)
    submitted: Submitted | None = None
    """Of a SLURM job."""
