"""The metrics that are measured in training, too, of what the model returned in its steps."""

from __future__ import annotations

from ...data.common import UsageError
from .session import Session
from .train_step import TrainStep


def measure_steps(stepper: TrainStep, session: Session, terms: tuple[str, ...]) -> tuple[str, ...]:
    """Have steps take the metrics that are means, where ``train.metrics`` asks for them.

    Args:
        stepper: takes the steps.
        session: with the metrics.
        terms: names that are logged of the step itself.

    Returns:
        The names of all that is logged beside the loss.

    Raises:
        UsageError: a metric has the name of a term.
    """
    if not session.spec.config.train.metrics:
        return terms
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
    return [f"train.metrics: {', '.join(others)} is measured in evaluation only: it is no mean of samples"]
