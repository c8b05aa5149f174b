"""What ``launch doctor`` finds, by planted tools, folders and limits; and one whole examination."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lockstep.data.common.errors import MachineError
from lockstep.data.common.processes import process_of
from lockstep.launcher.doctor import disk, examination, gpus, limits, network, software, tools
from lockstep.launcher.doctor.bounded import run_checks, tool_output
from lockstep.launcher.doctor.finding import FAIL, PASS, WARN, Check, Finding, worst
from lockstep.launcher.runs.waiting import wait_until
from tests.helpers.launch import Launch


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a tool in front of all others on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return put


def _one(found: Iterator[Finding]) -> Finding:
    (finding,) = found
    return finding


GPU = "0, NVIDIA H200, 550.54, 41, 10, 141000, {ecc}, {hw}, Not Active, Not Active, Not Active"


@pytest.mark.parametrize(
    ("row", "verdict", "said"),
    [
        (
            GPU.format(ecc=0, hw="Not Active"),
            PASS,
            "NVIDIA H200, 10 of 141000 MiB in use, 41 C, driver 550.54",
        ),
        (GPU.format(ecc="[N/A]", hw="Not Active"), PASS, "NVIDIA H200"),
        (GPU.format(ecc=3, hw="Not Active"), FAIL, "3 uncorrected memory errors"),
        (GPU.format(ecc=0, hw="Active"), WARN, "held down (hw_slowdown)"),
    ],
)
def test_a_gpu_is_as_nvidia_smi_shows_it(row: str, verdict: str, said: str, plant: Any) -> None:
    plant("nvidia-smi", f'case "$1" in *query-gpu*) echo "{row}";; *) echo 4711;; esac')
    gpu, users = gpus.gpus()
    assert (gpu.verdict, bool(gpu.fix)) == (verdict, verdict != PASS)
    assert said in gpu.said
    assert (users.verdict, users.values) == (WARN, {"pids": ["4711"]})


def test_a_driver_that_fails_or_is_not_there(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant("nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    broken = _one(gpus.gpus())
    assert (broken.verdict, broken.said) == (FAIL, "nvidia-smi ended with status 9: NVIDIA-SMI has failed")
    monkeypatch.setenv("PATH", "/nowhere")
    assert _one(gpus.gpus()).verdict == PASS


def test_a_tool_that_hangs_is_killed_with_its_children(plant: Any, tmp_path: Path) -> None:
    plant("sinfo", f"sleep 600 & echo $! > {tmp_path}/pid; wait")
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"sinfo has not answered within 0\.5 s"):
        tool_output(["sinfo", "--version"], 0.5)
    assert time.monotonic() - began < 60
    child = int((tmp_path / "pid").read_text())
    assert wait_until(lambda: process_of(child) is None, 60)


@pytest.mark.parametrize(
    ("sinfo", "scontrol", "verdict", "said"),
    [
        ("echo slurm 24.05", "echo Slurmctld is UP", PASS, "slurm 24.05, its controller answers"),
        ("echo slurm 24.05", "echo Slurmctld is DOWN", WARN, "does not answer"),
        ("echo no config; exit 1", "true", WARN, "sinfo ended with status 1: no config"),
        ("sleep 600", "true", WARN, "sinfo has not answered within 0.3 s"),
    ],
)
def test_slurm(
    sinfo: str, scontrol: str, verdict: str, said: str, plant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "_SECONDS", 0.3 if sinfo.startswith("sleep") else 30.0)
    plant("sinfo", sinfo)
    plant("scontrol", scontrol)
    found = _one(tools.slurm())
    assert (found.verdict, bool(found.fix)) == (verdict, verdict != PASS)
    assert said in found.said


def test_checks_that_hang_or_raise_hold_up_no_other() -> None:
    def hang() -> Iterator[Finding]:
        time.sleep(3600)
        yield Finding("never", PASS, "")

    def fail() -> Iterator[Finding]:
        raise OSError(5, "Input/output error")

    quick = Check("g", "quick", lambda: [Finding("quick", PASS, "fine")], 30.0)
    checks = [Check("g", "hangs", hang, 0.2), Check("g", "fails", fail, 30.0), quick]
    hung, failed, fine = (found for _, found in run_checks(checks))
    assert (hung[0].verdict, hung[0].said) == (FAIL, "no answer within 0.2 s")
    assert (failed[0].verdict, "Input/output error" in failed[0].said) == (WARN, True)
    assert fine == [Finding("quick", PASS, "fine")]
    assert worst([*hung, *failed, *fine]) == FAIL
    assert worst([]) == PASS


@pytest.mark.parametrize(
    ("hard", "verdict"), [(resource.RLIM_INFINITY, PASS), (65_536, PASS), (1024, WARN), (100, FAIL)]
)
def test_limits(hard: int, verdict: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (hard, hard))
    for look in (limits.open_files, limits.processes):
        found = _one(look())
        assert (found.verdict, bool(found.fix)) == (verdict, verdict != PASS)
    unlimited = hard == resource.RLIM_INFINITY
    assert _one(limits.locked_memory(tmp_path)).verdict == (PASS if unlimited else WARN)
    assert _one(limits.locked_memory(tmp_path / "none")).verdict == PASS


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _one(limits.shared_memory(tmp_path / "none")).verdict == FAIL
    for free, verdict in ((32 << 20, FAIL), (512 << 20, WARN), (2 << 30, PASS)):
        room = os.statvfs_result((4096, 4096, 1 << 30, free // 4096, free // 4096, 0, 0, 0, 0, 255))
        with monkeypatch.context() as patch:
            patch.setattr(os, "statvfs", lambda _, room=room: room)
            found = _one(limits.shared_memory(tmp_path))
        assert (found.verdict, found.values["free_bytes"]) == (verdict, free)


def test_the_place_of_runs_is_measured_and_left_as_it_was(tmp_path: Path) -> None:
    found = {finding.name: finding for finding in disk.run_folder_place(tmp_path / "not" / "yet")}
    assert list(found) == ["file system", "disk space", "write and rename", "fsync", "locks", "clock"]
    assert (found["locks"].said, found["locks"].verdict) == ("flock works", PASS)
    assert found["write and rename"].values["mib_per_second"] > 0
    assert [path.name for path in tmp_path.iterdir() if "doctor" in path.name or path.name == "not"] == []


def test_a_place_that_cannot_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    *_, last = disk.run_folder_place(tmp_path)
    assert (last.verdict, last.said) == (FAIL, f"{tmp_path} cannot be written: Permission denied")


def test_locks_that_do_not_work_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(disk.fcntl, "flock", lambda *_: None)
    assert disk._locking(tmp_path).said == "flock gives one lock to two"
    monkeypatch.setattr(disk.fcntl, "flock", absent)
    assert disk._locking(tmp_path).verdict == FAIL


def test_the_file_system_is_that_of_the_longest_mount() -> None:
    mounts = "/dev/a / ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0\ntmpfs /data/my\\040own tmpfs rw 0 0\n"
    for place, kind in (
        ("/home", "ext4"),
        ("/data/x", "nfs4"),
        ("/data/my own/x", "tmpfs"),
        ("/database", "ext4"),
    ):
        assert disk.file_system_of(Path(place), mounts) == kind
    assert disk._kind(Path("/data"), "tmpfs").verdict == WARN


def test_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _one(network.loopback()).values["seconds"] > 0
    assert _one(network.interfaces()).verdict == PASS

    def unknown(_: str) -> str:
        raise OSError(-2, "Name or service not known")

    def refused(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(network.socket, "gethostbyname", unknown)
    monkeypatch.setattr(network.socket, "create_connection", refused)
    assert _one(network.host_name()).verdict == WARN
    assert _one(network.loopback()).verdict == FAIL


def test_wandb_is_described_without_its_key() -> None:
    key = "0123456789abcdef" * 2
    found = _one(
        tools.wandb({"WANDB_API_KEY": key, "WANDB_MODE": "offline", "WANDB_BASE_URL": f"https://u:{key}@w.b"})
    )
    assert (found.verdict, found.said) == (PASS, "offline, by WANDB_MODE; a key in the environment, w.b")
    assert key not in str(found.to_json())
    assert _one(tools.wandb({"WANDB_API_KEY": "a b"})).verdict == WARN


def test_torchvision_belongs_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert software.torchvision_for("2.14.1+cu130") == "0.29"
    assert software.torchvision_for("3.0.0") is None
    assert _one(software.torchvision()).verdict == PASS
    monkeypatch.setattr(software, "version", {"torch": "2.14.1", "torchvision": "0.28.0"}.__getitem__)
    wrong = _one(software.torchvision())
    assert (wrong.verdict, wrong.fix.partition(": ")[2]) == (
        FAIL,
        "pip install torch==2.14.1 'torchvision==0.29.*'",
    )


REPORT = {
    "torch": "2.14.1", "cuda": "13.0", "nccl": "2.30", "gpus": 2, "problem": "", "without_peer_access": [[0, 1]],
    "all_reduce": {"backend": "nccl", "processes": 2, "latency_seconds": 3e-5, "gigabytes_per_second": 200.0,
                   "problem": ""},
}  # fmt: skip


def test_what_torch_says_is_judged() -> None:
    assert software._versions(REPORT).verdict == PASS
    assert software._versions(REPORT | {"problem": "no kernel image"}).verdict == FAIL
    assert _one(software._peers(REPORT)).said == "not between 0-1"
    assert list(software._peers(REPORT | {"gpus": 1})) == []
    fine: dict[str, Any] = REPORT["all_reduce"]
    assert software._all_reduce(REPORT).said == "200.00 GB/s and 30 us on 2 processes (nccl)"
    for other, verdict in (({"gigabytes_per_second": 0.5}, WARN), ({"problem": "timed out"}, FAIL)):
        assert software._all_reduce({"all_reduce": fine | other}).verdict == verdict


def test_a_whole_examination_measures_an_all_reduce(launch: Launch) -> None:
    found = launch("doctor", "--json")
    checks = {check["name"]: check for check in found.document["checks"]}
    assert checks["all-reduce"]["values"]["processes"] >= 2
    assert checks["all-reduce"]["values"]["gigabytes_per_second"] > 0
    assert checks["torch"]["verdict"] == "pass"
    assert found.status == (3 if found.document["verdict"] == "fail" else 0)


def test_a_failure_ends_a_training_before_its_run_has_a_folder(
    launch: Launch, plant: Any, tmp_path: Path
) -> None:
    plant("nvidia-smi", "echo 'Unable to determine the device handle'; exit 15")
    train = ["train", "--cpu", "1", "--preflight"]
    for words in (["doctor", "--quick"], [*train, "--name", "first"], [*train, "--dry-run"]):
        found = launch(*words)
        assert found.status == MachineError.exit_status
        said = " ".join((found.out + found.err).split())
        assert "Unable to determine the device handle" in said
        assert "load or repair the driver" in said
    assert not (tmp_path / "runs" / "first").exists()


def test_a_file_in_the_place_of_the_run_folders_fails(tmp_path: Path) -> None:
    file = tmp_path / "runs"
    file.write_text("")
    for root in (file, file / "deeper"):
        found = _one(disk.run_folder_place(root))
        assert (found.verdict, found.said) == (FAIL, f"{file} is not a folder")


def test_a_preflight_that_passes_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = Finding("fsync", WARN, "300 ms", "use a faster disk")
    checks = [Check("disk", "fsync", lambda: [warning], 30.0)]
    monkeypatch.setattr(examination, "quick_checks", lambda: checks)
    examination.preflight()
    said = capsys.readouterr().err.splitlines()
    assert [line.split() for line in said[:2]] == [
        ["preflight:", "WARN", "fsync", "300", "ms"],
        ["preflight:", "fix:", "use", "a", "faster", "disk"],
    ]
    assert said[-1] == "preflight: 1 checks, nothing fails"
