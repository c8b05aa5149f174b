"""What is counted of the steps: samples, losses, norms, parameters that were left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from ...data.loading import StepBatch
from ..session import Account, SampleAudit, StepResult, Training
from .loss_meter import LossMeter, Reading
from .norm_meter import NormMeter
from .unreached import UnreachedParameters


class Counted(Protocol):
    """The part of a run's progress that steps change."""

    epoch: int
    epoch_step: int
    step: int
    loss: float
    weight: float
    terms: dict[str, list[float]]


class StepCounts:
    """The counts of a run's steps, as one rank keeps them.

    Args:
        training: takes the steps.
        progress: of the run, as it goes on.
        account: of the samples so far.
        meter: what ``settle`` has returned where the run, or another rank, was before.
        tell: takes each loss as it is read.
    """

    def __init__(
        self,
        training: Training,
        progress: Counted,
        account: Account,
        meter: dict[str, Any] | None,
        tell: Callable[[Reading], None],
    ) -> None:
        config, stepper = training.session.spec.config, training.stepper
        every = config.log.every_steps
        self._training, self._progress, self._tell = training, progress, tell
        self._meter = LossMeter(training.session.buffer_group, every, training.terms)
        self._norms = NormMeter(every, stepper.norm_names, skips=stepper.skips)
        self._unreached = UnreachedParameters(config.train.unused, training.names)
        self.last: StepResult | None = None
        """Of the last step that was counted."""
        self.audited = progress.epoch_step
        """Steps of the epoch that are settled."""
        if meter is not None:
            self._meter.restore(meter)
            self._norms.restore(meter, training.session.group.device)
        self.begin_world(account)

    def begin_world(self, account: Account) -> None:
        """Count what the ranks of this world do, after what was counted before."""
        session = self._training.session
        seed = session.spec.config.train.seed
        self.samples = SampleAudit(account, session.order, session.batches, seed, session.group)

    def begin_epoch(self) -> None:
        """Count the steps of another epoch."""
        self.audited = 0

    @property
    def account(self) -> Account:
        """The account of the samples, as far as it is settled."""
        return self.samples.account

    def add(self, fetched: StepBatch, result: StepResult) -> None:
        """Count a step that is done; its loss comes with ``measure``."""
        progress = self._progress
        self._unreached.count(progress.step, result.unreached)
        self.samples.record(progress.epoch_step, progress.step, fetched)
        progress.step += 1
        progress.epoch_step += 1
        self._norms.add(progress.step, result.norms)
        self.last = result

    def measure(self, fetched: StepBatch, result: StepResult) -> None:
        """Include the loss of the step that was counted last; tell of what can be read by now."""
        progress, samples = self._progress, samples_of(fetched)
        if self._training.stepper.is_of_all:
            samples = self._training.session.batches.size(progress.epoch_step - 1)
        if reading := self._meter.add(progress.step, result.loss, result.weight, samples, result.terms):
            self._tell(reading)

    def add_late(self, fetched: StepBatch, result: StepResult) -> None:
        """Count a step that this rank could not finish, but others have."""
        self.add(fetched, result)
        self.measure(fetched, result)

    def read_pending(self) -> None:
        """Tell of the loss whose sum is under way: a checkpoint must not lose it."""
        if reading := self._meter.read_pending():
            self._tell(reading)

    def means(self) -> dict[str, float]:
        """Return means over the epoch so far, under their names in the record. Collective."""
        progress, session = self._progress, self._training.session
        if self._training.stepper.is_of_all:  # who is past this knows that nobody is a step behind
            session.group.sum(torch.zeros(1, device=session.group.device))
        return self._meter.sums_so_far(progress.loss, progress.weight, progress.terms)

    def norms_of(self, reading: Reading) -> dict[str, float]:
        """Return the means of the norms in the interval of a reading, by their names in the record."""
        return self._norms.take(reading.step)

    def close_norms(self) -> None:
        """End an interval of norms, full or not."""
        self._norms.close(self._progress.step)

    def close_losses(self) -> None:
        """Tell of all losses that were not read yet."""
        for reading in self._meter.close(self._progress.step):
            self._tell(reading)

    def close_unreached(self) -> dict[str, Any] | None:
        """Return what is to be said of parameters that an epoch's steps have left out."""
        return self._unreached.close_epoch()

    def audit(self) -> None:
        """Compare what the ranks have fetched with the plan, and add it to the account. Collective."""
        progress = self._progress
        if progress.epoch_step > self.audited:
            self.samples.settle(progress.epoch, self.audited, progress.epoch_step)
            self.audited = progress.epoch_step

    def settle(self) -> dict[str, Any]:
        """Bring together the accounts of samples; return what is not written down yet, the same on all. Collective."""
        self.read_pending()
        self.audit()
        step = self._progress.step
        return {**self._meter.state(step), **self._norms.state(step)}

    def begin_after_rescue(self) -> None:
        """Count on in the world of those that are left, who have settled all that was done."""
        self.audited = self._progress.epoch_step
        self.begin_world(self.account)


def samples_of(fetched: StepBatch) -> int:
    """Return how many samples of a rank's batch count."""
    return 0 if fetched.work.stand_in else fetched.indices.size
