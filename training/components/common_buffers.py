"""Buffers that learn on each rank by itself: evaluation sees those that a checkpoint holds, on every rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ...data.samples import as_bytes
from ..rank import Group
from ..tensors import hash_to_63_bits, plain_buffers
from . import batch_norm


@contextmanager
def shared_buffers(model: nn.Module, group: Group) -> Iterator[None]:
    """Give every rank the mean of running statistics and rank 0's other buffers; afterwards each has its own again."""
    averaged = batch_norm.running_statistics(model)
    alike = alike_buffers(model, group) if group.world_size > 1 else {}
    buffers = [alike[name] for name in sorted(alike.keys() - averaged.keys())]
    with batch_norm.averaged(model, group), batch_norm.restored(buffers):
        take_rank_0s(buffers, group)
        yield


def alike_buffers(model: nn.Module, group: Group) -> dict[str, torch.Tensor]:
    """Return the buffers that have one shape on all ranks, by plain name: no table that only one rank has extended.

    Collective: every rank calls it.
    """
    own = {
        name: buffer
        for name, buffer in plain_buffers(model).items()
        if not is_lazy(buffer) and buffer.numel()
    }
    marks = [_mark(name, buffer) for name, buffer in own.items()]
    everywhere = _common(torch.tensor(marks, dtype=torch.int64, device=group.device), group)
    return {name: own[name] for name, mark in zip(own, marks, strict=True) if mark in everywhere}


def _mark(name: str, buffer: torch.Tensor) -> int:
    return hash_to_63_bits(f"{name} {tuple(buffer.shape)} {buffer.dtype}".encode())


def _common(marks: torch.Tensor, group: Group) -> set[int]:
    """Return the marks that every rank has; they may have different numbers of them."""
    longest = -int(group.minimum(-torch.tensor(len(marks), device=group.device)))
    padded = torch.cat([marks, marks.new_zeros(longest - len(marks))])
    return set.intersection(*(set(row) for row in group.gather(padded).tolist()))


def take_rank_0s(tensors: Iterable[torch.Tensor], group: Group) -> None:
    """Copy rank 0's tensors, laid out in whatever way, to all ranks. Collective."""
    with torch.no_grad():
        for tensor in tensors:
            value = as_bytes(tensor).to(group.device)
            tensor.copy_(group.broadcast(value).view(tensor.dtype).reshape(tensor.shape))
