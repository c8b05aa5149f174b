"""The optimizers of a training, with all that is built for each of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch

from ..config import RunConfig, RunLength
from ..optim import (
    Freezing,
    JointSchedule,
    JointState,
    JointUpdate,
    LRSchedule,
    OptimizerState,
    Update,
    assign_parameters,
    build_optimizer,
    build_schedule,
    divide_parameters,
    freeze_parameters,
    optimizer_notes,
    trained_spans,
)
from ..tensors import trainable
from .session import Session


@dataclass
class Optimizers:
    """The optimizers, by name; the name of the only one is empty."""

    built: dict[str, torch.optim.Optimizer]
    updates: dict[str, Update]
    state: OptimizerState | JointState
    schedule: LRSchedule | JointSchedule
    freezing: Freezing
    names: dict[int, str]
    """Name of each trainable parameter by ``id``."""
    notes: list[str]

    @property
    def update(self) -> Update | JointUpdate:
        """Return the update of all together."""
        updates = list(self.updates.values())
        return updates[0] if len(updates) == 1 else JointUpdate(updates)


def freeze_all(session: Session, config: RunConfig) -> None:
    """Take out of training what is frozen for the whole run."""
    owned = assign_parameters(config.optimizers, session.model)
    for name, part in config.parts().items():
        freeze_parameters(part.optimizer, session.model, owned[name])


def build_optimizers(
    session: Session, config: RunConfig, length: RunLength, scaler: torch.amp.GradScaler | None
) -> Optimizers:
    """Make the optimizers of a session's model; of several, each has parameters of its own.

    Raises:
        UsageError: a parameter has no optimizer, or an optimizer cannot be made.
    """
    model, base = session.model, session.spec.base
    names = {id(parameter): name for name, parameter in trainable(model)}
    owned = assign_parameters(config.optimizers, model)
    parts = {name: part.with_directions() for name, part in config.parts().items()}
    built = {name: build_optimizer(part.optimizer, model, base, owned[name]) for name, part in parts.items()}
    states = {name: OptimizerState(one, names) for name, one in built.items()}
    schedules = {
        name: build_schedule(part.schedule, built[name], length, base) for name, part in parts.items()
    }
    updates = {
        name: Update(built[name], part.optimizer.clip_norm, part.optimizer.clip_value, scaler, name)
        for name, part in parts.items()
    }
    several = config.optimizers is not None
    return Optimizers(
        built=built,
        updates=updates,
        state=JointState(states) if several else states[""],
        schedule=JointSchedule(schedules) if several else schedules[""],
        freezing=_build_freezing(session, parts, owned, length),
        names=names,
        notes=[
            note
            for name, part in parts.items()
            for note in optimizer_notes(part.optimizer, built[name], model, owned[name])
        ],
    )


def _build_freezing(
    session: Session, parts: dict[str, Any], owned: dict[str, Collection[str] | None], length: RunLength
) -> Freezing:
    spans = []
    for name, part in parts.items():
        groups = divide_parameters(part.optimizer, session.model, owned[name])
        spans += trained_spans(groups, length.steps_per_epoch, length.steps)
    return Freezing(spans)
