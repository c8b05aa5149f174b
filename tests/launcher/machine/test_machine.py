from __future__ import annotations

import os

import pytest

from lockstep.launcher.machine.machine import read_machine, visible_gpus
from lockstep.launcher.machine.nvml import Device
from tests.helpers.fake_nvml import SetAnswers

FOUR = tuple(Device(n, f"GPU-{n}b1c", "", (), 0) for n in range(4))
SLICED = (
    Device(0, "GPU-aa", "", (), 0, (Device(0, "MIG-11", "", (), 0), Device(0, "MIG-12", "", (), 0))),
    Device(1, "GPU-bb", "", (), 0),
)


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
        ("²", ()),
        ("GPU-0b1c", ("GPU-0b1c",)),
        ("GPU-3,GPU-1b", ("GPU-3", "GPU-1b")),
        ("GPU-0b1c,GPU-77,0", ("GPU-0b1c",)),
        ("GPU-,0", ()),
        ("MIG-GPU-0b/1/0", ("MIG-GPU-0b/1/0",)),
    ],
)
def test_visible_gpus_are_those_that_cuda_would_show(listed: str | None, gpus: tuple[str, ...]) -> None:
    """CUDA ignores the first name that it does not know, and all after it."""
    found = visible_gpus(FOUR, listed)
    assert tuple(name for name, _ in found) == gpus
    for name, device in found:
        assert (
            device is None if "/" in name else device and (name in device.uuid or name == str(device.index))
        )


@pytest.mark.parametrize("listed", [None, "0", "0,1", "GPU-0b1c", "MIG-GPU-0b/1/0"])
def test_without_a_driver_there_is_no_gpu_whatever_is_listed(listed: str | None) -> None:
    assert visible_gpus((), listed) == []


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [
        (None, [("MIG-11", "MIG-11"), ("MIG-12", "MIG-12"), ("1", "GPU-bb")]),
        ("MIG-12,1", [("MIG-12", "MIG-12"), ("1", "GPU-bb")]),
        ("0,1", [("0", "MIG-11"), ("1", "GPU-bb")]),
    ],
)
def test_a_gpu_that_was_cut_up_is_its_slices(listed: str | None, gpus: list[tuple[str, str]]) -> None:
    assert [(name, device and device.uuid) for name, device in visible_gpus(SLICED, listed)] == gpus


def test_this_machine_has_a_core_a_name_and_what_its_driver_says(
    driver: SetAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver("G GPU-aa 3b 600 none none\nG GPU-bb d8 700 none none\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    found = read_machine()
    assert 1 <= found.cores <= len(os.sched_getaffinity(0))
    assert (found.gpus, bool(found.hostname)) == (("1",), True)
    assert found.device("1") == Device(1, "GPU-bb", "0000:d8:00.0", (), 700 * 2**20)
