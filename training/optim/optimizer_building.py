"""Builds an optimizer over a model's parameters; which ones there are is declared in ``config/optimizers.py``."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...data.common import UsageError
from ..config import OPTIMIZERS, OptimizerConfig, is_own
from ..tensors import is_sharded
from .parameter_groups import Named, ParameterGroup, divide_parameters, scale_rates, shortened
from .user_optimizer import build_own

_FUSED_IN_PARTS = ("adam", "adamw")
"""Those whose fused kernel torch 2.14 can run on parts of parameters; it raises NotImplementedError at the others'."""


def build_optimizer(
    config: OptimizerConfig, model: nn.Module, base: Path = Path(), only: Collection[str] | None = None
) -> torch.optim.Optimizer:
    """Make the optimizer over the model's trainable parameters.

    Args:
        config: the ``optimizer:`` section.
        model: of which ``freeze_parameters`` has frozen what is never trained.
        base: the folder of the config file.
        only: names of its parameters; None takes all.

    Raises:
        UsageError: a group takes no parameter, or the optimizer does not take what the config gives it.
    """
    groups = divide_parameters(config, model, only)
    return build_own(config, groups, base) if is_own(config.use) else _build_torchs(config, groups)


def _build_torchs(config: OptimizerConfig, groups: list[ParameterGroup]) -> torch.optim.Optimizer:
    declared = OPTIMIZERS[config.use]
    arguments = {"lr": config.lr, "weight_decay": config.weight_decay, **config.own_arguments()}
    in_parts = config.use in _FUSED_IN_PARTS or not _is_cut(groups)
    if declared.fused and in_parts and not _is_complex(groups):
        arguments["fused"] = True
    if config.use == "muon":
        _refuse_other_than_matrices([named for group in groups for named in group.named])
    built: torch.optim.Optimizer = _imported(declared.torch_class, config.use)(
        [{"params": [p for _, p in group.named], **group.settings} for group in groups], **arguments
    )
    scale_rates(built, groups)
    if config.use == "sgd" and any(group["momentum"] for group in built.param_groups):
        built.register_step_pre_hook(_begin_late_momenta)
    return built


def _is_complex(groups: list[ParameterGroup]) -> bool:
    return any(parameter.is_complex() for group in groups for _, parameter in group.named)


def _is_cut(groups: list[ParameterGroup]) -> bool:
    return any(is_sharded(parameter) for group in groups for _, parameter in group.named)


def _begin_late_momenta(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Begin the momentum of parameters that are reached for the first time when others have one already.

    The fused SGD of torch 2.14 raises a TypeError there. From zero it becomes the gradient, as in a first step.
    """
    for group in optimizer.param_groups:
        moved = [parameter for parameter in group["params"] if parameter.grad is not None]
        late = [parameter for parameter in moved if "momentum_buffer" not in optimizer.state[parameter]]
        if group["momentum"] and len(late) < len(moved):
            for parameter in late:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _imported(name: str, use: str) -> Any:
    module, _, attribute = name.partition(":")
    found = getattr(import_module(module), attribute, None)
    if found is None:
        raise UsageError(
            f"optimizer.use = {use}: torch {torch.__version__} does not have it", "use a newer torch"
        )
    return found


def _refuse_other_than_matrices(named: Named) -> None:
    others = [f"{name} ({parameter.ndim}-d)" for name, parameter in named if parameter.ndim != 2]  # noqa: PLR2004
    if others:
        raise UsageError(
            f"optimizer.use = muon takes matrices only, and there are {shortened(', '.join(others))}",
            "give them to another: optimizers: {matrices: {use: muon, min_ndim: 2, max_ndim: 2}, rest: {use: adamw}}",
        )
