"""What modules keep besides parameters and buffers: numbers and tensors as plain attributes, in no checkpoint."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ...data.samples import as_bytes
from .plain_names import plain_name

_OF_TORCH = {"training", "_parameters", "_buffers", "_modules"}
_MOST = 1000
"""Values of a list or dict that are looked at."""
_NUMBERS = int | float | complex | np.number


class _Attribute(NamedTuple):
    path: str
    module: nn.Module
    name: str
    value: Any


class _Kept(NamedTuple):
    module: nn.Module
    name: str
    copied: Any
    restored: Callable[[], Any]
    """Returns the value itself, as it was: others may hold it, too."""


class PlainAttributes:
    """The plain attributes of all modules as they are now: numbers, tensors, and lists and dicts of them.

    Args:
        model: whose attributes are copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self._kept = [
            _Kept(found.module, found.name, _copy(found.value), _restorer(found.value))
            for found in _plain(model)
        ]
        self._model = model

    def changed(self) -> list[str]:
        """Name those that are something else by now, or were not there."""
        before = {(id(kept.module), kept.name): kept.copied for kept in self._kept}
        return [
            found.path
            for found in _plain(self._model)
            if not _equal(found.value, before.get((id(found.module), found.name)))
        ]

    def restore(self) -> None:
        """Put back those that are something else by now."""
        for kept in self._kept:
            if not _equal(vars(kept.module).get(kept.name), kept.copied):
                setattr(kept.module, kept.name, kept.restored())


def _plain(model: nn.Module) -> Iterator[_Attribute]:
    for path, module in model.named_modules():
        for name, value in list(vars(module).items()):
            if name not in _OF_TORCH and _is_plain(value):
                yield _Attribute(plain_name(f"{path}.{name}".lstrip(".")), module, name, value)


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple, deque, dict):
        items = list(value.values() if isinstance(value, dict) else value)
        return len(items) <= _MOST and all(_is_value(item) for item in items)
    return value is None or _is_value(value)


def _is_value(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return type(value) is torch.Tensor and value.layout == torch.strided and value.device.type != "meta"
    return isinstance(value, _NUMBERS | np.ndarray) and not isinstance(value, bool)


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple | deque):
        return type(value)(_copy(item) for item in value)
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return value.copy() if isinstance(value, np.ndarray) else value


def _restorer(value: Any) -> Callable[[], Any]:
    """Return what makes a value what it is now, in place where that can be."""
    if isinstance(value, list | deque | dict):
        return _container_restorer(value)
    if isinstance(value, torch.Tensor):
        return partial(_filled, value, value.detach().clone())
    return partial(_filled, value, value.copy()) if isinstance(value, np.ndarray) else lambda: value


def _filled(value: Any, copied: Any) -> Any:
    """Fill a tensor or an array, unless it has another shape by now."""
    if value.shape == copied.shape:
        whole = value.detach() if isinstance(value, torch.Tensor) else value
        whole[...] = copied
    return value


def _container_restorer(value: Any) -> Callable[[], Any]:
    is_dict = isinstance(value, dict)
    keys = list(value) if is_dict else []
    parts = [_restorer(item) for item in (value.values() if is_dict else value)]

    def restored() -> Any:
        items = [part() for part in parts]
        value.clear()
        value.update(zip(keys, items, strict=True)) if is_dict else value.extend(items)
        return value

    return restored


def _equal(one: Any, other: Any) -> bool:
    """Compare to the bit: NaN is itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Mapping):
        return bool(one.keys() == other.keys()) and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, torch.Tensor):
        alike = (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
        return alike and torch.equal(as_bytes(one), as_bytes(other))
    if isinstance(one, np.ndarray):
        alike = (one.shape, one.dtype) == (other.shape, other.dtype)
        return alike and one.tobytes() == other.tobytes()
    return one is other or bool(one == other) or (one != one and other != other)  # noqa: PLR0124 - NaN
