"""What this machine has, found out without torch."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Processors and GPUs that this process may use."""

    cores: int
    gpus: tuple[str, ...]
    """As CUDA_VISIBLE_DEVICES names them: indices, UUIDs or MIG names, kept as strings."""
    hostname: str


def read_machine() -> Machine:
    """Ask the kernel and the NVIDIA driver."""
    return Machine(cores=usable_cores(), gpus=visible_gpus(), hostname=platform.node())


def usable_cores() -> int:
    """Cores after affinity and the cgroup's quota; at least 1."""
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that CUDA programs started from here would see."""
    count = _nvml_count()
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return tuple(str(index) for index in range(count))
    names = []
    for name in (part.strip() for part in listed.split(",")):
        if not name or (name.lstrip("-").isdigit() and not 0 <= int(name) < count):
            break  # CUDA, too, ignores the first name that it does not know and all after it
        names.append(name)
    return tuple(names) if count else ()


def _nvml_count() -> int:
    """GPUs that the driver knows; 0 without a driver."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return 0
    if nvml.nvmlInit_v2() != 0:
        return 0
    count = ctypes.c_uint(0)
    known = nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0
    nvml.nvmlShutdown()
    return count.value if known else 0
