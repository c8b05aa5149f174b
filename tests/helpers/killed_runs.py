"""Runs without the launcher that are killed at a step and resumed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from tests.helpers.launch import JobServer, free_port
from tests.helpers.run_records import REPRODUCED


def run_ranks(
    ranks: JobServer, folder: Path, spec: str, world: int, kill_at: int | None, cwd: Path | None = None
) -> dict[str, Any]:
    """Train without the launcher, killed at a step and resumed if it is given; what its outcome says."""
    folder.mkdir()
    (folder / "spec.json").write_text(spec)
    job = {"folder": str(folder), "world": world, "threads": 1, **({"cwd": str(cwd)} if cwd else {})}
    if kill_at is not None:
        kill = {"place": "step", "number": kill_at, "rank": None}
        assert ranks.ask({**job, "port": free_port(), "kill": kill}) == [-signal.SIGKILL] * world
    statuses = ranks.ask({**job, "port": free_port(), "kill": None})
    assert statuses == [0] * world, (folder / "rank-0.log").read_text()
    outcome = json.loads((folder / "outcome.json").read_text())
    return {key: outcome[key] for key in REPRODUCED}
