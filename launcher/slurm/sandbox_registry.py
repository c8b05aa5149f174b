"""Where the sandbox of ``launch slurm-sandbox`` is, and which processes it consists of.

The record lies in the sandbox's folder, which only root can write; its readers ask the kernel whether the
processes that it names still are what they were.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ...data.common import Process, boot_id, process_start_time

RECORD = "sandbox.json"
_PLACE = (
    "/var/lib/lockstep-slurm-sandbox"  # /run is emptied at a restart, but often mounted noexec: no job starts
)


@dataclass(frozen=True)
class SandboxRecord:
    """A sandbox that was started, and may have ended since."""

    folder: Path
    boot: str
    """The start-up of the machine that it belongs to."""
    uid: int
    """For whom it was started, through sudo or not."""
    keeper: Process
    daemons: dict[str, Process] = field(default_factory=dict)
    """By name: ``munged``, ``slurmctld``, and the nodes ``n1`` and ``n2``."""
    ready: bool = False
    """Whether every daemon was started."""

    @property
    def conf(self) -> Path:
        """The value for SLURM_CONF."""
        return self.folder / CONF

    def living(self) -> dict[str, Process]:
        """Return the keeper and the daemons that still run, by name."""
        if self.boot != boot_id():
            return {}
        every = {"keeper": self.keeper, **self.daemons}
        return {
            name: process
            for name, process in every.items()
            if process.started > 0
            and process_start_time(process.pid) == process.started  # 0: it had ended at once
        }


def sandbox_folder() -> Path:
    """Return the sandbox's folder: ``$LOCKSTEP_SLURM_SANDBOX``, else one under ``/var/lib``."""
    return Path(os.environ.get("LOCKSTEP_SLURM_SANDBOX") or _PLACE).absolute()


def read_record(folder: Path) -> SandboxRecord | None:
    """Read the record of the sandbox in a folder; None without one, or if it cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        path = folder / RECORD
        if path.stat().st_uid not in (0, os.getuid()):
            return None  # another user's word on which processes to end
        document = json.loads(path.read_text(encoding="utf-8"))
        return SandboxRecord(
            folder,
            str(document["boot"]),
            int(document["uid"]),
            Process(**document["keeper"]),
            {name: Process(**process) for name, process in document["daemons"].items()},
            bool(document["ready"]),
        )
    return None


def running_sandbox() -> SandboxRecord | None:
    """Return the sandbox that this user's commands go to if SLURM_CONF is not set; None if none is up."""
    record = read_record(sandbox_folder())
    if record is None or os.getuid() not in (0, record.uid) or not record.ready:
        return None
    return record if "slurmctld" in record.living() else None


def sandbox_processes(folder: Path) -> Iterator[Process]:
    """Find the processes of this sandbox's jobs, by their environment."""
    wanted = f"SLURM_CONF={folder / CONF}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            have = (path / "environ").read_bytes().split(b"\0")
            # SLURMD_NODENAME is set by a node alone: a user's shell in which SLURM_CONF is exported has none.
            if wanted in have and any(entry.startswith(b"SLURMD_NODENAME=") for entry in have):
                yield Process(int(path.name), process_start_time(int(path.name)))


CONF = "slurm.conf"
