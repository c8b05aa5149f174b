"""How long training stands still for a checkpoint, against torch.save and accelerator.save_state; and for a resume.

    python bench/checkpoint.py [--parameters 100] [--rounds N] [--device cpu|cuda] [--part stall|resume|both] [--json]

See README.md in this folder for what the figures mean. Exit status 1: the measurement is void.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from timing import Arm, Estimate, interleave, machine, median_ratio, synchroniser

from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.prepare import prepare
from lockstep.launcher.config.resolution import resolve
from lockstep.training.checkpoint.state import model_tensors
from lockstep.training.config.run_config import RunSpec
from lockstep.training.loop.train_loop import TrainLoop
from lockstep.training.rank.process_group import Group
from lockstep.training.session.build import build_session, build_training
from lockstep.training.tracking.event_log import EventLog, read_events

GOAL = 0.25  # of the faster peer's time, at most
WIDTH = 2048
BATCH = 8
STEPS = 6  # of training beside a checkpoint that is being written
VIRTUAL = 10**9  # samples of the data set that is resumed
AA_TOLERANCE = 0.03  # as far as the interval of equal arms may stay away from 1, as in bench/mnist.py
AA_WIDTH = 0.5  # as wide as the interval of equal arms may be

EXPERIMENT = f"""
import torch
from torch import nn

def data(n={BATCH * 64}):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, {WIDTH}, generator=g)
    return {{"train": (x, (x.sum(1) > 0).long())}}

def model(layers):
    return nn.Sequential(*[nn.Linear({WIDTH}, {WIDTH}) for _ in range(layers)], nn.Linear({WIDTH}, 2))

class Virtual(torch.utils.data.Dataset):
    def __len__(self):
        return {VIRTUAL}
    def __getitem__(self, index):
        return torch.tensor([float(index % 7), float(index % 3)]), torch.tensor(index % 2)

def virtual():
    return {{"train": Virtual(), "val": (torch.ones(4, 2), torch.zeros(4).long())}}
