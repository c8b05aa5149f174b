"""A file lock has one holder, who loses it by ending, however that happens; looking at it disturbs nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.launcher.process.file_lock import is_held, try_lock
from lockstep.launcher.process.lock_owner import current_owner, read_owner, write_owner

HOLDER = """
import os, subprocess, sys
from lockstep.launcher.process.file_lock import try_lock
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
assert try_lock(descriptor)
child = subprocess.Popen(["sleep", "600"], pass_fds=[descriptor]) if sys.argv[2] else None
print(child.pid if child else 0, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def descriptors(path: Path) -> Iterator[list[int]]:
    """The file, opened three times, as by three processes."""
    opened = [os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(3)]
    yield opened
    for descriptor in opened:
        os.close(descriptor)


def test_one_holds_it_and_the_next_gets_it_once_it_is_released(path: Path, descriptors: list[int]) -> None:
    assert not is_held(path.with_name("not there"))
    assert not is_held(path)
    first, second, _ = descriptors
    assert try_lock(first)
    assert is_held(path)
    assert not try_lock(second)
    assert not try_lock(second, 0.05)
    os.close(descriptors.pop(0))
    assert not is_held(path)
    assert try_lock(second)


def test_it_is_waited_for(descriptors: list[int]) -> None:
    first, second, _ = descriptors
    assert try_lock(first)
    timer = threading.Timer(0.2, os.close, [descriptors.pop(0)])
    timer.start()
    assert try_lock(second, 60)
    timer.join()


def test_those_who_look_see_no_holder_in_each_other(path: Path, descriptors: list[int]) -> None:
    import fcntl

    fcntl.flock(descriptors[0], fcntl.LOCK_SH)  # as one who looks has it, for an instant
    assert not is_held(path)
    timer = threading.Timer(0.2, fcntl.flock, [descriptors[0], fcntl.LOCK_UN])
    timer.start()
    assert try_lock(descriptors[1], 60), "one who takes it meanwhile waits that instant"
    timer.join()


@pytest.mark.parametrize("inherited", [False, True])
def test_it_goes_with_the_last_process_that_has_it(path: Path, *, inherited: bool) -> None:
    command = [sys.executable, "-P", "-c", HOLDER, path, "child" * inherited]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        assert is_held(path)
        holder.kill()
    assert is_held(path) == inherited
    if inherited:
        os.kill(child, 9)
        descriptor = os.open(path, os.O_RDWR)
        assert try_lock(descriptor, 60)
        os.close(descriptor)


def test_an_owner_is_known_by_number_and_start_together(path: Path, descriptors: list[int]) -> None:
    from dataclasses import replace

    mine = current_owner("a run")
    write_owner(descriptors[0], mine)
    found = read_owner(path)
    assert found == mine
    assert found is not None
    assert found.is_here
    assert not replace(mine, start=mine.start + 1).is_here, "another process has that number now"
    assert not replace(mine, start=0).is_here
    assert not replace(mine, boot="another").is_here
    path.write_text("{")
    assert read_owner(path) is None
