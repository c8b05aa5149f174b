"""A run folder that is away for half a second, as while its server fails over, costs a training nothing."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers.launch import LAUNCH, WATCHDOG, outcome_of, run_folder


def _logged(folder: Path) -> list[int]:
    if not (folder / "metrics.jsonl").exists():
        return []
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [event["step"] for event in map(json.loads, lines) if event["event"] == "step"]


@pytest.mark.exhaustive
def test_a_training_outlasts_it_and_loses_no_row(own: Path) -> None:
    settings = ("train.max_steps=1500", "log.every_steps=1", "checkpoint.every_steps=50", "train.epochs=1000")
    command = [*LAUNCH, "train", "own.yaml", *settings, "--cpu", "2", "--name", "w"]
    folder = run_folder("w")
    away = folder.with_name("away")
    with subprocess.Popen(
        command, cwd=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as launch:
        deadline = time.monotonic() + WATCHDOG
        while len(_logged(folder)) < 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(2):
            assert launch.poll() is None, launch.communicate()
            folder.rename(away)
            time.sleep(0.5)
            assert not folder.exists(), "nothing is written beside it meanwhile"
            away.rename(folder)
            time.sleep(0.5)
        _, err = launch.communicate(timeout=WATCHDOG)
    assert launch.returncode == 0, err
    assert outcome_of("w")["steps"] == 1500
    assert _logged(folder) == list(range(1, 1501))
