from __future__ import annotations

import os
import subprocess
import time

import pytest

from lockstep.data.common.processes import read_proc_stat


def test_a_process_is_described_by_the_kernel() -> None:
    mine, same = read_proc_stat(os.getpid()), read_proc_stat("self")
    assert mine is not None
    assert same is not None
    assert (mine.parent, mine.started) == (os.getppid(), same.started)
    assert mine.state == "R"
    assert not mine.has_ended
    assert mine.cpu_ticks > 0
    start, end = mine.arguments
    assert end > start > 0


def test_a_zombie_has_ended_and_what_was_waited_for_is_not_there() -> None:
    child = subprocess.Popen(["true"])
    deadline = time.monotonic() + 60
    while (stat := read_proc_stat(child.pid)) is not None and not stat.has_ended:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert stat is not None
    assert stat.state == "Z"
    child.wait()
    assert read_proc_stat(child.pid) is None


@pytest.mark.parametrize("name", ["a b", "x) S 1 2 3", "(((", ")"])
def test_a_name_with_blanks_and_parentheses_shifts_nothing(name: str) -> None:
    code = "import sys; open('/proc/self/comm', 'w').write(sys.argv[1]); print(flush=True); sys.stdin.read()"
    command = ["python3", "-I", "-c", code, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        stat = read_proc_stat(child.pid)
        assert stat is not None
        assert stat.parent == os.getpid()
