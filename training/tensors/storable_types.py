"""The types of tensors that a checkpoint can hold."""

from __future__ import annotations

from functools import cache

import torch
from safetensors import SafetensorError
from safetensors.torch import save


@cache
def is_storable_dtype(dtype: torch.dtype) -> bool:
    """Check whether a safetensors file can hold a tensor of this type."""
    try:
        save({"": torch.empty(0, dtype=dtype)})
    except (KeyError, SafetensorError):
        return False
    return True
