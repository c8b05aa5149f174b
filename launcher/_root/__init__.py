"""Lockstep: distributed training in which the number of processes is a resource, never a hyper-parameter."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lockstep.launcher.api.function_launch import launch as launch
    from lockstep.launcher.api.run_objects import Run as Run
    from lockstep.launcher.api.run_objects import load_model as load_model
    from lockstep.launcher.api.run_objects import runs as runs
    from lockstep.launcher.api.training import train as train
    from lockstep.training.rank.batch_gather import gather as gather
    from lockstep.training.rank.batch_gather import own_rows as own_rows

__all__ = ["Run", "__version__", "gather", "launch", "load_model", "own_rows", "runs", "train"]

_HOMES = {
    "Run": "launcher.api.run_objects",
    "gather": "training.rank.batch_gather",
    "launch": "launcher.api.function_launch",
    "load_model": "launcher.api.run_objects",
    "own_rows": "training.rank.batch_gather",
    "runs": "launcher.api.run_objects",
    "train": "launcher.api.training",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what user code calls when it does: `launch --help` must not load torch for it."""
        if name not in _HOMES:
            raise AttributeError(f"module 'lockstep' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"lockstep.{_HOMES[name]}"), name)
