"""The layers of a model from its input to its output, for learning rates that fall with the distance to the output."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from torch import nn

from ...data.common import UsageError
from ..tensors import plain_name


@dataclass
class Layers:
    """The layers, and which one each parameter is in."""

    names: list[str] = field(default_factory=list)
    """What each is called, the layer of the input first."""
    index: dict[str, int] = field(default_factory=dict)
    """Parameter to layer."""

    def scale(self, parameter: str, decay: float) -> float:
        """Compute the share of the learning rate that a parameter gets: 1 in the last layer."""
        return decay ** (len(self.names) - 1 - self.index[parameter])


def find_layers(
    model: nn.Module, patterns: Sequence[str] | None = None, only: Collection[str] | None = None
) -> Layers:
    """Find the layers.

    Args:
        model: whose parameters they are.
        patterns: of each layer's names, the first that fits a name being its layer. None: the members of the model's
            outermost ``Sequential`` and ``ModuleList`` are the layers, in the order in which the model lists them; in a
            model without such lists, its parts are. What is listed before the first of them is a layer, and what is
            listed after the last one, too; what stands between two belongs to the second.
        only: these parameters; None takes all.

    Raises:
        UsageError: a parameter is in no layer, or a layer without a parameter.
    """
    every = (plain_name(name) for name, _ in model.named_parameters())
    names = [name for name in every if only is None or name in only]
    return _in_order(names, _members(model)) if patterns is None else _by_patterns(names, patterns)


def _by_patterns(names: list[str], patterns: Sequence[str]) -> Layers:
    found = Layers(list(patterns))
    for name in names:
        number = next((at for at, pattern in enumerate(patterns) if re.search(pattern, name)), None)
        if number is None:
            raise UsageError(
                f"optimizer.layers: no pattern fits the parameter {name}",
                "add its layer, in order from the input to the output; '.' as the last pattern takes all others",
            )
        found.index[name] = number
    for at, pattern in enumerate(patterns):
        if at not in found.index.values():
            raise UsageError(
                f"optimizer.layers: {pattern!r} fits no parameter that an earlier layer left",
                f"the parameters are {', '.join(names[:8])}",
            )
    return found


def _in_order(names: list[str], members: list[str]) -> Layers:
    found, waiting = Layers(), list[str]()

    def layer(name: str, its: list[str]) -> None:
        if name not in found.names:
            found.names.append(name)
        found.index |= dict.fromkeys(its, found.names.index(name))

    for name in names:
        member = next((one for one in members if name == one or name.startswith(f"{one}.")), None)
        if member is None:
            waiting.append(name)
        else:
            if waiting and not found.names:
                layer(waiting[0].rpartition(".")[0] or waiting[0], waiting)
                waiting = []
            layer(member, [*waiting, name])
            waiting = []
    if waiting:
        layer(waiting[0].rpartition(".")[0] or waiting[0], waiting)
    return found


def _members(model: nn.Module) -> list[str]:
    """List the names of what is a layer by itself."""
    listed = [plain_name(name) for name, module in _listed(model, "") if _has_parameters(module)]
    parts = ((plain_name(name), part) for name, part in model.named_children())
    return listed or [name for name, part in parts if _has_parameters(part)]


def _listed(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the members of the outermost lists; a derived class, such as a convolution with its norm, is not a list."""
    lists = (nn.Sequential, nn.ModuleList)
    in_list = type(module) in lists or (not name and isinstance(module, lists))
    for part_name, part in module.named_children():
        path = f"{name}.{part_name}" if name else part_name
        if in_list and type(part) not in lists:
            yield path, part
        else:
            yield from _listed(part, path)


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
