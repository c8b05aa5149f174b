"""What a batch is made of: tensors in dicts, lists and tuples, and what a user's collate function makes besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ..common import TrainingError
from .arrays import is_numeric, tensor_of


def is_pair(value: Any) -> bool:
    """Tell whether a sample or a batch is (input, target)."""
    return isinstance(value, list | tuple) and len(value) == 2  # noqa: PLR2004 - a pair


def named_parts(batch: Any, whole: str) -> list[tuple[str, Any]]:
    """Name input and target of a pair, and what is none as ``whole``."""
    return list(zip(("input", "target"), batch, strict=True)) if is_pair(batch) else [(whole, batch)]


def split_target(batch: Any, key: str) -> tuple[Any, Any]:
    """Make a pair (inputs, target) of a batch that is a dict.

    Raises:
        TrainingError: there is no such entry.
    """
    if not isinstance(batch, Mapping) or key not in batch:
        found = (
            ", ".join(map(str, batch))
            if isinstance(batch, Mapping)
            else f"no dict but {type(batch).__name__}"
        )
        raise TrainingError(
            f"data.target={key}: a batch is {found}", "name the entry of a sample's dict that is the target"
        )
    return {name: value for name, value in batch.items() if name != key}, batch[key]


def map_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor], device: torch.device) -> Any:
    """Change every tensor of a batch; arrays become tensors, and objects that can be moved are moved.

    Args:
        value: a batch, or a part of one.
        change: what becomes of a tensor; it moves it to the device.
        device: of objects with a method ``to`` of their own, such as packed sequences and graphs.
    """
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, np.ndarray) and is_numeric(value):
        return change(tensor_of(value))
    if isinstance(value, Mapping):
        return like(value, {key: map_tensors(item, change, device) for key, item in value.items()})
    if callable(getattr(value, "to", None)):
        return value.to(device)
    if isinstance(value, list | tuple):
        items = [map_tensors(item, change, device) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else items
    return value


def like(value: Mapping[Any, Any], changed: dict[Any, Any]) -> Any:
    """Make a mapping of the same type, or a dict where its type is made of something else."""
    if type(value) is dict:
        return changed
    try:
        return type(value)(changed)  # type: ignore[call-arg]
    except TypeError:
        return changed


def structure(value: Any) -> Any:
    """Describe what a batch is made of, whatever its shapes: equal for batches of samples that are alike."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype).removeprefix("torch.")
    if isinstance(value, Mapping):
        return {key: structure(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and not (value and isinstance(value[0], str | bytes)):
        return [structure(item) for item in value]
    return "text"
