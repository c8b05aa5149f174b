"""A SLURM job's own supervisor: what the batch script becomes.

It decides whether there is anything to train, sees to it that a job follows, starts the nodes' supervisors, passes
SLURM's signals on as requests, and decides when they have ended what comes next. Its decision and the reason are a line
of ``slurm/jobs.jsonl``. A start that ends without such a line was killed with its node; the next one writes it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from ...data.common import STOPPED, LockstepError, RankLostError, UsageError, signal_name, write_json
from ..console import best_effort, print_messages, run_with_failure_card
from ..runs import error_in, failing_node_log, read_outcome, write_request
from ..slurm import (
    JobSpec,
    JobStart,
    SlurmError,
    SlurmSilentError,
    current_job_start,
    details_of,
    is_active,
    note_job,
    read_job,
    read_jobs,
    slurm_client,
    state_of,
)
from .chained_job import ChainedJob
from .continuation_policy import (
    ContinuationDecision,
    JobEnd,
    attempts_without_end,
    cause_from_job_state,
    decide,
    ends,
    last_decision,
)
from .end_cause import AttemptStart, cause_from_slurm, classify_end, newest_step
from .retry import retry_while_silent
from .srun_step import start_step

_POLL_SECONDS = 0.1
_STOP_SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


def main(argv: list[str]) -> None:
    """Supervise the job of the run in ``argv[0]``, and exit with the run's status."""
    run_with_failure_card(lambda: sys.exit(_run(Path(argv[0]).resolve())))


def _run(folder: Path) -> int:
    job, start = read_job(folder), current_job_start()
    if job is None or start is None:
        raise UsageError(
            f"{folder}: no job of SLURM", "`launch submit` makes one, and SLURM starts this in it"
        )
    return BatchSupervisor(folder, job, start).run()


