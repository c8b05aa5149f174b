"""Buffers that are each rank's own: of them a checkpoint holds every rank's, not only rank 0's."""

from __future__ import annotations

import torch
from torch import nn

from ...data.samples import as_bytes
from ..components import alike_buffers, batch_norm
from ..rank import Group
from ..tensors import hash_to_63_bits, materialise_expanded_buffers, plain_buffers, plain_state
from .storage import Tensors


def gathered(model: nn.Module, group: Group) -> Tensors:
    """Gather every rank's running statistics, and whatever other buffers differ between ranks, but for their shapes.

    Collective: every rank calls it.

    Returns:
        [world_size, ...] by buffer name; empty on one rank. Buffers that ``state_dict`` leaves out are left out.
    """
    if group.world_size == 1:
        return {}
    saved = plain_state(model).keys()
    own = {name: buffer for name, buffer in alike_buffers(model, group).items() if name in saved}
    if not own:
        return {}
    marks = group.gather(torch.tensor([_buffer_hash(buffer) for buffer in own.values()], device=group.device))
    apart = (marks != marks[0]).any(0).tolist()
    always = batch_norm.running_statistics(model)
    return {
        name: _all_gather_bytes(buffer, group)
        for (name, buffer), differs in zip(own.items(), apart, strict=True)
        if differs or name in always
    }


def restore(model: nn.Module, rank_buffers: Tensors, group: Group) -> list[str]:
    """Give each rank its own again, after the model's tensors have been loaded.

    Returns:
        Names that could not be: another number of ranks has rank 0's, or the average of running statistics.
    """
    materialise_expanded_buffers(model)
    buffers = plain_buffers(model)
    for name, rows in rank_buffers.items():
        if len(rows) == group.world_size:
            buffers[name].copy_(rows[group.rank])
    means = batch_norm.running_statistics(model)
    return [
        name for name, rows in rank_buffers.items() if len(rows) != group.world_size and name not in means
    ]


def _buffer_hash(buffer: torch.Tensor) -> int:
    return hash_to_63_bits(as_bytes(buffer).cpu().numpy().tobytes())


def _all_gather_bytes(buffer: torch.Tensor, group: Group) -> torch.Tensor:
    rows = group.gather(as_bytes(buffer).to(group.device))
    return rows.view(buffer.dtype).reshape(group.world_size, *buffer.shape)
