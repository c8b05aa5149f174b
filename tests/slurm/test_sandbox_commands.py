"""``launch slurm-sandbox`` as a user types it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.launcher.sandbox import start as sandbox
from lockstep.launcher.slurm.sandbox_registry import read_record
from tests.helpers.launch import LAUNCH, Launch
from tests.helpers.slurm.cluster import wait_until


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the sandbox of this test is: of a short path."""
    reason = sandbox.why_unavailable()
    if reason:
        pytest.skip(reason)
    parent = Path(tempfile.mkdtemp(prefix="sandbox-", dir="/tmp"))
    parent.chmod(0o755)
    monkeypatch.setenv("LOCKSTEP_SLURM_SANDBOX", str(parent / "s"))
    yield parent / "s"
    if (parent / "s" / sandbox.LOCK).exists():
        sandbox.down(parent / "s")
    shutil.rmtree(parent)


def test_up_hello_down(place: Path, launch: Launch, tmp_path: Path) -> None:
    up = launch("slurm-sandbox", "up")
    assert up.status == 0, up.err
    assert "launch submit" in up.err
    assert "launch slurm-sandbox down" in up.err
    assert "note:" not in up.err
    hello = "srun -N2 --ntasks-per-node=1 sh -c 'echo hello from $SLURMD_NODENAME'"
    script = f"{up.out}\n{hello}"  # what `up` prints is for the shell
    said = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path
    )
    assert sorted(said.stdout.splitlines()) == ["hello from n1", "hello from n2"]
    again = launch("slurm-sandbox", "up")
    assert (again.status, again.out) == (2, "")
    assert f"is up already in {place}" in again.err
    status = launch("slurm-sandbox", "status")
    assert (status.status, status.out) == (0, f"up in {place}\nn1 idle\nn2 idle\n")
    down = launch("slurm-sandbox", "down")
    assert (down.status, place.exists()) == (0, False)
    assert launch("slurm-sandbox", "down").status == 0
    assert launch("slurm-sandbox", "status").status == 2


def test_up_removes_what_is_left_of_a_killed_one(place: Path, launch: Launch) -> None:
    assert launch("slurm-sandbox", "up").status == 0
    record = read_record(place)
    assert record is not None
    for name in ("keeper", "slurmctld", "n2"):
        os.kill(record.living()[name].pid, signal.SIGKILL)
    wait_until(lambda: not sandbox.is_up(place), "the keeper ends")
    status = launch("slurm-sandbox", "status")
    assert (status.status, "what is left" in status.err) == (2, True)
    assert launch("slurm-sandbox", "up").status == 0
    assert record.living() == {}
    assert launch("slurm-sandbox", "down").status == 0


def test_a_daemon_that_crashes_shows_the_end_of_its_log(place: Path, launch: Launch, tmp_path: Path) -> None:
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "slurmctld").write_text("#!/bin/sh\necho 'fatal: no such luck' >&2; exit 1\n")
    (broken / "slurmctld").chmod(0o755)
    up = launch("slurm-sandbox", "up", env={"PATH": f"{broken}:{os.environ['PATH']}"})
    assert (up.status, up.out) == (3, "")
    assert "slurmctld ended at once" in up.err
    assert "no such luck" in up.err
    assert not place.exists()


def test_a_folder_of_the_user_s_own_is_never_taken(place: Path, launch: Launch) -> None:
    place.mkdir()
    (place / "thesis").write_text("mine")
    for command in ("up", "down"):
        result = launch("slurm-sandbox", command)
        assert (result.status, "not a sandbox" in result.err) == (2, True)
    assert (place / "thesis").read_text() == "mine"


def test_a_full_disk(place: Path, launch: Launch) -> None:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], check=True)
    try:
        result = launch("slurm-sandbox", "up")
        assert result.status == 3, result.err
        assert f"{place}: no space left" in result.err
        assert list(place.iterdir()) == []
    finally:
        subprocess.run(["umount", place], check=True)


def test_without_slurm_it_names_the_packages(
    place: Path, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "SBIN", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    assert sandbox.why_unavailable() == "Debian's munge and slurm-wlm are not installed"


def test_without_root_it_says_so(place: Path) -> None:
    """As nobody, who may read neither the interpreter's folder nor ours in some places: it forks after the imports."""
    code = (
        "import contextlib, os, sys; asked = sys.argv[1]; sys.argv = ['launch', 'slurm-sandbox', 'status']\n"
        "from lockstep.launcher.cli import app as cli, sandbox_commands\n"
        "from lockstep.launcher.console import console\nfrom lockstep.launcher.sandbox import commands, start\n"
        "with contextlib.suppress(SystemExit): cli.main()\n"
        "sys.argv[2] = asked; os.setgroups([]); os.setgid(65534); os.setuid(65534); cli.main()"
    )
    sandbox.up(place)
    for command in ("up", "down"):
        done = subprocess.run(
            [*LAUNCH[:2], "-c", code, command], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, "sudo" in done.stderr) == (3, True), done.stderr
    assert sandbox.is_up(place)
    assert json.loads((place / "sandbox.json").read_text())["ready"]
