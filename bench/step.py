"""Times what a step costs beside the step itself: Lockstep, Fabric, Accelerate and Lightning against a raw loop.

    python bench/step.py [--processes 1 2] [--rounds N] [--steps N] [--device cpu|cuda] [--quick] [--json]

See README.md in this folder for what the figures mean. Exit status 1: the measurement is void.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import Arm, Estimate, Times, interleave, machine, median_ratio, synchroniser
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from lockstep.data.prepare import prepare
from lockstep.launcher.config.resolution import resolve
from lockstep.training.config.run_spec import RunSpec
from lockstep.training.loop.train_loop import TrainLoop
from lockstep.training.rank.host_tuning import tune_cpu_and_allocator
from lockstep.training.rank.process_group import Group
from lockstep.training.session.build import build_session, build_training
from lockstep.training.tracking.event_log import EventLog

ROWS, FEATURES, HIDDEN, CLASSES, BATCH, LEARNING_RATE = 32_768, 32, 64, 10, 32, 1e-3
GOAL_OVERHEAD = 10.0  # µs a step over the raw loop, in one process, at most
GOAL_RATIO = 1.05  # of raw DDP's time on two processes, at most
AA_TOLERANCE = 0.03  # raw against raw: as far as its interval may stay away from 1
PROGRAM = f"""
import torch
from torch import nn

def model():
    return nn.Sequential(nn.Linear({FEATURES}, {HIDDEN}), nn.ReLU(), nn.Linear({HIDDEN}, {CLASSES}))

def data():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn({ROWS}, {FEATURES}, generator=draw)
    y = torch.randint({CLASSES}, ({ROWS},), generator=draw)
    return {{"train": (x, y), "val": (x[:256], y[:256])}}
"""
CONFIG = f"""
data: {{use: ./exp.py:data, batch_size: {BATCH}}}
model: {{use: ./exp.py:model}}
optimizer: {{use: adam, lr: {LEARNING_RATE}}}
train: {{epochs: 1000, precision: fp32}}
wandb: {{mode: disabled}}
"""
Steps = Callable[[int], None]
"""Takes so many steps."""


# --- the arms


class Lockstep:
    """A rank as the worker builds it: order, feed, seeds, schedule, step, audit, meter and record."""

    def __init__(self, group: Group, folder: Path) -> None:
        (folder / "exp.py").write_text(PROGRAM, encoding="utf-8")
        (folder / "exp.yaml").write_text(CONFIG, encoding="utf-8")
        config = resolve(str(folder / "exp.yaml"), []).config
        kind = "gpu" if group.device.type == "cuda" else "cpu"
        spec = RunSpec("bench", config, folder, prepare(config.data, folder), kind, "")
        self.session = build_session(spec, group)
        self.training = build_training(self.session)
        run = folder / f"run-{group.rank}"
        run.mkdir()
        self.loop = TrainLoop(self.training, run, EventLog(run / "metrics.jsonl"))

    def steps(self, count: int) -> None:
        """Take steps; at the end of an epoch go on with the next, without its evaluation."""
        progress = self.loop.progress
        if progress.epoch_step + count > self.session.batches.steps:
            progress.epoch += 1
            progress.epoch_step = self.loop._audited_step = 0
        self.training.steps = progress.step + count
        self.loop._train_epoch()


def mlp(group: Group) -> nn.Module:
    """Make the model that all arms train."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
    return layers.to(group.device)


def batches(group: Group) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Make this rank's parts of an epoch's batches: input costs the other arms nothing."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, FEATURES, generator=draw).to(group.device)
    y = torch.randint(CLASSES, (ROWS,), generator=draw).to(group.device)
    share = BATCH // group.world_size
    cuts = range(group.rank * share, ROWS, BATCH)
    return [(x[start : start + share], y[start : start + share]) for start in cuts]


def endless(items: list[Any]) -> Iterator[Any]:
    """Yield the batches again and again."""
    while True:
        yield from items


