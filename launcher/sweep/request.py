"""What ``launch sweep`` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..options import SupervisionOptions


@dataclass(frozen=True)
class SweepRequest:
    """The request of ``launch sweep``."""

    config: str | None
    settings: list[str]
    gpus: str | None = None
    cpu: int | None = None
    """As ``launch train`` takes them, or as ``launch submit`` does."""
    name: str | None = None
    supervision: SupervisionOptions = field(default_factory=SupervisionOptions)
    retry: bool = False
    sort: str | None = None
    dry_run: bool = False
    json: bool = False
    submit: bool = False
    slurm: dict[str, Any] = field(default_factory=dict)
    """Keys of the ``slurm:`` section on the command line; None where nothing was said."""
    cluster: str | None = None
    at_once: int | None = None
    """Of a submission: how many points may run together."""
