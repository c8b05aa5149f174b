"""Room for as many open files as the ranks of a launch need."""

from __future__ import annotations

import resource

from ...data.common import MachineError, open_files_hint

_OF_A_LAUNCH, _OF_A_RANK = 64, 5
"""The most that was measured, when the agent starts: 30 open files, and of each rank two pipes and its log."""
_ENOUGH = 65_536  # some programs try to close every number up to the limit


def make_room_for_files(processes: int) -> str:
    """See that this process, and those that it starts, may open as many files as this many ranks need.

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
