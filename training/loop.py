"""Train and evaluate, epoch by epoch, every rank in step with the others."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ..data.errors import MachineError, TrainingError
from . import batchnorm
from .checkpoint import Snapshot, Tensors, tensors_sha256, write_checkpoint
from .evaluate import evaluate
from .events import EventLog, plain
from .fence import Fence
from .ledger import Account, Ledger
from .meter import LossMeter, Reading
from .randomness import StepRandomness
from .session import Training
from .state import Progress, Resumed, describe


class Loop:
    """Runs a training to its end.

    Args:
        training: what was built.
        folder: the run folder.
        events: rank 0's record.
        resumed: what a checkpoint brought, whose tensors are in place already.
        fence: asked before a checkpoint is committed.
    """

    def __init__(
        self,
        training: Training,
        folder: Path,
        events: EventLog,
        resumed: Resumed | None = None,
        fence: Fence | None = None,
    ) -> None:
        session = training.session
        self._training = training
        self._session = session
        self._config = session.spec.config
        self._folder = folder
        self._events = events
        self._resumed = resumed
        self._fence = fence or Fence(folder, None)
        self._randomness = StepRandomness(self._config.train.seed, session.group.rank, session.group.device)
        account = resumed.account if resumed else Account()
        self._ledger = Ledger(account, session.batches, self._config.train.seed, session.group)
        self.progress = resumed.progress if resumed else Progress()
        self._settled = self.progress.epoch_step
        self._written: int | None = self.progress.step if resumed else None
        self._warned = False
        self._meter = LossMeter(session.group, self._config.log.every_steps)
        if resumed:
            self._meter.restore(resumed.meter)

    def run(self) -> dict[str, Any]:
        """Train to the end; the result's values as ``launch train --json`` prints them."""
        started = time.monotonic()
        self._start()
        gc.collect()
        gc.freeze()  # what was imported and built lives as long as the run: no collection need look at it again
        while self.progress.step < self._training.steps:
            self._epoch()
        self._checkpoint()
        return self._result(time.monotonic() - started)

    def _start(self) -> None:
        self._events.write(
            "start",
            run=self._session.spec.run,
            world_size=self._session.group.world_size,
            precision=self._session.numerics.name,
            threads=torch.get_num_threads(),
            unused_parameters=self._training.unused,
            depends_on_world=batchnorm.depends_on_world(self._session.model),
            step=self.progress.step,
            notes=self._resumed.notes if self._resumed else [],
        )

    def _epoch(self) -> None:
        progress = self.progress
        started = time.monotonic()
        first = progress.epoch_step
        self._train_epoch()
        progress.metrics = {"train/loss": progress.mean_loss}
        trained = time.monotonic()
        progress.metrics |= evaluate(self._session)
        begin, end = (
            self._session.batches.span(first)[0],
            self._session.batches.span(progress.epoch_step - 1)[1],
        )
        self._events.write(
            "epoch",
            epoch=progress.epoch,
            step=progress.step,
            **progress.metrics,
            samples_per_second=(end - begin) / (trained - started),
            train_seconds=trained - started,
            val_seconds=time.monotonic() - trained,
        )
        self._turn_epoch()

    def _turn_epoch(self) -> None:
        """An epoch that was trained to its last step is over; one cut short by ``max_steps`` is not."""
        progress, asked = self.progress, self._config.checkpoint
        if progress.epoch_step < self._session.batches.steps:
            return
        progress.epoch += 1
        progress.epoch_step = self._settled = 0
        progress.loss = progress.weight = 0.0
        by_epoch = asked.every_epochs and progress.epoch % asked.every_epochs == 0
        by_step = asked.every_steps and progress.step % asked.every_steps == 0
        if by_epoch or by_step:
            self._checkpoint()

    def _train_epoch(self) -> None:
        """The steps of the epoch that are left, up to the run's last one."""
        progress, session, meter = self.progress, self._session, self._meter
        session.model.train()
        for fetched in session.train_feed.fetch(session.train_work(progress.epoch, progress.epoch_step)):
            size = session.batches.size(progress.epoch_step)
            samples = 0 if fetched.work.stand_in else fetched.indices.size
            self._randomness.reseed(progress.step)
            self._training.schedule.set(progress.step)
            loss, weight = self._training.stepper.run(fetched, size, samples)
            self._ledger.record(progress.epoch_step, progress.step, fetched)
            progress.step += 1
            progress.epoch_step += 1
            if reading := meter.add(progress.step, loss, weight, samples):
                self._count(reading)
            if progress.step == self._training.steps:
                break
            self._checkpoint_if_asked()
        for reading in meter.close(progress.step):
            self._count(reading)
        self._settle()

    def _count(self, reading: Reading) -> None:
        self.progress.loss += reading.loss
        self.progress.weight += reading.weight
        rate = self._training.optimizer.param_groups[0]["lr"]
        self._events.write(
            "step", epoch=self.progress.epoch, step=reading.step, **{"train/loss": reading.mean, "lr": rate}
        )

    def _settle(self) -> None:
        if self.progress.epoch_step > self._settled:
            self._ledger.settle(self.progress.epoch, self._settled, self.progress.epoch_step)
            self._settled = self.progress.epoch_step

    def _checkpoint_if_asked(self) -> None:
        """In mid-epoch; one that falls on the epoch's last step waits for the evaluation."""
        every = self._config.checkpoint.every_steps
        if (
            every
            and self.progress.step % every == 0
            and self.progress.epoch_step < self._session.batches.steps
        ):
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Collective: every rank brings its account and its batch norm statistics; rank 0 writes."""
        progress, session = self.progress, self._session
        if self._written == progress.step:
            return
        self._written = progress.step
        if reading := self._meter.catch_up():
            self._count(reading)
        self._settle()
        meter = self._meter.state(progress.step)
        self._refuse_not_a_number()
        rank_buffers = batchnorm.gathered(session.model, session.group)
        with batchnorm.averaged(session.model, session.group):
            if session.group.rank == 0:
                state = describe(self._training, progress, self._ledger.account, meter)
                model, optimizer = model_tensors(self._training), optimizer_tensors(self._training)
                self._commit(Snapshot(model, optimizer, state, rank_buffers))

    def _refuse_not_a_number(self) -> None:
        """A finite loss can have a gradient that is not: no later loss would tell of the last step's.

        The weights are the same on every rank, and so is the decision.
        """
        for name, tensor in model_tensors(self._training).items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise TrainingError(
                    f"{name} is not a number after step {self.progress.step}: no checkpoint is written of it",
                    "lower optimizer.lr, and look for a gradient that does not exist: sqrt or norm at 0, 0/0, log(0)",
                )

    def _commit(self, snapshot: Snapshot) -> None:
        """Write it; one that cannot be written is worth a warning, and an error only when it is the last."""
        folder = self._folder / "checkpoints"
        try:
            path = write_checkpoint(folder, snapshot, self._fence.check)
        except (OSError, SafetensorError) as error:
            message = f"{folder}: the checkpoint of step {self.progress.step} cannot be written: {error}"
            if self.progress.step == self._training.steps:
                raise MachineError(message, "make room or mend the disk, then resume the run") from error
            if not self._warned:
                self._events.write("checkpoint_failed", step=self.progress.step, message=message)
            self._warned = True
        else:
            self._events.write("checkpoint", step=self.progress.step, path=path.name)

    def _result(self, seconds: float) -> dict[str, Any]:
        account, session = self._ledger.account, self._session
        with batchnorm.averaged(session.model, session.group):
            model = model_tensors(self._training)
            hashes = {
                "weights_sha256": tensors_sha256(model),
                "state_sha256": tensors_sha256({**model, **optimizer_tensors(self._training)}),
            }
        return {
            "epochs": self.progress.epoch,
            "steps": self.progress.step,
            "samples": sum(account.ranks),
            "ranks": account.ranks,
            "metrics": {key: plain(value) for key, value in self.progress.metrics.items()},
            **hashes,
            "order_sha256": account.order_sha256,
            "consumed_digest": f"{account.consumed_digest:032x}",
            "seconds": round(seconds, 3),
        }


def model_tensors(training: Training) -> Tensors:
    """Parameters and buffers by name."""
    return dict(training.session.model.state_dict())


def optimizer_tensors(training: Training) -> Tensors:
    """The optimizer's tensors as ``parameter/key``."""
    return {
        f"{training.names[id(parameter)]}/{key}": value
        for parameter, state in training.optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }
