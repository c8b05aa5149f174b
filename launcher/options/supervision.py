"""How patient the supervisor of a launch is: with ranks that stand still, fail, or are asked to end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SupervisionOptions:
    """The choices that ``launch train`` and ``launch run`` leave to users about the supervision of their ranks."""

    hang_timeout: float = 600.0
    """Seconds without any progress of any rank after which a hang is called; 0 never calls one."""
    max_restarts: int = 0
    """How often ranks that fail are started again in place."""
    stop_timeout: float | None = None
    """Seconds that a training may take to stop with a checkpoint; None goes by what steps and checkpoints took."""
    hang_timeout_min: float = 10.0
    """Least of what is learned from the quick steps of a training, in seconds; ``hang_timeout`` is the most."""
    grace: float = 10.0
    """Seconds between SIGTERM and SIGKILL for a script that is asked to end; as many between SIGINT and SIGTERM."""
