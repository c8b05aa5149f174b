"""A user's script as a workload: what its supervisor does while the ranks run it, and how they are asked to end."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from ...data.common import STOPPED, LockstepError, signal_name
from ..console import print_messages
from ..failures import AttemptEnd, CancelledRunError, InterruptedRunError, diagnose_failure, quoted_ranks
from ..machine import World
from ..runs import RunLock, record_stop_reason, take_request
from ..supervisor import LiveView, Workload

_SIGNALLED = 128


class StoppedScriptError(LockstepError):
    """The end of a script that was asked to end, in whatever way it chose.

    Its status is that of the lowest rank that ended by itself, because a script may say by it that it is to be
    started again. 0 becomes 75: it would say that the work is done, and work that is begun once more costs less than
    work that is left undone. Where all died of the signal, or had to be killed, the status is the signal's.
    """

    def __init__(self, by: str, number: int, end: AttemptEnd) -> None:
        left = {rank: status >> 8 for rank, status in _exited(end).items()}
        own = {**dict.fromkeys(end.done, 0), **left}
        how = (
            "killed after its grace"
            if end.grace_exceeded
            else "it ended"
            if end.pids
            else "no rank had begun"
        )
        super().__init__(f"stopped ({by}): {how}")
        self.exit_status = own[min(own)] or STOPPED if own and not end.grace_exceeded else _SIGNALLED + number
        self.message += f"; exit status {self.exit_status}"


def _exited(end: AttemptEnd) -> dict[int, int]:
    """Return the wait status of the ranks that ended badly, but by themselves."""
    return {rank: status for rank, status in end.lost.items() if status is not None and not status & 0x7F}


class ScriptWorkload(Workload):
    """A user's script.

    Args:
        folder: of the run.
        order: to the agent, for every attempt.
        view: shows what the ranks print.
        grace: seconds that ranks which are asked to end may take for it.
        run_lock: of the run folder; None on a node that follows node 0, which alone is asked to stop.
    """

    requires_done = False
    outcome_follows = True

    def __init__(
        self, folder: Path, order: dict[str, Any], view: LiveView, grace: float, run_lock: RunLock | None
    ) -> None:
        self._folder = folder
        self._order = order
        self._view = view
        self._grace = grace
        self._run_lock = run_lock
        self._asked: tuple[str, int] | None = None
        """By whom and with which signal it was to end."""
        self._cancelled: CancelledRunError | None = None
        self._notes: list[str] = []

    def order(self, attempt: Path) -> dict[str, Any]:  # noqa: ARG002 - every attempt has the same
        """Return the command line of the ranks, where they print, and how they are started."""
        return self._order

    @property
    def asked_to_end(self) -> tuple[int, float] | None:
        """The first signal and the grace, once the ranks are to be asked to end."""
        if self._asked is None:
            return None
        return signal.SIGINT if self._asked[1] == signal.SIGINT else signal.SIGTERM, self._grace

    @property
    def interruption(self) -> InterruptedRunError | None:
        """Set once it is cancelled."""
        return self._cancelled

    @property
    def is_stopping(self) -> bool:
        """Whether the ranks were asked to end."""
        return self._asked is not None or self._cancelled is not None

    def tick(self) -> None:
        """Keep the run's lock, take requests to stop, and show what the ranks have printed."""
        if self._run_lock is not None:
            self._run_lock.tick()
            self._take_request()
        self._view.tick(self._notes)

    def _take_request(self) -> None:
        request = take_request(self._folder) if self._run_lock is not None else None
        if request is not None and request.what == "cancel":
            self._cancelled = CancelledRunError(request.by)
        elif request is not None and request.what == "stop":
            self.stop(request.by)

    def note(self, text: str) -> None:
        """Show a note beside what the ranks print."""
        self._notes.append(text)

    def on_signal(self, number: int) -> bool:
        """Ask the ranks to end; after that only an interrupt is news, and ends everything at once."""
        name = signal_name(number)
        self._take_request()  # `launch cancel` says what it wants before it sends SIGTERM
        if self._cancelled is not None:
            return True
        if self._asked is not None:
            return number != signal.SIGINT
        record_stop_reason(self._folder, name)
        self._ask_to_end(name, number)
        return True

    def stop(self, by: str) -> None:
        """Ask the ranks to end."""
        self._ask_to_end(by, signal.SIGTERM)

    def _ask_to_end(self, by: str, number: int) -> None:
        if self._asked is None:
            self._asked = by, number
            first, then = "SIGTERM", f"SIGKILL in {self._grace:g} s"
            if number == signal.SIGINT:
                first, then = "SIGINT", f"SIGTERM in {self._grace:g} s, SIGKILL in {2 * self._grace:g} s"
            print_messages(
                [f"stopping ({by}): {first} to every rank, {then}; interrupt again to end at once"]
            )

    def may_pass(self, _: LockstepError) -> bool:
        """Return True: a script's exit statuses mean what it likes, so any failure may pass."""
        return True

    def on_loss(self) -> None:
        """Hold back what ranks print while they die, until it is known which of them is the cause."""
        self._view.await_cause()

    def on_end(self, attempt: Path, end: AttemptEnd, world: World) -> None:
        """Show the rest of what the ranks have printed; of last words those of the cause."""
        asked = self._asked is not None
        self._view.finish_attempt(quoted_ranks(attempt, end, world.size, was_asked_to_end=asked))

    def begin_attempt(self, attempt: Path) -> None:
        """Make the attempt's folder on a node that does not share node 0's."""
        attempt.mkdir(mode=0o700, exist_ok=True)

    def failure(self, attempt: Path, end: AttemptEnd, world: World) -> LockstepError | None:
        """Diagnose the end; ranks that were asked to end have ended in whatever way they chose."""
        before_the_start = self._cancelled is None and not end.pids
        if self._asked is not None and end.agent_status is None and (end.signal is None or before_the_start):
            return StoppedScriptError(*self._asked, end)
        return self._as_asked_for(diagnose_failure(attempt, end, world.size, script=True))

    def close(self) -> None:
        """Show the rest of what the ranks have printed."""
        self._view.close()
