"""The last layer of a model, where it has other outputs than the data has classes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...data.common import UsageError, closest_name
from ...data.config import DatasetInfo
from ..config import ModelConfig
from ..tensors import plain_name

_Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
TORCHVISION = "torchvision."
_CHANNELS = 3  # of the images that torchvision's weights are for


def builds_with_its_own_head(config: ModelConfig) -> bool:
    """Say whether torchvision is asked for weights of its own, which it gives only to a model of all their classes."""
    return config.use.startswith(TORCHVISION) and config.args.get("weights") is not None


def fit_head(model: nn.Module, config: ModelConfig, facts: DatasetInfo) -> list[str]:
    """Replace the head by one with an output for each class, where ``model.head`` says so and it has others.

    It is drawn from torch's generator, which every rank has seeded alike.

    Returns:
        What was replaced, for users.

    Raises:
        UsageError: there is no such layer, or nobody knows how many classes there are.
    """
    if config.head == "keep" or (config.head == "auto" and not builds_with_its_own_head(config)):
        return first_convolution_notes(model, config)
    classes = config.args.get("num_classes", facts.classes) if config.head == "auto" else facts.classes
    if classes is None and config.head == "auto":
        return first_convolution_notes(model, config)
    if classes is None:
        raise UsageError(
            f"model.head = {config.head}: {facts.name} does not tell how many classes it has",
            "give the model its outputs by model.args, and leave model.head out",
        )
    replaced = [_replace(model, name, classes, facts) for name in head_layers(model, config)]
    return [*first_convolution_notes(model, config), *filter(None, replaced)]


def first_convolution_notes(model: nn.Module, config: ModelConfig) -> list[str]:
    """Tell where torchvision's own weights have lost their first layer to images of other channels."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.in_channels == _CHANNELS or not builds_with_its_own_head(config):
        return []
    what = f"the first convolution is for {_CHANNELS} channels and the images have {first.in_channels}"
    return [f"model.args.weights: {what}: it is replaced by a new one, drawn by train.seed"]


def head_layers(model: nn.Module, config: ModelConfig) -> list[str]:
    """Name the layers that are as wide as there are classes; of a torchvision model, those of its auxiliary heads, too.

    Raises:
        UsageError: the model has no layer of the name that ``model.head`` gives.
    """
    if config.head == "keep":
        return []
    if config.head == "auto":
        return _of_torchvision(model, config) if config.use.startswith(TORCHVISION) else []
    layers = {plain_name(name): name for name, module in model.named_modules() if _outputs(module)}
    if config.head not in layers:
        guess = closest_name(config.head, layers)
        raise UsageError(
            f"model.head = {config.head}: {config.use} has no such linear layer or convolution"
            + (f"; did you mean {guess}?" if guess else ""),
            f"its last one is {list(layers)[-1]}" if layers else "leave model.head out: it has none at all",
        )
    return [layers[config.head]]


def _of_torchvision(model: nn.Module, config: ModelConfig) -> list[str]:
    """Build a model of two and one of three classes, without memory, and compare: no list of families can be wrong."""
    from torchvision import models

    build = models.get_model_builder(config.use.removeprefix(TORCHVISION))
    try:
        two, three = (_shapes(build, config.args, classes) for classes in (2, 3))
    except NotImplementedError:  # RegNet computes its widths by tensors
        return [name for name, module in model.named_modules() if _outputs(module)][-1:]
    except TypeError:  # RAFT has no classes
        return []
    changed = [name for name in two if two[name] != three.get(name)]
    if any((two[name][0], three[name][0]) != (2, 3) for name in changed):  # a box for each class
        return []
    return list(dict.fromkeys(name.rpartition(".")[0] for name in changed))


def _shapes(build: Callable[..., nn.Module], args: dict[str, Any], classes: int) -> dict[str, torch.Size]:
    known = inspect.signature(build).parameters
    pretrained = {key: None for key in ("weights", "weights_backbone") if key in known}
    with torch.random.fork_rng(devices=[]), torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they were shown when the model itself was built
        model = build(**{**args, **pretrained, "num_classes": classes})
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _outputs(module: nn.Module) -> int:
    """Return how many outputs a layer has; 0 for what is not such a layer."""
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.out_channels if isinstance(module, _Convolution) else 0


def _replace(model: nn.Module, name: str, classes: int, facts: DatasetInfo) -> str:
    old = model.get_submodule(name)
    if _outputs(old) == classes:
        return ""
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, _of_outputs(old, classes))
    return (
        f"model.head: {plain_name(name)} has {_outputs(old):,} outputs and {facts.name} {classes:,} classes:"
        " it is replaced by a new one, drawn by train.seed"
    )


def _of_outputs(old: Any, outputs: int) -> nn.Module:
    weight: torch.Tensor = old.weight
    bias, factory = old.bias is not None, {"device": weight.device, "dtype": weight.dtype}
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, outputs, bias, **factory)
    new: nn.Module = type(old)(
        old.in_channels, outputs, old.kernel_size, old.stride, old.padding, old.dilation, bias=bias, **factory
    )
    return new
