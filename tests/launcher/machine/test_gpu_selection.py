from __future__ import annotations

import os

import pytest

from lockstep.data.common.errors import MachineError, UsageError
from lockstep.launcher.machine.gpu_selection import describe_gpu_users, select_gpus
from lockstep.launcher.machine.machine import Machine
from lockstep.launcher.machine.nvml import Device

MIB = 2**20
LAPTOP = Machine(8, (), "laptop")
SERVER = Machine(
    16,
    ("3", "0", "MIG-77"),
    "server",
    devices=(
        Device(3, "GPU-33aa", "", (), 90 * MIB),
        Device(0, "GPU-00bb", "", (os.getpid(), 2**22 + 7), 700 * MIB),
        Device(1, "MIG-77cc", "", (), 0),
    ),
)


@pytest.mark.parametrize(
    ("asked", "candidates", "count"),
    [
        (None, SERVER.gpus, 3),
        ("all", SERVER.gpus, 3),
        ("2", SERVER.gpus, 2),
        ("idle", ("3", "MIG-77"), None),
        ("idle:1", ("3", "MIG-77"), 1),
        ("1,0", ("0", "3"), 2),
        ("GPU-00bb", ("0",), 1),
        ("gpu-33", None, None),
        ("GPU-33,MIG-7", ("3", "MIG-77"), 2),
        ("2,GPU-00bb", ("MIG-77", "0"), 2),
    ],
)
def test_gpus_are_counted_listed_named_or_idle(
    asked: str | None, candidates: tuple[str, ...] | None, count: int | None
) -> None:
    """Positions are those among the visible ones; names are handed on as CUDA_VISIBLE_DEVICES has them."""
    if candidates is None:
        with pytest.raises(UsageError):
            select_gpus(SERVER, asked, None)
        return
    wanted = select_gpus(SERVER, asked, None)
    assert (wanted.candidates, wanted.count) == (candidates, count)


@pytest.mark.parametrize(
    "asked", ["idle:", "idle:x", "idle:0", "IDLE", "GPU-33,3x", "0,GPU-33aa", "GPU-33,GPU-33a"]
)
def test_what_makes_no_sense_is_refused(asked: str) -> None:
    with pytest.raises(UsageError, match="--gpus"):
        select_gpus(SERVER, asked, None)


@pytest.mark.parametrize("asked", ["GPU-44", "GPU-", "idle:3", "idle:4", "0,3"])
def test_what_is_not_there_is_refused(asked: str) -> None:
    with pytest.raises(MachineError, match=f"--gpus {asked}"):
        select_gpus(SERVER, asked, None)
    with pytest.raises(MachineError, match="no GPU"):
        select_gpus(LAPTOP, asked, None)


def test_who_keeps_a_gpu_from_being_idle_is_named() -> None:
    with pytest.raises(MachineError) as caught:
        select_gpus(SERVER, "idle:3", None)
    first, second = caught.value.message.split("\n")
    assert first == "--gpus idle:3: 2 of 3 GPUs are idle"
    assert second.startswith(f"GPU 0: used by process {os.getpid()} (")
    assert second.endswith(f", process {2**22 + 7}")


@pytest.mark.parametrize(
    ("pids", "used", "words"),
    [
        ((), 0, ""),
        ((), 99 * MIB, ""),
        ((), 300 * MIB, "300 MiB of its memory"),
        (None, 0, "does not say who"),
        ((), None, "does not say how much"),
    ],
)
def test_a_gpu_is_idle_only_where_the_driver_says_so(
    pids: tuple[int, ...] | None, used: int | None, words: str
) -> None:
    use = describe_gpu_users(Device(0, "GPU-aa", "", pids, used))
    assert bool(use) == bool(words)
    assert words in use
    assert describe_gpu_users(None)
