"""Real locks and real processes; the driver is the library of ``fake_nvml.c``."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lockstep.data.common.errors import MachineError
from lockstep.launcher.machine import gpu_locks
from lockstep.launcher.machine.gpu_locks import GpuLocks, lock_folder
from lockstep.launcher.machine.gpu_reservation import reserve_gpus
from tests.helpers.fake_nvml import SetAnswers
from tests.helpers.launch import LAUNCH, WATCHDOG, Launch

FOUR = "".join(f"G GPU-{name * 2} {number} 4 none none\n" for number, name in enumerate("abcd", 0x3B))
BUSY = FOUR.replace("59 4 none", f"3b 900 {os.getpid()}")

HOLD = """
import sys
from lockstep.launcher.machine.gpu_reservation import reserve_gpus
from lockstep.data.common.errors import MachineError
try:
    with reserve_gpus(sys.argv[1], None, sys.argv[2]) as reservation:
        print(",".join(reservation.world.gpus), flush=True)
        sys.stdin.read()
except MachineError as error:
    print(error.message.replace(chr(10), " | "), flush=True)
"""


def _hold(asked: str, run: str = "other") -> tuple[subprocess.Popen[str], str]:
    """A launcher process that keeps its GPUs until its stdin ends, and what it says."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD, asked, run],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, process.stdout.readline().strip()


