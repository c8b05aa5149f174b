"""The models: a new one is a function here, and its name in ``MODELS``.

Beside them there are torchvision's and the user's own. None of the built-in ones mixes the samples of a batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import nn

from ...data.common import MachineError, TrainingError, UsageError, closest_name, load_callable
from ...data.config import DatasetInfo
from ..config import ModelConfig
from ..tensors import is_storable_dtype, without_parallel_wrappers
from .head import TORCHVISION, builds_with_its_own_head


def linear(*, inputs: Sequence[int], outputs: int) -> nn.Module:
    """Build one linear layer over the flattened input, [B, *inputs] to [B, outputs]."""
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(inputs), outputs))


def mlp(
    *, inputs: Sequence[int], outputs: int, hidden: Sequence[int] = (128,), dropout: float = 0.0
) -> nn.Module:
    """Build linear layers with ReLU between, [B, *inputs] to [B, outputs].

    Args:
        inputs: shape of one input.
        outputs: of the last layer.
        hidden: widths of the layers before it, input first.
        dropout: share of activations that training sets to zero.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    width = prod(inputs)
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
        width = size
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def cnn(
    *, inputs: Sequence[int], outputs: int, channels: Sequence[int] = (32, 64), dropout: float = 0.0
) -> nn.Module:
    """Build 3x3 convolutions, each with group norm, ReLU and pooling to half; then averages and a linear layer.

    Group norm, because batch norm would make the result depend on how a batch is cut.

    Args:
        inputs: shape of one image: channels, height, width.
        outputs: of the last layer.
        channels: of each convolution, input first.
        dropout: share of activations that training sets to zero before the last layer.
    """
    if len(inputs) != 3:  # noqa: PLR2004 - channels, height, width
        raise UsageError(f"model cnn needs images, but one input has the shape {tuple(inputs)}", "use mlp")
    layers: list[nn.Module] = []
    width = inputs[0]
    for size in channels:
        layers += [
            nn.Conv2d(width, size, 3, padding=1),
            nn.GroupNorm(1, size),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        ]
        width = size
    layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten()]
    layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(16 * width, outputs))


MODELS: dict[str, Callable[..., nn.Module]] = {"linear": linear, "mlp": mlp, "cnn": cnn}
"""Name in a config to what builds it: ``(*, inputs, outputs, **model.args)``, the sizes those of the data set."""


def build_model(config: ModelConfig, facts: DatasetInfo, base: Path) -> nn.Module:
    """Build the model that ``model:`` describes, on the CPU in fp32.

    Raises:
        UsageError: no such model, or arguments that it does not take.
        TrainingError: the user's callable raised or returned no module.
    """
    if config.use in MODELS:
        return _build_built_in(config, facts)
    if config.use.startswith(TORCHVISION):
        return _build_torchvision(config, facts)
    if ":" not in config.use:
        names = [*MODELS, "torchvision.resnet18"]
        guess = closest_name(config.use, names)
        raise UsageError(
            f"model.use = {config.use}: there is no such model"
            + (f"; did you mean {guess}?" if guess else ""),
            f"built in: {', '.join(MODELS)} and torchvision.NAME; "
            "your own: package.module:callable or ./file.py:callable",
        )
    model = call_with_arguments(load_callable(config.use, base), config.args, "model", config.use)
    if not isinstance(model, nn.Module):
        raise TrainingError(
            f"{config.use} returned {type(model).__name__}, not a torch.nn.Module", "return the model"
        )
    _refuse_scripted(model, config.use)
    return without_parallel_wrappers(model)


def _refuse_scripted(model: nn.Module, use: str) -> None:
    """Refuse what TorchScript has compiled: no hook can be put on it, which much depends on."""
    for name, part in model.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise TrainingError(
                f"{use} returned a model that TorchScript has compiled{f', in {name}' if name else ''}",
                "return it as it was before torch.jit.script or torch.jit.trace; train.compile=true compiles it",
            )


