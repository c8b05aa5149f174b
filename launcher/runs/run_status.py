"""The status of runs, from their folders alone: who holds the lock, the outcome, and the end of the record."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ...data.common import write_json
from ...training.tracking import events_backwards
from ..process import LockOwner, is_held, read_owner
from .run_folder import LOCK, is_run, is_sweep, read_json
from .run_pace import read_plan
from .stop_requests import is_stopping

_OVER = ("done", "failed", "stopped", "cancelled")
_CANCELLED_STATUS = 143  # as of a process that SIGTERM has ended
_SIGNS = ("outcome.json", "metrics.jsonl", LOCK, "job.json", "run.json")
"""Files of a run whose times say when something was last done for it."""
_MEASURED = ("epoch", "evaluation")
"""Events with metrics."""
_LOOKS = 3  # at the newest of them: epochs need not be evaluated
_BLOCK = 1 << 16
_REACH = 1 << 28
_ATTEMPT = re.compile(r"attempt-([1-9]\d*)")


@dataclass(frozen=True)
class Status:
    """The status of one run."""

    folder: Path
    status: str
    """``running``, ``stopping``, ``done``, ``failed``, ``stopped`` or ``cancelled``; jobs that wait are ``queued``."""
    owner: LockOwner | None
    """The launcher that has it; None if none has, or it does not say who it is."""
    outcome: Mapping[str, Any]
    """The content of ``outcome.json``; empty while there is none."""
    epoch: int
    """Epochs that are over."""
    step: int
    """Steps from the run's start, as of the newest event."""
    metrics: Mapping[str, float | None]
    """Of the newest epoch that was evaluated; before the first one the loss of the last steps."""
    updated: float
    """When something was last written, in seconds since the epoch."""
    plan: Mapping[str, int] = field(default_factory=dict)
    """How many steps it is to have, as ``read_plan`` says; empty for what is not a training."""
    slurm: Mapping[str, Any] = field(default_factory=dict)
    """What SLURM says of the run's jobs; empty for a run that was not submitted, or while SLURM was not asked."""

    @property
    def is_over(self) -> bool:
        """Whether no launcher has it."""
        return self.status in _OVER

    @property
    def is_program(self) -> bool:
        """Whether it is what ``launch run`` has started, which has neither epochs nor steps that anybody knows of."""
        return (self.folder / "run.json").is_file()

    @property
    def epochs(self) -> int:
        """Epochs that it is to have; 0 where that is not known."""
        return -(-self.plan["steps"] // self.plan["steps_per_epoch"]) if self.plan else 0

    @property
    def was_interrupted(self) -> bool:
        """Whether its launcher ended without saying how; one whose job was withdrawn never had a launcher."""
        return self.is_over and self.status != "stopped" and not self.outcome

    @property
    def is_resumable(self) -> bool:
        """Whether ``launch resume`` would continue it."""
        begun_or_sent = any((self.folder / name).is_file() for name in ("spec.json", "job.json"))
        return self.status in ("failed", "stopped", "cancelled") and begun_or_sent

    @property
    def gave_up(self) -> str:
        """Why no further job continues it; empty if one does, or none was ever meant to."""
        return str(self.outcome.get("gave_up") or "") if self.is_over else ""

    def to_json(self) -> dict[str, Any]:
        """Describe the run as ``launch status --json`` prints it."""
        owner = self.owner and {"pid": self.owner.pid, "host": self.owner.host, "user": self.owner.user}
        return {
            "run": self.folder.name,
            "run_dir": str(self.folder),
            "kind": "run" if self.is_program else "train",
            "status": self.status,
            "interrupted": self.was_interrupted,
            "resumable": self.is_resumable,
            "epoch": self.epoch,
            "step": self.step,
            "planned": {**self.plan, "epochs": self.epochs} if self.plan else None,
            "metrics": dict(self.metrics),
            "updated": round(self.updated, 3),
            "owner": owner,
            "attempts": attempts(self.folder),
            "exit_code": self.outcome.get("exit_code"),
            "error": self.outcome.get("error"),
            **({"gave_up": self.gave_up or None, "slurm": dict(self.slurm)} if self.slurm else {}),
        }


def read_status(folder: Path, reach: int = _REACH) -> Status:
    """Read the status of one run.

    Args:
        folder: of the run.
        reach: how many bytes of the record are searched from its end for the newest epoch's row.
    """
    held = is_held(folder / LOCK)
    outcome = read_json(folder / "outcome.json")
    if not held and not outcome:
        held = is_held(folder / LOCK)  # another attempt may have removed the outcome since the first look
    said, known = outcome.get("status"), {} if held else outcome
    told = {"epochs", "steps", "metrics"} <= known.keys()  # then the record need not be read
    events = _Newest() if told else _newest(folder / "metrics.jsonl", reach)
    return Status(
        folder=folder,
        status=_held_status(folder) if held else said if said in _OVER else "failed",
        owner=read_owner(folder / LOCK) if held else None,
        outcome=known,
        epoch=_int(known.get("epochs", events.epoch)),
        step=_int(known.get("steps", events.step)),
        metrics=known.get("metrics", events.metrics),
        plan=read_plan(folder),
        updated=max(_written(folder / name) for name in _SIGNS),
    )


def all_runs(root: Path) -> list[Status]:
    """Read the status of every run in a folder, newest first, from the ends of their records."""
    try:
        with os.scandir(root) as entries:
            folders = [Path(entry.path) for entry in entries if entry.is_dir()]
    except FileNotFoundError:
        return []
    runs = []
    for folder in folders:
        with suppress(OSError):  # another user's, or removed meanwhile
            if is_run(folder) and not is_sweep(folder):
                runs.append(read_status(folder, reach=_BLOCK))
    return sorted(runs, key=lambda run: (run.is_over, -run.updated))


def attempts(folder: Path) -> list[int]:
    """List the numbers of a run's attempts in order."""
    found = (_ATTEMPT.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def record_cancellation(folder: Path, *, anew: bool = False) -> None:
    """Record that a run that is over was cancelled, if it could not record that itself.

    Args:
        folder: of the run; it is gone again where nothing was started, and a sweep has no outcome of its own.
        anew: what was cancelled had not begun: an outcome is of an earlier attempt.
    """
    before = read_json(folder / "outcome.json")
    if is_sweep(folder) or not is_run(folder) or before.get("status") == "done" or (before and not anew):
        return
    known = {key: value for key, value in before.items() if key not in ("error", "gave_up")}
    about = {"schema_version": 1, "run": folder.name, "run_dir": str(folder)}
    write_json(
        folder / "outcome.json", {**about, **known, "status": "cancelled", "exit_code": _CANCELLED_STATUS}
    )


def _held_status(folder: Path) -> str:
    return "stopping" if is_stopping(folder) else "running"


@dataclass
class _Newest:
    """The newest of each thing that the end of the record says."""

    epoch: int = 0
    step: int = 0
    metrics: Mapping[str, float | None] = field(default_factory=dict)


def _newest(path: Path, reach: int) -> _Newest:
    """Read the end of the record, and then search it for the newest epoch's row."""
    found, loss = _Newest(), None
    seen_step = seen_epoch = False
    for event in events_backwards(path, reach=min(reach, _BLOCK)):
        kind = event["event"]
        if not seen_step and "step" in event:
            found.step, seen_step = event["step"], True
        if not seen_epoch and "epoch" in event:
            found.epoch, seen_epoch = event["epoch"] + (kind == "epoch"), True
        if kind == "step" and loss is None and "train/loss" in event:
            loss = {"train/loss": event["train/loss"]}
        if kind in _MEASURED or (seen_step and seen_epoch and loss is not None):
            break
    rows = list(islice(events_backwards(path, _MEASURED, reach), _LOOKS))
    if rows and not seen_epoch:
        found.epoch = rows[0]["epoch"] + (rows[0]["event"] == "epoch")
    evaluated = next((row for row in rows if any(key.startswith("val/") for key in row)), {})
    if rows:
        newest = {**evaluated, **rows[0]}
        loss = {
            key: value for key, value in newest.items() if key.startswith(("train/", "val")) and "/" in key
        }
    found.metrics = loss or {}
    return found


def _int(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def format_age(seconds: float) -> str:
    """Format a time span as ``12 s``, ``5 min``, ``3 h`` or ``9 d``."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def format_age_of(status: Status) -> str:
    """Format how long ago something was last written."""
    return format_age(time.time() - status.updated)
