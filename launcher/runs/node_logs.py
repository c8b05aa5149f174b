"""The logs of the node supervisors of a SLURM job, one file each, and the error at their end."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ...data.common import LockstepError, error_of_status
from ..console import last_card, read_card
from ..slurm import FOLDER, read_jobs
from .run_status import attempts

_NAME = re.compile(r"node-(\d+)\.log")
_TAIL_BYTES = 8192
_LINES = 12  # as many as a card has


@dataclass(frozen=True)
class NodeLog:
    """The end of one node's log."""

    path: Path
    lines: list[str]

    @property
    def card(self) -> list[str]:
        """The failure card at its end; empty where there is none."""
        return last_card(self.lines)


def node_logs(folder: Path, start: str) -> list[Path]:
    """Find the logs of one start of a job, in the order of its nodes.

    Args:
        folder: of the run.
        start: ``5.0``: job 5, never requeued.
    """
    found = {
        _NAME.fullmatch(path.name): path for path in (folder / FOLDER / f"job-{start}").glob("node-*.log")
    }
    return [path for _, path in sorted((int(match[1]), path) for match, path in found.items() if match)]


def logs_without_attempt(folder: Path) -> list[Path]:
    """Find the logs of the newest start's nodes, if none of them has begun an attempt."""
    starts = [event for event in read_jobs(folder) if event.get("event") == "started"]
    logs = node_logs(folder, f"{starts[-1].get('job')}.{starts[-1].get('restart', 0)}") if starts else []
    newest = max((_written(folder / f"attempt-{number}") for number in attempts(folder)), default=0.0)
    return logs if logs and _written(logs[0].parent) > newest else []  # both folders are of one file system


def failing_node_log(folder: Path, start: str) -> NodeLog | None:
    """Find the log of the node that failed first, since others end because of it; None without any."""
    logs = [NodeLog(path, _tail(path)) for path in sorted(node_logs(folder, start), key=_written)]
    return next((log for log in logs if log.card), logs[0] if logs else None)


def error_in(log: NodeLog, status: int) -> LockstepError | None:
    """Read the error that a node's log ends with; None if it has none.

    Args:
        log: of the node.
        status: of the step, which tells the class of the error.
    """
    message, hint = read_card(log.card)
    return error_of_status(status)(message, hint) if message else None


def _tail(path: Path) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()[-_LINES:]


def _written(path: Path) -> float:
    return path.stat().st_mtime
