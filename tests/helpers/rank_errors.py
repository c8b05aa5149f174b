"""Errors as ranks write them down, and statuses with which they end."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

SIGKILL_STATUS, EXIT_3_STATUS = int(signal.SIGKILL), 3 << 8


def write_error(attempt: Path, rank: int, **changed: Any) -> None:
    """The error of a rank whose own code raised."""
    document = {
        "kind": "TrainingError",
        "message": "ValueError: broken",
        "hint": "",
        "rank": rank,
        "time_ns": 1000 + rank,
        "type": "ValueError",
        "ours": False,
        "where": "model.py:7",
        "exit_status": 1,
        **changed,
    }
    (attempt / f"error-{rank}.json").write_text(json.dumps(document))


def write_victim_error(attempt: Path, rank: int, time_ns: int) -> None:
    """The error of a rank whose peer has gone."""
    message = "RuntimeError: [gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:2"
    write_error(attempt, rank, time_ns=time_ns, type="RuntimeError", message=message, where="torch.py:1")
