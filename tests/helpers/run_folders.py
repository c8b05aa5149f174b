"""Run folders as launchers leave them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lockstep.launcher.runs.run_folder import runs_root
from tests.helpers.launch import WATCHDOG


def make_run(
    name: str, *events: dict[str, Any], outcome: dict[str, Any] | None = None, kind: str = "spec"
) -> Path:
    """A run folder with these events and this outcome."""
    folder = runs_root() / name
    (folder / "attempt-1").mkdir(parents=True)
    (folder / f"{kind}.json").write_text("{}")
    if events:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    if outcome is not None:
        (folder / "outcome.json").write_text(json.dumps(outcome))
    return folder


def step_event(number: int, epoch: int = 0, loss: float = 0.5) -> dict[str, Any]:
    """The row of a step in ``metrics.jsonl``."""
    return {"time": 1.0, "event": "step", "epoch": epoch, "step": number, "train/loss": loss, "lr": 0.1}


LOCK_HOLDER = """
import sys
from pathlib import Path
from lockstep.launcher.runs.run_lock import hold_run_lock
with hold_run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def locked_by_another(folder: Path, code: str = LOCK_HOLDER) -> Iterator[subprocess.Popen[str]]:
    """Another launcher that has the run."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=WATCHDOG)
