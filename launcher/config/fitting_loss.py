"""The loss and the metrics that fit a target, where a config leaves the choice to the data: ``loss.use: auto``."""

from __future__ import annotations

from typing import NamedTuple

from ...data.common import UsageError
from ...data.config import DatasetInfo
from ...training.config import LossConfig

AUTO = "auto"


class FittingLoss(NamedTuple):
    """A loss for one kind of targets."""

    use: str
    metrics: tuple[str, ...]
    why: str
    takes_arguments: bool


_OF_CLASSES = FittingLoss("cross_entropy", ("accuracy",), "the target is a class", takes_arguments=True)
_OF_NUMBERS = FittingLoss("mse", ("mae", "r2"), "the target is a number", takes_arguments=False)


def fitting_loss(loss: LossConfig | None, facts: DatasetInfo) -> FittingLoss | None:
    """Choose by what targets are; None where the config does not leave it to them.

    Args:
        loss: the section that is trained; None where a step is.
        facts: of the data that are trained on.

    Raises:
        UsageError: targets are neither known to be classes nor numbers, or the loss takes no such arguments.
    """
    if loss is None or loss.use != AUTO:
        return None
    chosen = _OF_CLASSES if facts.classes is not None else _of_numbers(facts)
    if loss.args and not chosen.takes_arguments:
        raise UsageError(
            f"loss.args: {chosen.use} takes no {next(iter(loss.args))}",
            f"loss.use=auto is {chosen.use} here, for {chosen.why}: name the loss that you want",
        )
    return chosen


def _of_numbers(facts: DatasetInfo) -> FittingLoss:
    target = facts.look.train.target if facts.look else None
    types = sorted({kind.type for kind in target.kinds}) if target else []
    if types and all(type_.startswith(("float", "bfloat")) for type_ in types):
        return _OF_NUMBERS
    raise UsageError(
        f"loss.use=auto: targets of {facts.name} are {' or '.join(types) or 'of several parts'},"
        " which may be classes or quantities",
        "say which: loss.use=cross_entropy is for classes, loss.use=mse for quantities",
    )
