from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.launcher.machine import nvml
from lockstep.launcher.machine.nvml import Device, read_devices
from tests.helpers.fake_nvml import SetAnswers, use_driver

MIB = 2**20
BUSY = "G GPU-aa 3b 600 41,40,41 none\nG GPU-bb d8 700 none 5:690,6:5\nG GPU-cc - - - none\n"
READ = (
    Device(0, "GPU-aa", "0000:3b:00.0", (40, 41), 600 * MIB),
    Device(1, "GPU-bb", "0000:d8:00.0", (), 5 * MIB),
    Device(2, "GPU-cc", "", None, None),
)


def test_users_memory_and_places_are_read_and_what_is_refused_is_unknown(driver: SetAnswers) -> None:
    driver(BUSY)
    assert read_devices() == READ


def test_a_driver_of_2020_is_asked_with_its_own_functions(
    old_driver_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_driver(old_driver_library, tmp_path, monkeypatch)(BUSY)
    assert read_devices() == READ


def test_more_processes_than_there_was_room_for_are_all_read(driver: SetAnswers) -> None:
    driver(f"G GPU-aa 3b 600 {','.join(map(str, range(100, 1000)))} none\n")
    assert read_devices()[0].pids == tuple(range(100, 1000))


def test_the_slices_of_a_gpu_are_devices_of_their_own(driver: SetAnswers) -> None:
    driver(
        "G GPU-aa 3b 600 - none\nM MIG-11 - 20 none none\nM MIG-22 - 500 7 none\nG GPU-bb 3c 0 none none\n"
    )
    first, second = read_devices()
    assert [(part.index, part.uuid, part.pci, part.pids) for part in first.slices] == [
        (0, "MIG-11", "0000:3b:00.0", ()),
        (0, "MIG-22", "0000:3b:00.0", (7,)),
    ]
    assert (second.index, second.slices) == (1, ())


@pytest.mark.parametrize("answer", ["init 9", "count 9", ""])
def test_a_driver_that_fails_or_has_nothing_is_no_gpu(driver: SetAnswers, answer: str) -> None:
    driver(f"{answer}\n" + (BUSY if answer else ""))
    assert read_devices() == ()


def test_a_driver_that_is_not_installed_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "LIBRARY", "libnot-installed.so.1")
    assert read_devices() == ()
