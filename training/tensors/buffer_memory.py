"""The memory of a model's buffers: of their own, hashed."""

from __future__ import annotations

import hashlib

import torch
from torch import nn
from torch.nn.parameter import is_lazy


def materialise_expanded_buffers(model: nn.Module) -> None:
    """Write out buffers made by ``expand``: nothing can be copied to where many elements are one place in memory."""
    written: dict[int, torch.Tensor] = {}  # one buffer of two modules stays one
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            if not is_lazy(buffer) and _is_expanded(buffer):
                own = written.setdefault(id(buffer), buffer.clone(memory_format=torch.contiguous_format))
                setattr(module, name, own)


def _is_expanded(buffer: torch.Tensor) -> bool:
    return any(stride == 0 and size > 1 for stride, size in zip(buffer.stride(), buffer.shape, strict=True))


def hash_to_63_bits(content: bytes) -> int:
    """Hash to what a tensor can hold."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little") >> 1
