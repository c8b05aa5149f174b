"""Real sweeps of small trainings, one after the other."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.process.lock_owner import read_owner
from lockstep.launcher.runs.run_folder import LOCK, runs_root
from lockstep.launcher.sweep.job_array import is_submitted_sweep, submit_sweep
from lockstep.launcher.sweep.request import SweepRequest
from lockstep.launcher.sweep.sweep_plan import create_sweep
from tests.helpers.launch import LAUNCH, WATCHDOG, Launch


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"slurm": {"time": "1h"}}, "--time is an option of a SLURM job"),
        ({"slurm": {"continuation": "chain"}}, "--continue is an option of a SLURM job"),
        ({"at_once": 2}, "--at-once is an option of a SLURM job"),
        ({"cluster": "big"}, "--cluster is an option of a SLURM job"),
    ],
)
def test_an_option_of_slurm_needs_a_submission(said: dict[str, Any], words: str) -> None:
    asked = ("own.yaml", ["train.seed=0..1"])
    with pytest.raises(UsageError, match=words):
        is_submitted_sweep(None, SweepRequest(*asked, **said))
    assert is_submitted_sweep(None, SweepRequest(*asked, **said, submit=True))
    assert not is_submitted_sweep(
        None, SweepRequest(*asked, slurm={"hang_timeout": 9.0, "sbatch": {}, "mem": None})
    )


def test_what_a_job_asks_for_cannot_vary_and_a_sweep_stays_where_it_began(own: Path) -> None:
    request = SweepRequest(str(own / "own.yaml"), ["slurm.time=1h,2h"], submit=True)
    with pytest.raises(UsageError, match=r"slurm\.time varies"):
        submit_sweep(None, request)
    here = create_sweep(SweepRequest(str(own / "own.yaml"), ["train.seed=0..1"], name="s"))
    with pytest.raises(UsageError, match="trained on this machine"):
        is_submitted_sweep(here, SweepRequest("s", [], submit=True))


FRAIL = """
import os
def model(width=7, frail=0):
    if frail and not os.path.exists(os.environ["CURE"]):
        raise ValueError("too frail")
    return nn.Sequential(nn.Linear(width, 11), nn.Tanh(), nn.Linear(11, 2))
"""


@pytest.mark.exhaustive
def test_a_failing_point_does_not_end_the_sweep_and_is_retried_alone(
    own: Path, launch: Launch, tmp_path: Path
) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + FRAIL)
    env = {"CURE": str(tmp_path / "cure")}
    config = str(own / "own.yaml")
    given = (
        "sweep",
        config,
        "model.args.frail=0..1",
        "train.seed=0",
        "train.epochs=1",
        "--cpu",
        "1",
        "--name",
        "s",
    )
    first = launch(*given, "--json", env=env)
    assert first.status == 1, first.err
    assert [point["status"] for point in first.document["points"]] == ["done", "failed"]
    assert "too frail" in first.document["points"][1]["error"]["message"]
    before = (runs_root() / "s-000" / "outcome.json").stat().st_mtime_ns

    again = launch(*given, "--json", env=env)  # the same command: nothing is due
    assert (again.status, len(list((runs_root() / "s-001").glob("attempt-*")))) == (1, 1)
    Path(env["CURE"]).touch()
    retried = launch("sweep", "s", "--retry", env=env)
    assert retried.status == 0, retried.err
    assert "[2/2] s-001: frail=1" in retried.err
    assert "[1/2]" not in retried.err
    assert (runs_root() / "s-000" / "outcome.json").stat().st_mtime_ns == before
    head, *rows = csv.reader((runs_root() / "s" / "results.csv").read_text().splitlines())
    assert head[:4] == ["point", "model.args.frail", "status", "exit_code"]
    assert [row[:4] for row in rows] == [["s-000", "0", "done", "0"], ["s-001", "1", "done", "0"]]
    assert "s: done; 2 done" in launch("status", "s").out
    table = launch("status").out
    assert "2 of 2" in table
    assert "s-000" not in table
    assert launch("status", "--json").document["sweeps"][0]["points"] == ["s-000", "s-001"]
    assert launch("status", "s", "--sort", "frale").status == 2


def test_a_sweep_that_is_stopped_goes_on_with_the_point_it_was_at(own: Path, launch: Launch) -> None:
    config = str(own / "own.yaml")
    command = [
        *LAUNCH,
        "sweep",
        config,
        "train.seed=0..1",
        "train.epochs=100000",
        "--cpu",
        "1",
        "--name",
        "s",
    ]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL)
    assert running.stderr
    try:
        while not (line := running.stderr.readline()).startswith("    1 "):  # the first epoch's row
            assert line, "the sweep has ended"
        refused = launch("sweep", "s", "--cpu", "1")
        assert refused.status == 2
        assert str(running.pid) in refused.err
        running.send_signal(signal.SIGINT)
        running.stderr.read()
        assert running.wait(WATCHDOG) == 75
    finally:
        running.kill()
        running.wait()
        running.stderr.close()
    points = launch("status", "s", "--json").document["points"]
    assert [point["status"] for point in points] == ["stopped", "waiting"]
    assert points[0]["step"] > 0
    assert points[0]["metrics"]["val/accuracy"] > 0.5  # of the last whole epoch
    planned = launch("sweep", "s", "--dry-run", "--json").document["points"]
    assert [point["due"] for point in planned] == [True, True]
    other = launch("sweep", config, "train.seed=0..2", "--name", "s")
    assert other.status == 2
    assert "other points" in other.err


@pytest.mark.exhaustive
def test_a_launch_that_is_killed_is_a_failed_point(own: Path, launch: Launch) -> None:
    command = [
        *LAUNCH,
        "sweep",
        str(own / "own.yaml"),
        "train.epochs=100000,1",
        "--cpu",
        "1",
        "--name",
        "s",
        "--json",
    ]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr
    while not (line := running.stderr.readline()).startswith("    1 "):
        assert line, "the sweep has ended"
    owner = read_owner(runs_root() / "s-000" / LOCK)
    assert owner is not None
    os.kill(owner.pid, signal.SIGKILL)
    out, _ = running.communicate(timeout=WATCHDOG)
    document = json.loads(out)
    assert [point["status"] for point in document["points"]] == ["failed", "done"]
    assert document["points"][0]["exit_code"] == running.returncode == 137
    assert [p["due"] for p in launch("sweep", "s", "--dry-run", "--json").document["points"]] == [
        False,
        False,
    ]
    retry = launch("sweep", "s", "--retry", "--dry-run", "--json").document["points"]
    assert [point["due"] for point in retry] == [True, False]


def test_every_mistake_is_told_before_anything_starts(launch: Launch) -> None:
    result = launch("sweep", "digits", "optimizer.lr=-1,1e-3", "train.seed=0,x", "train.epoch=3")
    assert result.status == 2
    for text in ("optimizer.lr=-1", "train.seed=x", 'did you mean "train.epochs"'):
        assert result.err.count(text) == 1, result.err
    assert not runs_root().exists()


def test_a_point_whose_name_is_taken_is_refused(own: Path, launch: Launch) -> None:
    (runs_root() / "s-001").mkdir(parents=True)
    result = launch("sweep", str(own / "own.yaml"), "train.seed=0..1", "--name", "s")
    assert result.status == 2
    assert sorted(path.name for path in runs_root().iterdir()) == ["s-001"]
