"""The job that waits for the end of the present one, and continues the run after it."""

from __future__ import annotations

import time
from pathlib import Path

from ..console import best_effort, print_messages
from ..slurm import (
    JobSpec,
    JobStart,
    PendingSubmission,
    SlurmError,
    SlurmSilentError,
    details_of,
    find_unanswered,
    job_names,
    note_job,
    read_jobs,
    record_found_jobs,
    slurm_client,
    state_of,
)
from .continuation_policy import is_withdrawn

_OF_THE_FIRST = ("dependency", "begin", "hold")
"""Options of sbatch that say when a job may start, of all that its manual lists but ``deadline``: past that the user
wants no job of the run at all."""
_NOTED_SECONDS = 5.0  # between a job's cancellation by `launch stop` and the line about it in the job log


class ChainedJob:
    """The next job of a run, seen from one start of the present one.

    Args:
        folder: of the run.
        job: what was submitted.
        start: which start this is.
    """

    def __init__(self, folder: Path, job: JobSpec, start: JobStart) -> None:
        self._folder = folder
        self._job = job
        self._start = start
        self.number: str | None = None
        """None while none is known that waits."""
        self.refusal = ""
        """What SLURM said to the last submission that it did not take."""

    def find(self) -> None:
        """Find the job that an earlier start of this one has submitted, if it still waits.

        Raises:
            SlurmError: SLURM could not be asked.
        """
        if pending := find_unanswered([self._folder]):
            record_found_jobs(pending, slurm_client.folders(job_names(pending)))
        after = [
            str(event["job"])
            for event in read_jobs(self._folder)
            if event.get("event") == "submitted" and event.get("after") == self._start.job
        ]
        self.number = after[-1] if after and _waits(self._folder, after[-1]) else None

    def submit(self) -> None:
        """Send one. A refusal is reported, and noted.

        Raises:
            SlurmSilentError: the job may be there all the same; ``find`` tells.
        """
        pending = self._pending()
        with best_effort():
            pending.record_sending()
        try:
            number = slurm_client.submit(self._arguments(), extra_variables=self._job.env)
        except SlurmSilentError:
            raise
        except SlurmError as error:
            with best_effort():
                pending.record_refused()
            self.refusal = error.message
            self.note_missing(error)
            return
        self.number = str(number)
        with best_effort():
            pending.record_submitted(number)
        print_messages([f"{self._job.run}: job {number} continues where this one is stopped"])

    def note_missing(self, error: SlurmError) -> None:
        """Say and note that none could be submitted."""
        print_messages([f"warning: no job could be submitted to continue after this one: {error.message}"])
        restart = self._start.restart
        with best_effort():
            note_job(self._folder, "not chained", self._start.job, restart=restart, message=error.message)

    def keep(self) -> bool:
        """Make sure that a next job waits, if SLURM takes one; return False if the user has withdrawn it.

        One that SLURM cannot be asked for is taken to be there.

        Raises:
            SlurmSilentError: none is known of, and SLURM does not say whether it takes one.
        """
        if self.number is not None:
            if not self._is_gone(self.number):
                return True
            time.sleep(_NOTED_SECONDS)
            if is_withdrawn(read_jobs(self._folder), self.number):
                self.number = None
                return False
            print_messages(
                [f"warning: job {self.number}, which was to continue after this one, no longer waits"]
            )
            self.number = None
        self.find()
        if self.number is None:
            self.submit()
        return True

    def cancel(self) -> None:
        """Cancel the next job, which is not needed."""
        try:
            if self.number is None:
                self.find()
            if self.number is None:
                return
            slurm_client.cancel(self.number)
        except SlurmError as error:
            print_messages([f"warning: {error.message}"])
        else:
            with best_effort():
                note_job(self._folder, "cancelled", self.number, by=str(self._start))

    def _is_gone(self, number: str) -> bool:
        try:
            return not _waits(self._folder, number)
        except SlurmError as error:
            print_messages([f"warning: {error.message}"])
            return False

    def _pending(self) -> PendingSubmission:
        facts = {"how": "chain", "after": self._start.job}
        return PendingSubmission(self._folder, self._folder.name, self._folder, facts=facts)

    def _arguments(self) -> list[str]:
        options = [option for option in self._job.sbatch if not _is_of_the_first(option)]
        after = f"--dependency=afterany:{self._start.job}"
        return [*options, after, *self._job.batch_script_command(self._folder)]


def _is_of_the_first(option: str) -> bool:
    """Check for an option about the first job's start; sbatch takes the beginning of a name for the whole."""
    name = option.removeprefix("--").partition("=")[0]
    return any(known.startswith(name) for known in _OF_THE_FIRST)


def _waits(run: Path, number: str) -> bool:
    return state_of(details_of(run, number)) == "PENDING"
