"""From a fault to the end: seconds until the command has ended, and until no process of it is left.

    python bench/faults.py                     # every fault, about ten minutes
    python bench/faults.py --faults kill raise --rounds 3

Three ranks train over gloo, each with a child of its own in a session of its own, as a loader or a logger may be;
then rank 1 fails, or what supervises it is killed. ``bench/README.md`` says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from startup import launch, torchrun
from timing import Arm, interleave, machine

RANKS = 3
HANG_SECONDS = 5
GOAL = 5.0
LONGEST = 60.0  # torchrun gives ranks 30 s to end
AFTER = 10.0  # what is left so long after the command has ended stays
MARK = "BENCH_FAULTS"
TRAINING = """
import os, signal, subprocess, sys, time
from pathlib import Path
import torch, torch.distributed as dist

def now():
    Path(sys.argv[2] + ".tmp").write_text(str(time.time_ns()))
    os.rename(sys.argv[2] + ".tmp", sys.argv[2])

faults = {
    "raise": lambda: 1 / 0,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(0),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}
subprocess.Popen(["sleep", "600"], start_new_session=True)
dist.init_process_group("gloo")
weights = torch.ones(1000)
for step in range(10**9):
    dist.all_reduce(weights, op=dist.ReduceOp.MAX)
    time.sleep(0.005)
    if step == 50 and dist.get_rank() == 1:
        now()
        faults.get(sys.argv[1], lambda: None)()
"""

TRAINED = """
import os, signal, time
from pathlib import Path
import torch
from torch import nn

