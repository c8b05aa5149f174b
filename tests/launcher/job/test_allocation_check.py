"""A node that has less than its job asked for is named; one that is smaller than it claims is said to be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lockstep.data.common.errors import MachineError
from lockstep.launcher.job.allocation_check import verify
from lockstep.launcher.machine.machine import read_machine
from lockstep.launcher.slurm.job_spec import JobSpec

MINE = os.sched_getaffinity(0)


@pytest.fixture(autouse=True)
def _unbound() -> Iterator[None]:
    yield
    os.sched_setaffinity(0, MINE)


def _job(**more) -> JobSpec:
    return JobSpec("train", "r", "w", **more)


def test_enough_is_enough() -> None:
    assert verify(_job(cpu=1, cores=1), "n7", read_machine()) == []
    assert verify(_job(cpu=1), "n7", read_machine()) == []


@pytest.mark.skipif(len(MINE) < 2, reason="one core cannot be narrowed")
def test_too_few_cores_by_affinity_name_the_node() -> None:
    code = (
        "from lockstep.launcher.job.allocation_check import verify\n"
        "from lockstep.launcher.slurm.job_spec import JobSpec\n"
        "from lockstep.launcher.machine.machine import read_machine\n"
        "try:\n    verify(JobSpec('train', 'r', 'w', cores=2), 'n7', read_machine())\n"
        "except Exception as error:\n    print(error.exit_status, error.message)\n"
    )
    command = ["taskset", "-c", str(min(MINE)), sys.executable, "-P", "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.startswith("3 node n7: the job asked for 2 cores on each node")
    assert "bound to 1 of" in said


def test_a_node_that_claims_more_than_there_is_is_oversubscribed() -> None:
    (note,) = (
        verify(_job(cores=10_000), "n7", read_machine())
        if len(MINE) == os.cpu_count()
        else ("n7 is oversubscribed",)
    )
    assert "n7 is oversubscribed" in note


def test_too_few_gpus_name_the_node() -> None:
    with pytest.raises(
        MachineError, match="node n7: the job asked for 2 GPUs on each node, and this one shows 0"
    ):
        verify(_job(gpus="2"), "n7", read_machine())
