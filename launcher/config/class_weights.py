"""Weights of classes that make up for their shares of a training set."""

from __future__ import annotations

from ...data.common import UsageError
from ...data.config import DatasetInfo
from ...training.config import LossConfig

CLASS_WEIGHTS = "loss.args.class_weights"
BALANCED = "balanced"
_HINT = f"list a weight for each class in {CLASS_WEIGHTS}"


def balanced_weights(loss: LossConfig, facts: DatasetInfo) -> list[float] | None:
    """Return samples / (classes x samples of the class) for each class, so that their mean over all samples is 1.

    Args:
        loss: the section; where it does not ask for balanced weights, there are none.
        facts: of the data that are trained on.

    Raises:
        UsageError: its classes were not counted, or one has no sample.
    """
    if loss.use != "cross_entropy" or loss.args.get("class_weights") != BALANCED:
        return None
    counts = facts.train.class_counts
    if counts is None:
        raise UsageError(
            f"{CLASS_WEIGHTS}={BALANCED}: the samples of each class of {facts.name} were not counted", _HINT
        )
    empty = [number for number, count in enumerate(counts) if not count]
    if empty:
        names = facts.class_names
        which = str(empty[0]) if names is None else f"{names[empty[0]]!r}"
        raise UsageError(f"{CLASS_WEIGHTS}={BALANCED}: class {which} has no training sample", _HINT)
    return [sum(counts) / (len(counts) * count) for count in counts]