def raw(group: Group) -> Steps:
    """Write the loop by hand, over DDP on several processes."""
    model = mlp(group)
    wrapped = DistributedDataParallel(model) if group.world_size > 1 else model
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    source = endless(batches(group))

    def steps(count: int) -> None:
        for _ in range(count):
            x, y = next(source)
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(wrapped(x), y).backward()
            optimizer.step()

    return steps


def accelerate(group: Group) -> Steps:
    """Write the loop as Accelerate's documentation does."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=group.device.type == "cpu")
    model = mlp(group)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    model, optimizer = accelerator.prepare(model, optimizer)
    source = endless(batches(group))

    def steps(count: int) -> None:
        for _ in range(count):
            x, y = next(source)
            with accelerator.accumulate(model):
                accelerator.backward(functional.cross_entropy(model(x), y))
                optimizer.step()
                optimizer.zero_grad()

    return steps


def fabric(group: Group) -> Steps:
    """Write the loop as Fabric's documentation does; on one process, because it starts its own group."""
    from lightning_fabric import Fabric

    quiet = logging.getLogger("lightning_fabric")
    quiet.setLevel(logging.ERROR)
    own = Fabric(accelerator=group.device.type, devices=1)
    model = mlp(group)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    model, optimizer = own.setup(model, optimizer)
    source = endless(batches(group))

    def steps(count: int) -> None:
        for _ in range(count):
            x, y = next(source)
            optimizer.zero_grad()
            own.backward(functional.cross_entropy(model(x), y))
            optimizer.step()

    return steps


class Relay(torch.utils.data.IterableDataset[Any]):
    """The batches, so many at a time: a training that is one call from its start to its end can take turns, too."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items
        self._count = 0
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)

    def __iter__(self) -> Iterator[Any]:
        for item in endless(self._items):
            if not self._count:
                self._done.release()
                self._go.acquire()
            self._count -= 1
            yield item

    def start(self, train: Callable[[], None]) -> None:
        """Start the training in a thread, and wait until it asks for its first batch."""
        threading.Thread(target=train, daemon=True).start()
        self._done.acquire()

    def steps(self, count: int) -> None:
        """Hand out so many batches, and wait until another one is wanted: the last step has been made."""
        self._count = count
        self._go.release()
        self._done.acquire()


def lightning(group: Group) -> Steps:
    """Train with Lightning's Trainer without logger, bar and checkpoints."""
    from lightning import pytorch

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pytorch.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = mlp(group)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            x, y = batch
            return functional.cross_entropy(self.layers(x), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE, fused=True)

    relay = Relay(batches(group))
    trainer = pytorch.Trainer(
        accelerator=group.device.type,
        devices=1,
        max_steps=-1,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = torch.utils.data.DataLoader(relay, batch_size=None)
    relay.start(lambda: trainer.fit(Module(), loader))
    return relay.steps


PEERS = {
    "accelerate": ("accelerate", accelerate),
    "fabric": ("lightning_fabric", fabric),
    "lightning": ("lightning", lightning),
}
ALONE = ("fabric", "lightning")  # they make their own process group


# --- the measurement


def measure(group: Group, args: argparse.Namespace) -> dict[str, Any]:
    """Time blocks of steps of all arms, in an order that is the same on all ranks."""
    with tempfile.TemporaryDirectory() as folder:
        ours = Lockstep(group, Path(folder))
        takers = {"raw": raw(group), "raw again": raw(group), "lockstep": ours.steps}
        for name, (package, make) in PEERS.items():
            if find_spec(package) and not (group.world_size > 1 and name in ALONE):
                takers[name] = make(group)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        arms = {name: Arm(lambda take=take: take(args.steps)) for name, take in takers.items()}
        wait = synchroniser(group.device)
        interleave(arms, 2, np.random.default_rng(0), wait)  # warm-up
        times = interleave(arms, args.rounds, np.random.default_rng(1), wait)
        torch.set_num_threads(threads)
    return _result(group.world_size, args.steps, times)


def _result(processes: int, steps: int, times: dict[str, Times]) -> dict[str, Any]:
    base = np.asarray(times["raw"].wall)
    control = median_ratio(times["raw"].wall, times["raw again"].wall)
    ratio = median_ratio(times["lockstep"].wall, times["raw"].wall)
    each = {name: float(np.median(arm.wall)) / steps * 1e6 for name, arm in times.items()}
    over = {name: float(np.median(np.asarray(arm.wall) - base)) / steps * 1e6 for name, arm in times.items()}
    noisy = max(control.low - 1, 1 - control.high) > AA_TOLERANCE
    met = over["lockstep"] <= GOAL_OVERHEAD if processes == 1 else ratio.value <= GOAL_RATIO
    return {
        "processes": processes,
        "rounds": len(base),
        "steps_per_round": steps,
        "microseconds_per_step": {name: round(value, 1) for name, value in each.items()},
        "overhead_microseconds": {name: round(value, 1) for name, value in over.items() if name != "raw"},
        "ratio_to_raw": {name: median_ratio(arm.wall, times["raw"].wall).to_json() for name, arm in times.items()},
        "raw_to_raw": control.to_json(),
        "goal": f"at most {GOAL_OVERHEAD} µs over raw" if processes == 1 else f"at most {GOAL_RATIO} x raw DDP",
        "goal_met": met,
        "void": f"the machine is too noisy: raw to raw is {control}" if noisy else None,
    }  # fmt: skip


def _rank(rank: int, args: argparse.Namespace, port: int, out: str) -> None:
    """Run one rank of a measurement on several processes."""
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2"
    )
    warnings.simplefilter("ignore")
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    tune_cpu_and_allocator()
    result = measure(Group(rank, rank, 2, torch.device("cpu")), args)
    if rank == 0:
        Path(out).write_text(json.dumps(result), encoding="utf-8")
    torch.distributed.destroy_process_group()


