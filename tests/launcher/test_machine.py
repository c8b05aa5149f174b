from __future__ import annotations

import os
from pathlib import Path

import pytest

from lockstep.launcher import machine
from lockstep.launcher.machine import read_machine, usable_cores, visible_gpus


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [
        (None, ("0", "1", "2", "3")),
        ("", ()),
        ("0", ("0",)),
        ("3,1", ("3", "1")),
        (" 2 , 0 ", ("2", "0")),
        ("0,7,1", ("0",)),
        ("-1", ()),
        ("0,-1,1", ("0",)),
        ("4", ()),
        ("0,,1", ("0",)),
        ("GPU-0b1c", ("GPU-0b1c",)),
        ("GPU-0b1c,GPU-77", ("GPU-0b1c", "GPU-77")),
        ("MIG-GPU-0b/1/0", ("MIG-GPU-0b/1/0",)),
    ],
)
def test_visible_gpus_are_those_that_cuda_would_show(
    monkeypatch: pytest.MonkeyPatch, listed: str | None, gpus: tuple[str, ...]
) -> None:
    """CUDA ignores the first name that it does not know, and all after it."""
    monkeypatch.setattr(machine, "_nvml_count", lambda: 4)
    if listed is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_gpus() == gpus


@pytest.mark.parametrize("listed", [None, "0", "0,1", "GPU-0b1c"])
def test_without_a_driver_there_is_no_gpu_whatever_is_listed(
    monkeypatch: pytest.MonkeyPatch, listed: str | None
) -> None:
    monkeypatch.setattr(machine, "_nvml_count", lambda: 0)
    if listed is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_gpus() == ()


class Library:
    """An NVIDIA driver library whose calls return these statuses."""

    def __init__(self, init: int, count: int) -> None:
        self.init, self.count, self.closed = init, count, 0

    def nvmlInit_v2(self) -> int:  # noqa: N802 - its name
        return self.init

    def nvmlDeviceGetCount_v2(self, _: object) -> int:  # noqa: N802 - its name
        return self.count

    def nvmlShutdown(self) -> None:  # noqa: N802 - its name
        self.closed += 1


@pytest.mark.parametrize(("init", "count", "closed"), [(9, 0, 0), (0, 9, 1), (0, 0, 1)])
def test_a_driver_that_fails_is_no_gpu_and_is_closed_again(
    monkeypatch: pytest.MonkeyPatch, init: int, count: int, closed: int
) -> None:
    library = Library(init, count)
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: library)
    assert machine._nvml_count() == 0
    assert library.closed == closed


def test_a_driver_that_is_not_installed_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(machine.ctypes, "CDLL", missing)
    assert machine._nvml_count() == 0


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 12),
        ("400000 100000", 4),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("9900000 100000", 12),
        ("", 12),
        (None, 12),
    ],
)
def test_cores_are_what_affinity_and_the_cgroup_leave(
    monkeypatch: pytest.MonkeyPatch, quota: str | None, cores: int
) -> None:
    def read(self: Path, *_: object, **__: object) -> str:
        if quota is None:
            raise FileNotFoundError(self)
        return quota

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)))
    monkeypatch.setattr(Path, "read_text", read)
    assert usable_cores() == cores


def test_this_machine_has_a_core_and_a_name() -> None:
    found = read_machine()
    assert 1 <= found.cores <= len(os.sched_getaffinity(0))
    assert (found.gpus, bool(found.hostname)) == ((), True)
