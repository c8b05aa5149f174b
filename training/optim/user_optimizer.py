"""Optimizers of the user's own: a class, or a function that makes one; tried before the first step."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...data.common import LockstepError, TrainingError, UsageError, load_callable, raised
from ..config import OptimizerConfig
from .optimizer_state import OptimizerState
from .parameter_groups import ParameterGroup, scale_rates

Maker = Callable[[list[ParameterGroup]], torch.optim.Optimizer]
_TRIED_STEPS = 3


def build_own(config: OptimizerConfig, groups: list[ParameterGroup], base: Path) -> torch.optim.Optimizer:
    """Make what ``optimizer.use`` names, once it has shown on copies of the parameters that it can be resumed.

    Raises:
        UsageError: it does not take what the config gives it, it needs a closure, or its state cannot be saved.
        TrainingError: it raised, or is not an optimizer.
    """
    found = load_callable(config.use, base)
    make = partial(_make, found, config)
    _try(make, groups, config.use)
    return make(groups)


def _make(
    found: Callable[..., Any], config: OptimizerConfig, groups: list[ParameterGroup]
) -> torch.optim.Optimizer:
    settings = {key: value for key in ("lr", "weight_decay") if (value := getattr(config, key)) is not None}
    arguments = {**settings, **config.own_arguments()}
    is_class = inspect.isclass(found)
    if not is_class and any(group.settings or group.scale != 1 for group in groups):
        raise UsageError(
            f"optimizer: a function such as {config.use} makes its own groups, so groups can only freeze",
            "give the function the settings in args: it gets the names, too; or name an optimizer's class",
        )
    its = [{"params": [p for _, p in group.named], **group.settings} for group in groups]
    named = [pair for group in groups for pair in group.named]
    built = _called(found, its if is_class else named, arguments, config.use)
    if not isinstance(built, torch.optim.Optimizer):
        raise TrainingError(
            f"{config.use} returned {type(built).__name__}, not a torch.optim.Optimizer",
            "return the optimizer",
        )
    _refuse_foreign_parameters(built, named, config.use)
    if is_class:
        scale_rates(built, groups)
    return built


def _called(found: Callable[..., Any], parameters: Any, arguments: dict[str, Any], use: str) -> Any:
    try:
        inspect.signature(found).bind(parameters, **arguments)
    except TypeError as error:
        raise UsageError(
            f"optimizer: {use} with {', '.join(arguments) or 'no arguments'}: {error}",
            f"its signature is {inspect.signature(found)}; optimizer.lr, weight_decay and args become arguments",
        ) from error
    except ValueError:  # a callable without a signature: let the call itself tell
        pass
    try:
        return found(parameters, **arguments)
    except LockstepError:
        raise
    except Exception as error:
        raise raised(f"optimizer: {use} raised", error) from error


def _refuse_foreign_parameters(
    optimizer: torch.optim.Optimizer, named: list[tuple[str, nn.Parameter]], use: str
) -> None:
    known = {id(parameter) for _, parameter in named}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if id(parameter) not in known:
                raise TrainingError(
                    f"{use} optimizes a parameter of shape {tuple(parameter.shape)} that is none of those it was given",
                    "make it a parameter of the model",
                )


class _Trial:
    """An optimizer over copies of the parameters."""

    def __init__(self, make: Maker, groups: list[ParameterGroup], use: str) -> None:
        copies = [
            replace(group, named=[(name, nn.Parameter(p.detach().clone())) for name, p in group.named])
            for group in groups
        ]
        self.parameters = [parameter for group in copies for _, parameter in group.named]
        self._use = use
        self._optimizer = make(copies)
        self.state = OptimizerState(
            self._optimizer, {id(parameter): name for group in copies for name, parameter in group.named}
        )

    def step(self, number: int) -> None:
        """Take a step with gradients that are drawn for this number."""
        generator = torch.Generator().manual_seed(number)
        for parameter in self.parameters:
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.grad = torch.empty_like(parameter).copy_(drawn)
        before = _draws()
        try:
            self._optimizer.step()
        except LockstepError:
            raise
        except Exception as error:
            raise raised(
                f"optimizer: {self._use} raised in a step that was tried on copies", error
            ) from error
        if not all(map(torch.equal, before, _draws())):
            raise UsageError(
                f"optimizer.use = {self._use} draws random numbers, of which each rank would draw others",
                "draw them from a torch.Generator of its own that is seeded with its count of steps",
            )

    def refuse_closure(self) -> None:
        """Refuse an optimizer that evaluates the loss by itself."""
        parameters = inspect.signature(self._optimizer.step).parameters
        if (closure := parameters.get("closure")) and closure.default is inspect.Parameter.empty:
            raise UsageError(
                f"optimizer.use = {self._use} needs a closure: it evaluates the loss several times in a step",
                "use one that takes a gradient: a step here has one forward and one backward pass",
            )


def _try(make: Maker, groups: list[ParameterGroup], use: str) -> None:
    """Take steps with copies, in one piece, and again resumed after the first: both must come out alike."""
    whole = _Trial(make, groups, use)
    whole.refuse_closure()
    whole.step(0)
    saved, plain = whole.state.save()
    tensors = {key: tensor.detach().clone() for key, tensor in saved.items()}
    weights = [parameter.detach().clone() for parameter in whole.parameters]
    plain = json.loads(json.dumps(plain))
    resumed = _Trial(make, groups, use)
    with torch.no_grad():
        for parameter, weight in zip(resumed.parameters, weights, strict=True):
            parameter.copy_(weight)
    resumed.state.load(tensors, plain)
    for number in range(1, _TRIED_STEPS):
        whole.step(number)
        resumed.step(number)
    for parameter, same in zip(whole.parameters, resumed.parameters, strict=True):
        if not torch.equal(parameter, same):
            raise UsageError(
                f"optimizer.use = {use} keeps something between its steps that a checkpoint does not hold:"
                " resumed after a step, it gave other weights",
                "keep it in state[parameter], in param_groups or in state_dict, and not in an attribute",
            )


def _draws() -> list[torch.Tensor]:
    states = [torch.get_rng_state()]
    return [*states, *torch.cuda.get_rng_state_all()] if torch.cuda.is_initialized() else states
