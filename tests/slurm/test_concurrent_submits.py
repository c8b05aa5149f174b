"""Two commands at the same moment send a run, or the points of a sweep, once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.launch import LAUNCH, WATCHDOG, Launch
from tests.helpers.slurm.cluster import Cluster, wait_until

GIVEN = ("--cpu", "1", "--time", "5min", "--sbatch", "hold", "--name")


@contextmanager
def held_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let the first sbatch wait, from which on ``came`` is there, until ``go`` is there; a folder for both."""
    real, place = shutil.which("sbatch"), folder / "held-up"
    place.mkdir()
    (place / "sbatch").write_text(
        f"#!{sys.executable}\n"
        "import os, pathlib, sys, time\n"
        f"place = pathlib.Path({str(place)!r})\n"
        "first = not (place / 'came').exists()\n"
        "(place / 'came').touch()\n"
        "while first and not (place / 'go').exists():\n"
        "    time.sleep(0.05)\n"
        f"os.execv({real!r}, [{real!r}, *sys.argv[1:]])\n"
    )
    (place / "sbatch").chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(place), prepend=":")
        yield place
    shutil.rmtree(place)


def both(place: Path, cwd: Path, *command: str) -> tuple[tuple[int, str], tuple[int, str]]:
    """How the same command ends that is given twice, the second while the first is on its way: status and words."""

    def start() -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen([*LAUNCH, *command], cwd=cwd, stdout=pipe, stderr=pipe, text=True)

    with start() as first:
        wait_until((place / "came").exists, "the first asks SLURM")
        with start() as second:
            assert second.stderr
            said = ""
            while "waiting for it" not in said and (line := second.stderr.readline()):
                said += line
            (place / "go").touch()
            status, words = first.wait(WATCHDOG), first.communicate()[1]
            said += second.communicate(timeout=WATCHDOG)[1]
    return (status, words), (second.returncode, said)


def queue(slurm: Cluster) -> list[str]:
    return slurm.run("squeue", "-h", "--array", "-o", "%i").split()


def test_a_run_is_resumed_once(
    launch: Launch, slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert launch("submit", "digits", *GIVEN, "night").status == 0
    assert launch("stop", "night").status == 0
    with held_up(tmp_path, monkeypatch) as place:
        first, second = both(place, tmp_path, "resume", "night")
    assert first[0] == 0, first[1]
    (job,) = queue(slurm)
    assert (second[0], f"night has job {job}, which is PENDING" in second[1]) == (2, True), second[1]


def test_a_sweep_is_submitted_once(
    launch: Launch, slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = ("sweep", "digits", "train.seed=0..1", "--submit", *GIVEN, "s")
    for command in (new, ("sweep", "s", "--submit")):
        with held_up(tmp_path, monkeypatch) as place:
            first, second = both(place, tmp_path, *command)
        assert first[0] == 0, first[1]
        assert (second[0], "no point of s is due" in second[1]) == (0, True), second[1]
        assert len(queue(slurm)) == 2
        assert launch("cancel", "s").status == 0
