"""Runs as objects: what they measured, how they ended, the model that they have trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...training.tracking import read_events
from ..runs import all_runs, find_run, read_status, runs_root

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

_ROWS = ("step", "epoch", "evaluation")


@dataclass(frozen=True)
class Run:
    """A training, by its folder; every attribute is read anew."""

    folder: Path

    @property
    def name(self) -> str:
        """The name that commands take."""
        return self.folder.name

    @property
    def status(self) -> str:
        """``running``, ``stopping``, ``done``, ``failed``, ``stopped`` or ``cancelled``."""
        return read_status(self.folder).status

    @property
    def outcome(self) -> dict[str, Any]:
        """What ``launch train --json`` prints; empty while there is none."""
        return dict(read_status(self.folder).outcome)

    @property
    def final(self) -> dict[str, float | None]:
        """The metrics of the newest evaluation."""
        return dict(read_status(self.folder).metrics)

    @property
    def config(self) -> dict[str, Any]:
        """Every setting."""
        import json

        config: dict[str, Any] = json.loads((self.folder / "spec.json").read_text(encoding="utf-8"))["config"]
        return config

    @property
    def metrics(self) -> pd.DataFrame:
        """The record: a row for some steps (``event`` is ``step``), for each epoch and for each evaluation."""
        import pandas as pd

        rows = [event for event in read_events(self.folder / "metrics.jsonl") if event["event"] in _ROWS]
        return pd.DataFrame(rows)

    def load_model(self, checkpoint: int | str | None = None) -> nn.Module:
        """Return the trained model, as ``lockstep.load_model``."""
        return load_model(self, checkpoint)


def runs() -> list[Run]:
    """List the trainings in ``$LOCKSTEP_RUNS``, or ``./runs``: those that run first, then the newest."""
    return [Run(found.folder) for found in all_runs(runs_root()) if (found.folder / "spec.json").is_file()]


def load_model(run: Run | str | Path, checkpoint: int | str | None = None) -> nn.Module:
    """Build a run's model with its trained weights, on the processor and in evaluation mode.

    Args:
        run: a run, its name or its folder.
        checkpoint: a step, or ``best``; the newest whole one by default.

    Raises:
        UsageError: there is no such run or checkpoint.
    """
    from ...training.inference import load_trained_model
    from ..train import resolve_checkpoint_step

    folder = run.folder if isinstance(run, Run) else find_run(str(run))
    step = None if checkpoint is None else resolve_checkpoint_step(folder, str(checkpoint))
    return load_trained_model(folder, step)
