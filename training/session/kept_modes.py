"""A model in training or in evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def training_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put the model into training or evaluation mode; afterwards every module is as it was."""
    whole = model.training
    before = {module: module.training for module in model.modules()}
    _put_into_mode(model, training=training)
    try:
        yield
    finally:
        _put_into_mode(model, training=whole)  # a model's own method may do more than to set a flag
        for module, was in before.items():
            module.training = was


def _put_into_mode(model: nn.Module, *, training: bool) -> None:
    if training:
        model.train()
    else:
        model.eval()
