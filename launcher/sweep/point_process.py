"""The process of one point of a local sweep: a launch of its own, so that its end is not the sweep's."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ..console import json_errors, run_with_failure_card
from ..options import SupervisionOptions
from ..train import TrainRequest, training_run
from .sweep_folder import read_sweep
from .sweep_plan import resolve_point

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Train one point: ``python -m lockstep.launcher.sweep.point_process SWEEP INDEX PARENT``."""
    folder, index, parent = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    run_with_failure_card(lambda: _train(folder, index, parent))


def _train(folder: Path, index: int, parent: int) -> None:
    _end_with(parent)
    sweep = read_sweep(folder)
    launch: dict[str, Any] = json.loads(sys.argv[4])
    with json_errors(json=True):
        request = TrainRequest(
            gpus=launch["gpus"],
            cpu=launch["cpu"],
            json=True,
            name=sweep.run(index).name,
            supervision=SupervisionOptions(**launch["supervision"]),
        )
        sys.exit(training_run.train(resolve_point(sweep, index), request))


def _end_with(parent: int) -> None:
    """Let SIGTERM reach this point if the sweep is killed outright, so that it still writes a checkpoint."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
