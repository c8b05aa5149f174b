"""A program for the faults of ``launch run``: ``faulty.py FAULT RANK MOMENT``.

Ranks have children in other sessions.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from fault_actions import fail
from torch.utils.data import DataLoader, Dataset

STEPS = 6


class Rows(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, row):
        if row == 20 and os.environ.get("BREAK_SAMPLE"):
            raise KeyError("my sample broke")
        if row == 40 and os.environ.get("KILL_WORKER"):
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.tensor(float(row))


def other_ranks() -> list[str]:
    """Pids of the other ranks, as far as they have said them."""
    mine, folder = os.environ["RANK"], Path(os.environ["FAULT_READY"]).parent
    return [path.read_text() for path in folder.glob("pid-*") if path.name != f"pid-{mine}"]


def fail_here(fault: str, moment: str) -> None:
    if fault == "slow-raise":  # torchrun's wrong case: the victims are first to report
        try:
            raise ValueError("my own error")
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
            while moment != "start" and all(Path(f"/proc/{pid}").exists() for pid in other_ranks()):
                time.sleep(0.01)
            time.sleep(0.6)
    if fault == "worker":
        os.environ["KILL_WORKER"] = "1"
        list(DataLoader(Rows(), num_workers=1))
    if (
        fault == "sample"
    ):  # raised in a worker: its stack is formatted there, down to the launcher's own frames
        os.environ["BREAK_SAMPLE"] = "1"
        list(DataLoader(Rows(), num_workers=2))
    fail(fault)


def main() -> None:
    fault, culprit, moment = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    mine = int(os.environ["RANK"]) == culprit
    Path(os.environ["FAULT_READY"]).with_name(f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    # An orphan in a session of its own, without the mark in its environment: only descent tells whose it is.
    subprocess.run(
        ["/bin/sh", "-c", f"setsid sleep {os.environ['FAULT_ORPHAN_SLEEP']} &"], env={}, check=True
    )
    if mine and moment == "start":
        fail_here(fault, moment)
    dist.init_process_group("gloo")
    total = torch.ones(1)
    for step in range(STEPS):
        now = mine and moment == "middle" and step == STEPS // 2
        if not (now and fault == "skip"):
            dist.all_reduce(total)
        if now:
            fail_here(fault, moment)
    if mine and moment == "end":
        fail_here(fault, moment)
    if not (mine and (fault, moment) == ("skip", "end")):
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
