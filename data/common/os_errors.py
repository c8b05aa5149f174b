"""Errors of the operating system, made errors for users."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .errors import MachineError
from .os_hints import DISK_FULL_ERRNOS, name_of, os_error_hint


def os_error_for_users(error: OSError) -> MachineError:
    """Make the error for users: what the system says, of which file, and what helps where that is known."""
    if (full := disk_full_error(error)) is not None:
        return full
    where = f"{name_of(error)}: " if error.filename else ""
    return MachineError(f"{where}{error.strerror or error}", os_error_hint(error))


def disk_full_error(error: OSError) -> MachineError | None:
    """Make the error about a file that the disk had no room for; None where something else is wrong."""
    if error.errno not in DISK_FULL_ERRNOS or not isinstance(error.filename, str):
        return None
    folder = Path(error.filename).absolute().parent
    while not folder.exists():
        folder = folder.parent
    return MachineError(
        f"{error.filename} cannot be written: {error.strerror}{_free_space(folder, error.errno)}",
        "make room there and give the command again; LOCKSTEP_RUNS=FOLDER puts new runs elsewhere",
    )


def _free_space(folder: Path, number: int | None) -> str:
    """Describe the room on a disk; of a quota only its owner knows how much is left."""
    found = os.statvfs(folder)
    if number != errno.ENOSPC:
        return f", in {folder}"
    if found.f_files and not found.f_favail:
        return f": {folder} has no room for another file, of {found.f_files:,}"
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    return f": {free / 1e6:,.1f} of {total / 1e6:,.1f} MB are free in {folder}"
