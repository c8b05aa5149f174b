"""A training under SLURM that is as slow as a test wants, and the end that it has undisturbed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lockstep.launcher.slurm.job_log import read_jobs
from tests.helpers.launch import Launch
from tests.helpers.run_records import DIGESTS
from tests.helpers.slurm.cluster import Cluster, set_pace, wait_until

PACED = '''
import time
from pathlib import Path

def paced(output, target):
    """Cross-entropy, as slow as the file beside says."""
    pace = Path(__file__).with_name("pace")
    if pace.exists():
        time.sleep(float(pace.read_text()))
    return nn.functional.cross_entropy(output, target, reduction="none")
'''
SETTINGS = [
    "loss.use=./own.py:paced",
    "train.epochs=60",
    "data.args={n: 307, m: 101}",
    "checkpoint.every_epochs=10",
    "log.every_steps=5",
]
STEPS = 600
SHORT = [*SETTINGS, "train.epochs=4"]
SAME = (*DIGESTS, "metrics", "steps", "samples")


@dataclass
class Paced:
    """A user's folder with a training that is as slow as a test wants, and the end that it has undisturbed."""

    folder: Path
    launch: Launch
    cluster: Cluster

    def pace(self, seconds: float) -> None:
        """Of each call of the loss."""
        set_pace(self.folder, seconds)

    def whole(self, *more: str) -> dict[str, Any]:
        done = self.launch(
            "train", "own.yaml", *SETTINGS, *more, "--cpu", "2", "--name", "whole", "--json", cwd=self.folder
        )
        assert done.status == 0, done.err
        return done.document

    def submit(self, *options: str, pace: float = 0.05, name: str = "job") -> tuple[Path, str]:
        self.pace(pace)
        done = self.launch(
            "submit", "own.yaml", *SETTINGS, *options, "--cpu", "2", "--name", name, "--json", cwd=self.folder
        )
        assert done.status == 0, done.err
        return Path(done.document["run_dir"]), done.document["job"]

    def told(self, run: Path) -> str:
        """All that the run and its jobs have written, for a test that has failed."""
        logs = [*run.glob("slurm/*.log"), *run.glob("slurm/*/*.log"), run / "slurm/jobs.jsonl"]
        return "\n".join(f"== {path}\n{path.read_text()}" for path in logs if path.exists())

    def wait(self, run: Path, true: Callable[[], object], what: str) -> None:
        end = time.monotonic() + 180
        while not true():
            if time.monotonic() > end:
                pytest.fail(
                    f"in vain: {what}\n{self.cluster.run('scontrol', '-o', 'show', 'jobs')}\n{self.told(run)}"
                )
            time.sleep(0.05)

    def wait_for_step(self, run: Path, step: int) -> None:
        record = run / "metrics.jsonl"
        self.wait(run, lambda: record.exists() and steps_of(record) >= step, f"step {step}")

    def wait_for_end(self, run: Path, action: str) -> dict[str, Any]:
        """The first line of the job log whose attempt ended with this decision."""
        self.wait(run, lambda: ended_attempts(run, action), f"a decision to {action}")
        return ended_attempts(run, action)[0]

    def check_done(self, run: Path, whole: dict[str, Any]) -> None:
        self.wait_for_end(run, "finish")
        outcome = json.loads((run / "outcome.json").read_text())
        assert {key: outcome.get(key) for key in SAME} == {key: whole[key] for key in SAME}, self.told(run)
        wait_until(lambda: not self.cluster.run("squeue", "-h", "-o", "%A").split(), self.told(run))


def steps_of(record: Path) -> int:
    lines = [json.loads(line) for line in record.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return max((event.get("step", 0) for event in lines), default=0)


def ended_attempts(run: Path, action: str) -> list[dict[str, Any]]:
    return [e for e in read_jobs(run) if e["event"] == "ended" and e["action"] == action]
