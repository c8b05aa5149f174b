"""How long a training stands still when its processes change: launch scale, a restart of ours, one of torchrun.

    python bench/elastic.py [--part changes|death|goodput] [--rounds N] [--seconds S] [--every S] [--json]

changes: each arm changes between 2 and 3 processes. The pause is the time between the last step before and the first
one after, by the record's own times, less a usual step. death: one of 3 processes is killed; the time until the record
has a new step. goodput: a random process is killed every so many seconds; the steps that are done, by those of a run
that nobody disturbs. ``bench/README.md`` says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
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

from lockstep.data.common.processes import Process

LAUNCH = [sys.executable, "-P", "-c", "from lockstep.launcher.cli.start import main; main()"]
WORLDS = (2, 3)
DRAW = random.Random(0)
DEATH_GOAL, GOODPUT_GOAL = 1.5, 0.9
CODE = """
import os, pathlib, torch
from lockstep.data.common import process_start_time
from torch import nn

def data(n=8192, width=512):
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, width, generator=draw), torch.randint(10, (n,), generator=draw)
    return {"train": (x, y)}

def model(width=512):
    said = f"{os.getpid()} {process_start_time(os.getpid())}"
    pathlib.Path("process-" + os.environ.get("ROLE_RANK", "0")).write_text(said)
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 10))
"""
CONFIG = """
data: {use: ./exp.py:data, batch_size: 128, val_size: null}
model: {use: ./exp.py:model}
optimizer: {use: adam, lr: 0.001}
train: {epochs: 1000000, logical_ranks: 8, elastic: {min: 1, max: 4, deaths: 1000}, precision: fp32}
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

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind, in their order."""
        record = self.run_folder / "metrics.jsonl"
        lines = record.read_bytes().split(b"\n")[:-1] if record.exists() else []
        return [json.loads(line) for line in lines if f'"event": "{kind}"'.encode() in line]

    def times(self) -> list[float]:
        """Return the times of the steps that were logged, in their order."""
        return [event["time"] for event in self.events("step")]

    def kill_one(self) -> float:
        """Kill one of its processes at random; return when."""
        said = [file.read_text().split() for file in self.folder.glob("process-*")]
        processes = [Process(*map(int, words)) for words in said if len(words) == 2]
        living = [process for process in processes if process.is_alive]
        now = time.time()
        if living:
            DRAW.choice(living).send_signal(signal.SIGKILL)
        return now

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


def deaths(rounds: int) -> list[float]:
    """Kill one of three processes, again and again; return the seconds until the record has a new step."""
    found = []
    with _folder() as folder:
        run = Run(folder, "killed")
        training = run.launch("train", "exp.yaml", "--cpu", "3", "--name", run.name)
        run.await_steps(0)
        for number in range(rounds):
            killed = run.kill_one()
            while len(run.events("world")) < 2 * number + 2:  # without it, then with another
                if training.poll() is not None:
                    raise RuntimeError(f"the training ended with status {training.returncode}")
                time.sleep(0.1)
            without = run.events("world")[-2]
            run.await_steps(without["time"])
            found.append(min(at for at in run.times() if at > without["time"]) - killed)
            time.sleep(1.0)
        _end(training)
    return found


def goodput(arm: str, seconds: float, every: float | None) -> dict[str, int]:
    """Train for a while; return the steps that the record has of it, and what has become of the deaths."""
    with _folder() as folder:
        run = Run(folder, "good")
        training = run.launch("train", "exp.yaml", "--cpu", "3", "--name", run.name, "--max-restarts", "1000")
        run.await_steps(0)
        if arm == "torchrun":
            run.launch("stop", run.name).wait()
            training.wait()
            worker = ["-m", "lockstep.training.worker", str(run.run_folder / "spec.json")]
            options = ["--standalone", "--nproc-per-node=3", "--max-restarts=1000"]
            began = time.time()
            training = run.start([sys.executable, "-m", "torch.distributed.run", *options, *worker])
            run.await_steps(began)
        first, end = run.events("step")[-1]["step"], time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, every or left))
            if every is not None and time.monotonic() < end:
                run.kill_one()
        found = {"steps": run.events("step")[-1]["step"] - first}
        if arm == "elastic":
            found["deaths that others went on from"] = sum(
                1 for one in run.events("world") if one.get("died")
            )
            found["restarts"] = len([*run.run_folder.glob("attempt-*")]) - 1
        _end(training)
    return found


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "exp.py").write_text(CODE)
        (folder / "exp.yaml").write_text(CONFIG)
        yield folder


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    process.wait()


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the pauses of each arm in seconds."""
    pauses: dict[str, list[float]] = {}
    for arm in (scaled, resumed, torchrun):
        with _folder() as folder, arm(folder) as change:
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


def report_deaths(rounds: int) -> dict[str, Any]:
    """Measure, and return what is printed of deaths."""
    found = deaths(rounds)
    return {"machine": machine(torch.device("cpu")), "median": statistics.median(found), "seconds": found}


def report_goodput(seconds: float, every: float) -> dict[str, Any]:
    """Measure, and return what is printed of runs that lose processes."""
    arms = {
        "undisturbed": goodput("elastic", seconds, None),
        "elastic": goodput("elastic", seconds, every),
        "torchrun": goodput("torchrun", seconds, every),
    }
    whole = arms["undisturbed"]["steps"]
    shares = {f"goodput of {arm}": arms[arm]["steps"] / whole for arm in ("elastic", "torchrun")}
    return {
        "machine": machine(torch.device("cpu")),
        "seconds": seconds,
        "every": every,
        "arms": arms,
        **shares,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("changes", "death", "goodput"), default="changes")
    parser.add_argument("--rounds", type=int, default=6, help="changes of each arm, or deaths")
    parser.add_argument("--seconds", type=float, default=300.0, help="of each arm of goodput")
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two kills")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.part == "death":
        found = report_deaths(args.rounds)
        lines = [f"median {found['median']:.3f} s to the first new step after a death (goal {DEATH_GOAL} s)"]
    elif args.part == "goodput":
        found = report_goodput(args.seconds, args.every)
        lines = [f"{name}: {value}" for name, value in found.items()] + [f"(goal {GOODPUT_GOAL})"]
    else:
        found = report(measure(args.rounds))
        lines = [
            f"{name:<10} {median:8.3f} s  [{min(found['pauses'][name]):.3f}, {max(found['pauses'][name]):.3f}]"
            for name, median in found["medians"].items()
        ]
        ratio = found["scaled / torchrun"]
        lines.append(f"launch scale / torchrun's restart: {ratio:.3f} (goal 0.2; pause at most 1 s)")
    print(json.dumps(found) if args.json else "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
