"""Embeddings with ``sparse=True``: their gradients are dense here, so that ranks and optimizers can add them."""

from __future__ import annotations

import torch
from torch import nn

from ..tensors import plain_name

_NAMED = 5  # modules in a note


def make_embeddings_dense(model: nn.Module) -> list[str]:
    """Have embeddings make dense gradients, and return what to say of it, for users.

    A sparse gradient is another layout of the same numbers. torch's fused optimizers, weight decay and clipping take
    none, and DDP waits for one on a rank that looked nothing up.
    """
    found = {
        plain_name(name): module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse
    }
    for module in found.values():
        module.sparse = False
    if not found:
        return []
    names = ", ".join(list(found)[:_NAMED]) + (", …" if len(found) > _NAMED else "")
    return [
        f"sparse=True of {names}: the gradient is dense here, with the same numbers, as large as the weights"
    ]


def make_gradients_dense(model: nn.Module) -> None:
    """Have parameters whose gradient is sparse now, whatever has made it, get a dense one from now on."""
    for parameter in model.parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.register_hook(_dense)


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient
