"""Which processes belong to a run, where a look at them comes at a bad moment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from lockstep.data.common.processes import Process, descendants, process_of
from lockstep.launcher.process import process_tree as family
from lockstep.launcher.process.process_tree import exclude_from_run, kill_processes


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    yield started
    for child in started:
        child.kill()
        child.wait()


def test_what_one_look_has_missed_the_next_one_finds(children: list[subprocess.Popen[bytes]]) -> None:
    """As where a process has lost its parent between the look at its new one and that at the old."""
    looks = 0

    def find() -> set[Process]:
        nonlocal looks
        looks += 1
        found = {process for child in children if (process := process_of(child.pid)) is not None}
        return found if looks > 1 else set()

    assert kill_processes(find) == set()
    assert [process_of(child.pid) for child in children] == [None, None]


def test_what_the_launcher_itself_has_started_is_no_orphan(
    children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "_spared", set())
    mine = {process_of(child.pid) for child in children}
    assert mine <= family.orphaned_processes()
    exclude_from_run([children[0].pid])
    assert mine & family.orphaned_processes() == {process_of(children[1].pid)}
    gone = Process(children[0].pid, 1)  # its number was given out again
    assert mine <= descendants(os.getpid(), but=[gone])


def test_who_waits_for_a_spared_child_learns_how_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "_spared", set())
    spared, other = (subprocess.Popen(["sh", "-c", "read _; exit 7"], stdin=subprocess.PIPE) for _ in "ab")
    exclude_from_run([spared.pid])
    for child in (spared, other):
        assert child.stdin is not None
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert (other.pid, 7 << 8) in family.reap()
    assert spared.wait() == 7
    other.wait()