def _end(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.communicate(timeout=WATCHDOG)


def test_two_launches_never_share_a_gpu_and_the_holder_is_named(driver: SetAnswers) -> None:
    driver(FOUR)
    with reserve_gpus("2", None, "first") as ours:
        assert ours.world.gpus == ("0", "1")
        other, theirs = _hold("2")
        assert theirs == "2,3"
        for asked, gpus in (("1", "0123"), ("all", "0123"), ("1,", "1"), ("idle", "0123"), ("GPU-cc", "2")):
            with pytest.raises(MachineError) as caught, reserve_gpus(asked, None):
                pass
            lines = caught.value.message.split("\n")
            assert lines[0] == f"--gpus {asked}: not free"
            holders = {gpu: (os.getpid(), "first") if gpu in "01" else (other.pid, "other") for gpu in gpus}
            for line, (gpu, (pid, run)) in zip(lines[1:], holders.items(), strict=True):
                assert line.startswith(f"GPU {gpu}: held by process {pid} of ")
                assert line.endswith(f", for {run}")
        _end(other)
        with reserve_gpus("2,3", None) as again:
            assert again.world.gpus == ("2", "3")
    with reserve_gpus(None, None) as everything:
        assert everything.world.gpus == ("0", "1", "2", "3")


def test_a_launch_that_fails_keeps_nothing(driver: SetAnswers) -> None:
    driver(FOUR)
    other, theirs = _hold("2,")
    assert theirs == "2"
    with pytest.raises(MachineError, match="GPU 2: held"), reserve_gpus("all", None):
        pass
    with reserve_gpus("3", None) as ours:
        assert ours.world.gpus == ("0", "1", "3")
    _end(other)


@pytest.mark.parametrize("kept", ["with it", "by a child"])
def test_a_killed_launcher_s_gpus_are_free_once_all_that_inherited_them_is_gone(
    driver: SetAnswers, kept: str
) -> None:
    driver(FOUR)
    other, theirs = _hold("all", "killed")
    assert theirs == "0,1,2,3"
    if kept == "by a child":
        code = HOLD.replace(
            "sys.stdin.read()",
            "import subprocess; subprocess.Popen(['sleep', '600'], pass_fds=reservation.descriptors, "
            "stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL); print('kept', flush=True); sys.stdin.read()",
        )
        _end(other)
        other = subprocess.Popen(
            [sys.executable, "-P", "-c", code, "all", "killed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert other.stdout
        assert [other.stdout.readline().strip() for _ in "12"] == ["0,1,2,3", "kept"]
        (child,) = map(int, Path(f"/proc/{other.pid}/task/{other.pid}/children").read_text().split())
    os.kill(other.pid, signal.SIGKILL)
    _end(other)
    if kept == "by a child":
        with (
            pytest.raises(MachineError, match=f"process {other.pid}.*, which is gone but"),
            reserve_gpus("1", None),
        ):
            pass
        os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + WATCHDOG
    while True:  # the kernel ends a killed process when it comes to it
        try:
            with reserve_gpus("all", None) as ours:
                assert ours.world.gpus == ("0", "1", "2", "3")
                return
        except MachineError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


ROUNDS = """
import sys
from lockstep.launcher.machine.gpu_reservation import reserve_gpus
from lockstep.data.common.errors import MachineError
print("ready", flush=True)
while sys.stdin.readline():
    try:
        with reserve_gpus("3", None):
            print("got them", flush=True)
            sys.stdin.readline()
    except MachineError:
        print("refused", flush=True)
        sys.stdin.readline()
    print("over", flush=True)
"""


def test_of_launches_in_the_same_instant_one_gets_what_it_asked_for(driver: SetAnswers) -> None:
    """Four GPUs, two launches of three: neither may be left with a part, and both refused."""
    driver(FOUR)
    both = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", ROUNDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in "12"
    ]

    def heard(text: str) -> list[str]:
        for process in both if text else []:
            assert process.stdin
            process.stdin.write(text)
            process.stdin.flush()
        return sorted(process.stdout.readline().strip() for process in both if process.stdout)

    assert heard("") == ["ready", "ready"]
    for _ in range(50):
        assert heard("\n") == ["got them", "refused"]
        assert heard("\n") == ["over", "over"]
    _end(*both)


def test_idle_takes_what_nobody_uses_and_a_number_says_who_else_does(
    driver: SetAnswers, capsys: pytest.CaptureFixture[str]
) -> None:
    driver(BUSY)
    with reserve_gpus("idle", None) as ours:
        assert ours.world.gpus == ("1", "2", "3")
        assert capsys.readouterr().err == ""
        with reserve_gpus("1", None) as counted:
            assert counted.world.gpus == ("0",)
            assert f"note: GPU 0 is used by process {os.getpid()} (" in capsys.readouterr().err


def test_gpus_are_locked_by_their_uuid_whatever_they_are_called(
    driver: SetAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(FOUR)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-cc,0")
    with reserve_gpus("all", None) as ours:
        assert ours.world.gpus == ("GPU-cc", "0")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,2,1,0")
        with reserve_gpus("2", None) as theirs:
            assert theirs.world.gpus == ("3", "1")


def test_looking_what_could_be_had_keeps_nothing(driver: SetAnswers) -> None:
    driver(FOUR)
    with reserve_gpus("2", None, hold_locks=False) as seen, reserve_gpus("all", None) as ours:
        assert (seen.world.gpus, seen.descriptors) == (("0", "1"), ())
        assert ours.world.gpus == ("0", "1", "2", "3")
        with pytest.raises(MachineError, match="GPU 0: held"), reserve_gpus("1", None, hold_locks=False):
            pass


def test_the_processor_needs_no_lock(driver: SetAnswers) -> None:
    driver(FOUR)
    with reserve_gpus(None, 2) as ours:
        assert (ours.world.processes, ours.descriptors) == (2, ())
    assert list(lock_folder().iterdir()) == []


def test_where_nothing_can_be_locked_people_are_told(
    driver: SetAnswers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    driver(FOUR)
    monkeypatch.setenv("LOCKSTEP_LOCKS", str(tmp_path / "missing"))
    with reserve_gpus("2", None) as ours:
        assert ours.world.gpus == ("0", "1")
    assert "warning: the GPUs cannot be locked" in capsys.readouterr().err


def test_a_launch_that_does_not_come_to_its_choice_is_an_error(
    driver: SetAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(FOUR)
    monkeypatch.setattr(gpu_locks, "_TURN_SECONDS", 0.05)
    with (
        GpuLocks().exclusive_choice() as ours,
        pytest.raises(MachineError, match="has been choosing"),
        reserve_gpus("1", None),
    ):
        pass
    assert ours


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_another_user_s_locks_can_be_taken_and_its_processes_are_named(driver: SetAnswers) -> None:
    """In a folder as /run/lock is: anyone may make files, nobody may open another's with O_CREAT or remove it."""
    driver(FOUR)
    folder = lock_folder()
    folder.chmod(0o1777)
    for part in folder.parents:
        part.chmod(part.stat().st_mode | stat.S_IXOTH)
    code = (
        "import os, sys; from lockstep.launcher.machine.gpu_locks import GpuLocks\n"
        "os.setgid(65534); os.setuid(65534); os.umask(0o077)\n"
        "locks = GpuLocks()\n"
        "print([locks.take(name, 'theirs') for name in ('GPU-aa', 'GPU-bb')], flush=True); sys.stdin.read()"
    )
    ours = GpuLocks()
    assert ours.take("GPU-aa", "ours") == ""
    other = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout
    said = other.stdout.readline()
    assert f"held by process {os.getpid()} of root, for ours" in said
    assert said.strip().endswith(", '']")
    assert ours.take("GPU-bb", "").startswith(f"held by process {other.pid} of ")
    _end(other)
    assert ours.take("GPU-bb", "") == ""
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o666}
    assert (folder / "lockstep-gpu-GPU-bb").stat().st_uid == 65534


@pytest.mark.parametrize("planted", ["link", "pipe", "words"])
def test_a_file_that_somebody_planted_does_no_harm(driver: SetAnswers, tmp_path: Path, planted: str) -> None:
    path = lock_folder() / "lockstep-gpu-GPU-aa"
    (tmp_path / "target").write_text("precious")
    if planted == "link":
        path.symlink_to(tmp_path / "target")
    elif planted == "pipe":
        os.mkfifo(path)
    else:
        path.write_text('{"pid": "\x1b[2J"}')
    if planted == "words":
        with path.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert GpuLocks().take("GPU-aa", "") == "held by another launch"
    else:
        with pytest.raises(OSError, match=r"symbolic|regular"):
            GpuLocks().take("GPU-aa", "")
    assert (tmp_path / "target").read_text() == "precious"


def test_everyone_s_folder_is_chosen_by_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCKSTEP_LOCKS", raising=False)
    folders = [tmp_path / name for name in ("missing", "root", "all", "last")]
    for folder, mode in zip(folders[1:], (0o755, 0o1777, 0o1777), strict=True):
        folder.mkdir()
        folder.chmod(mode)
    monkeypatch.setattr(gpu_locks, "_FOLDERS", tuple(map(str, folders)))
    assert lock_folder() == folders[2]


SLOW_DATA = """
def waiting():
    import os, time
    from pathlib import Path
    while not Path("go").exists():
        time.sleep(0.05)
    return data()
"""


def test_two_trainings_do_not_get_the_same_gpu(launch: Launch, own: Path, driver: SetAnswers) -> None:
    """The whole command: the first one holds its GPU from before its data are prepared."""
    driver("G GPU-aa 3b 4 none none\n")
    (own / "own.py").write_text((own / "own.py").read_text() + SLOW_DATA)
    command = [*LAUNCH, "train", "own.yaml", "data.use=./own.py:waiting", "--gpus", "1", "--name", "first"]
    first = subprocess.Popen(command, cwd=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lock, deadline = lock_folder() / "lockstep-gpu-GPU-aa", time.monotonic() + WATCHDOG
    while not (lock.exists() and "first" in lock.read_text()):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for more in ([], ["--dry-run"]):
        second = launch("train", "own.yaml", "--gpus", "0,", "--json", *more, cwd=own)
        assert second.status == 3
        assert second.document["error"]["kind"] == "MachineError"
        assert f"held by process {first.pid} of" in second.err
        assert "for first" in second.err
    os.kill(first.pid, signal.SIGKILL)
    first.wait(timeout=WATCHDOG)
