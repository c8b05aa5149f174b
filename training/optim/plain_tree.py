"""Trees of numbers, text and tensors as values that JSON keeps exactly; the tensors go beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ...data.common import UsageError
from ..tensors import is_storable_dtype

Tensors = dict[str, torch.Tensor]


def encoded(value: Any, key: str, tensors: Tensors, what: str) -> Any:
    """Encode a tree; its tensors are put into ``tensors``, uncopied.

    Args:
        value: None, a truth value, a number, text, a tensor, or a list, tuple or dictionary of these.
        key: of the tensor, or the beginning of the keys of several.
        tensors: to be filled.
        what: it is, for users.

    Raises:
        UsageError: there is something else in it.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, torch.Tensor):
        tensors[key] = _storable(value, what)
        return {"tensor": key}
    if type(value) in (list, tuple):
        parts = [encoded(part, f"{key}/{at}", tensors, what) for at, part in enumerate(value)]
        return {type(value).__name__: parts}
    if isinstance(value, dict) and all(isinstance(name, str | int | float) for name in value):
        pairs = [
            [encoded(name, "", tensors, what), encoded(part, f"{key}/{name}", tensors, what)]
            for name, part in value.items()
        ]
        return {"dict": pairs}
    raise UsageError(
        f"the optimizer keeps a {type(value).__name__} in {what}, which a checkpoint cannot hold",
        "keep tensors, numbers, text, and lists, tuples and dictionaries of these",
    )


def _storable(tensor: torch.Tensor, what: str) -> torch.Tensor:
    if tensor.layout != torch.strided or not is_storable_dtype(tensor.dtype):
        raise UsageError(
            f"the optimizer keeps a {tensor.dtype} tensor, {tensor.layout}, in {what}, which a checkpoint cannot hold",
            "keep dense tensors of real numbers",
        )
    return tensor


def decoded(tree: Any, place: Callable[[str], torch.Tensor]) -> Any:
    """Decode what ``encoded`` has made; ``place`` returns the tensor of a key, where it belongs."""
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "float":
        return float(content)
    if kind == "tensor":
        return place(content)
    if kind == "dict":
        return {decoded(name, place): decoded(part, place) for name, part in content}
    parts = [decoded(part, place) for part in content]
    return tuple(parts) if kind == "tuple" else parts


def tensor_keys(document: Any) -> Iterator[str]:
    """Yield the keys of all tensors of the trees in a document of plain values."""
    if isinstance(document, list):
        for part in document:
            yield from tensor_keys(part)
    elif isinstance(document, dict):
        if document.keys() == {"tensor"} and isinstance(document["tensor"], str):
            yield document["tensor"]
        for part in document.values():
            yield from tensor_keys(part)
