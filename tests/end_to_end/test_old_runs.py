"""A run that version 0.1 left behind is resumed, evaluated, shown and fed to W&B by this version.

Other versions of PyTorch and other processors round differently, so metrics are compared with some room; which samples
were consumed, and in which order, is compared exactly.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.launch import WATCHDOG, Launch, free_port
from tests.helpers.old_runs import FIXTURES, SEALED, OldRuns, copy_old_runs, whole_outcome

SAME = ("steps", "samples", "epochs", "order_sha256", "consumed_digest")
BEST = {"val/loss": 1.6772343444824218, "val/accuracy": 0.3925}  # as version 0.1 recorded them for step 240
ROOM = 0.02
PLACEHOLDER = re.compile(rb"@(ROOT|PYTHON|JOB)@")


@pytest.fixture
def old(tmp_path: Path) -> OldRuns:
    return copy_old_runs(tmp_path)


def python(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", *arguments]
    environment = {**os.environ, **env}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=WATCHDOG, check=False
    )


def assert_whole(old: OldRuns) -> None:
    """The run has ended as version 0.1 would have ended it."""
    outcome, expected = old.outcome("stopped"), whole_outcome()
    assert outcome["status"] == "done"
    assert {key: outcome[key] for key in SAME} == {key: expected[key] for key in SAME}
    assert outcome["metrics"] == pytest.approx(expected["metrics"], rel=ROOM)


def test_placeholders_are_in_no_sealed_file_and_none_is_left(old: OldRuns) -> None:
    sealed = [path for path in FIXTURES.rglob(f"*/{SEALED}/**/*") if path.is_file()]
    assert len(sealed) == 8
    assert [path for path in sealed if PLACEHOLDER.search(path.read_bytes())] == []
    filled = [path for path in old.run("stopped").rglob("*") if path.is_file()]
    assert [path for path in filled if PLACEHOLDER.search(path.read_bytes())] == []
    assert json.loads((old.run("stopped") / "spec.json").read_text())["config"]["slurm"]["partition"] == "low"


@pytest.mark.parametrize("processes", [pytest.param("1", marks=pytest.mark.exhaustive), "2"])
def test_it_is_resumed_to_the_end_that_it_would_have_had(
    old: OldRuns, launch: Launch, processes: str
) -> None:
    done = launch("resume", "stopped", "--cpu", processes)
    assert done.status == 0, done.err
    assert "stopped resumes from step 383, in epoch 2" in done.err
    assert_whole(old)


@pytest.mark.exhaustive
def test_it_is_resumed_by_the_command_that_began_it(old: OldRuns, launch: Launch) -> None:
    done = launch("train", "old.yaml", "--name", "stopped", "--cpu", "2", cwd=old.work)
    assert done.status == 0, done.err
    assert_whole(old)


@pytest.mark.parametrize(
    ("which", "name"),
    [
        pytest.param((), "step_00000383", marks=pytest.mark.exhaustive),
        (("--checkpoint", "best"), "step_00000240"),
    ],
)
def test_it_is_evaluated(old: OldRuns, launch: Launch, which: tuple[str, ...], name: str) -> None:
    checkpoints = old.run("stopped") / "checkpoints"
    copy = shutil.copytree(checkpoints / "step_00000240", checkpoints / "step_00000500")
    done = launch("eval", "stopped", "--json", *which)
    assert done.status == 0, done.err
    document = done.document
    said = [] if which else [f"{copy} is the checkpoint of step 240: its folder's name says step 500"]
    assert (document["checkpoint"], document["damaged"]) == (name, said)
    if which:
        assert {key: document["metrics"][key] for key in BEST} == pytest.approx(BEST, rel=ROOM)


def test_it_is_shown(old: OldRuns, launch: Launch) -> None:
    shown = launch("status", "stopped")
    assert shown.status == 0, shown.err
    assert shown.out.startswith("stopped: stopped\n1 of 7 epochs, 383 of 1,500 steps")
    listed = launch("status", "--json").document
    assert {run["run"] for run in listed["runs"]} == {"queued", "script", "stopped"}


@pytest.mark.exhaustive
def test_its_ranks_are_started_by_torchrun(old: OldRuns, launch: Launch) -> None:
    assert launch("eval", "stopped").status == 0  # which notes where the data lies on this machine
    spec = str(old.run("stopped") / "spec.json")
    worker = ("--nproc-per-node=2", f"--master-port={free_port()}", "-m", "lockstep.training.worker", spec)
    done = python("torch.distributed.run", *worker)
    assert done.returncode == 0, done.stderr
    assert_whole(old)
    done = python("lockstep.training.worker", spec, "--eval")
    assert done.returncode == 0, done.stderr
    evaluated = json.loads((old.run("stopped") / "eval.json").read_text())
    assert evaluated["metrics"]["val/loss"] == pytest.approx(whole_outcome()["metrics"]["val/loss"], rel=ROOM)


def test_its_record_is_sent_to_wandb_by_the_feeder_of_that_name(old: OldRuns) -> None:
    run = old.run("stopped")
    done = python("lockstep.training.wandb_feed", str(run), WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    (offline,) = (run / "wandb").glob("offline-run-*")
    assert json.loads((run / "spec.json").read_text())["wandb_id"] in offline.name


def test_a_queued_jobs_script_still_finds_its_supervisor(old: OldRuns) -> None:
    for name in ("queued", "script"):
        done = subprocess.run(
            ["bash", *old.argv(name)], capture_output=True, text=True, timeout=WATCHDOG, check=False
        )
        assert (done.returncode, f"{old.run(name)}: no job of SLURM" in done.stderr) == (2, True), done.stderr
