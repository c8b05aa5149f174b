"""The cores that this process may use: what affinity, its cgroup's quota and SLURM leave of the machine's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


@dataclass(frozen=True)
class CpuLimits:
    """The number of threads that can run at the same time, and why."""

    count: int
    cpus: tuple[int, ...]
    """The numbers of the CPUs that the kernel may put this process on; more than ``count`` under a quota."""
    why: str
    """What leaves fewer than the machine has; empty if nothing does."""


def read_cores(environment: Mapping[str, str] = os.environ, root: Path = _ROOT) -> CpuLimits:
    """Ask the kernel and SLURM for the limits; at least 1 core.

    Args:
        environment: with SLURM's variables, if there are any.
        root: of ``/proc`` and of the cgroups' mount points.
    """
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    machine = os.cpu_count() or len(cpus)
    limits = [(len(cpus), "this process's affinity")]
    limits += [(max(1, int(quota)), "the cgroup's quota") for quota in _quotas(root)]
    limits += [(granted, name) for name, granted in _slurm(environment)]
    count, why = min(limits, key=lambda limit: limit[0])
    return CpuLimits(count, cpus, f"{count} of {machine} cores: {why}" if count < machine else "")


def _slurm(environment: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Yield what SLURM granted, which affinity does not show if the cluster binds no process.

    A step's task has SLURM_CPUS_PER_TASK; a batch script, and a task without it, has the job's cores on the node.
    """
    per_task = "SLURM_STEP_ID" in environment and "SLURM_CPUS_PER_TASK" in environment
    name = "SLURM_CPUS_PER_TASK" if per_task else "SLURM_CPUS_ON_NODE"
    with suppress(KeyError, ValueError):
        yield name, max(1, int(environment[name]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the cores that this process's cgroup, and each one above it, may use; nothing without a quota.

    Source: cgroups(7), and ``cpu.max`` in the kernel's cgroup-v2.rst; ``cpu.cfs_quota_us`` in sched-bwc.rst.
    """
    with suppress(OSError, ValueError, IndexError):
        paths = _own_cgroups((root / "proc/self/cgroup").read_text())
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
        for kind, origin, mount in filter(None, map(_cgroup_mount, mounts)):
            if kind in paths:
                for folder in _upwards(root / mount.lstrip("/"), origin, paths[kind]):
                    yield from _quota(folder)


def _own_cgroups(text: str) -> dict[str, str]:
    """Map ``cgroup2`` and ``cgroup`` (the hierarchy of the ``cpu`` controller) to this process's path in it."""
    paths = {}
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            paths["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            paths["cgroup"] = path
    return paths


def _cgroup_mount(line: str) -> tuple[str, str, str] | None:
    """Return (``cgroup2`` or ``cgroup``, the mount's root in its hierarchy, mount point); None for any other."""
    before, _, after = line.partition(" - ")
    fields, (kind, _, options) = before.split(), after.split(maxsplit=2)
    if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
        return kind, fields[3], fields[4]
    return None


def _upwards(mount: Path, origin: str, path: str) -> Iterator[Path]:
    """Yield the cgroup's folder and those above it; a container may show its own cgroup as the root of the mount."""
    inside = PurePosixPath(path)
    with suppress(ValueError):
        inside = inside.relative_to(origin)
    folder = mount / str(inside).lstrip("/")
    yield folder
    while folder != mount and mount in folder.parents:
        folder = folder.parent
        yield folder


def _quota(folder: Path) -> Iterator[float]:
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        yield int(quota) / int(period)  # "max" is not a number
    with suppress(OSError, ValueError):
        quota = (folder / "cpu.cfs_quota_us").read_text()
        if int(quota) > 0:
            yield int(quota) / int((folder / "cpu.cfs_period_us").read_text())
