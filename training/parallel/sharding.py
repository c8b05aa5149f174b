"""FSDP2: each rank keeps a part of every parameter, its gradient and what the optimizer keeps of it.

A unit's parameters are gathered before its forward and its backward pass and given back afterwards, so that a rank
needs memory for its share and for one or two whole units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ...data.common import TrainingError
from ..config import RunConfig
from ..rank import Group
from ..tensors import is_fsdp

BLOCK_ORDER = "lockstep_block_order"
"""Attribute of what a step calls: the order that its passes are to keep."""
_NAMED = 5  # parameters in a message


def shard(module: nn.Module, model: nn.Module, group: Group) -> nn.Module:
    """Cut the parameters of ``model`` over the ranks, in place.

    Args:
        module: what a step calls: the model, or a step of the user's around it.
        model: its blocks, the items of lists and sequences, become units; what is left is a unit of its own.
        group: the ranks.

    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(group.device.type, (group.world_size,))
    for block in find_blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """List the outermost items with parameters of lists and sequences, but for those that share one with another."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList | nn.Sequential))
    found: list[nn.Module] = []
    inside: set[int] = set()
    for block in (block for each in lists for block in each):
        parameters = list(block.parameters())
        if id(block) in inside or not parameters or any(owners[id(p)] > 1 for p in parameters):
            continue
        found.append(block)
        inside |= {id(module) for module in block.modules()}
    return found


def refuse_unsharded(config: RunConfig, unused: list[str]) -> None:
    """Refuse what FSDP cannot do as exactly as DDP.

    Args:
        config: of the run.
        unused: parameters that the loss does not reach: ranks would wait for each other's gradients.

    Raises:
        TrainingError: it is asked for.
    """
    way_out = "use train.strategy=ddp"
    if unused:
        raise TrainingError(
            f"train.strategy=fsdp: the loss does not reach {', '.join(unused[:_NAMED])}",
            f"freeze them with requires_grad_(False), or {way_out}",
        )
    if config.train.compile:
        raise TrainingError("train.strategy=fsdp takes no train.compile", f"leave it out, or {way_out}")


@contextmanager
def whole_parameters(module: nn.Module) -> Iterator[None]:
    """Keep all parameters whole on every rank inside: a rank may call the module by itself. Collective."""
    units: list[Any] = [part for part in module.modules() if is_fsdp(part)]
    for unit in units:
        _give_back(unit, module, after_forward=False)
        unit.unshard()
    try:
        with _any_order(module):
            yield
    finally:
        for unit in units:
            _give_back(unit, module, after_forward=True)
            unit.reshard()


@contextmanager
def _any_order(module: nn.Module) -> Iterator[None]:
    """Let passes run which blocks they like."""
    order: Any = getattr(module, BLOCK_ORDER, None)
    if order is None:
        yield
        return
    order.paused = True
    try:
        yield
    finally:
        order.paused = False


def _give_back(unit: Any, root: nn.Module, *, after_forward: bool) -> None:
    """Say whether a unit gives its parameters back after its forward pass; the outermost never does."""
    if unit is not root:
        unit.set_reshard_after_forward(after_forward, recurse=False)


@contextmanager
def given_back(module: nn.Module) -> Iterator[None]:
    """Give back afterwards what passes without a backward pass have gathered: the outermost unit's parameters."""
    try:
        yield
    finally:
        units: list[Any] = [part for part in module.modules() if is_fsdp(part)]
        for unit in units:
            unit.reshard()


class EqualPasses:
    """As many forward passes on every rank: under FSDP, each gathers parameters from all of them.

    Args:
        module: what is called; nothing is asked or sent where it is not cut.
        group: the ranks.
        own: passes of this rank.
    """

    def __init__(self, module: nn.Module, group: Group, own: int) -> None:
        self._group = group
        self._cut = is_fsdp(module)
        self._ended = False
        most = -int(group.minimum(torch.tensor(-own, device=group.device))) if self._cut else own
        self.missing = most - own
        """Passes that other ranks make more."""

    def end(self, asked: bool) -> bool:  # noqa: FBT001 - a question with one answer
        """Say before a pass, on all ranks alike, whether any of them has asked to make no more."""
        if self._cut:
            asked = bool(self._group.sum(torch.tensor(float(asked), device=self._group.device)))
        self._ended = asked
        return asked

    def fill(self, stand_in: Callable[[], object], asked: Callable[[], bool]) -> None:
        """Make the missing passes.

        Args:
            stand_in: makes one, of which nothing counts.
            asked: says whether this rank asks to make no more.
        """
        for _ in range(0 if self._ended else self.missing):
            if self.end(asked()):
                return
            stand_in()
