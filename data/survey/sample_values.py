"""What a value in a sample is: its type, its shape and its range; samples may be nested."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_DEEPEST = 4
_MOST_PARTS = 20
"""Values of one sample that are told apart."""
_MOST_NUMBERS = 2**22
"""Of an array whose range is looked at, 10 ms; of a larger one these are the first."""
_FLOAT_BYTES = 4


class SeenValue(NamedTuple):
    """One value of one sample."""

    name: str
    type: str
    shape: tuple[int, ...]
    low: float | None
    high: float | None
    finite: bool


def sample_values(sample: Any) -> list[SeenValue]:
    """Describe the values of a sample; of a pair the first is the input and the second the target."""
    pair = isinstance(sample, list | tuple) and len(sample) == 2  # noqa: PLR2004 - input and target
    parts = zip(("input", "target"), sample, strict=True) if pair else [("sample", sample)]
    seen = [value for name, part in parts for value in _values(name, part, _DEEPEST)]
    return seen[:_MOST_PARTS]


def _values(name: str, value: Any, depth: int) -> Iterator[SeenValue]:
    if isinstance(value, Mapping) and depth:
        for key, item in list(value.items())[:_MOST_PARTS]:
            yield from _values(f"{name}.{key}", item, depth - 1)
    elif isinstance(value, list | tuple) and depth and not _is_plain_list(value):
        for index, item in enumerate(value[:_MOST_PARTS]):
            yield from _values(f"{name}[{index}]", item, depth - 1)
    else:
        yield _describe(name, value)


def _is_plain_list(value: list[Any] | tuple[Any, ...]) -> bool:
    """Tell whether it is a list of numbers or of texts, or holds nothing."""
    return all(isinstance(item, int | float | str) for item in value)


def _describe(name: str, value: Any) -> SeenValue:
    array = _as_array(value)
    if array is None:
        return SeenValue(name, _type_name(value), _shape(value), None, None, finite=True)
    type_ = type(value).__name__ if isinstance(value, int | float) else str(getattr(value, "dtype", "list"))
    return SeenValue(name, type_.removeprefix("torch."), array.shape, *_range(array))


def _as_array(value: Any) -> NDArray[Any] | None:
    """Return numbers as an array, without a copy where that can be; None where they are none."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _tensor_as_array(value)
    if isinstance(value, list | tuple):
        value = np.array(value) if all(isinstance(item, int | float) for item in value) else None
    array = np.asarray(value) if isinstance(value, int | float | np.generic | np.ndarray) else None
    return array if array is not None and array.dtype.kind in "biuf" else None


def _tensor_as_array(value: Any) -> NDArray[Any] | None:
    if value.is_sparse or value.is_complex() or value.is_quantized or value.is_meta:
        return None
    plain = value.detach().cpu()
    is_half = plain.is_floating_point() and plain.element_size() < _FLOAT_BYTES  # NumPy knows no bfloat16
    return np.asarray((plain.float() if is_half else plain).numpy())


def _range(array: NDArray[Any]) -> tuple[float | None, float | None, bool]:
    """Return the least and the greatest finite number, and whether all are finite."""
    numbers = array.reshape(-1)[:_MOST_NUMBERS] if array.size > _MOST_NUMBERS else array
    if array.dtype.kind == "f":
        finite = np.isfinite(numbers)
        if not finite.all():
            numbers = numbers[finite]
            return (*_ends(numbers), False)
    return (*_ends(numbers), True)


def _ends(numbers: NDArray[Any]) -> tuple[float | None, float | None]:
    return (numbers.min().item(), numbers.max().item()) if numbers.size else (None, None)


def _type_name(value: Any) -> str:
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else str(dtype).removeprefix("torch.")


def _shape(value: Any) -> tuple[int, ...]:
    """Return the shape of an array, the length of a list, and of a picture height and width."""
    if isinstance(value, list | tuple):
        return (len(value),)
    try:
        return tuple(int(size) for size in value.shape)
    except (AttributeError, TypeError, ValueError):
        return ()
