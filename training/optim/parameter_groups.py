"""The groups of parameters that a config describes, with the settings of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ...data.common import TrainingError, UsageError
from ..config import OptimizerConfig, ParameterGroupConfig, ParameterSelection
from ..tensors import plain_name
from .freezing import Span
from .layers import Layers, find_layers

Named = list[tuple[str, nn.Parameter]]


@dataclass
class ParameterGroup:
    """Parameters that are trained with the same settings."""

    config: ParameterGroupConfig | None
    """Its entry of ``optimizer.groups``; None for what no entry takes."""
    layer: str | None = None
    """With ``layer_decay``: the layer's name."""
    scale: float = 1.0
    """Of the learning rate, by ``layer_decay``."""
    named: Named = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        """Return what differs from the optimizer's other settings."""
        config = self.config
        if config is None:
            return {}
        both = {key: value for key in ("lr", "weight_decay") if (value := getattr(config, key)) is not None}
        return {**both, **config.own_arguments()}

    def describe(self, *, others: bool) -> str:
        """Say which parameters these are.

        Args:
            others: whether there are groups with a description besides them.
        """
        rest = "all others" if others else "all"
        what = rest if self.config is None else self.config.description
        return what if self.layer is None else f"{what}, layer {self.layer}"


def assign_parameters(
    optimizers: Mapping[str, ParameterSelection] | None, model: nn.Module
) -> dict[str, Collection[str] | None]:
    """Say which parameters each optimizer has, by its name; None where the only one has all.

    Raises:
        UsageError: a parameter has no optimizer, or an optimizer no parameter.
    """
    if optimizers is None:
        return {"": None}
    found: dict[str, list[str]] = {name: [] for name in optimizers}
    for name, parameter in _named(model):
        takers = (key for key, one in optimizers.items() if one.takes(name, parameter.ndim))
        taker = next(takers, None)
        if taker is not None:
            found[taker].append(name)
        elif parameter.requires_grad:
            raise UsageError(
                f"optimizers: none takes the parameter {name}",
                "widen a `match`, or add an optimizer without one, which takes all others",
            )
    if idle := [key for key, names in found.items() if not names]:
        raise UsageError(f"optimizers.{idle[0]}: no parameter is left for it", "correct its `match`")
    return dict(found)


def freeze_parameters(config: OptimizerConfig, model: nn.Module, only: Collection[str] | None = None) -> None:
    """Take out of training, as if the model had said so itself, what is frozen for the whole run.

    Raises:
        TrainingError: nothing is left.
    """
    named = _named(model, only)
    frozen = [p for name, p in named if (group := _taken_by(config, name, p)) and group.always_frozen]
    for parameter in frozen:
        parameter.requires_grad = False
    if frozen and not any(parameter.requires_grad for _, parameter in named):
        raise TrainingError("optimizer.groups freezes every parameter", "leave one to train")


def divide_parameters(
    config: OptimizerConfig, model: nn.Module, only: Collection[str] | None = None
) -> list[ParameterGroup]:
    """Divide the parameters that are ever trained, of all or of ``only`` some.

    Raises:
        UsageError: an entry of ``groups`` takes none, or the layers do not fit.
    """
    named = _named(model, only)
    _refuse_idle_entries(config, named)
    layers = None if config.layer_decay is None else find_layers(model, config.layers, only)
    found: dict[tuple[int, int], ParameterGroup] = {}
    for name, parameter in named:
        entry = _taken_by(config, name, parameter)
        if parameter.requires_grad:
            place = config.groups.index(entry) if entry else -1, layers.index[name] if layers else 0
            if place not in found:
                found[place] = ParameterGroup(entry, *_layer(config, layers, name))
            found[place].named.append((name, parameter))
    return [found[place] for place in sorted(found)]


def trained_spans(groups: Sequence[ParameterGroup], steps_per_epoch: int, steps: int) -> list[Span]:
    """Return when parameters are trained that are not in every step.

    Args:
        groups: of the optimizer.
        steps_per_epoch: of the run.
        steps: of the whole run, which per cents are of.
    """
    found = []
    for group in groups:
        limits = (group.config.until, group.config.after) if group.config else (None, None)
        until, after = (None if one is None else one.in_steps(steps_per_epoch, steps) for one in limits)
        if until or after:
            found.append(Span(until or 0, after, [parameter for _, parameter in group.named]))
    return found


def _named(model: nn.Module, only: Collection[str] | None = None) -> Named:
    every = [(plain_name(name), parameter) for name, parameter in model.named_parameters()]
    return every if only is None else [(name, parameter) for name, parameter in every if name in only]


def _taken_by(config: OptimizerConfig, name: str, parameter: nn.Parameter) -> ParameterGroupConfig | None:
    return next((group for group in config.groups if group.takes(name, parameter.ndim)), None)


def _layer(config: OptimizerConfig, layers: Layers | None, name: str) -> tuple[str | None, float]:
    if layers is None or config.layer_decay is None:
        return None, 1.0
    return layers.names[layers.index[name]], layers.scale(name, config.layer_decay)


def _refuse_idle_entries(config: OptimizerConfig, named: Sequence[tuple[str, nn.Parameter]]) -> None:
    """Refuse an entry that no parameter is left for: it would do nothing of what it says."""
    taken = [(entry, parameter) for name, parameter in named if (entry := _taken_by(config, name, parameter))]
    for at, entry in enumerate(config.groups):
        own = [parameter for one, parameter in taken if one is entry]
        if not own or not (entry.always_frozen or any(parameter.requires_grad for parameter in own)):
            names = ", ".join(name for name, parameter in named if parameter.requires_grad)
            raise UsageError(
                f"optimizer.groups[{at}]: {entry.description!r} matches no parameter that an earlier group left",
                f"the parameters are {shortened(names)}",
            )


def scale_rates(optimizer: torch.optim.Optimizer, groups: list[ParameterGroup]) -> None:
    """Give each group the share of its learning rate that its layer has."""
    for built, group in zip(optimizer.param_groups, groups, strict=True):
        if group.scale != 1:
            built["lr"] *= group.scale


def shortened(names: str, limit: int = 200) -> str:
    """Shorten a list of names for a message."""
    return names if len(names) <= limit else names[:limit].rpartition(",")[0] + ", ..."
