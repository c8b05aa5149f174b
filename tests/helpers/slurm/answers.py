"""What SLURM answers about jobs, and runs that were submitted."""

from __future__ import annotations

import json
from pathlib import Path

from lockstep.launcher.runs.run_folder import runs_root
from lockstep.launcher.runs.slurm_status import QueueSnapshot
from lockstep.launcher.slurm.job_log import note_job
from lockstep.launcher.slurm.slurm_client import JobAccounting, QueuedJob


def submitted_run(name: str, *jobs: str, outcome: str | None = None) -> Path:
    """A run folder with these jobs."""
    folder = runs_root() / name
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    for job in jobs:
        note_job(folder, "submitted", job)
    if outcome is not None:
        (folder / "outcome.json").write_text(json.dumps({"status": outcome, "exit_code": 0}))
    return folder


def queue_answer(*states: str, reason: str = "None", **accounts: str) -> QueueSnapshot:
    """Jobs 1, 2, … in these states."""
    jobs = [
        QueuedJob(str(number), state, reason, "n1", "3:20:00", "2026-11-24T12:00:00", 0, "x")
        for number, state in enumerate(states, 1)
    ]
    ended = {key.removeprefix("job"): JobAccounting(state, "") for key, state in accounts.items()}
    return QueueSnapshot({job.id: job for job in jobs}, ended)
