"""Lockstep: distributed training in which the number of processes is a resource, never a hyper-parameter."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lockstep.training.rank.batch_gather import gather as gather
    from lockstep.training.rank.batch_gather import own_rows as own_rows
else:

    def __getattr__(name: str) -> Any:
        """Import what user code calls when it does: `launch --help` must not load torch for it."""
        if name not in ("gather", "own_rows"):
            raise AttributeError(f"module 'lockstep' has no attribute {name!r}")
        from lockstep.training.rank import batch_gather

        return getattr(batch_gather, name)
