"""What training needs beyond a session."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...data.common import UsageError
from ..components import Compilation
from ..optim import Ema, JointSchedule, JointState, LRSchedule, OptimizerState
from ..tensors import ParameterWatch
from .session import Session
from .train_step import AlternatingStep, TrainStep


@dataclass
class Training:
    """The parts that training needs beyond a session."""

    session: Session
    optimizers: dict[str, torch.optim.Optimizer]
    """By name; the name of the only one is empty."""
    optimizer_state: OptimizerState | JointState
    names: dict[int, str]
    """Name of each trainable parameter by ``id``."""
    schedule: LRSchedule | JointSchedule
    stepper: TrainStep | AlternatingStep
    ema: Ema
    steps: int
    """Optimizer steps of the whole run."""
    unused: list[str]
    """Parameters that the loss does not reach."""
    depends_on_world: list[str]
    """What makes the results depend on the number of processes."""
    terms: tuple[str, ...]
    """What the step returns besides the loss."""
    notes: list[str]
    """What the user should know before the first step."""
    flops: float = 0.0
    """Of a sample's forward pass."""
    compilation: Compilation | None = None
    """Of the steps, where they are compiled."""
    late: ParameterWatch | None = None
    """Notices what is made while the model trains."""

    @property
    def learning_rates(self) -> dict[str, float]:
        """Return the rate of each optimizer's first group, by its name in the record."""
        return {
            f"lr_{name}" if name else "lr": optimizer.param_groups[0]["lr"]
            for name, optimizer in self.optimizers.items()
        }

    def begin_step(self, step: int) -> None:
        """Set what is a function of the step, counted from 0 over the run."""
        if self.late is not None:
            self.late.refuse_new(step)
        self.schedule.set(step)
        self.stepper.freezing.set(step)
        self.stepper.step = step


def measure_steps(
    stepper: TrainStep | AlternatingStep, session: Session, terms: tuple[str, ...]
) -> tuple[str, ...]:
    """Have steps take the metrics that are means, where ``train.metrics`` asks for them.

    Args:
        stepper: takes the steps.
        session: with the metrics.
        terms: names that are logged of the step itself.

    Returns:
        The names of all that is logged besides the loss.

    Raises:
        UsageError: a metric has the name of a term.
    """
    if not session.spec.config.train.metrics:
        return terms
    if isinstance(stepper, AlternatingStep):
        raise UsageError(
            "train.metrics: nothing is measured of steps that are taken in turn",
            "leave it out, or return the terms",
        )
    found = {name: metric for name, metric in session.metrics.items() if metric.is_mean}
    if taken := sorted(found.keys() & set(terms)):
        raise UsageError(
            f"train.metrics: train/{taken[0]} is a term of the step already", "give the metric another name"
        )
    stepper.measured = tuple(metric.row for metric in found.values())
    return (*terms, *found)


def train_metrics_notes(session: Session) -> list[str]:
    """Tell which metrics are not measured in training though that is asked for."""
    others = [name for name, metric in session.metrics.items() if not metric.is_mean]
    if not session.spec.config.train.metrics or not others:
        return []
    return [f"train.metrics: {', '.join(others)} is measured in evaluation only: it is not a mean of samples"]
