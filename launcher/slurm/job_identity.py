"""Which of SLURM's jobs are a run's.

A number alone does not tell: another cluster, or one that was set up anew, counts from 1 again. A job of a run has its
number in the run's job log, and its working folder is one that the run was submitted with.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path

from .job_log import read_jobs
from .job_spec import JOB
from .pending_submissions import SENDING

_POINT = re.compile(r"(.+)-\d{3,}")
_CHDIR = "--chdir="
_KEY = re.compile(r"\s[A-Z][\w/:.]*=.*", re.DOTALL)
"""The part of a path that, in scontrol's answer, looks like its next key."""


def is_job_of_run(run: Path, job: str, workdir: str) -> bool:
    """Check whether a job whose number is in the run's log is really the run's.

    Args:
        run: its folder.
        job: the number, ``12_3`` for a task of an array.
        workdir: the job's working folder, as SLURM tells; empty where it does not, and the number has to do.
    """
    if workdir in ("", "(null)", str(run)):
        return True
    known = _folders(run, is_task="_" in job)
    seen = known | {_KEY.sub("", folder) for folder in known}
    return workdir in seen or os.path.realpath(workdir) in map(os.path.realpath, known)


def _folders(run: Path, *, is_task: bool) -> set[str]:
    """Return every working folder of a run's jobs: its own, the one before it was moved, and its sweep's."""
    home = _submitted_from(run)
    if _is_another(Path(home), run):  # this one is a copy, or its name was given to a new run
        return {str(run)}
    noted = {str(event["workdir"]) for event in read_jobs(run) if event.get("event") == SENDING}
    homes = {str(run), home}
    sweeps = {
        str(Path(path).with_name(found[1])) for path in homes if (found := _POINT.fullmatch(Path(path).name))
    }
    return homes | noted | (sweeps if is_task else set())  # an older log does not have it


def _submitted_from(run: Path) -> str:
    """Return where the run's folder was when it was submitted."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        options = json.loads((run / JOB).read_text(encoding="utf-8")).get("sbatch", [])
        for option in map(str, options):
            if option.startswith(_CHDIR):
                return option.removeprefix(_CHDIR)
    return str(run)


def _is_another(home: Path, run: Path) -> bool:
    try:
        return (home / JOB).is_file() and not home.samefile(run)
    except OSError:
        return False
