"""Open files: numbers that no program of the user's expects, and room for as many as a launch needs."""

from __future__ import annotations

import errno
import fcntl
import resource

from ...data.common import MachineError, open_files_hint

LOWEST_PRIVATE_DESCRIPTOR = 100
"""Numbers from here on are the launcher's: the script's first file is number 3, as in a fresh process."""
_OF_A_LAUNCH, _OF_A_RANK = 64, 5
"""Measured at the most, when the agent starts: 30 open files, and of each rank two pipes and its log."""
_ENOUGH = 65_536  # some programs try to close every number up to the limit


def duplicate_high(descriptor: int, lowest: int = LOWEST_PRIVATE_DESCRIPTOR) -> int:
    """Duplicate an open file under a number from ``lowest`` on, or as high as the limit of open files allows."""
    while True:
        try:
            return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EMFILE) or not lowest:
                raise
            lowest = lowest // 2


def make_room_for_files(processes: int) -> str:
    """See that this process, and those that it starts, may open as many files as so many ranks need.

    Returns:
        What was changed, for users; empty where nothing had to be.

    Raises:
        MachineError: the hard limit is lower.
    """
    needed = _OF_A_LAUNCH + _OF_A_RANK * processes
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return ""
    if hard != resource.RLIM_INFINITY and hard < needed:
        what = f"{processes} processes need {needed:,} open files, and `ulimit -n` allows {hard:,}"
        raise MachineError(what, f"use fewer processes, or more files: {open_files_hint(needed)}")
    raised = max(needed, _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH))
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return (
        f"the limit of open files (ulimit -n) is raised from {soft:,} to {raised:,} for {processes} processes"
    )