def measure_together(args: argparse.Namespace) -> dict[str, Any]:
    """Measure on two processes over gloo."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
        free.close()
        out = Path(folder) / "result.json"
        torch.multiprocessing.spawn(_rank, (args, port, str(out)), nprocs=2)
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found


def _report(document: dict[str, Any]) -> None:
    print(", ".join(f"{key} {value}" for key, value in document["machine"].items() if value is not None))
    print(f"MLP {FEATURES}-{HIDDEN}-{CLASSES}, batch {BATCH}, fused Adam, fp32, one thread for each process")
    for result in document["results"]:
        print(
            f"\n{result['processes']} process(es), {result['rounds']} rounds of {result['steps_per_round']} steps"
        )
        for name, value in result["microseconds_per_step"].items():
            ratio = Estimate(*result["ratio_to_raw"][name])
            print(
                f"  {name:11} {value:8.1f} µs  {result['overhead_microseconds'].get(name, 0):+8.1f} µs  x {ratio}"
            )
        word = f"void: {result['void']}" if result["void"] else "met" if result["goal_met"] else "missed"
        print(f"  raw / raw again {Estimate(*result['raw_to_raw'])}; goal {result['goal']}: {word}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times what a step costs beside the step itself.")
    parser.add_argument("--processes", type=int, nargs="+", choices=[1, 2], default=[1, 2])
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="of one process; two are on the CPU"
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=400, help="of each arm in a round")
    parser.add_argument("--quick", action="store_true", help="a look in half a minute")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps = min(args.rounds, 8), min(args.steps, 200)
    return args


def main() -> int:
    """Measure, report, and tell whether it can be believed."""
    warnings.simplefilter("ignore")
    args = _arguments()
    device = torch.device("cuda", 0) if args.device == "cuda" else torch.device("cpu")
    results = []
    if 1 in args.processes:
        tune_cpu_and_allocator()
        results.append(measure(Group(0, 0, 1, device), args))
    if 2 in args.processes:
        results.append(measure_together(args))
    document = {"machine": machine(device), "results": results}
    print(json.dumps(document, indent=1)) if args.json else _report(document)
    return 1 if any(result["void"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
