"""How much room there is for a cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(folder: Path) -> int:
    """Return how many bytes a user may still write on the disk of a folder, which need not exist yet."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free


def allocated_bytes(folder: Path) -> int:
    """Return how much of the disk the files of a folder take; 0 where there is none."""
    try:
        return sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    except OSError:
        return 0


def memory_bytes() -> int:
    """Return the memory of this machine, or the part of it that this container may use."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            whole = min(whole, int((_CGROUP / name).read_text()))
        except (OSError, ValueError):  # without such a limit the file is missing, or says "max"
            continue
    return whole


def format_bytes(count: float) -> str:
    """Write a size with a unit in which it is a short number."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:  # noqa: PLR2004 - the units' ratio
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"
