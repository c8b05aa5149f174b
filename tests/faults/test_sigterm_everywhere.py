"""SIGTERM to every process of a training, as SLURM's preemption sends it: a checkpoint, status 75, nothing broken."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from lockstep.training.checkpoint.manifest import newest_intact, read_state
from tests.helpers.launch import LAUNCH, WATCHDOG, Launch, outcome_of, run_folder
from tests.helpers.run_records import DIGESTS
from tests.helpers.wandb_records import logged_rows

SEED = 11
SAME = (*DIGESTS, "metrics", "steps", "ranks")
SETTINGS = (
    "data.use=./own.py:mapped",
    "data.workers=2",
    "train.epochs=8",
    "log.every_steps=5",
    "checkpoint.every_epochs=3",
)
MAPPED = """
import multiprocessing

class Mapped(torch.utils.data.Dataset):
    def __init__(self, pair): self.pair = pair
    def __len__(self): return len(self.pair[0])
    def __getitem__(self, row): return self.pair[0][row], self.pair[1][row]

def mapped():
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # its end is by Process.terminate
        assert pool.map(abs, [-3]) == [3]
    return {name: Mapped(pair) for name, pair in data(n=607, m=101).items()}
"""


def _of_launch(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("OF_LAUNCH") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _send_to_all(mark: str, number: signal.Signals) -> set[str]:
    """Every process once; what they are."""
    reached = set()
    for process in _of_launch(mark):
        try:
            name = process.name()
            process.send_signal(number)
        except psutil.Error:
            continue
        reached.add(name)
    return reached


def _preempted(own: Path, name: str, wait: float) -> tuple[int, str, set[str]]:
    command = [*LAUNCH, "train", "own.yaml", *SETTINGS, "--cpu", "2", "--name", name]
    with subprocess.Popen(
        command,
        cwd=own,
        env={**os.environ, "WANDB_MODE": "offline", "OF_LAUNCH": name},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline, record = time.monotonic() + WATCHDOG, run_folder(name) / "metrics.jsonl"
        while not (record.exists() and '"event": "step"' in record.read_text()):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(wait)
        reached = _send_to_all(name, signal.SIGTERM)
        time.sleep(wait / 3)
        _send_to_all(name, signal.SIGTERM)  # SLURM sends it at the end of the grace as well
        _, err = process.communicate(timeout=WATCHDOG)
    assert _of_launch(name) == []
    return process.returncode, err, reached


def _logged(run: Path) -> list[Any]:
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(event["step"], event["train/loss"]) for event in events if event["event"] in ("step", "epoch")]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "draws",
    [1, pytest.param(12, marks=pytest.mark.timeout(1800))],
)
def test_sigterm_to_every_process_ends_in_a_checkpoint(launch: Launch, own: Path, draws: int) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + MAPPED)
    whole = launch("train", "own.yaml", *SETTINGS, "--cpu", "2", "--name", "whole", "--json", cwd=own)
    assert whole.status == 0, whole.err
    generator, stopped = random.Random(SEED), 0
    for number in range(draws):
        name = f"preempted-{number}"
        status, err, reached = _preempted(own, name, generator.uniform(0, 0.6))
        assert "Traceback" not in err
        assert logged_rows(run_folder(name)), "the feeder and its service were there"
        assert [(row["step"], row["train/loss"]) for row in logged_rows(run_folder(name))] == _logged(
            run_folder(name)
        )
        if status == 0:  # it was faster
            continue
        assert (status, "error: " in err) == (75, False), err
        assert len(reached) >= 2, reached
        state = read_state(newest_intact(run_folder(name) / "checkpoints")[0])
        assert state["step"] == outcome_of(name)["steps"]
        resumed = launch("resume", name, "--cpu", "2", "--json", cwd=own)
        assert resumed.status == 0, resumed.err
        assert {key: resumed.document[key] for key in SAME} == {key: whole.document[key] for key in SAME}
        stopped += 1
    assert stopped
