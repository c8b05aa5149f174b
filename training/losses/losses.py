"""The losses: a new one is a function here, and its line in ``LOSSES``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...data.common import TrainingError, load_callable, load_user_function
from ..config import LossConfig, RunConfig, StepConfig
from .objective import Loss, LossObjective, Objective, StepObjective
from .torch_losses import (
    DEFAULT_IGNORED,
    adapt_loss,
    as_class_indices,
    refuse_other_classes,
    refuse_other_shape,
    sum_of_kept,
    sum_of_weighted,
)
from .turns import StepsInTurn


def cross_entropy(
    output: torch.Tensor,
    target: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    class_weights: str | Sequence[float] | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Compute the cross-entropy of class scores [B, C] against class indices [B], in nats.

    Args:
        output: scores.
        target: whole numbers of any type; or probabilities [B, C].
        label_smoothing: share of the target that is spread evenly over all classes, 0 to 1.
        ignore_index: a label that is left out of the mean; unset, none is.
        class_weights: how much a sample of each class counts; `balanced`: inversely to its share of the training set.

    Returns:
        [B]; with ``ignore_index`` a sum and the number of samples that were not left out; with ``class_weights`` a sum
        and the weight of its samples.

    Raises:
        TrainingError: they are not tensors.
    """
    refuse_other_classes("cross_entropy", output, target)
    target = as_class_indices(target)
    if target.is_floating_point():  # the probability of each class: none is left out
        ignore_index = None
    ignored = DEFAULT_IGNORED if ignore_index is None else ignore_index
    weights = None if class_weights is None else _weights_of_classes(class_weights, output)
    losses = functional.cross_entropy(
        output, target, weights, reduction="none", label_smoothing=label_smoothing, ignore_index=ignored
    )
    if weights is not None and not target.is_floating_point():
        return sum_of_weighted(losses, target, target != ignored, weights)
    return losses if ignore_index is None else sum_of_kept(losses, target != ignored)


def _weights_of_classes(given: str | Sequence[float], output: torch.Tensor) -> torch.Tensor:
    """Return a weight for each class [C]; `balanced` was replaced by numbers before the ranks started."""
    is_list = not isinstance(given, str) and all(isinstance(one, int | float) and one >= 0 for one in given)
    if not is_list or len(given) != output.shape[1]:
        raise TrainingError(
            f"loss.args.class_weights: {given!r} is not a list of {output.shape[1]} weights, one for each class",
            "list numbers from 0 on, or write `balanced`",
        )
    return torch.tensor(list(map(float, given)), dtype=output.dtype).to(output.device, non_blocking=True)


def mse(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compute the squared error, averaged over the components of each sample: [B].

    Raises:
        TrainingError: the shapes differ; broadcasting would compare every output with every target.
    """
    refuse_other_shape("mse", output, target)
    return (output - target.to(output.dtype)).square().reshape(len(output), -1).mean(1)


@dataclass(frozen=True)
class LossDeclaration:
    """A loss that ``loss.use`` can name."""

    function: Callable[..., Any]
    """``(output, target, **loss.args)`` to a tensor [samples]."""
    default_metrics: tuple[str, ...] = ()
    """What is measured where the config names no metrics."""
    needs_classes: bool = False
    """Whether outputs are scores (batch, classes) and targets are class indices, which are then checked."""


LOSSES = {
    "cross_entropy": LossDeclaration(cross_entropy, default_metrics=("accuracy",), needs_classes=True),
    "mse": LossDeclaration(mse),
}
_TORCH_CLASS_LOSSES = {
    "torch.nn:CrossEntropyLoss",
    "torch.nn:NLLLoss",
    "torch.nn.modules.loss:CrossEntropyLoss",
    "torch.nn.modules.loss:NLLLoss",
    "torch.nn.functional:cross_entropy",
    "torch.nn.functional:nll_loss",
}


def default_metrics(config: LossConfig | None) -> tuple[str, ...]:
    """Name the metrics that a loss has by itself; a user's own has none, nor has a step, which is None."""
    return LOSSES[config.use].default_metrics if config is not None and config.use in LOSSES else ()


def needs_classes(config: LossConfig | None) -> bool:
    """Tell whether a loss compares scores with class indices; a user's own is not known to, nor is a step."""
    if config is None:
        return False
    return config.use in _TORCH_CLASS_LOSSES or (config.use in LOSSES and LOSSES[config.use].needs_classes)


def is_built_in(config: LossConfig) -> bool:
    """Tell whether a loss is one of ours or of torch's, and not a user's own."""
    return config.use in LOSSES or config.use.startswith("torch.")


def ignored_label(config: LossConfig | None) -> int | None:
    """Return the label that a loss leaves out, where it is known to leave one out."""
    if config is None:
        return None
    default = DEFAULT_IGNORED if config.use in _TORCH_CLASS_LOSSES else None
    ignored: int | None = config.args.get("ignore_index", default) if needs_classes(config) else None
    return ignored


def build_objective(config: RunConfig, base: Path, frozen: Mapping[str, nn.Module]) -> Objective:
    """Make what is trained: the loss that ``loss:`` names, or the step that ``step:`` names.

    Args:
        config: of the run.
        base: the folder that its paths start from.
        frozen: models that the step gets by name.
    """
    if config.step is None:
        return LossObjective(build_loss(config.loss, base), by_name=config.data.target is not None)
    steps = [_build_step(step, base, frozen) for step in config.steps]
    names = [step.name for step in config.steps]
    return StepsInTurn(steps, names) if isinstance(config.step, tuple) else steps[0]


def _build_step(config: StepConfig, base: Path, frozen: Mapping[str, nn.Module]) -> StepObjective:
    function = load_callable(config.use, base)
    given = {**config.args, **frozen}
    return StepObjective(partial(function, **given) if given else function, config.use)


def build_loss(config: LossConfig, base: Path) -> Loss:
    """Make the loss that ``loss:`` names, its arguments bound."""
    declared = LOSSES.get(config.use)
    if declared is None:
        return adapt_loss(load_user_function(config.use, "loss.use", LOSSES, base), config.use, config.args)
    return partial(declared.function, **config.args) if config.args else declared.function
