"""A SLURM job's own supervisor: ``python -P -m lockstep.launcher.batch RUN``, which the batch script becomes.

It decides whether there is anything to train, sees to it that a job follows, starts the nodes' supervisors, passes
SLURM's signals on as wishes, and decides when they have ended what comes next. What it decides and why is a line of
``slurm/jobs.jsonl``. A start that ends without such a line was killed with its node; the next one writes it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from .. import slurm as package
from ..data.errors import LockstepError, UsageError
from ..data.files import write_json
from . import slurm_client
from .console import say
from .guard import guarded
from .job import JobSpec, read_job
from .job_log import note_job, read_jobs
from .life import End, Verdict, decide, ends, last_verdict, lost_to, unsettled
from .requests import write_request
from .runs import read_outcome
from .slurm_self import Start, is_active, state_of, this_start
from .slurm_tool import SlurmError
from .step import start_step
from .why import Began, newest_step, why

SCRIPT = Path(package.__path__[0], "lockstep.sbatch")
_POLL_SECONDS = 0.1
_WISHES = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


def main(argv: list[str]) -> None:
    """Live the job of the run in ``argv[0]``, and end with the run's status."""
    guarded(lambda: sys.exit(_live(Path(argv[0]).resolve())))


def _live(folder: Path) -> int:
    job, start = read_job(folder), this_start()
    if job is None or start is None:
        raise UsageError(
            f"{folder}: no job of SLURM", "`launch submit` makes one, and SLURM starts this in it"
        )
    return Batch(folder, job, start).live()