class Quick(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(7, 2), 0
    def forward(self, x):
        self.calls += self.training
        time.sleep(0.05)
        if self.calls == 60 and os.environ["RANK"] == "1":
            stamp = os.environ["BENCH_STAMP"]
            Path(stamp + ".tmp").write_text(str(time.time_ns()))
            os.rename(stamp + ".tmp", stamp)
            if os.environ["BENCH_FAULT"] == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(600)
        return self.layer(x)

def model():
    return Quick()

def data():
    x = torch.randn(6200, 7, generator=torch.Generator().manual_seed(0))
    y = (x.sum(1) > 0).long()
    return {"train": (x[:6000], y[:6000]), "val": (x[6000:], y[6000:])}
"""
LEARNED = 10.0
"""Seconds after which a training whose steps take 50 ms hangs."""


@dataclass(frozen=True)
class Case:
    """One launcher under one fault."""

    command: Callable[[int, Path], list[str]]
    fault: str
    allowed: float
    """Seconds that are the fault's own, as a hang's timeout is."""
    is_training: bool = False
    """It is told of its fault by its environment."""


@dataclass(frozen=True)
class End:
    """What was seen of one end."""

    command: float
    """Seconds until the command had ended; infinite where it never did."""
    empty: float
    """Seconds until no process was left."""
    status: int | None


def hanging(world: int, script: Path) -> list[str]:
    """``launch run`` with a short patience for hangs."""
    name, run, *rest = launch(world, script)
    return [name, run, "--hang-timeout", str(HANG_SECONDS), *rest]


def training(world: int, script: Path) -> list[str]:
    """``launch train`` of steps that take 50 ms, with the patience for hangs that everybody has."""
    name = launch(world, script)[0]
    uses = [f"{section}.use={script.with_name('trained.py')}:{section}" for section in ("model", "data")]
    settings = ["data.batch_size=30", "tracking=[]", "train.epochs=3", "checkpoint.every_epochs=null"]
    return [name, "train", *uses, *settings, "--cpu", str(world)]


CASES = {
    "raise": Case(launch, "raise", 0),
    "raise, torchrun": Case(torchrun, "raise", 0),
    "kill": Case(launch, "kill", 0),
    "kill, torchrun": Case(torchrun, "kill", 0),
    "exit": Case(launch, "exit", 0),
    "exit, torchrun": Case(torchrun, "exit", 0),
    "agent": Case(launch, "agent", 0),
    "supervisor": Case(launch, "supervisor", 0),
    "supervisor, torchrun": Case(torchrun, "supervisor", 0),
    "stop": Case(hanging, "stop", HANG_SECONDS),
    "stop, training": Case(training, "stop", LEARNED, is_training=True),
    "sleep, training": Case(training, "sleep", LEARNED, is_training=True),
}


class Bench:
    """Starts a case, waits for its fault and watches its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "training.py").write_text(TRAINING)
        (folder / "trained.py").write_text(TRAINED)
        self.ends: dict[str, list[End]] = {}

    def arm(self, name: str) -> Arm:
        """Notes the end of a case."""
        return Arm(lambda: self.ends.setdefault(name, []).append(self._run(CASES[name])))

    def _run(self, case: Case) -> End:
        stamp, mark = self._folder / "stamp", secrets.token_hex(8)
        stamp.unlink(missing_ok=True)
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", MARK: mark}
        told = [] if case.is_training else [case.fault, str(stamp)]
        environment |= {"BENCH_FAULT": case.fault, "BENCH_STAMP": str(stamp)}
        command = [*case.command(RANKS, self._folder / "training.py"), *told]
        process = subprocess.Popen(
            command,
            cwd=self._folder,
            env={**environment, "LOCKSTEP_RUNS": str(self._folder / "runs")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(stamp, process)
            if case.fault in ("agent", "supervisor"):
                began = time.time_ns()
                os.kill(_agent(process.pid) if case.fault == "agent" else process.pid, signal.SIGKILL)
            else:
                began = int(stamp.read_text())
            return _end(process, mark, began)
        finally:
            for pid in _left(mark):
                os.kill(pid, signal.SIGKILL)
            process.wait()


def _wait_for(stamp: Path, process: subprocess.Popen[bytes]) -> None:
    while not stamp.exists():
        if process.poll() is not None:
            sys.exit(f"{process.args} ended with {process.returncode} before its fault")
        time.sleep(0.005)


def _agent(pid: int) -> int:
    """The child of the supervisor from which the ranks are forked."""
    return next(child.pid for child in psutil.Process(pid).children() if child.children())


def _end(process: subprocess.Popen[bytes], mark: str, began: int) -> End:
    """Look until both are over, or will never be."""
    ended = empty = float("inf")
    while np.isinf([ended, empty]).any():
        seconds = (time.time_ns() - began) / 1e9
        if seconds > min(LONGEST, ended + AFTER):
            break
        if np.isinf(ended) and process.poll() is not None:
            ended = seconds
        if np.isinf(empty) and not _left(mark):
            empty = seconds
        time.sleep(0.02)
    return End(ended, empty, process.returncode)


def _left(mark: str) -> list[int]:
    """Living processes of one start, by what their environment says; what is ending has none."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
        except OSError:
            continue
    return found


def main() -> int:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--faults",
        nargs="+",
        default=list(CASES),
        choices=list(CASES),
        metavar="FAULT",
        help=", ".join(CASES),
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        arms = {name: bench.arm(name) for name in arguments.faults}
        interleave(arms, arguments.rounds, np.random.default_rng(arguments.seed))
    report = {
        "machine": machine(torch.device("cpu")),
        "faults": {name: summary(name, bench.ends[name]) for name in arguments.faults},
    }
    print(json.dumps(report, indent=1) if arguments.json else text(report))
    return 0


def summary(name: str, ends: list[End]) -> dict[str, Any]:
    """Median and longest, and whether the goal is met: empty within five seconds, beyond what the fault allows."""
    empty = [end.empty for end in ends]
    return {
        "command": [round(float(pick([end.command for end in ends])), 2) for pick in (np.median, max)],
        "empty": [round(float(pick(empty)), 2) for pick in (np.median, max)],
        "status": sorted({end.status for end in ends if end.status is not None}),
        "goal": CASES[name].allowed + GOAL,
        "met": max(empty) <= CASES[name].allowed + GOAL,
    }


def text(report: dict[str, Any]) -> str:
    """The report as text; infinite: something was left for good."""
    lines = [
        json.dumps(report["machine"]),
        f"{'fault':>22}  command: median, longest    empty    goal  status",
    ]
    for name, found in report["faults"].items():
        seconds = " ".join(f"{value:9.2f}" for value in (*found["command"], *found["empty"]))
        met = "met" if found["met"] else "missed"
        lines.append(f"{name:>22} {seconds}  {found['goal']:4.0f} {met}  {found['status']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
