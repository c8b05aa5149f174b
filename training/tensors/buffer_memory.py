"""The memory of a model's buffers: of their own, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from .plain_names import plain_name
from .stored_tensor import AnyTensor


def materialise_expanded_buffers(model: nn.Module) -> None:
    """Write out buffers made by ``expand``: nothing can be copied to where many elements are one place in memory."""
    written: dict[int, torch.Tensor] = {}  # one buffer of two modules stays one
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            if not is_lazy(buffer) and _is_expanded(buffer):
                own = written.setdefault(id(buffer), buffer.clone(memory_format=torch.contiguous_format))
                setattr(module, name, own)


def fit_buffers(model: nn.Module, saved: Mapping[str, AnyTensor]) -> None:
    """Give buffers the shape and type that they have in ``saved``: a bank grows, a table is made in the first pass.

    Args:
        model: whose buffers become others where they have to, which are still to be filled.
        saved: by plain names.
    """
    for path, module in model.named_modules():
        for name, buffer in list(module._buffers.items()):  # noqa: SLF001 - torch lists those that are there
            there = saved.get(plain_name(f"{path}.{name}".lstrip(".")))
            if there is None or name in module._non_persistent_buffers_set or is_lazy(buffer):  # noqa: SLF001
                continue
            is_other_type = buffer is not None and _kind(buffer.dtype) != _kind(there.dtype)
            if buffer is None or buffer.shape != there.shape or is_other_type:
                device = _device_of(model) if buffer is None else buffer.device
                setattr(module, name, torch.empty(tuple(there.shape), dtype=there.dtype, device=device))


def _kind(dtype: torch.dtype) -> Any:
    """Return the same for types of one kind: another precision computes with another one."""
    return torch.float64 if dtype.is_floating_point else dtype


def _device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _is_expanded(buffer: torch.Tensor) -> bool:
    return any(stride == 0 and size > 1 for stride, size in zip(buffer.stride(), buffer.shape, strict=True))


def hash_to_63_bits(content: bytes) -> int:
    """Hash to what a tensor can hold."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "little") >> 1