class BatchSupervisor:
    """The supervisor of one start of one job.

    Args:
        folder: of the run.
        job: what was submitted.
        start: which start this is.
    """

    def __init__(self, folder: Path, job: JobSpec, start: JobStart) -> None:
        self._folder = folder
        self._job = job
        self._start = start
        self._signals: list[int] = []
        self._heard_signals: set[int] = set()
        self._next = ChainedJob(folder, job, start)
        self._known: dict[str, str] = {}
        """What SLURM said of this job when it last answered."""
        self._began = AttemptStart(start.restart, 0, time.time())
        self._error: LockstepError | None = None
        """What a node said that failed before there was an outcome."""

    def run(self) -> int:
        """Run this start of the job up to the decision about the next one; return the exit status."""
        for number in _STOP_SIGNALS:
            signal.signal(number, self._take)
        self._begin()
        if self._is_over():
            return 0
        self._began = AttemptStart(self._start.restart, newest_step(self._folder), time.time())
        facts = {"step": self._began.step, "node": os.environ.get("SLURMD_NODENAME", "")}
        note_job(self._folder, "started", self._start.job, restart=self._start.restart, **facts)
        if self._job.how == "chain":
            self._chain()
        status = self._work()
        if self._is_stale():
            print_messages(["this start of the job was given up: a later one has taken the run over"])
            return status
        self._error = self._quote(status)
        end = classify_end(
            self._folder,
            self._job,
            status,
            self._began,
            heard=self._heard_signals,
            details=self._details(),
        )
        return self._conclude(end, decide(end, self._earlier(), self._job))

    def _begin(self) -> None:
        """Wait for SLURM to answer, without which no step starts, and put the job log in order."""
        try:
            retry_while_silent(self._ask)
            retry_while_silent(self._settle)
        except SlurmSilentError as error:
            self._note("not started", message=error.message)
            self._tell(
                ContinuationDecision("give up", "SLURM's controller did not answer when the job started")
            )
            raise

    def _ask(self) -> dict[str, str]:
        """Ask SLURM for its record of this job; empty if it refuses to answer.

        Raises:
            SlurmSilentError: it does not answer.
        """
        try:
            self._known = slurm_client.details(self._start.job) or {}
        except SlurmSilentError:
            raise
        except SlurmError as error:
            print_messages([f"warning: {error.message}"])
            return {}
        return self._known

    def _settle(self) -> None:
        """Write down the ends of starts that could not do it themselves, as SLURM tells of them."""
        for lost in attempts_without_end(read_jobs(self._folder)):
            job, restart = str(lost["job"]), int(lost.get("restart", 0))
            if job != self._start.job and is_active(job, self._folder):
                raise UsageError(
                    f"{self._folder}: job {job} trains this run", "wait for it, or end it with scancel"
                )
            state = "" if job == self._start.job else state_of(details_of(self._folder, job))
            gained = newest_step(self._folder) > int(lost.get("step", 0))
            if self._job.kind == "run":
                gained = True  # a script writes no checkpoints that could tell
            end = JobEnd("requeued" if job == self._start.job else cause_from_job_state(state), -1, gained)
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

    def _earlier(self) -> list[JobEnd]:
        return ends(read_jobs(self._folder))

    def _is_over(self) -> bool:
        """Check whether there is nothing left for this start to do; if so, say and note that."""
        verdict = self._earlier_decision()
        if verdict is None and (read_outcome(self._folder) or {}).get("status") == "done":
            verdict = ContinuationDecision("finish", "it is done")
        if verdict is None:
            return False
        print_messages([f"{self._job.run}: nothing to do: {verdict.reason}"])
        self._note("idle", **_decided(verdict))
        if verdict.action == "give up":
            self._tell(verdict)
        self._next.cancel()
        return True

    def _earlier_decision(self) -> ContinuationDecision | None:
        """Return an earlier start's decision for this one; a job that the user has submitted is not bound by it."""
        events = read_jobs(self._folder)
        mine = [e for e in events if e.get("event") == "submitted" and e.get("job") == self._start.job]
        follows = self._start.restart > 0 or any(event.get("after") for event in mine)
        verdict = last_decision(events) if follows else None
        return verdict if verdict is not None and verdict.is_last else None

    def _chain(self) -> None:
        """Submit the next job now: once a node is lost, no process is left that could."""
        try:
            retry_while_silent(self._next.find)
            if self._next.number is None:
                self._next.submit()
        except SlurmSilentError as error:  # it is tried again at the end
            self._next.note_missing(error)

    def _work(self) -> int:
        """Run the step to its end; return its exit status."""
        if (read_outcome(self._folder) or {}).get("status") != "done":
            (self._folder / "outcome.json").unlink(missing_ok=True)
        step = start_step(self._folder, self._job, self._start)
        while step.poll() is None:
            time.sleep(_POLL_SECONDS)
            while self._signals:
                self._pass_on(self._signals.pop(0))
        status = step.returncode
        return 128 - status if status < 0 else status

    def _quote(self, status: int) -> LockstepError | None:
        """Quote the node that failed before there was an outcome, in the job's own log, where users look first."""
        if status in (0, STOPPED) or "error" in (read_outcome(self._folder) or {}):
            return None
        log = failing_node_log(self._folder, str(self._start))
        if log is None:
            return None
        print_messages([f"{log.path} ends with", *(f"  {line}" for line in log.card or log.lines)])
        return error_in(log, status)

    def _take(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _pass_on(self, number: int) -> None:
        """Turn a signal into a request in the run folder, which node 0's supervisor takes."""
        name = signal_name(number)
        if number not in self._heard_signals:
            self._heard_signals.add(number)
            self._note("signal", signal=name)
            with best_effort():
                write_request(self._folder, "stop", f"{name} to the batch script")

    def _is_stale(self) -> bool:
        """Check whether SLURM has meanwhile started this job again, or another job of the run."""
        started = [event for event in read_jobs(self._folder) if event.get("event") == "started"]
        newest = JobStart(str(started[-1]["job"]), int(started[-1]["restart"]))
        return newest != self._start

    def _details(self) -> dict[str, str]:
        """Return SLURM's record of the job, asked once: there may be no time for more before the end is noted."""
        try:
            return self._ask()
        except SlurmSilentError as error:
            print_messages([f"warning: {error.message}"])
            return {}

    def _conclude(self, end: JobEnd, verdict: ContinuationDecision) -> int:
        facts = {"cause": end.cause, "exit_code": end.exit_code, "gained": end.gained}
        goes_on = verdict.action == "continue" and end.cause != "requeued"  # that SLURM does itself
        silent = False
        if goes_on:
            try:
                verdict = self._continue(verdict)
            except SlurmSilentError as error:
                silent = True
                print_messages([f"warning: {error.message}"])
        step = newest_step(self._folder)
        self._note("ended", step=step, **facts, **_decided(verdict), next=self._next.number)
        print_messages([f"{self._job.run}: {verdict.action}: {verdict.reason}"])
        if goes_on and not verdict.is_last and self._next.number is None:
            verdict = self._continue_later(verdict, silent=silent)
        if verdict.is_last:
            self._next.cancel()
        if verdict.action == "give up":
            self._tell(verdict)
        return end.exit_code

    def _continue(self, verdict: ContinuationDecision) -> ContinuationDecision:
        """Continue by the job that waits, by one submitted now, or by a requeue; if none of them can be had, give up.

        Raises:
            SlurmSilentError: SLURM does not say whether it takes another job.
        """
        if self._job.how == "chain" and not self._next.keep():
            return ContinuationDecision("stop", "the job that was to continue was withdrawn")
        if self._next.number is None and self._known.get("Requeue") != "1":
            return _refused(verdict, self._next.refusal)
        return verdict

    def _continue_later(self, verdict: ContinuationDecision, *, silent: bool) -> ContinuationDecision:
        """Continue after the end is noted: SLURM may be silent for longer than this process has left.

        What it would leave behind then is announced before, and taken back where it does not come to that.
        """
        before = read_outcome(self._folder)
        self._tell(
            ContinuationDecision(
                "give up", f"{verdict.reason}, and SLURM did not answer when it was to continue"
            )
        )
        try:
            found = retry_while_silent(lambda: self._continue(verdict)) if silent else verdict
            if not found.is_last and self._next.number is None:
                retry_while_silent(self._requeue)
        except SlurmError as error:
            found = _refused(verdict, error.message, silent=isinstance(error, SlurmSilentError))
        if found.action == "give up":
            self._note("not continued", **_decided(found))
            print_messages([f"{self._job.run}: {found.action}: {found.reason}"])
        else:
            self._restore_outcome(before)
        return found

    def _restore_outcome(self, outcome: dict[str, Any] | None) -> None:
        path = self._folder / "outcome.json"
        with best_effort():
            path.unlink(missing_ok=True) if outcome is None else write_json(path, outcome)

    def _requeue(self) -> None:
        """Requeue this job, which ends this process."""
        try:
            slurm_client.requeue(self._start.job)
        except SlurmSilentError:
            raise
        except SlurmError:
            if (
                cause_from_slurm(self._ask(), self._start.restart) != "requeued"
            ):  # by a call that got no answer
                raise

    def _tell(self, verdict: ContinuationDecision) -> None:
        """Write a verdict into the outcome, where ``launch status`` looks; make one if the run could write none."""
        failed = self._error or RankLostError(verdict.reason, f"see the logs in {self._folder / 'slurm'}")
        made = {
            "schema_version": 1,
            "run": self._folder.name,
            "run_dir": str(self._folder),
            "status": "failed",
            "exit_code": failed.exit_status,
            "error": failed.to_json(),
        }
        outcome = {**(read_outcome(self._folder) or made), "gave_up": verdict.reason}
        with best_effort():
            write_json(self._folder / "outcome.json", outcome)

    def _note(self, event: str, **facts: Any) -> None:
        with best_effort():
            note_job(self._folder, event, self._start.job, restart=self._start.restart, **facts)


def _refused(verdict: ContinuationDecision, message: str, *, silent: bool = False) -> ContinuationDecision:
    """Return the verdict on a run that would continue, but for which SLURM takes no job."""
    said = message.rsplit("\n", maxsplit=1)[-1]
    if silent:
        return ContinuationDecision(
            "give up", f"{verdict.reason}, and SLURM did not answer when it was to continue: {said}"
        )
    words = f"{verdict.reason}, and SLURM takes neither another job nor this one again"
    return ContinuationDecision("give up", f"{words}: {said}" if said else words)


def _decided(verdict: ContinuationDecision) -> dict[str, str]:
    return {"action": verdict.action, "reason": verdict.reason}


if __name__ == "__main__":
    main(sys.argv[1:])
