"""Why an attempt ended: cause and victims told apart, one error for people."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from ..data.errors import LockstepError, RankLostError, error_from_json
from .supervisor import Ending

_SIGNALLED = 128
_VICTIM_TYPES = ("DistBackendError", "DistNetworkError", "DistStoreError")
_VICTIM_WORDS = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "connection was closed",
)


class InterruptedRunError(LockstepError):
    """A signal ended the command before a checkpoint could be written."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}", "")
        self.exit_status = _SIGNALLED + number


def diagnose(attempt: Path, ending: Ending, world_size: int) -> LockstepError | None:
    """The cause of a bad end, None where every rank was done.

    Args:
        attempt: the folder with the ranks' logs and error files.
        ending: what the supervisor saw.
        world_size: ranks that were started.
    """
    if len(ending.done) == world_size and not ending.lost:
        return None
    if ending.signal is not None:
        return InterruptedRunError(ending.signal)
    errors = _errors(attempt)
    causes = [error for error in errors if not _is_victim(error)]
    if causes:
        return _raised(causes[0], attempt, world_size)
    silent = [rank for rank in ending.lost if all(error["rank"] != rank for error in errors)]
    if silent:
        return _vanished(silent[0], ending.lost[silent[0]], attempt, world_size)
    return _raised(errors[0], attempt, world_size) if errors else _not_started(attempt, ending)


def _not_started(attempt: Path, ending: Ending) -> LockstepError:
    """No rank said anything: it was the agent."""
    if ending.agent_status is not None and ending.agent_status < 0:
        name = signal.Signals(-ending.agent_status).name
        return RankLostError(
            f"the agent, which starts the ranks, was killed by {name}", "start the run again"
        )
    return RankLostError("the ranks could not be started", f"see {attempt / 'agent.log'}")


def _errors(attempt: Path) -> list[dict[str, Any]]:
    """What the ranks wrote before they ended, first failure first."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in attempt.glob("error-*.json")]
    return sorted(found, key=lambda error: int(error["time_ns"]))


def _is_victim(error: dict[str, Any]) -> bool:
    """Whether a rank only noticed that another one was gone."""
    if error["ours"]:
        return False
    message = str(error["message"]).lower()
    return error["type"] in _VICTIM_TYPES or any(words in message for words in _VICTIM_WORDS)


def _raised(error: dict[str, Any], attempt: Path, world_size: int) -> LockstepError:
    known = error_from_json(error)
    known.exit_status = int(error["exit_status"])
    who = f"rank {error['rank']} of {world_size}"
    log = attempt / f"rank-{error['rank']}.log"
    if error["ours"]:
        return known
    known.message = f"{who}: {known.message}\nat {error['where']}"
    known.hint = f"{known.hint}; the traceback is in {log}" if known.hint else f"the traceback is in {log}"
    return known


def _vanished(rank: int, status: int | None, attempt: Path, world_size: int) -> LockstepError:
    return RankLostError(
        f"rank {rank} of {world_size} {_how(status)} before its work was done",
        f"its log is {attempt / f'rank-{rank}.log'}",
    )


def _how(status: int | None) -> str:
    """A wait status in words."""
    if status is None:
        return "ended"
    number = status & 0x7F
    if number:
        return f"was killed by {signal.Signals(number).name}"
    return f"ended with status {status >> 8}"
