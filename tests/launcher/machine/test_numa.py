from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.launcher.machine.numa import (
    CPUS,
    format_cpus,
    node_of_device,
    parse_cpus,
    read_nodes,
    share_cpus,
    spread_ranks,
    to_variable,
)
from tests.helpers.launch import WATCHDOG


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def two_sockets(tmp_path: Path) -> Path:
    """Two nodes of four cores with two threads each, and a node of memory without any."""
    for node, cpus in ((0, "0-3,8-11"), (1, "4-7,12-15"), (2, "")):
        _write(tmp_path / f"devices/system/node/node{node}/cpulist", cpus + "\n")
    for cpu in range(16):
        topology = tmp_path / f"devices/system/cpu/cpu{cpu}/topology"
        _write(topology / "thread_siblings_list", f"{cpu % 8},{cpu % 8 + 8}\n")
    for name, node in (("0000:3b:00.0", "0"), ("0000:d8:00.0", "1"), ("0000:01:00.0", "-1")):
        _write(tmp_path / f"bus/pci/devices/{name}/numa_node", node + "\n")
    return tmp_path


def test_nodes_are_what_may_be_used_of_them_with_the_threads_of_a_core_together(two_sockets: Path) -> None:
    assert read_nodes(range(16), two_sockets) == {
        0: (0, 8, 1, 9, 2, 10, 3, 11),
        1: (4, 12, 5, 13, 6, 14, 7, 15),
    }
    assert read_nodes((1, 2, 9), two_sockets) == {0: (1, 9, 2)}
    assert read_nodes(range(16), two_sockets / "nothing") == {}


def test_the_node_of_a_gpu_is_what_its_slot_says(two_sockets: Path) -> None:
    names = ("0000:3b:00.0", "0000:d8:00.0", "0000:01:00.0", "0000:ff:00.0", "")
    assert [node_of_device(name, two_sockets) for name in names] == [0, 1, None, None, None]


NODES = {0: (0, 8, 1, 9, 2, 10, 3, 11), 1: (4, 12, 5, 13, 6, 14, 7, 15)}


@pytest.mark.parametrize(
    ("wanted", "threads", "sets"),
    [
        ([0, 0, 1, 1], 4, ["0-1,8-9", "2-3,10-11", "4-5,12-13", "6-7,14-15"]),
        ([1, 0], 8, ["4-7,12-15", "0-3,8-11"]),
        ([0, 0, 0, 1], 4, ["0-3,8-11", "0-3,8-11", "0-3,8-11", "4-7,12-15"]),
        ([0], 8, ["0-3,8-11"]),
        ([0], 16, []),
        ([0, None], 8, []),
        ([0, 5], 8, []),
        ([], 16, []),
    ],
    ids=["shares", "crosswise", "too small to share", "one", "more threads", "unknown", "no node", "no GPU"],
)
def test_a_rank_keeps_to_its_share_of_the_node_of_its_gpu(
    wanted: list[int | None], threads: int, sets: list[str]
) -> None:
    assert to_variable(share_cpus(NODES, wanted, threads)) == ";".join(sets)


def test_on_one_node_nothing_is_bound() -> None:
    assert share_cpus({0: tuple(range(16))}, [0, 0], 8) == ()
    assert share_cpus({}, [None], 1) == ()


def test_ranks_without_a_gpu_are_spread_where_they_divide_evenly() -> None:
    assert spread_ranks(NODES, 4) == [0, 0, 1, 1]
    assert spread_ranks(NODES, 3) == [None] * 3
    assert spread_ranks({}, 2) == [None] * 2


@given(st.lists(st.integers(0, 1), min_size=1, max_size=20), st.integers(1, 16))
def test_nobody_gets_another_node_s_cpus_nor_fewer_than_its_threads(wanted: list[int], threads: int) -> None:
    sets = share_cpus(NODES, wanted, threads)
    assert len(sets) in (0, len(wanted))
    for node, cpus in zip(wanted, sets, strict=False):
        assert threads <= len(cpus) == len(set(cpus))
        assert set(cpus) <= set(NODES[node])


@given(st.sets(st.integers(0, 300)))
def test_lists_of_cpus_read_back(cpus: set[int]) -> None:
    assert parse_cpus(format_cpus(sorted(cpus))) == sorted(cpus)


@pytest.mark.parametrize(("value", "last_only"), [("0;{last}", "yes"), ("0;99999", ""), ("", ""), ("0", "")])
def test_a_rank_and_what_it_starts_keep_to_its_part(value: str, last_only: str) -> None:
    """Real processes: rank 1 binds itself, and a child of it says where it may run."""
    allowed = sorted(os.sched_getaffinity(0))
    code = (
        "import subprocess, sys; from lockstep.launcher.machine.numa import bind_rank; bind_rank(1)\n"
        "subprocess.run([sys.executable, '-c', 'import os; print(sorted(os.sched_getaffinity(0)))'], check=True)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, CPUS: value.format(last=allowed[-1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str([allowed[-1]] if last_only else allowed)


BOUND = """
import os
from torch import nn
def bound():
    print("cpus", sorted(os.sched_getaffinity(0)), flush=True)
    return nn.Linear(7, 2)
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core is not two nodes")
def test_the_ranks_of_a_training_keep_to_their_nodes(own: Path) -> None:
    """The whole command, told that the first two cores are two nodes."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    (own / "own.py").write_text((own / "own.py").read_text() + BOUND)
    code = (
        "from lockstep.launcher.cli import app as cli\n"
        "from lockstep.launcher.machine import cpu_limits as cores, machine\n"
        f"machine.read_cores = lambda: cores.CpuLimits(2, ({first}, {second}), '')\n"
        f"machine.read_nodes = lambda cpus: {{0: ({first},), 1: ({second},)}}\n"
        "cli.main()"
    )
    options = ["own.yaml", "--cpu", "2", "--name", "bound", "model.use=./own.py:bound", "train.epochs=1"]
    command = [sys.executable, "-P", "-c", code, "train", *options]
    planned = subprocess.run(
        [*command, "--dry-run"], cwd=own, capture_output=True, text=True, check=True, timeout=WATCHDOG
    )
    assert f"1 thread per process, of 2 cores; CPUs {first} | {second}" in planned.stdout
    subprocess.run(command, cwd=own, capture_output=True, check=True, timeout=WATCHDOG)
    logs = [Path(os.environ["LOCKSTEP_RUNS"], "bound", "attempt-1", f"rank-{rank}.log") for rank in (0, 1)]
    assert [log.read_text().splitlines()[0] for log in logs] == [f"cpus [{first}]", f"cpus [{second}]"]
