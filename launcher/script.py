"""The ranks of ``launch run``: from their first start to the end of the last attempt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data.errors import LockstepError
from .ending import Ending
from .failure import cause_known, diagnose
from .orders import Job
from .restarts import Restarts
from .supervision import Supervision
from .supervisor import Known, Supervisor
from .view import View


class Script:
    """A user's program under supervision.

    Args:
        attempt: the folder of the first attempt.
        job: what the agent is started for.
        supervision: how patient to be with the ranks.
        view: shows what they print.
    """

    def __init__(self, attempt: Path, job: Job, supervision: Supervision, view: View) -> None:
        self._attempt = attempt
        self._view = view
        self._supervisor = Supervisor(job, cause_known(attempt), owed=False)
        self._restarts = Restarts(
            attempt.parent,
            supervision.max_restarts,
            stopping=lambda: False,
            prepare=lambda _: "",
            begun=self._turn,
            script=True,
        )
        self._processes = 0

    def run(self, order: dict[str, Any]) -> LockstepError | None:
        """Let the ranks work; None where all ended well, else why not."""
        self._processes = int(order["processes"])
        limit = self._restarts.limit
        try:
            self._supervisor.go({**order, "max_restarts": limit})
            ending = self._supervisor.watch(self._tick, self._again if limit else None)
        finally:
            self._supervisor.cancel()
            self._view.close()
        return self._diagnose(ending)

    def _tick(self) -> None:
        self._view.tick(self._supervisor.notes)

    def _again(self, ending: Ending) -> tuple[dict[str, Any], Known] | None:
        failure = self._diagnose(ending)
        if failure is None or self._restarts.next(failure) is None:
            return None
        return {"attempt_dir": str(self._attempt), "environment": {}}, cause_known(self._attempt)

    def _turn(self, attempt: Path) -> None:
        self._attempt = attempt
        self._view.turn()

    def _diagnose(self, ending: Ending) -> LockstepError | None:
        return diagnose(self._attempt, ending, self._processes, script=True)
