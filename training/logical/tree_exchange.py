"""Sums over ranks along a fixed tree: the same bits for any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist

from ..rank import Group
from .sum_tree import Node, sum_of

_SMALL = 1 << 16
"""Elements in all that are gathered whole: one collective costs less than two of a part each."""
_SEGMENT = 1 << 22
"""Elements that are exchanged at once, which bounds what is held besides the sums themselves."""


def tree_sum(
    parts: Sequence[torch.Tensor], nodes: Sequence[tuple[Node, ...]], leaves: int, group: Group
) -> torch.Tensor:
    """Sum the ranks' parts along the tree, on every rank. Collective.

    A rank receives of each part a share of 1 / world_size, adds the shares along the tree and sends the result to
    all: where each rank has one part, as where their number and that of the logical ranks are powers of two, these
    are the bytes of a ring all-reduce.

    Args:
        parts: of this rank's nodes: vectors of one length; may be written to. At least one, also where the rank
            has no node: then of zeros, which nobody adds.
        nodes: of each rank.
        leaves: of the tree.
        group: the ranks.
    """
    return begin_tree_sum(parts, nodes, leaves, group)()


def begin_tree_sum(
    parts: Sequence[torch.Tensor], nodes: Sequence[tuple[Node, ...]], leaves: int, group: Group
) -> Callable[[], torch.Tensor]:
    """Begin ``tree_sum``; return what waits for it."""
    if group.world_size == 1:
        return lambda: sum_of(leaves, dict(zip(nodes[0], parts, strict=False)), torch.Tensor.add_)
    most = max(len(own) for own in nodes)
    if len(parts[0]) * most * group.world_size <= _SMALL:
        return _begin_gathered_sum(parts, nodes, leaves, most, group)
    return lambda: _segmented_sum(parts, nodes, leaves, group)


def _segmented_sum(
    parts: Sequence[torch.Tensor], nodes: Sequence[tuple[Node, ...]], leaves: int, group: Group
) -> torch.Tensor:
    length = len(parts[0])
    total = torch.empty_like(parts[0])
    for start in range(0, length, _SEGMENT):
        stop = min(start + _SEGMENT, length)
        total[start:stop] = _shared_sum([part[start:stop] for part in parts], nodes, leaves, group)
    return total


def _begin_gathered_sum(
    parts: Sequence[torch.Tensor], nodes: Sequence[tuple[Node, ...]], leaves: int, most: int, group: Group
) -> Callable[[], torch.Tensor]:
    """Gather every part on every rank."""
    own = torch.stack([*parts, *[parts[0]] * (most - len(parts))])
    rows = own.new_empty(group.world_size, *own.shape)
    handle = group.watched(dist.all_gather_into_tensor(rows.view(-1), own.view(-1), async_op=True))

    def finish() -> torch.Tensor:
        if handle is not None:
            handle.wait()
        places = ((rank, place, node) for rank, names in enumerate(nodes) for place, node in enumerate(names))
        return sum_of(leaves, {node: rows[rank, place] for rank, place, node in places}, torch.add)

    return finish


def _shared_sum(
    parts: Sequence[torch.Tensor], nodes: Sequence[tuple[Node, ...]], leaves: int, group: Group
) -> torch.Tensor:
    """Have each rank add its share of every part."""
    world_size, length = group.world_size, len(parts[0])
    share = -(-length // world_size)
    own = nodes[group.rank]
    sent = parts[0].new_zeros(len(own), world_size * share)
    for row, part in zip(sent, parts[: len(own)], strict=True):
        row[:length] = part
    sent = sent.view(len(own), world_size, share).transpose(0, 1).contiguous()
    counts = [len(names) * share for names in nodes]
    received = parts[0].new_empty(sum(counts))
    own_counts = [len(own) * share] * world_size
    group.watched(dist.all_to_all_single(received, sent.view(-1), counts, own_counts, async_op=True)).wait()
    rows = received.view(-1, share).unbind()
    names = [node for names in nodes for node in names]
    mine = sum_of(leaves, dict(zip(names, rows, strict=True)), torch.add)
    total = parts[0].new_empty(world_size * share)
    whole = mine.contiguous()
    group.watched(dist.all_gather_into_tensor(total, whole, async_op=True)).wait()
    return total[:length]
