"""Whole tensors put into a model, whatever wraps it and however its parameters are cut."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from .plain_names import plain_name
from .sharded_tensors import cut_like
from .stored_tensor import AnyTensor


def load_plain_state(model: nn.Module, saved: Mapping[str, AnyTensor]) -> None:
    """Put tensors into the model that have the names of its ``plain_state``."""
    own = model.state_dict()
    model.load_state_dict({name: cut_like(tensor, saved[plain_name(name)]) for name, tensor in own.items()})
