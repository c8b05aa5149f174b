"""Parameters that a loss reaches and that the model does not know of: nobody would train them, or save them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ...data.common import TrainingError

_NAMED = 3  # parameters at most
_DEEPEST = 2  # lists in lists
_OF_TORCH = {"_parameters", "_buffers", "_modules"}


def refuse_unregistered(model: nn.Module, losses: Sequence[Any]) -> None:
    """Refuse layers in a plain list, tensors as plain attributes, and parameters outside of the model.

    Args:
        model: whose parameters are trained.
        losses: what it was trained for in a pass; tensors among them with their graph.

    Raises:
        TrainingError: they depend on others.
    """
    known = {id(parameter) for parameter in model.parameters()}
    names = dict(_attributes(model))
    found = [
        names.get(id(leaf), f"a parameter of shape {list(leaf.shape)}")
        for leaf in _leaves(losses)
        if id(leaf) not in known and (isinstance(leaf, nn.Parameter) or id(leaf) in names)
    ]
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise TrainingError(
            f"the loss depends on {', '.join(sorted(found)[:_NAMED])}{more}, which the model does not have among its"
            " parameters: nobody would train it, or save it",
            "keep layers in an nn.ModuleList or nn.ModuleDict and tensors as nn.Parameter; what is not to be trained"
            " has requires_grad_(False)",
        )


def _leaves(losses: Sequence[Any]) -> Iterator[torch.Tensor]:
    """Walk the graphs of tensors down to what gradients are added up in."""
    pending = [loss.grad_fn for loss in losses if isinstance(loss, torch.Tensor) and loss.grad_fn is not None]
    seen = set(pending)
    while pending:
        node = pending.pop()
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, torch.Tensor):
            yield leaf
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                pending.append(below)


def _attributes(model: nn.Module) -> Iterator[tuple[int, str]]:
    """Name the tensors in modules' plain attributes, by their identity."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name not in _OF_TORCH:
                yield from _tensors(f"{path}.{name}".lstrip("."), value, _DEEPEST)


def _tensors(name: str, value: Any, depth: int) -> Iterator[tuple[int, str]]:
    if isinstance(value, torch.Tensor):
        yield id(value), name
    elif isinstance(value, nn.Module):
        yield from ((id(parameter), f"{name}.{inner}") for inner, parameter in value.named_parameters())
    elif isinstance(value, list | tuple) and depth:
        for index, item in enumerate(value):
            yield from _tensors(f"{name}[{index}]", item, depth - 1)
    elif isinstance(value, dict) and depth:
        for key, item in value.items():
            yield from _tensors(f"{name}[{key!r}]", item, depth - 1)
