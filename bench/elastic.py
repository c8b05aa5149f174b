"""How long a training stands still when its processes change: launch scale, a restart of ours, one of torchrun.

    python bench/elastic.py [--rounds N] [--json]

Each arm changes between 2 and 3 processes. The pause is the time between the last step before and the first one after,
by the record's own times, less a usual step. ``bench/README.md`` says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from timing import machine

LAUNCH = [sys.executable, "-P", "-c", "from lockstep.launcher.cli.start import main; main()"]
WORLDS = (2, 3)
CODE = """
import torch
from torch import nn

def data(n=8192, width=512):
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, width, generator=draw), torch.randint(10, (n,), generator=draw)
    return {"train": (x, y)}

def model(width=512):
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 10))
"""
CONFIG = """
data: {use: ./exp.py:data, batch_size: 128, val_size: null}
model: {use: ./exp.py:model}
optimizer: {use: adam, lr: 0.001}
train: {epochs: 1000000, logical_ranks: 8, elastic: {min: 1, max: 4}, precision: fp32}
log: {every_steps: 1}
checkpoint: {every_epochs: null, every_steps: 50, keep_last: 2}
tracking: []
"""


class Run:
    """A run in a folder of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.environment = {**os.environ, "LOCKSTEP_RUNS": str(folder / "runs")}
        self.run_folder = folder / "runs" / name

    def launch(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command of ours."""
        return self.start([*LAUNCH, *arguments])

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a command in a group of its own."""
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=quiet, stderr=quiet, start_new_session=True
        )

    def times(self) -> list[float]:
        """Return the times of the steps that were logged, in their order."""
        record = self.run_folder / "metrics.jsonl"
        lines = record.read_bytes().splitlines() if record.exists() else []
        events = [json.loads(line) for line in lines if b'"event": "step"' in line]
        return [event["time"] for event in events]

    def await_steps(self, after: float, count: int = 20) -> float:
        """Wait until so many steps were logged after a time; return when the first of them was."""
        while len(found := [at for at in self.times() if at > after]) < count:
            time.sleep(0.1)
        return found[0]


def scale(run: Run, size: int) -> float:
    """Change the processes in place; return the pause."""
    asked = run.launch("scale", run.name, str(size))
    if asked.wait():
        raise RuntimeError("launch scale has failed")
    events = [json.loads(line) for line in (run.run_folder / "metrics.jsonl").read_text().splitlines()]
    changed = [event["time"] for event in events if event["event"] == "world"][-1]
    run.await_steps(changed)
    return _gap(run.times(), changed)


def _gap(times: list[float], at: float) -> float:
    """Return the time between the steps around a moment, less a usual one."""
    usual = statistics.median(later - earlier for earlier, later in pairwise(times))
    before, after = max(one for one in times if one <= at), min(one for one in times if one > at)
    return after - before - usual


@contextmanager
def scaled(folder: Path) -> Iterator[Callable[[int], float]]:
    """Train, and change the processes while it does."""
    run = Run(folder, "scaled")
    training = run.launch("train", "exp.yaml", "--cpu", str(WORLDS[0]), "--name", run.name)
    run.await_steps(0)
    yield lambda size: scale(run, size)
    _end(training)


@contextmanager
def resumed(folder: Path) -> Iterator[Callable[[int], float]]:
    """Train, stop with a checkpoint, and resume on other processes."""
    run = Run(folder, "resumed")
    trainings = [run.launch("train", "exp.yaml", "--cpu", str(WORLDS[0]), "--name", run.name)]
    run.await_steps(0)

    def restart(size: int) -> float:
        began = time.time()
        run.launch("stop", run.name).wait()
        trainings[-1].wait()
        stopped = time.time()  # the last steps were done until then
        trainings.append(run.launch("resume", run.name, "--cpu", str(size)))
        return run.await_steps(stopped) - began

    yield restart
    _end(trainings[-1])


@contextmanager
def torchrun(folder: Path) -> Iterator[Callable[[int], float]]:
    """Train the same run by torchrun, end it, and start it on other processes from its last checkpoint."""
    run = Run(folder, "torchrun")
    first = run.launch("train", "exp.yaml", "--cpu", "2", "--name", run.name)
    run.await_steps(0, 60)
    _end(first)
    worker = ["-m", "lockstep.training.worker", str(run.run_folder / "spec.json")]

    def start(size: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
        return run.start([*command, *worker])

    began = time.time()
    trainings = [start(WORLDS[0])]
    run.await_steps(began)

    def restart(size: int) -> float:
        began = time.time()
        _end(trainings[-1])
        ended = time.time()
        trainings.append(start(size))
        return run.await_steps(ended) - began

    yield restart
    _end(trainings[-1])


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    process.wait()


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the pauses of each arm in seconds."""
    pauses: dict[str, list[float]] = {}
    for arm in (scaled, resumed, torchrun):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (folder / "exp.py").write_text(CODE)
            (folder / "exp.yaml").write_text(CONFIG)
            with arm(folder) as change:
                pauses[arm.__name__] = [change(WORLDS[(number + 1) % 2]) for number in range(rounds)]
    return pauses


def report(pauses: dict[str, list[float]]) -> dict[str, Any]:
    """Return what is printed."""
    medians = {name: statistics.median(found) for name, found in pauses.items()}
    ratio = medians["scaled"] / medians["torchrun"]
    return {
        "machine": machine(torch.device("cpu")),
        "medians": medians,
        "pauses": pauses,
        "scaled / torchrun": ratio,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6, help="changes of each arm")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = report(measure(args.rounds))
    if args.json:
        print(json.dumps(found))
        return 0
    for name, median in found["medians"].items():
        pauses = found["pauses"][name]
        print(f"{name:<10} {median:8.3f} s  [{min(pauses):.3f}, {max(pauses):.3f}]")
    print(
        f"launch scale / torchrun's restart: {found['scaled / torchrun']:.3f} (goal 0.2; pause at most 1 s)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
