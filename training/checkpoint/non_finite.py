"""Weights that are not numbers are not worth a checkpoint."""

from __future__ import annotations

from ...data.common import TrainingError
from ..components import learned_tensors, non_finite
from ..session import Session


def refuse_non_finite(session: Session, step: int) -> None:
    """Refuse weights that are not finite: a finite loss can have such a gradient, and no later loss shows it.

    Weights are the same on every rank, and so is the decision; running statistics are each rank's own, and one
    that raises ends the run. What was not finite when the model was made is so on purpose.

    Raises:
        TrainingError: a weight is not a number.
    """
    found = non_finite(learned_tensors(session.model))
    if names := [name for name in found if name not in session.non_finite]:
        raise TrainingError(
            f"{names[0]} is not a number after step {step}: no checkpoint is written of it",
            "lower optimizer.lr, and look for a gradient that does not exist: sqrt or norm at 0, 0/0, log(0)",
        )
