"""What follows from an evaluation: which checkpoints are the best, a lower learning rate, an early end."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Protocol

from ...data.common import UsageError
from ..checkpoint import BestCheckpoints
from ..components import EarlyStopping, refuse_unmeasured
from ..config import CheckpointConfig, RunConfig
from ..session import Training
from ..tracking import EventLog


class Measured(Protocol):
    """The part of a run's progress that decisions need."""

    step: int
    metrics: dict[str, float]
    patience: EarlyStopping
    ranking: BestCheckpoints


class Decisions:
    """Decides by the metrics of an evaluation, the same on every rank.

    Args:
        config: of the run, with directions.
        training: whose schedule may lower the rate.
        events: rank 0's record.
    """

    def __init__(self, config: RunConfig, training: Training, events: EventLog) -> None:
        self._config = config
        self._training = training
        self._events = events
        self._no_number: set[str] = set()

    def refuse_settings(self, *, supervised: bool) -> None:
        """Refuse metrics that are never measured, and intervals of a clock that no supervisor reads for all ranks."""
        checkpoint, every = self._config.checkpoint, self._config.train.eval_every
        if checkpoint.every_minutes and not supervised:
            raise _no_clock("checkpoint.every_minutes", "checkpoint.every_steps")
        if every is not None and every.unit == "minutes" and not supervised:
            raise _no_clock("train.eval_every", "a number of steps or epochs")
        session = self._training.session
        terms = [f"train/{name}" for name in self._training.terms]
        names = ["train/loss", *terms, *session.logged_names]
        wanted = checkpoint.keep_best and "val" in session.val_feeds
        for key, section in self._config.monitors().items():
            if key != "checkpoint" or wanted or checkpoint.monitor != CheckpointConfig().monitor:
                refuse_unmeasured(section, key, names)

    def take(self, progress: Measured, where: str, *, counts: bool = True) -> bool:
        """Decide by ``progress.metrics``; return whether the checkpoint of this step is among the best.

        Args:
            progress: of the run, to be changed.
            where: the evaluation was, for users.
            counts: False for the one at a run's end that a longer run would not have: it is ranked, and that is all.
        """
        is_best = progress.ranking.update(self._config.checkpoint, progress.step, progress.metrics)
        if counts:
            if early := self._config.train.early_stop:
                progress.patience.update(early, progress.metrics)
            for reason in self._training.schedule.observe(progress.metrics):
                self._note(progress, reason)
            self._note_no_number(progress, where)
        return is_best

    def is_stopped_early(self, progress: Measured) -> bool:
        """Say whether the run has waited long enough for a better metric."""
        return progress.patience.is_over(self._config.train.early_stop)

    def tell_early_stop(self, progress: Measured) -> None:
        """Record why the run ends."""
        unit: dict[str, Any] = {} if self._config.train.eval_every is None else {"unit": "evaluation"}
        self._events.write("early_stop", step=progress.step, **asdict(progress.patience), **unit)

    def _note(self, progress: Measured, message: str) -> None:
        self._events.write("note", step=progress.step, message=message)

    def _note_no_number(self, progress: Measured, where: str) -> None:
        """Say once of a monitored metric that it is not a number: nothing can be decided by it."""
        for monitor in dict.fromkeys(section.monitor for section in self._config.monitors().values()):
            value = progress.metrics.get(monitor, 0.0)
            if (value is None or not math.isfinite(value)) and monitor not in self._no_number:
                self._no_number.add(monitor)
                self._note(progress, f"{monitor} is not a number after {where} is no better than any")


def _no_clock(key: str, instead: str) -> UsageError:
    return UsageError(
        f"{key}: there is no supervisor whose clock all ranks could follow",
        f"start it with `launch train`, or use {instead}",
    )
