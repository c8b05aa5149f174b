"""A program for the table of faults: ``faulty.py FAULT RANK MOMENT``; each rank has children in other sessions."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
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


def others() -> list[str]:
    """Pids of the other ranks, as far as they have said them."""
    mine, folder = os.environ["RANK"], Path(os.environ["FAULT_READY"]).parent
    return [path.read_text() for path in folder.glob("pid-*") if path.name != f"pid-{mine}"]


def fail(fault: str) -> None:
    if fault == "raise":
        raise ValueError("my own error")
    if fault == "slow-raise":  # torchrun's wrong case: the victims are first to report
        try:
            raise ValueError("my own error")
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
            while sys.argv[3] != "start" and all(Path(f"/proc/{pid}").exists() for pid in others()):
                time.sleep(0.01)
            time.sleep(0.6)
    if fault == "exit-0":
        os._exit(0)
    if fault == "exit-7":
        sys.exit(7)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "abort":
        os.abort()
    if fault == "worker":
        os.environ["KILL_WORKER"] = "1"
        list(DataLoader(Rows(), num_workers=1))
    if (
        fault == "sample"
    ):  # raised in a worker: its stack is formatted there, down to the launcher's own frames
        os.environ["BREAK_SAMPLE"] = "1"
        list(DataLoader(Rows(), num_workers=2))
    if fault == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
        torch.empty(2**34, dtype=torch.uint8)
    if fault == "wait":
        ready = Path(os.environ["FAULT_READY"])
        ready.with_suffix(".new").write_text("ready")
        ready.with_suffix(".new").rename(ready)
        time.sleep(600)


def main() -> None:
    fault, culprit, moment = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    mine = int(os.environ["RANK"]) == culprit
    Path(os.environ["FAULT_READY"]).with_name(f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    # An orphan in a session of its own, without the mark in its environment: only descent tells whose it is.
    subprocess.run(["/bin/sh", "-c", f"setsid sleep {os.environ['FAULT_NAP']} &"], env={}, check=True)
    if mine and moment == "start":
        fail(fault)
    dist.init_process_group("gloo")
    total = torch.ones(1)
    for step in range(STEPS):
        dist.all_reduce(total)
        if mine and moment == "middle" and step == STEPS // 2:
            fail(fault)
    if mine and moment == "end":
        fail(fault)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