class Batch:
    """One start of one job.

    Args:
        folder: of the run.
        job: what was submitted.
        start: which start this is.
    """

    def __init__(self, folder: Path, job: JobSpec, start: Start) -> None:
        self._folder = folder
        self._job = job
        self._start = start
        self._signals: list[int] = []
        self._heard: set[int] = set()
        self._next: str | None = None
        """The job that waits for the end of this one."""
        self._began = Began(start.restart, 0, time.time())

    def live(self) -> int:
        """From the first look at what was before to what comes next; the exit status."""
        for number in _WISHES:
            signal.signal(number, self._take)
        self._settle()
        if self._is_over():
            return 0
        self._began = Began(self._start.restart, newest_step(self._folder), time.time())
        self._note("started", step=self._began.step, node=os.environ.get("SLURMD_NODENAME", ""))
        self._chain()
        status = self._work()
        if self._is_stale():
            say(["this start of the job was given up: a later one has taken the run over"])
            return status
        end = why(self._folder, self._job, status, self._began, heard=self._heard, details=self._details())
        return self._conclude(end, decide(end, self._earlier(), self._job))

    def _settle(self) -> None:
        """Write down the ends of starts that could not do it themselves, as SLURM tells of them."""
        for lost in unsettled(read_jobs(self._folder)):
            job, restart = str(lost["job"]), int(lost.get("restart", 0))
            if job != self._start.job and is_active(job):
                raise UsageError(
                    f"{self._folder}: job {job} trains this run", "wait for it, or end it with scancel"
                )
            state = "" if job == self._start.job else state_of(slurm_client.details(job))
            gained = newest_step(self._folder) > int(lost.get("step", 0))
            if self._job.kind == "run":
                gained = True  # nobody can say
            end = End("requeued" if job == self._start.job else lost_to(state), -1, gained)
            verdict = decide(end, self._earlier(), self._job)
            facts = {"cause": end.cause, "exit_code": end.exit_code, "gained": end.gained, "state": state}
            note_job(
                self._folder,
                "ended",
                job,
                restart=restart,
                **facts,
                **_decided(verdict),
                told_by=str(self._start),
            )

    def _earlier(self) -> list[End]:
        return ends(read_jobs(self._folder))

    def _is_over(self) -> bool:
        """Whether there is nothing left to do for this start: said, and noted."""
        verdict = self._inherited()
        if verdict is None and (read_outcome(self._folder) or {}).get("status") == "done":
            verdict = Verdict("finish", "it is done")
        if verdict is None:
            return False
        say([f"{self._job.run}: nothing to do: {verdict.reason}"])
        self._note("idle", **_decided(verdict))
        if verdict.action == "give up":
            self._tell(verdict)
        self._cancel_next()
        return True

    def _inherited(self) -> Verdict | None:
        """What an earlier start has decided for this one; a job that a person has submitted is bound by nothing."""
        events = read_jobs(self._folder)
        mine = [e for e in events if e.get("event") == "submitted" and e.get("job") == self._start.job]
        follows = self._start.restart > 0 or any(event.get("after") for event in mine)
        verdict = last_verdict(events) if follows else None
        return verdict if verdict is not None and verdict.is_last else None

    def _chain(self) -> None:
        """Submit the job that goes on after this one, now: after a node is lost there is nobody who could."""
        if self._job.how != "chain":
            return
        self._next = self._waiting()
        if self._next is None:
            self._submit_next()

    def _waiting(self) -> str | None:
        """The job that an earlier start of this one has submitted, if it still waits."""
        events = read_jobs(self._folder)
        after = [
            str(e["job"])
            for e in events
            if e.get("event") == "submitted" and e.get("after") == self._start.job
        ]
        found = slurm_client.details(after[-1]) if after else None
        return after[-1] if state_of(found) == "PENDING" else None

    def _submit_next(self) -> None:
        options = [option for option in self._job.sbatch if not option.startswith("--dependency")]
        options += [f"--dependency=afterany:{self._start.job}"]
        arguments = [str(SCRIPT), self._job.python or sys.executable, str(self._folder)]
        try:
            number = slurm_client.submit([*options, *arguments], also=self._job.env)
        except SlurmError as error:
            say([f"warning: no job could be submitted that goes on after this one: {error.message}"])
            self._note("not chained", message=error.message)
            return
        self._next = str(number)
        note_job(self._folder, "submitted", number, how="chain", after=self._start.job)
        say([f"{self._job.run}: job {number} goes on where this one is stopped"])

    def _work(self) -> int:
        """The step, from its start to its end; its exit status."""
        if (read_outcome(self._folder) or {}).get("status") != "done":
            (self._folder / "outcome.json").unlink(missing_ok=True)
        step = start_step(self._folder, self._job, self._start)
        while step.poll() is None:
            time.sleep(_POLL_SECONDS)
            while self._signals:
                self._pass_on(self._signals.pop(0))
        status = step.returncode
        return 128 - status if status < 0 else status

    def _take(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _pass_on(self, number: int) -> None:
        """A signal becomes a wish in the run folder, which node 0's supervisor takes."""
        name = signal.Signals(number).name
        if number not in self._heard:
            self._heard.add(number)
            self._note("signal", signal=name)
            write_request(self._folder, "stop", f"{name} to the batch script")

    def _is_stale(self) -> bool:
        """Whether SLURM has meanwhile started this job again, or another job of the run."""
        started = [event for event in read_jobs(self._folder) if event.get("event") == "started"]
        newest = Start(str(started[-1]["job"]), int(started[-1]["restart"]))
        return newest != self._start

    def _details(self) -> dict[str, str]:
        try:
            return slurm_client.details(self._start.job) or {}
        except SlurmError as error:
            say([f"warning: {error.message}"])
            return {}

    def _conclude(self, end: End, verdict: Verdict) -> int:
        facts = {"cause": end.cause, "exit_code": end.exit_code, "gained": end.gained}
        step = newest_step(self._folder)
        again = end.cause == "requeued"  # SLURM itself does it
        verdict = self._continue(verdict) if verdict.action == "continue" and not again else verdict
        self._note("ended", step=step, **facts, **_decided(verdict), next=self._next)
        say([f"{self._job.run}: {verdict.action}: {verdict.reason}"])
        if verdict.is_last:
            self._cancel_next()
        elif self._next is None and not again:
            slurm_client.requeue(self._start.job)  # ends this process
        if verdict.action == "give up":
            self._tell(verdict)
        return end.exit_code

    def _continue(self, verdict: Verdict) -> Verdict:
        """By the job that waits, by one that is submitted now, or by a requeue; where none is to be had, not at all."""
        if self._job.how == "chain" and self._next is None:
            self._submit_next()
        if self._next is None and self._details().get("Requeue") != "1":
            return Verdict(
                "give up", f"{verdict.reason}, and SLURM takes neither another job nor this one again"
            )
        return verdict

    def _cancel_next(self) -> None:
        waiting = self._next or self._waiting()
        if waiting is not None:
            try:
                slurm_client.cancel(waiting)
            except SlurmError as error:
                say([f"warning: {error.message}"])
            else:
                note_job(self._folder, "cancelled", waiting, by=str(self._start))

    def _tell(self, verdict: Verdict) -> None:
        """Into the outcome, where ``launch status`` looks; one is made where the run could write none."""
        failed = LockstepError(verdict.reason, f"see the logs in {self._folder / 'slurm'}")
        made = {
            "schema_version": 1,
            "run": self._folder.name,
            "run_dir": str(self._folder),
            "status": "failed",
            "exit_code": 4,
            "error": failed.to_json(),
        }
        write_json(
            self._folder / "outcome.json", {**(read_outcome(self._folder) or made), "gave_up": verdict.reason}
        )

    def _note(self, event: str, **facts: Any) -> None:
        note_job(self._folder, event, self._start.job, restart=self._start.restart, **facts)


def _decided(verdict: Verdict) -> dict[str, str]:
    return {"action": verdict.action, "reason": verdict.reason}


if __name__ == "__main__":
    main(sys.argv[1:])
