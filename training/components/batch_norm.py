"""Batch norm on several ranks: each keeps its own running statistics, evaluation sees their average."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ...data.common import UsageError
from ...data.order import EpochBatches, micro_batch_sizes
from ..rank import Group
from ..tensors import plain_name

_STATISTICS = ("running_mean", "running_var")


def running_statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    """Collect the running statistics of the model's norms, torch's or others that name them alike, by buffer name."""
    return {
        plain_name(f"{path}.{name}".lstrip(".")): buffer
        for path, module in model.named_modules()
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False)
        if name in _STATISTICS and buffer.is_floating_point()
    }


def has_batch_norm(model: nn.Module) -> bool:
    """Check whether a batch norm makes the result depend on how a global batch is cut, of a model in training mode.

    One that stays in evaluation mode, as where the model's own ``train`` keeps it there, is an affine layer.
    """
    norms = (
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and not getattr(module, "of_all_ranks", False)
    )
    return any(norm.training or norm.running_mean is None for norm in norms)


def world_size_dependent_layers(model: nn.Module) -> list[str]:
    """Name the layers that make training depend on the number of processes, of a model in training mode."""
    found = ["batch norm"] if has_batch_norm(model) else []
    dropouts = [
        module
        for module in model.modules()
        if isinstance(module, _DropoutNd) and module.p > 0 and module.training
    ]
    return [*found, "dropout"] if dropouts else found


@contextmanager
def averaged(model: nn.Module, group: Group) -> Iterator[None]:
    """Average the running statistics over ranks inside; afterwards each rank has its own again."""
    buffers = list(running_statistics(model).values()) if group.world_size > 1 else []
    with restored(buffers):
        with torch.no_grad():
            for buffer in buffers:
                buffer.copy_(group.sum(buffer.double()) / group.world_size)
        yield


@contextmanager
def restored(buffers: list[torch.Tensor]) -> Iterator[None]:
    """Give buffers their values again afterwards."""
    kept = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, own in zip(buffers, kept, strict=True):
                buffer.copy_(own)


def refuse_single_sample_batches(
    model: nn.Module, batches: EpochBatches, world_size: int, limit: int | None
) -> None:
    """Refuse batch norm over one sample, which has no variance.

    Raises:
        UsageError: some rank's micro-batch would be one sample.
    """
    if not has_batch_norm(model):
        return
    sizes = {
        size
        for step in {0, batches.steps - 1}
        for rank in range(world_size)
        for size in micro_batch_sizes(_rank_batch_size(batches, step, rank, world_size), limit)
    }
    if 1 in sizes:
        cut = f"in {world_size} logical ranks" if batches.logical_ranks else f"on {world_size} processes"
        raise UsageError(
            f"the model has batch norm, but with data.batch_size={batches.batch_size} {cut}"
            f" some micro-batch of an epoch of {batches.n:,} samples is a single one, which has no variance",
            "change data.batch_size, data.val_size or data.max_micro_batch, use fewer of them, or use group norm",
        )


def _rank_batch_size(batches: EpochBatches, step: int, rank: int, world_size: int) -> int:
    start, stop = batches.shard(step, rank, world_size)
    return stop - start
