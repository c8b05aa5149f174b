"""How a model is wrapped for a step on several processes."""

from __future__ import annotations

import warnings

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..config import RunConfig
from ..rank import Group
from .block_order import BlockOrder
from .gradient_exchange import Replica
from .sharding import refuse_unsharded, shard


def wrap(
    module: nn.Module,
    model: nn.Module,
    config: RunConfig,
    group: Group,
    unused: list[str],
    order: BlockOrder | None = None,
) -> nn.Module:
    """Wrap what a step calls as ``train.strategy`` says; on one process it stays as it is.

    Args:
        module: the model, or a step of the user's around it.
        model: whose parameters are trained.
        config: of the run.
        group: the ranks.
        unused: parameters that the loss does not reach.
        order: of the model's blocks, which FSDP goes by.

    Raises:
        TrainingError: FSDP cannot do what is asked for.
    """
    if group.world_size == 1:
        return module
    if config.train.strategy == "ddp":
        return _wrap_with_ddp(module, group)
    refuse_unsharded(config, unused)
    wrapped = shard(module, model, group)
    if order is not None:
        order.demand()
    return wrapped


def _wrap_with_ddp(model: nn.Module, group: Group) -> nn.Module:
    device = group.device
    with warnings.catch_warnings():
        # torch 2.15 renamed it; 2.11 knows only this name, and buffers of equal seeds need no broadcast at all.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers.*", category=FutureWarning)
        return DistributedDataParallel(
            Replica(model),
            device_ids=None if device.type == "cpu" else [device.index],
            broadcast_buffers=False,  # buffers stay each rank's own; see batch_norm.py
            gradient_as_bucket_view=True,
        )
