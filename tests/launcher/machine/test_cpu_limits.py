from __future__ import annotations

import os
from pathlib import Path

import pytest

from lockstep.launcher.machine.cpu_limits import read_cores

V2 = "30 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = "31 23 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
INNER = "31 23 0:28 /docker/ab /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"


@pytest.fixture(autouse=True)
def twelve_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)))
    monkeypatch.setattr(os, "cpu_count", lambda: 12)


def _tree(root: Path, cgroup: str, mounts: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mounts, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 12),
        ("400000 100000", 4),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("9900000 100000", 12),
        ("", 12),
    ],
)
def test_cores_are_what_affinity_and_the_cgroup_leave(tmp_path: Path, quota: str, cores: int) -> None:
    _tree(tmp_path, "0::/\n", V2, {"sys/fs/cgroup/cpu.max": quota})
    found = read_cores({}, tmp_path)
    assert (found.count, found.cpus) == (cores, tuple(range(12)))
    assert found.why == ("" if cores == 12 else f"{cores} of 12 cores: the cgroup's quota")


def test_without_cgroups_it_is_the_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (read_cores({}, tmp_path).count, read_cores({}, tmp_path).why) == (12, "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    assert read_cores({}, tmp_path).why == "2 of 12 cores: this process's affinity"


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files"),
    [
        ("0::/job/step\n", V2, {"sys/fs/cgroup/job/step/cpu.max": "300000 100000"}),
        ("0::/job/step\n", V2, {"sys/fs/cgroup/job/cpu.max": "300000 100000"}),
        (
            "4:memory:/x\n3:cpu,cpuacct:/slurm/job_7\n",
            V1,
            {
                "sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/slurm/cpu.cfs_quota_us": "600000",
                "sys/fs/cgroup/cpu,cpuacct/slurm/cpu.cfs_period_us": "200000",
            },
        ),
        (
            "3:cpu:/docker/ab\n0::/\n",
            INNER,
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "350000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
        ),
    ],
    ids=["own", "above", "version 1 above", "version 1 in a container"],
)
def test_the_quota_is_that_of_this_process_s_own_cgroup_and_of_those_above(
    tmp_path: Path, cgroup: str, mounts: str, files: dict[str, str]
) -> None:
    other = {"sys/fs/cgroup/other/cpu.max": "100000 100000"}
    assert read_cores({}, _tree(tmp_path, cgroup, mounts, {**files, **other})).count == 3


@pytest.mark.parametrize(
    ("variables", "cores"),
    [
        ({"SLURM_CPUS_ON_NODE": "8"}, 8),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "2"}, 8),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "2", "SLURM_STEP_ID": "0"}, 2),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_STEP_ID": "0"}, 8),
        ({"SLURM_CPUS_ON_NODE": "96"}, 12),
        ({"SLURM_CPUS_ON_NODE": "8(x2)"}, 12),
        ({"SLURM_CPUS_ON_NODE": "0"}, 1),
    ],
)
def test_slurm_s_grant_counts_where_the_cluster_binds_nobody(
    tmp_path: Path, variables: dict[str, str], cores: int
) -> None:
    found = read_cores(variables, tmp_path)
    assert found.count == cores
    assert ("SLURM" in found.why) == (cores < 12)
