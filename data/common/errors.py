"""Every error that users see, each with what to do and the exit status of the command.

LockstepError
├── UsageError        2   the command or the config is wrong
├── MachineError      3   this machine cannot run it
├── TrainingError     1   the training code raised, or broke its contract
├── RankLostError     4   a rank was lost
├── HangError         5   ranks wait for one that does not come
├── DamagedError      6   a checkpoint or the data is damaged
├── MemoryLimitError  7   out of memory
└── DivergedError     8   ranks that must hold the same numbers do not
"""

from __future__ import annotations

from typing import Any


class LockstepError(Exception):
    """An error for users: what happened and where, and in ``hint`` what to do about it.

    Args:
        message: what happened and where, one or more lines, without a final full stop.
        hint: what to do; shown on a line of its own.
    """

    exit_status: int = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_json(self) -> dict[str, Any]:
        """Describe the error for another process: as the nearest kind that every process knows."""
        names = [kind.__name__ for kind in type(self).__mro__]
        known = next((name for name in names if name in _KINDS), names[0])
        return {"kind": known, "message": self.message, "hint": self.hint}


class UsageError(LockstepError):
    """A command or a config that is wrong."""

    exit_status = 2


class MachineError(LockstepError):
    """A machine that cannot run what was asked for."""

    exit_status = 3


class TrainingError(LockstepError):
    """An exception of the training code, or a breach of its contract."""

    exit_status = 1


class RankLostError(LockstepError):
    """The end of a rank before its work was done."""

    exit_status = 4


class HangError(LockstepError):
    """A hang: ranks wait for one that does not come."""

    exit_status = 5


class DamagedError(LockstepError):
    """A damaged checkpoint or data set."""

    exit_status = 6


class MemoryLimitError(LockstepError):
    """A rank that ran out of memory."""

    exit_status = 7


class DivergedError(LockstepError):
    """Ranks that must hold the same numbers and do not: memory or a processor is faulty, or code looks at the rank."""

    exit_status = 8


_KINDS = {
    kind.__name__: kind
    for kind in (
        UsageError,
        MachineError,
        TrainingError,
        RankLostError,
        HangError,
        DamagedError,
        MemoryLimitError,
        DivergedError,
    )
}


def error_from_json(document: dict[str, Any]) -> LockstepError:
    """Rebuild the error that another process described with ``LockstepError.to_json``."""
    kind = _KINDS.get(str(document.get("kind")), TrainingError)
    return kind(str(document.get("message", "")), str(document.get("hint", "")))


def error_of_status(status: int) -> type[LockstepError]:
    """Find the kind of error that a command ended with, by its exit status; MachineError for any other status."""
    return next((kind for kind in _KINDS.values() if kind.exit_status == status), MachineError)


STOPPED = 75
"""Exit status of a run that was stopped and can be resumed: EX_TEMPFAIL of sysexits.h."""
