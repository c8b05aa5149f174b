"""Runs without the launcher that are killed at a step and resumed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launch import JobServer, free_port, job_server
from tests.helpers.run_records import REPRODUCED


@pytest.fixture(scope="module")
def ranks() -> Iterator[JobServer]:
    with job_server("killed_ranks", OMP_WAIT_POLICY="PASSIVE", WANDB_MODE="disabled") as server:
        yield server


def run_ranks(ranks: JobServer, folder: Path, spec: str, world: int, kill_at: int | None) -> dict[str, Any]:
    """Train without the launcher, killed at a step and resumed if it is given; what its outcome says."""
    folder.mkdir()
    (folder / "spec.json").write_text(spec)
    job = {"folder": str(folder), "world": world, "threads": 1}
    if kill_at is not None:
        kill = {"place": "step", "number": kill_at, "rank": None}
        assert ranks.ask({**job, "port": free_port(), "kill": kill}) == [-signal.SIGKILL] * world
    statuses = ranks.ask({**job, "port": free_port(), "kill": None})
    assert statuses == [0] * world, (folder / "rank-0.log").read_text()
    outcome = json.loads((folder / "outcome.json").read_text())
    return {key: outcome[key] for key in REPRODUCED}
