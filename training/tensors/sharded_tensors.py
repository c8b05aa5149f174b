"""Parameters that are cut over the ranks, as FSDP2 keeps them, and the whole ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import torch

from .stored_tensor import AnyTensor, StoredTensor, read_whole


def is_fsdp(module: Any) -> bool:
    """Say whether FSDP2 has cut the parameters of a module; without the import of what only FSDP needs."""
    return hasattr(module, "set_requires_gradient_sync")


def is_sharded(tensor: torch.Tensor) -> bool:
    """Say whether this rank has a part of the tensor only."""
    return hasattr(tensor, "full_tensor")  # a DTensor


def own_rows(tensor: Any) -> slice | None:
    """Return which rows of a tensor this rank has, of one that is cut by rows over all ranks; else None."""
    if not is_sharded(tensor) or len(tensor.placements) != 1 or not tensor.placements[0].is_shard(0):
        return None
    length, mesh = len(tensor), tensor.device_mesh
    share = -(-length // mesh.size())
    start = min(mesh.get_local_rank() * share, length)
    rows = slice(start, min(start + share, length))
    return rows if len(tensor.to_local()) == rows.stop - rows.start else None


def split_rows(
    tensors: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Divide tensors into those that are the same on every rank and this rank's rows of the others. Collective.

    One that is cut otherwise than by rows is made whole.
    """
    alike, cut = {}, {}
    for name in sorted(tensors):
        tensor: Any = tensors[name].detach()
        if own_rows(tensor) is None:
            alike[name] = whole(tensor)
        else:
            cut[name] = tensor.to_local()
    return alike, cut


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


def each_whole(tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield names and tensors, by sorted name, one at a time whole. Collective where one is sharded."""
    for name in sorted(tensors):
        yield name, whole(tensors[name])


def whole(tensor: Any) -> torch.Tensor:
    """Gather the parts of a tensor, if it is sharded. Collective then."""
    gathered: torch.Tensor = tensor.detach().full_tensor() if is_sharded(tensor) else tensor
    return gathered


def own_parts(tensors: Iterable[Any]) -> list[torch.Tensor]:
    """Return this rank's parts of tensors; they share their memory."""
    return [tensor.to_local() if is_sharded(tensor) else tensor for tensor in tensors]


def cut_like(like: Any, value: AnyTensor) -> torch.Tensor:
    """Cut this rank's part from a whole tensor that every rank has, as ``like`` is cut; nothing is sent.

    Args:
        like: a parameter.
        value: of its whole shape, on any device, or in files, of which only the part is read.
    """
    if not is_sharded(like):
        return read_whole(value)
    from torch.distributed.tensor import DTensor, distribute_tensor

    mesh, placements = like.device_mesh, like.placements
    if (rows := own_rows(like)) is None:
        return distribute_tensor(read_whole(value).to(like.device), mesh, placements, src_data_rank=None)
    part = value.rows(rows.start, rows.stop) if isinstance(value, StoredTensor) else value[rows]
    part = part.to(like.device)
    cut = DTensor.from_local(part, mesh, placements, run_check=False, shape=like.shape, stride=like.stride())
    return cast("torch.Tensor", cut)
