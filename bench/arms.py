"""The training loops that benchmarks compare: each takes steps of the same model on batches that are there already."""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
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

Steps = Callable[[int], None]
"""Takes so many steps."""
Measure = Callable[[Group, argparse.Namespace], dict[str, Any]]
"""What a rank measures, beside the others of its group."""
LEARNING_RATE = 1e-3
_CONFIG = """
data: {{use: ./exp.py:data, batch_size: {batch}}}
model: {{use: ./exp.py:model}}
loss: {{use: ./exp.py:loss}}
metrics: []
optimizer: {{use: adam, lr: {rate}}}
train: {{epochs: 100000, precision: {precision}}}
wandb: {{mode: disabled}}
"""
_PROGRAM = """
import torch
from torch import nn
from torch.nn import functional
{code}

def loss(output, target):
    losses = functional.cross_entropy(output, target, reduction="none")
    return losses if losses.ndim == 1 else losses.flatten(1).mean(1)

def data():
    x, y = samples()
    return {{"train": (x, y), "val": (x[:2], y[:2])}}
"""


@dataclass(frozen=True)
class Workload:
    """A model and its data, as a user's file has them.

    Attributes:
        name: in the table.
        code: defines ``model()`` and ``samples()``, tensors of inputs [n, ...] and of class indices [n, ...].
        batch: samples of a global batch, a divisor of n.
        precision: of ``train.precision``: fp32 or bf16.
        settings: further ones of Lockstep's.
    """

    name: str
    code: str
    batch: int
    precision: str = "fp32"
    settings: tuple[str, ...] = field(default=())

    def functions(self) -> dict[str, Any]:
        """Run the code; return what it defines."""
        defined: dict[str, Any] = {}
        exec(compile(_PROGRAM.format(code=self.code), self.name, "exec"), defined)
        return defined

    def model(self, group: Group) -> nn.Module:
        """Make the model that all arms train."""
        torch.manual_seed(0)
        made: nn.Module = self.functions()["model"]()
        return made.to(group.device).train()

    def batches(self, group: Group) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Make this rank's parts of an epoch's batches on the device: input costs the arms nothing."""
        x, y = (part.to(group.device) for part in self.functions()["samples"]())
        share = self.batch // group.world_size
        cuts = range(group.rank * share, len(x), self.batch)
        return [(x[start : start + share], y[start : start + share]) for start in cuts]

    def autocast(self, group: Group) -> AbstractContextManager[Any]:
        """Return torch's own autocast, for the loops that are written by hand."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(group.device.type, torch.bfloat16)


class Lockstep:
    """A rank as the worker builds it: order, feed, seeds, schedule, step, audit, meter and record."""

    def __init__(self, workload: Workload, group: Group, folder: Path, *settings: str) -> None:
        folder.mkdir(parents=True)
        (folder / "exp.py").write_text(_PROGRAM.format(code=workload.code), encoding="utf-8")
        text = _CONFIG.format(batch=workload.batch, rate=LEARNING_RATE, precision=workload.precision)
        (folder / "exp.yaml").write_text(text, encoding="utf-8")
        config = resolve(str(folder / "exp.yaml"), [*workload.settings, *settings]).config
        kind = "gpu" if group.device.type == "cuda" else "cpu"
        spec = RunSpec("bench", config, folder, prepare(config.data, folder), kind, "")
        self.session = build_session(spec, group)
        self.training = build_training(self.session)
        run = folder / "run"
        run.mkdir()
        self.loop = TrainLoop(self.training, run, EventLog(run / "metrics.jsonl"))

    def steps(self, count: int) -> None:
        """Take steps; at the end of an epoch continue with the next, without its evaluation."""
        progress, size = self.loop.progress, self.session.batches.steps
        while count:
            if progress.epoch_step == size:
                progress.epoch += 1
                progress.epoch_step = self.loop._audited_step = 0
            part = min(count, size - progress.epoch_step)
            self.training.steps = progress.step + part
            self.loop._train_epoch()
            count -= part


def on_two_processes(measure: Measure, args: argparse.Namespace) -> dict[str, Any]:
    """Measure on two processes over gloo; return what rank 0 has found."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
        free.close()
        out = Path(folder) / "result.json"
        torch.multiprocessing.spawn(_rank, (measure, args, port, str(out)), nprocs=2)
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found


def _rank(rank: int, measure: Measure, args: argparse.Namespace, port: int, out: str) -> None:
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


def endless(items: list[Any]) -> Iterator[Any]:
    """Yield the batches again and again."""
    while True:
        yield from items


def raw(workload: Workload, group: Group, compiled: str | None = None) -> Steps:
    """Write the loop by hand, over DDP on several processes.

    Args:
        workload: what is trained.
        group: the ranks.
        compiled: a mode of ``torch.compile``.
    """
    model = workload.model(group)
    wrapped = DistributedDataParallel(model) if group.world_size > 1 else model
    called = torch.compile(wrapped, mode=compiled) if compiled else wrapped
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    source = endless(workload.batches(group))

    def steps(count: int) -> None:
        for _ in range(count):
            x, y = next(source)
            optimizer.zero_grad(set_to_none=True)
            with workload.autocast(group):
                loss = functional.cross_entropy(called(x), y)
            loss.backward()
            optimizer.step()

    return steps


def accelerate(workload: Workload, group: Group) -> Steps:
    """Write the loop as Accelerate's documentation does."""
    from accelerate import Accelerator

    mixed = "bf16" if workload.precision == "bf16" else "no"
    accelerator = Accelerator(cpu=group.device.type == "cpu", mixed_precision=mixed)
    model = workload.model(group)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    model, optimizer = accelerator.prepare(model, optimizer)
    source = endless(workload.batches(group))

    def steps(count: int) -> None:
        for _ in range(count):
            x, y = next(source)
            with accelerator.accumulate(model):
                accelerator.backward(functional.cross_entropy(model(x), y))
                optimizer.step()
                optimizer.zero_grad()

    return steps


def fabric(workload: Workload, group: Group) -> Steps:
    """Write the loop as Fabric's documentation does; on one process, because it starts its own group."""
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    mixed = "bf16-mixed" if workload.precision == "bf16" else "32-true"
    own = Fabric(accelerator=group.device.type, devices=1, precision=mixed)
    model = workload.model(group)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    model, optimizer = own.setup(model, optimizer)
    source = endless(workload.batches(group))

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


def lightning(workload: Workload, group: Group) -> Steps:
    """Train with Lightning's Trainer without logger, bar and checkpoints; on one process, because it starts its own."""
    from lightning import pytorch

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pytorch.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = workload.model(group)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            x, y = batch
            return functional.cross_entropy(self.layers(x), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE, fused=True)

    relay = Relay(workload.batches(group))
    trainer = pytorch.Trainer(
        accelerator=group.device.type,
        devices=1,
        precision="bf16-mixed" if workload.precision == "bf16" else "32-true",
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
ALONE = ("fabric", "lightning")
"""They make their own process group."""
