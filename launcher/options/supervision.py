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
    grace: float = 10.0
    """Seconds between SIGTERM and SIGKILL for a script that is asked to end."""