def _build_built_in(config: ModelConfig, facts: DatasetInfo) -> nn.Module:
    if facts.input_shape is None:
        raise UsageError(
            f"model {config.use} learns its input size from the data set, but {facts.name} does not tell it",
            "use your own model: model.use=./file.py:callable",
        )
    outputs = facts.classes if facts.classes is not None else prod(facts.target_shape or (1,))
    given = {"inputs": facts.input_shape, "outputs": outputs}
    return _build_checked(MODELS[config.use], config, given)


def _build_torchvision(config: ModelConfig, facts: DatasetInfo) -> nn.Module:
    from torchvision import models

    name = config.use.removeprefix(TORCHVISION)
    if name not in models.list_models():
        guess = closest_name(name, models.list_models())
        raise UsageError(
            f"model.use = {config.use}: torchvision has no such model"
            + (f"; did you mean torchvision.{guess}?" if guess else ""),
            "torchvision.models.list_models() lists them",
        )
    given: dict[str, Any] = {} if facts.classes is None else {"num_classes": facts.classes}
    args = {**given, **config.args}
    if builds_with_its_own_head(config):
        args.pop("num_classes", None)  # they fit all their classes only; see fit_head
    try:
        model = call_with_arguments(models.get_model_builder(name), args, "model", config.use)
    except URLError as error:
        raise MachineError(
            f"model.args.weights: torchvision's weights cannot be downloaded: {error.reason}",
            f"put the file into {torch.hub.get_dir()}/checkpoints, or save it elsewhere and name it as model.weights",
        ) from error
    return _adapt_input_channels(model, facts)


def _adapt_input_channels(model: nn.Module, facts: DatasetInfo) -> nn.Module:
    """Replace the first convolution where the images have another number of channels than its three."""
    channels = facts.input_shape[0] if facts.input_shape and len(facts.input_shape) == 3 else None  # noqa: PLR2004
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            if channels is not None and module.in_channels != channels:
                parent = model.get_submodule(name.rpartition(".")[0])
                setattr(parent, name.rpartition(".")[2], _convolution_like(module, channels))
            break
    return model


def _convolution_like(module: nn.Conv2d, channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels,
        module.out_channels,
        module.kernel_size,  # type: ignore[arg-type]  # a tuple of two, typed as a tuple of any length
        module.stride,  # type: ignore[arg-type]
        module.padding,  # type: ignore[arg-type]
        bias=module.bias is not None,
    )


def _build_checked(build: Callable[..., nn.Module], config: ModelConfig, given: dict[str, Any]) -> nn.Module:
    known = [key for key in inspect.signature(build).parameters if key not in given]
    for key in config.args:
        if key not in known:
            guess = closest_name(key, known)
            raise UsageError(
                f"model.args.{key}: {config.use} has no such argument"
                + (f"; did you mean {guess}?" if guess else ""),
                f"{config.use} takes {', '.join(known) or 'no arguments'}",
            )
    try:
        return build(**given, **config.args)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"model.args = {config.args}: {config.use} says: {error}",
            "`launch config reference` lists the arguments of each model",
        ) from error


def call_with_arguments(function: Callable[..., Any], args: dict[str, Any], section: str, use: str) -> Any:
    """Call ``function(**args)``, with a clear error where the arguments do not fit its signature."""
    try:
        inspect.signature(function).bind(**args)
    except TypeError as error:
        raise UsageError(
            f"{section}.args = {args}: {use} says: {error}", f"the signature is {inspect.signature(function)}"
        ) from error
    except ValueError:  # a callable without a signature: let the call itself tell
        pass
    return function(**args)


def refuse_extra_state(model: nn.Module) -> None:
    """Refuse a state with anything but tensors: a checkpoint would have to pickle it."""
    others = [name for name, value in model.state_dict().items() if not isinstance(value, torch.Tensor)]
    if others:
        raise TrainingError(
            f"the model's state_dict has an entry that is not a tensor: {others[0]}",
            "make it a buffer, or leave it out of the state: get_extra_state cannot be checkpointed",
        )
    for name, value in model.state_dict().items():
        if not is_storable_dtype(value.dtype):
            raise TrainingError(
                f"{name} of the model is {value.dtype}, which a checkpoint's file format does not have",
                "keep it as another type (a complex one by torch.view_as_real), or out of the state: persistent=False",
            )
