"""Run folders that version 0.1 left behind, in ``tests/fixtures/v0_1``, as a user finds them after an upgrade.

A user's folder ``work``, a run that was stopped in the middle, and two runs whose jobs wait in SLURM's queue, with the
batch script that SLURM spooled for them. Absolute paths are written with placeholders, as are the jobs' numbers and the
Python that had submitted. Files below ``checkpoints`` are sealed by their hashes and have none.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[1] / "fixtures" / "v0_1"
SEALED = "checkpoints"


@dataclass(frozen=True)
class OldRuns:
    """What version 0.1 left behind, in a folder of the test's own."""

    root: Path
    """Has ``work`` and ``runs``, as the test's ``LOCKSTEP_RUNS`` expects them."""

    @property
    def work(self) -> Path:
        """The folder that the commands were given in."""
        return self.root / "work"

    def run(self, name: str) -> Path:
        """The folder of a run: ``stopped``, ``queued`` or ``script``."""
        return self.root / "runs" / name

    def outcome(self, name: str) -> dict[str, Any]:
        """How a run has ended meanwhile."""
        return dict(json.loads((self.run(name) / "outcome.json").read_text()))

    def argv(self, name: str) -> list[str]:
        """The batch script that SLURM holds for a queued run, and its arguments."""
        return [str(self.root / "lockstep.sbatch"), sys.executable, str(self.run(name))]

    def number(self, name: str, job: str) -> None:
        """Write down the number of a queued run's job."""
        fill(self.run(name), {"@JOB@": job})


def copy_old_runs(root: Path) -> OldRuns:
    """Copy the fixtures into ``root`` and fill in its path and this Python's."""
    for name in ("stopped", "queued", "script"):
        shutil.copytree(FIXTURES / name, root / "runs" / name)
        fill(root / "runs" / name, {"@ROOT@": str(root), "@PYTHON@": sys.executable})
    shutil.copytree(FIXTURES / "work", root / "work", dirs_exist_ok=True)
    shutil.copy(FIXTURES / "lockstep.sbatch", root)
    return OldRuns(root)


def fill(folder: Path, values: dict[str, str]) -> None:
    """Replace placeholders in every file of ``folder`` that is not sealed."""
    for path in folder.rglob("*"):
        if path.is_file() and SEALED not in path.relative_to(folder).parts:
            text = path.read_text()
            for placeholder, value in values.items():
                text = text.replace(placeholder, value)
            path.write_text(text)


def whole_outcome() -> dict[str, Any]:
    """How version 0.1 ended ``stopped`` where nothing had stopped it."""
    return dict(json.loads((FIXTURES / "whole_outcome.json").read_text()))
