"""Train and evaluate, epoch by epoch, every rank in step with the others."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..data.order import ALGORITHM
from . import batchnorm
from .checkpoint import Snapshot, Tensors, tensors_sha256, write_checkpoint
from .evaluate import evaluate
from .events import EventLog, plain
from .ledger import Account, Ledger
from .meter import LossMeter, Reading
from .randomness import StepRandomness
from .session import Training

RESULT_VERSION = 1


@dataclass
class Progress:
    """Where a run stands: a handful of integers, and what has been measured."""

    epoch: int = 0
    epoch_step: int = 0
    step: int = 0
    """Optimizer steps done in the run."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last epoch."""


class Loop:
    """Runs a training to its end.

    Args:
        training: what was built.
        folder: the run folder.
        events: rank 0's record.
    """

    def __init__(self, training: Training, folder: Path, events: EventLog) -> None:
        session = training.session
        self._training = training
        self._session = session
        self._config = session.spec.config
        self._folder = folder
        self._events = events
        self._randomness = StepRandomness(self._config.train.seed, session.group.rank, session.group.device)
        self._ledger = Ledger(Account(), session.batches, self._config.train.seed, session.group)
        self._settled = 0
        self._written: int | None = None
        self.progress = Progress()

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
            mixes_samples=batchnorm.mixes_samples(self._session.model),
        )

    def _epoch(self) -> None:
        progress = self.progress
        started = time.monotonic()
        first = progress.epoch_step
        loss = self._train_epoch()
        progress.metrics = {"train/loss": loss.mean}
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
        progress = self.progress
        if progress.epoch_step == self._session.batches.steps:
            progress.epoch += 1
            progress.epoch_step = self._settled = 0
        every = self._config.checkpoint.every_epochs
        if every and progress.epoch_step == 0 and progress.epoch % every == 0:
            self._checkpoint()

    def _train_epoch(self) -> Reading:
        """The steps of one epoch; the loss over those of them that were taken here."""
        progress, session = self.progress, self._session
        meter = LossMeter(session.group, self._config.log.every_steps)
        readings: list[Reading] = []
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
                self._log_step(reading, readings)
            if progress.step == self._training.steps:
                break
            self._checkpoint_if_asked()
        for reading in meter.close(progress.step):
            self._log_step(reading, readings)
        self._settle()
        return Reading(progress.step, sum(r.loss for r in readings), sum(r.weight for r in readings))

    def _log_step(self, reading: Reading, readings: list[Reading]) -> None:
        readings.append(reading)
        rate = self._training.optimizer.param_groups[0]["lr"]
        self._events.write(
            "step", epoch=self.progress.epoch, step=reading.step, **{"train/loss": reading.mean, "lr": rate}
        )

    def _settle(self) -> None:
        if self.progress.epoch_step > self._settled:
            self._ledger.settle(self.progress.epoch, self._settled, self.progress.epoch_step)
            self._settled = self.progress.epoch_step

    def _checkpoint_if_asked(self) -> None:
        every = self._config.checkpoint.every_steps
        if every and self.progress.step % every == 0:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Collective: every rank brings its account and its batch norm statistics; rank 0 writes."""
        if self._written == self.progress.step:
            return
        self._written = self.progress.step
        self._settle()
        session = self._session
        rank_buffers = batchnorm.gathered(session.model, session.group)
        with batchnorm.averaged(session.model, session.group):
            if session.group.rank == 0:
                snapshot = Snapshot(
                    model_tensors(self._training),
                    optimizer_tensors(self._training),
                    self._state(),
                    rank_buffers,
                )
                path = write_checkpoint(self._folder / "checkpoints", snapshot)
                self._events.write("checkpoint", step=self.progress.step, path=path.name)

    def _state(self) -> dict[str, Any]:
        progress, session, account = self.progress, self._session, self._ledger.account
        scaler = self._training.stepper.scaler
        return {
            "schema_version": RESULT_VERSION,
            "run": session.spec.run,
            "algorithm": ALGORITHM,
            "seed": self._config.train.seed,
            "epoch": progress.epoch,
            "epoch_step": progress.epoch_step,
            "step": progress.step,
            "samples": session.batches.n,
            "batch_size": session.batches.batch_size,
            "world_size": session.group.world_size,
            "max_micro_batch": self._config.data.max_micro_batch,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "instruction_set": torch.backends.cpu.get_cpu_capability(),
            "device": str(session.group.device),
            "precision": session.numerics.name,
            "scaler": None if scaler is None else scaler.state_dict(),
            "order_sha256": account.order_sha256,
            "consumed_digest": f"{account.consumed_digest:032x}",
            "ranks": account.ranks,
            "metrics": {key: plain(value) for key, value in progress.metrics.items()},
            "data_fingerprint": session.spec.facts.fingerprint,
        }

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
