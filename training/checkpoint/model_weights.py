"""A model's tensors, all of which must be those that were saved."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ...data.common import UsageError
from ..tensors import (
    AnyTensor,
    find_renaming,
    fit_buffers,
    load_plain_state,
    materialise_expanded_buffers,
    plain_state,
    renamed,
)

LISTED = 8
"""Tensors of a kind in a message."""


def load_weights(
    model: nn.Module, saved: Mapping[str, AnyTensor], source: str, *, exact: bool = True
) -> None:
    """Put ``saved`` into the model, all of which must fit.

    Args:
        model: to be changed.
        saved: by the names of its ``state_dict``, with or without those of wrappers.
        source: what they are of, for users.
        exact: else a floating-point type may become another one.

    Raises:
        UsageError: its names, shapes or types are not the model's.
    """
    saved = renamed(saved, find_renaming(saved, plain_state(model)))
    fit_buffers(model, saved)
    own = {name: shape_and_type(tensor, exact=exact) for name, tensor in plain_state(model).items()}
    there = {name: shape_and_type(tensor, exact=exact) for name, tensor in saved.items()}
    if own != there:
        names = sorted(name for name in own.keys() | there.keys() if own.get(name) != there.get(name))
        rows = [
            f"{name}: {there.get(name, 'absent')} there, {own.get(name, 'absent')} here"
            for name in names[:LISTED]
        ]
        raise UsageError(
            f"{source} is of another model:\n" + "\n".join(rows), "use the model that it was written with"
        )
    materialise_expanded_buffers(model)
    load_plain_state(model, saved)


def shape_and_type(tensor: AnyTensor, *, exact: bool = False) -> str:
    """Describe a tensor as one that fits another must be.

    Args:
        tensor: any.
        exact: else a floating-point type may become another one.
    """
    if tensor.is_floating_point() and not exact:
        return str(tuple(tensor.shape))
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