"""


# --- how long training stands still


class Ours:
    """The real loop of one process, taken from step to step by hand.

    Args:
        folder: with ``exp.py``; also the run folder.
        layers: of the model.
        device: where it is trained.
    """

    def __init__(self, folder: Path, layers: int, device: torch.device) -> None:
        settings = [
            "data.use=./exp.py:data",
            f"data.batch_size={BATCH}",
            "model.use=./exp.py:model",
            f"model.args={{layers: {layers}}}",
            "train.precision=fp32",
            "checkpoint.keep_last=1",
            "wandb.mode=disabled",
        ]
        config = resolve("digits", settings).config
        self.facts: DatasetInfo = prepare(config.data, folder)
        spec = RunSpec("bench", config, folder, self.facts, "gpu" if device.type == "cuda" else "cpu", "")
        session = build_session(spec, Group(0, 0, 1, device))
        self.training = build_training(session)
        self.events = EventLog(folder / "metrics.jsonl")
        self.loop = TrainLoop(self.training, folder, self.events)
        self.fetched = next(session.train_feed.fetch(session.train_work(0, 0)))
        self.steps(2)  # the optimizer has its state

    def steps(self, count: int) -> None:
        """Train on one batch."""
        for _ in range(count):
            self.training.stepper.run(self.fetched, BATCH, BATCH)
            self.loop.progress.step += 1

    def checkpoint(self) -> None:
        """All that the loop does for one, up to where the next step may start."""
        self.loop._save_checkpoint()

    def wait(self) -> None:
        """Until it is on the disk."""
        self.loop._writer.finish()


def arms(ours: Ours, folder: Path) -> dict[str, Arm]:
    """Each writes model and optimizer; before each time there is a step, and nothing is being written."""
    model, optimizer = ours.training.session.model, ours.training.optimizers[""]
    accelerator = Accelerator(cpu=ours.training.session.group.device.type == "cpu")
    accelerator._models.append(model)
    accelerator._optimizers.append(accelerator.prepare_optimizer(optimizer))

    def by_torch() -> None:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "peer.pt")

    def by_accelerate() -> None:
        accelerator.save_state(str(folder / "accelerate"))

    def before() -> None:
        ours.wait()
        os.sync()
        ours.steps(1)

    def then_steps(write: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            write()
            ours.steps(STEPS)

        return run

    return {
        "lockstep": Arm(ours.checkpoint, before),
        "lockstep again": Arm(ours.checkpoint, before),
        "torch.save": Arm(by_torch, before),
        "save_state": Arm(by_accelerate, before),
        "steps": Arm(lambda: ours.steps(STEPS), before),
        "steps beside a checkpoint": Arm(then_steps(ours.checkpoint), before),
        "steps after torch.save": Arm(then_steps(by_torch), before),
    }


def measure_stall(folder: Path, parameters: float, rounds: int, device: torch.device) -> dict[str, Any]:
    """Seconds and ratios."""
    layers = max(1, round(parameters * 1e6 / (WIDTH * (WIDTH + 1))))
    ours = Ours(folder, layers, device)
    count = sum(tensor.numel() for tensor in model_tensors(ours.training).values())
    started = time.perf_counter()
    ours.checkpoint()
    first = time.perf_counter() - started
    ours.wait()
    times = {
        name: value.wall
        for name, value in interleave(
            arms(ours, folder), rounds, np.random.default_rng(0), synchroniser(device)
        ).items()
    }
    ours.wait()
    ours.events.close()
    seconds = {name: float(np.median(values)) for name, values in times.items()}
    faster = min(("torch.save", "save_state"), key=lambda name: seconds[name])
    base = times["steps"]
    extra = np.maximum(np.subtract(times["steps beside a checkpoint"], base), 0)
    written = [e["seconds"] for e in read_events(folder / "metrics.jsonl") if e["event"] == "checkpoint"]
    return {
        "parameters": count,
        "first": first,
        "seconds": seconds,
        "written": float(np.median(written)),
        "faster": faster,
        "ratio": median_ratio(times["lockstep"], times[faster]),
        "a/a": median_ratio(times["lockstep"], times["lockstep again"]),
        "lost": float(np.median(extra)),
        "lost_torch": float(np.median(np.subtract(times["steps after torch.save"], base))),
    }


def tell_stall(found: dict[str, Any]) -> None:
    """In words."""
    print(
        f"{found['parameters'] / 1e6:.1f} M parameters, Adam: how long training stands still for a checkpoint"
    )
    for name, seconds in found["seconds"].items():
        print(f"  {name:<26} {seconds * 1e3:>9.1f} ms")
    print(f"  the first one, memory to be had: {found['first'] * 1e3:.1f} ms")
    print(
        f"  on the disk after {found['written']:.2f} s, in the background, with a hash of each file and fsync"
    )
    verdict = "met" if found["ratio"].value <= GOAL else "missed"
    print(
        f"lockstep / {found['faster']}: {found['ratio']} (goal {GOAL}: {verdict}); equal arms {found['a/a']}"
    )
    lost, after_torch = found["lost"] * 1e3, found["lost_torch"] * 1e3
    print(f"lost in all, with the steps beside it: {lost:.0f} ms; after torch.save {after_torch:.0f} ms")


# --- how long a resume takes


def measure_resume(folder: Path, rounds: int) -> dict[str, Any]:
    """From the command to the first step, at 0 % and at 90 % of an epoch of 10^9 samples."""
    environment = {**os.environ, "LOCKSTEP_RUNS": str(folder / "runs"), "WANDB_MODE": "disabled"}
    command = [sys.executable, "-P", "-c", "from lockstep.launcher.cli.start import main; main()"]
    settings = [
        "data.use=./exp.py:virtual",
        "data.batch_size=1000",
        "data.workers=0",
        "model.use=linear",
        "loss.use=cross_entropy",
        "checkpoint.every_epochs=null",
        "log.every_steps=1",
    ]

    def launch(*arguments: str) -> None:
        argv, nothing = [*command, *arguments], subprocess.DEVNULL
        subprocess.run(argv, cwd=folder, env=environment, check=True, stdout=nothing, stderr=nothing)

    (folder / "exp.yaml").write_text("{}\n", encoding="utf-8")
    model = ["model.use=./exp.py:small"]
    with (folder / "exp.py").open("a", encoding="utf-8") as file:
        file.write("\ndef small():\n    return nn.Linear(2, 2)\n")
    launch("train", "exp.yaml", *settings, *model, "train.max_steps=2", "--cpu", "1", "--name", "start")
    _move(folder / "runs" / "start", folder / "runs" / "late", VIRTUAL // 1000 * 9 // 10)

    def resume(name: str) -> Callable[[], None]:
        def run() -> None:
            last = max(int(p.name[5:]) for p in (folder / "runs" / name / "checkpoints").glob("step_*"))
            launch("resume", name, f"train.max_steps={last + 2}", "--cpu", "1")

        return run

    times = interleave(
        {
            "at 0 %": Arm(resume("start")),
            "at 0 % again": Arm(resume("start")),
            "at 90 %": Arm(resume("late")),
        },
        rounds,
        np.random.default_rng(0),
    )
    wall = {name: value.wall for name, value in times.items()}
    return {
        "seconds": {name: float(np.median(values)) for name, values in wall.items()},
        "ratio": median_ratio(wall["at 90 %"], wall["at 0 %"]),
        "a/a": median_ratio(wall["at 0 % again"], wall["at 0 %"]),
    }


def _move(run: Path, to: Path, step: int) -> None:
    """The same run, as it would stand at ``step`` of its first epoch; the accounts of what it read are left empty."""
    from lockstep.training.checkpoint.storage import read_checkpoint, write_checkpoint

    shutil.copytree(run, to)
    newest = max((to / "checkpoints").glob("step_*"))
    found = read_checkpoint(newest)
    found.state.update(step=step, epoch_step=step, pending=False)
    shutil.rmtree(to / "checkpoints")
    write_checkpoint(to / "checkpoints", found)


def tell_resume(found: dict[str, Any]) -> None:
    """In words."""
    print(f"`launch resume` for two steps of an epoch of {VIRTUAL:,} samples")
    for name, seconds in found["seconds"].items():
        print(f"  {name:<14} {seconds:>7.2f} s")
    print(f"90 % / 0 %: {found['ratio']} (goal 1); equal arms {found['a/a']}")


def plain(value: Any) -> Any:
    """For JSON."""
    return value.to_json() if isinstance(value, Estimate) else value


def main() -> int:
    """Measure and tell; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--parameters", type=float, default=100, help="millions")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--part", choices=("stall", "resume", "both"), default="both")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    device = torch.device(asked.device, 0) if asked.device == "cuda" else torch.device("cpu")
    document: dict[str, Any] = {"machine": machine(device)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "exp.py").write_text(EXPERIMENT, encoding="utf-8")
        if asked.part != "resume":
            document["stall"] = measure_stall(folder, asked.parameters, asked.rounds, device)
        if asked.part != "stall":
            document["resume"] = measure_resume(folder, asked.rounds)
    if asked.json:
        parts = {key: {k: plain(v) for k, v in part.items()} for key, part in document.items()}
        print(json.dumps(parts, indent=1))
    else:
        print(", ".join(f"{key} {value}" for key, value in document["machine"].items()))
        tell = {"stall": tell_stall, "resume": tell_resume}
        for part in ("stall", "resume"):
            if part in document:
                tell[part](document[part])
    void = [p for p in ("stall", "resume") if p in document and _is_void(document[p]["a/a"])]
    if void:
        print(f"void: equal arms differ too much in {', '.join(void)}", file=sys.stderr)
    return 1 if void else 0


def _is_void(equal: Estimate) -> bool:
    return equal.high - equal.low > AA_WIDTH or equal.low > 1 + AA_TOLERANCE or equal.high < 1 - AA_TOLERANCE


if __name__ == "__main__":
    sys.exit(main())
