"""The ranks of ``launch run``, from their first start to the end of the last attempt, or until somebody ends them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...data.common import STOPPED, LockstepError
from ..console import say
from ..failures import Ending, diagnose_failure, is_root_cause_known
from ..hang import HangCoordinator, RankMonitor
from ..nodes import LeaderPeers
from ..options import SupervisionOptions
from ..process import remove_unused_dumps
from ..runs import record_stop_reason, take_request
from ..supervisor import Job, Known, LiveView, Restarts, Supervisor

_SIGNALLED = 128


class StoppedScriptError(LockstepError):
    """A script ended because it was asked to, in whatever way it chose.

    Its status is that of the lowest rank that ended by itself, because a script may say by it that it is to be
    started again. 0 becomes 75: it would say that the work is done, and work that is begun once more costs less than
    work that is left undone. Where all died of the signal, or had to be killed, the status is the signal's.
    """

    def __init__(self, by: str, number: int, ending: Ending) -> None:
        left = {rank: status >> 8 for rank, status in _exited(ending).items()}
        own = {**dict.fromkeys(ending.done, 0), **left}
        how = "killed after its grace" if ending.grace_exceeded else "it ended"
        super().__init__(f"stopped ({by}): {how}")
        self.exit_status = (
            own[min(own)] or STOPPED if own and not ending.grace_exceeded else _SIGNALLED + number
        )
        self.message += f"; exit status {self.exit_status}"


def _exited(ending: Ending) -> dict[int, int]:
    """Wait status of the ranks that ended badly, but by themselves."""
    return {rank: status for rank, status in ending.lost.items() if status is not None and not status & 0x7F}


class Script:
    """A user's program under supervision.

    Args:
        attempt: the folder of the first attempt.
        job: what the agent is started for.
        supervision: how patient to be with the ranks.
        view: shows what they print.
        also: called many times a second; what it raises ends everything.
    """

    def __init__(
        self,
        attempt: Path,
        job: Job,
        supervision: SupervisionOptions,
        view: LiveView,
        also: Callable[[], None] = lambda: None,
        leader: LeaderPeers | None = None,
    ) -> None:
        self._on_tick = also
        self._attempt = attempt
        self._view = view
        self._grace = supervision.grace
        self._asked: tuple[str, int] | None = None
        """By whom and with which signal it was to end."""
        self._supervisor = Supervisor(job, is_root_cause_known(attempt), owed=False, others=leader)
        if leader is not None:
            leader.on_stop = lambda by: self._stop(by, signal.SIGTERM)
        self._leader = leader
        self._supervisor.on_signal = self._signalled
        self._restarts = Restarts(
            attempt.parent,
            supervision.max_restarts,
            stopping=lambda: self._asked is not None,
            prepare=lambda _: "",
            begun=self._turn,
            script=True,
        )
        self._processes = self._here = 0
        self._hang_timeout = supervision.hang_timeout
        self._supervisor.on_idle_check = self._look
        self._inquiry: HangCoordinator | None = None

    def run(self, order: dict[str, Any], processes: int) -> LockstepError | None:
        """Let the ranks work, ``processes`` on all nodes; None where all ended well, else why not."""
        self._processes, self._here = processes, int(order["processes"])
        limit = self._restarts.limit
        try:
            self._supervisor.go({**order, "max_restarts": limit})
            ending = self._supervisor.watch(self._tick, self._again if limit else None)
        finally:
            self._supervisor.cancel()
            self._view.close()
            remove_unused_dumps(self._attempt)
        return self._diagnose(ending)

    def _signalled(self, number: int) -> bool:
        """The first signal is handed on; after that only an interrupt is news, and ends everything at once."""
        name = signal.Signals(number).name
        if self._asked is not None:
            return number != signal.SIGINT
        record_stop_reason(self._attempt.parent, name)
        self._stop(name, number)
        return True

    def _stop(self, by: str, number: int) -> None:
        if self._asked is None:
            self._asked = by, number
            then = f"SIGKILL in {self._grace:g} s; interrupt again to end at once"
            say([f"stopping ({by}): SIGTERM to every rank, {then}"])
            self._supervisor.ask_to_end(self._grace)

    def _tick(self) -> None:
        self._on_tick()
        request = take_request(self._attempt.parent)
        if request is not None and request.what == "stop":
            self._stop(request.by, signal.SIGTERM)
        self._view.tick(self._supervisor.notes)

    def _again(self, ending: Ending) -> tuple[dict[str, Any], Known] | None:
        failure = self._diagnose(ending)
        if failure is None or self._restarts.next(failure) is None:
            return None
        return {"attempt_dir": str(self._attempt), "environment": {}}, is_root_cause_known(self._attempt)

    def _look(self, ending: Ending) -> None:
        """For hangs; ranks that were asked to end may take their grace."""
        if self._asked is None:
            self._inquiry = self._inquiry or self._new_hang_coordinator()
            self._inquiry.tick(ending)

    def _new_hang_coordinator(self) -> HangCoordinator:
        lookout = RankMonitor(self._attempt, self._hang_timeout, self._here)
        warn = self._supervisor.notes.append
        return HangCoordinator(lookout, self._processes, training=False, warn=warn, leader=self._leader)

    def _turn(self, attempt: Path) -> None:
        remove_unused_dumps(self._attempt)
        self._attempt, self._inquiry = attempt, None
        self._view.turn()

    def _diagnose(self, ending: Ending) -> LockstepError | None:
        if self._asked is not None and ending.signal is None and ending.agent_status is None:
            return StoppedScriptError(*self._asked, ending)
        return diagnose_failure(self._attempt, ending, self._processes, script=True)
