"""What users should know of their optimizer before the first step."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from ..config import OptimizerConfig, is_own
from ..tensors import trainable
from .layers import find_layers
from .parameter_groups import divide_parameters, shortened


def optimizer_notes(
    config: OptimizerConfig,
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    only: Collection[str] | None = None,
) -> list[str]:
    """List what was decided here, and what is less than one might expect."""
    return [*_layers(config, model, only), *_left_out(config, optimizer, model, only), *_rounding(config)]


def _layers(config: OptimizerConfig, model: nn.Module, only: Collection[str] | None) -> list[str]:
    if config.layer_decay is None:
        return []
    layers = find_layers(model, config.layers, only)
    first, last = layers.names[0], layers.names[-1]
    scale = config.layer_decay ** (len(layers.names) - 1)
    why = "optimizer.layers" if config.layers else "the order in which the model lists its parts"
    rates = f"from {first} (lr x {scale:.3g}) to {last} (lr x 1)"
    return [f"layer_decay {config.layer_decay:g}: {len(layers.names)} layers by {why}, {rates}"]


def _left_out(
    config: OptimizerConfig, optimizer: torch.optim.Optimizer, model: nn.Module, only: Collection[str] | None
) -> list[str]:
    if not is_own(config.use):
        return []
    taken = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    named = [(name, p) for name, p in trainable(model) if only is None or name in only]
    left = [name for name, parameter in named if id(parameter) not in taken]
    return [f"{config.use} leaves out {shortened(', '.join(left))}: these stay as they are"] if left else []


def _rounding(config: OptimizerConfig) -> list[str]:
    if config.use != "muon":
        return []
    return [
        "muon computes in bf16: on another number of processes its results differ by more than the last bits"
    ]


def describe_groups(
    config: OptimizerConfig,
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    only: Collection[str] | None = None,
) -> list[str]:
    """Say of each of the optimizer's groups which parameters it has."""
    names = {id(parameter): name for name, parameter in trainable(model)}
    known = {id(group.named[0][1]): group for group in divide_parameters(config, model, only)}
    found = []
    for built in optimizer.param_groups:
        own = [names[id(parameter)] for parameter in built["params"]]
        group = known.get(id(built["params"][0])) if own else None
        if group is not None and len(group.named) == len(own):
            found.append(group.describe(others=bool(config.groups)))
        else:  # of a function's own making
            found.append(shortened(", ".join(own), 40))
    return found
