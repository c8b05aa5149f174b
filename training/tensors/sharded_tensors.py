"""Parameters that are cut over the ranks, as FSDP2 keeps them, and the whole ones that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch


def is_fsdp(module: Any) -> bool:
    """Say whether FSDP2 has cut the parameters of a module; without the import of what only FSDP needs."""
    return hasattr(module, "set_requires_gradient_sync")


def is_sharded(tensor: torch.Tensor) -> bool:
    """Say whether this rank has a part of the tensor only."""
    return hasattr(tensor, "full_tensor")  # a DTensor


def whole_tensors(tensors: Mapping[str, torch.Tensor], *, keep: bool = True) -> dict[str, torch.Tensor]:
    """Gather the parts of sharded tensors one by one, onto the host, and leave the others where they are.

    Collective where one is sharded: every rank calls it with tensors of the same names.

    Args:
        tensors: by name.
        keep: False takes part and returns nothing.
    """
    found = {}
    for name in sorted(tensors):
        tensor = whole(tensors[name])
        if keep:
            found[name] = tensor.cpu() if is_sharded(tensors[name]) else tensor
    return {name: found[name] for name in tensors} if keep else {}


def whole(tensor: Any) -> torch.Tensor:
    """Gather the parts of a tensor, if it is sharded. Collective then."""
    gathered: torch.Tensor = tensor.detach().full_tensor() if is_sharded(tensor) else tensor
    return gathered


def own_parts(tensors: Iterable[Any]) -> list[torch.Tensor]:
    """Return this rank's parts of tensors; they share their memory."""
    return [tensor.to_local() if is_sharded(tensor) else tensor for tensor in tensors]


def cut_like(like: Any, value: torch.Tensor) -> torch.Tensor:
    """Cut this rank's part from a whole tensor that every rank has, as ``like`` is cut; nothing is sent.

    Args:
        like: a parameter.
        value: of its whole shape, on any device.
    """
    if not is_sharded(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
