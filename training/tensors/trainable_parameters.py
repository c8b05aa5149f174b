"""Which parameters of a model are trained."""

from __future__ import annotations

from torch import nn

from ...data.common import TrainingError
from .plain_names import plain_name


def trainable(model: nn.Module, *, every_name: bool = False) -> list[tuple[str, nn.Parameter]]:
    """List the names and parameters that the optimizer gets.

    Args:
        model: with parameters.
        every_name: those that have two names, as tied weights do, are there twice.

    Raises:
        TrainingError: there is none.
    """
    named = model.named_parameters(remove_duplicate=not every_name)
    found = [(plain_name(name), parameter) for name, parameter in named if parameter.requires_grad]
    if not found:
        raise TrainingError(
            "the model has no parameter to train", "return a module with parameters that require a gradient"
        )
    return found
