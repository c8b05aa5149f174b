"""Faults of ``launch train``: fault x rank x moment gives the right culprit and status, and leaves no process."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import psutil
import pytest

from tests.conftest import Launch

WORLD = 3
CARD = 12  # lines
SEED = 7
PLANTED = """
import os, resource, signal, sys

def fail(moment):
    fault, rank, when = os.environ["FAULT"].split()
    if when != moment or os.environ.get("RANK") != rank:
        return
    if fault == "raise": raise ValueError("my own error")
    if fault == "exit-0": os._exit(0)
    if fault == "exit-7": sys.exit(7)
    if fault == "kill": os.kill(os.getpid(), signal.SIGKILL)
    if fault == "abort": os.abort()
    if fault == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
        torch.empty(2**34, dtype=torch.uint8)

class Faulty(nn.Module):
    def __init__(self):
        super().__init__()
        fail("start")
        self.layer, self.calls = nn.Linear(7, 2), 0
    def forward(self, x):
        self.calls += 1
        if not self.training: fail("evaluation")
        elif self.calls == 40: fail("middle")
        return self.layer(x)
    def _save_to_state_dict(self, *rest):
        if self.calls > 20: fail("checkpoint")
        super()._save_to_state_dict(*rest)

def faulty(): return Faulty()
"""
EXPECTED = {  # fault -> exit status, words of the card
    "raise": (1, "ValueError: my own error"),
    "exit-0": (4, "ended with status 0 before its work was done"),
    "exit-7": (4, "sys.exit(7)"),
    "kill": (4, "was killed by SIGKILL"),
    "abort": (4, "was killed by SIGABRT"),
    "memory": (7, "can't allocate memory"),
}
TABLE = [
    (fault, rank, moment)
    for fault in EXPECTED
    for rank in range(WORLD)
    for moment in ("start", "middle", "evaluation", "checkpoint")
    if (moment == "checkpoint") <= (rank == 0)  # rank 0 writes it
]
SAMPLE = random.Random(SEED).sample(TABLE, 2)


@pytest.mark.parametrize(
    ("fault", "rank", "moment"),
    [
        pytest.param(
            *case, marks=[] if case in SAMPLE else [pytest.mark.exhaustive], id="-".join(map(str, case))
        )
        for case in TABLE
    ],
)
def test_the_culprit_is_named_and_nothing_is_left(
    launch: Launch, own: Path, fault: str, rank: int, moment: str
) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + PLANTED)
    mark = f"FAULT={fault} {rank} {moment}"
    result = launch(
        "train", "own.yaml", "model.use=./own.py:faulty", "--cpu", str(WORLD), "--name", "faulty",
        cwd=own, env={"FAULT": mark.partition("=")[2]},
    )  # fmt: skip
    expected, words = EXPECTED[fault]
    card = result.err[result.err.rindex("error: ") :]
    assert result.status == expected, result.err
    assert card.startswith(f"error: rank {rank} of {WORLD}"), result.err
    assert words in card
    assert len(card.splitlines()) <= CARD
    assert _with(mark) == []
    outcome = json.loads((Path(os.environ["LOCKSTEP_RUNS"]) / "faulty" / "outcome.json").read_text())
    assert (outcome["status"], outcome["exit_code"]) == ("failed", expected)


def _with(mark: str) -> list[psutil.Process]:
    """Living processes with this in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if mark.encode() in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                found.append(process)
        except OSError:
            continue
    return found
