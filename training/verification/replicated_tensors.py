"""What each rank of a run holds alike: what is compared."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ..session import Training

Tensors = dict[str, torch.Tensor]


def replicated_tensors(training: Training) -> Tensors:
    """Return what is the same on every rank, by name: weights, the optimizer's state, averages.

    Buffers are among it with logical ranks only: else each rank's statistics are of its own samples. Those that no
    checkpoint has are left out: a table that grows to fit is as long as the longest sample that a rank has seen.
    """
    model = training.session.model
    tensors: Tensors = {f"weight {name}": parameter for name, parameter in model.named_parameters()}
    if training.session.spec.config.train.logical_ranks:
        tensors |= {f"buffer {name}": buffer for name, buffer in _persistent_buffers(model)}
    tensors |= {f"optimizer's {key}": tensor for key, tensor in training.optimizer_state.save()[0].items()}
    return tensors | {f"average of {name}": tensor for name, tensor in training.ema.tensors().items()}


def _persistent_buffers(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for path, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:  # noqa: SLF001 - torch has no other word of it
                yield f"{path}.{name}".lstrip("."), buffer
