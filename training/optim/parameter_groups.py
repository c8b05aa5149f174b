"""Builds an optimizer over a model's parameters; which ones there are is declared in ``config/optimizers.py``."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import torch
from torch import nn

from ...data.common import UsageError
from ..components import trainable
from ..config import OPTIMIZERS, OptimizerConfig, ParameterGroupConfig


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer over the model's trainable parameters.

    Raises:
        UsageError: a group's pattern matches no parameter.
    """
    declared = OPTIMIZERS[config.use]
    arguments = {"lr": config.lr, "weight_decay": config.weight_decay, **config.own_arguments()}
    if declared.fused:
        arguments["fused"] = True
    built: torch.optim.Optimizer = _imported(declared.torch_class)(
        _parameter_groups(config, model), **arguments
    )
    if arguments.get("momentum"):
        built.register_step_pre_hook(_begin_late_momenta)
    return built


def _begin_late_momenta(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Begin the momentum of parameters that are reached for the first time when others have one already.

    The fused SGD of torch 2.14 raises a TypeError there. From zero it becomes the gradient, as in a first step.
    """
    for group in optimizer.param_groups:
        moved = [parameter for parameter in group["params"] if parameter.grad is not None]
        late = [parameter for parameter in moved if "momentum_buffer" not in optimizer.state[parameter]]
        if len(late) < len(moved):
            for parameter in late:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def _parameter_groups(config: OptimizerConfig, model: nn.Module) -> list[dict[str, Any]]:
    rest: dict[str, Any] = {"params": []}
    groups = [{"params": [], **_group_overrides(group)} for group in config.groups]
    for name, parameter in trainable(model):
        chosen = next((i for i, group in enumerate(config.groups) if re.search(group.match, name)), None)
        (rest if chosen is None else groups[chosen])["params"].append(parameter)
    for config_group, group in zip(config.groups, groups, strict=True):
        if not group["params"]:
            names = ", ".join(name for name, _ in trainable(model)[:8])
            raise UsageError(
                f"optimizer.groups: {config_group.match!r} matches no parameter that an earlier group left",
                f"the parameters are {names}",
            )
    return ([rest] if rest["params"] else []) + groups


def _group_overrides(group: ParameterGroupConfig) -> dict[str, Any]:
    return {key: value for key in ("lr", "weight_decay") if (value := getattr(group, key)) is not None}
