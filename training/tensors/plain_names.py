"""The names of a model's tensors without its wrappers: ``torch.compile`` and ``DataParallel`` change them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

_COMPILED = "_orig_mod"
"""Where ``torch.compile`` keeps the module that it has wrapped."""
_PARALLEL = "module"
"""Where ``DataParallel`` does; in a model, it is also a usual name."""
Renaming = Callable[[str], str]
Value = TypeVar("Value")


def plain_name(name: str) -> str:
    """Return a tensor's name in the model that was compiled, whole or in parts."""
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def _outermost(name: str) -> str:
    return plain_name(name).removeprefix(f"{_PARALLEL}.")


def _everywhere(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in (_COMPILED, _PARALLEL))


def plain_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers by their plain names."""
    return {plain_name(name): tensor for name, tensor in model.state_dict().items()}


def plain_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the buffers by their plain names, those that ``state_dict`` leaves out, too."""
    return {plain_name(name): buffer for name, buffer in model.named_buffers()}


def find_renaming(saved: Iterable[str], own: Iterable[str]) -> Renaming:
    """Find how the names of ``saved`` become those of a model; where no way does, they stay, but for compilers' marks.

    Args:
        saved: as another model has them: one that was compiled or parallel, before or elsewhere.
        own: plain names.
    """
    known, there = set(own), set(saved)
    ways = (plain_name, _outermost, _everywhere)
    return next((way for way in ways if {way(name) for name in there} == known), plain_name)


def renamed(tensors: Mapping[str, Value], renaming: Renaming) -> dict[str, Value]:
    """Give tensors other names."""
    return {renaming(name): tensor for name, tensor in tensors.items()}


def without_parallel_wrappers(model: nn.Module) -> nn.Module:
    """Take ``DataParallel`` and DDP off a model and its parts: there is a process for each device already."""
    while isinstance(model, DataParallel | DistributedDataParallel):
        model = model.module
    for name, child in model.named_children():
        bare = without_parallel_wrappers(child)
        if bare is not child:
            setattr(model, name, bare)
            if not hasattr(bare, _PARALLEL):  # code that knows of the wrapper says `self.part.module`
                object.__setattr__(bare, _PARALLEL, bare)
    return model
