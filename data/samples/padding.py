"""Samples of different lengths, padded to one length that does not depend on which rank has which of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..common import TrainingError, UsageError
from ..config import PadConfig
from .arrays import is_numeric, tensor_of
from .tree import is_pair, like

_LOOKED_AT = 16
"""Samples that show which of their parts are as long as they are."""


@dataclass(frozen=True)
class Padding:
    """The way in which samples are padded."""

    config: PadConfig
    lengths: NDArray[np.int64] | None
    """Of each sample, by its row in the data set; None where all are padded to one fixed length."""
    parts: frozenset[str]
    """Names of the parts of a sample that are sequences, such as ``input`` or ``ids``."""

    def length(self, rows: Sequence[int] | NDArray[np.int64]) -> int:
        """Return what the samples of a batch are padded to, which are those of all ranks."""
        if self.config.to != "longest" or self.lengths is None:
            return int(self.config.to)
        longest = int(self.lengths[np.asarray(rows, np.int64)].max())
        return -(-longest // self.config.multiple_of) * self.config.multiple_of

    def apply(self, sample: Any, row: int, length: int) -> Any:
        """Pad a sample's sequences.

        Raises:
            TrainingError: it is longer, or not as long as the data set's ``lengths`` say.
        """
        found = [len(value) for name, value in _leaves(sample) if name in self.parts]
        said = found[:1] if self.lengths is None else [int(self.lengths[row])]
        if any([size] != said for size in found):
            raise TrainingError(
                f"data sample {row} has sequences of {', '.join(map(str, found))}, and its length is {said[0]}",
                "make `lengths` of the data set say how long each sample's sequences are",
            )
        if found and found[0] > length:
            raise TrainingError(
                f"data sample {row} has the length {found[0]}, and data.pad.to is {length}",
                "cut it in __getitem__, or raise data.pad.to",
            )
        padded = _mapped(sample, "", lambda name, value: self._padded(name, value, length))
        return self._masked(padded, found[0] if found else 0, length)

    def _padded(self, name: str, value: Any, length: int) -> Any:
        if name not in self.parts:
            return value
        tensor = _as_tensor(value)
        fill = self.config.values.get(
            name, self.config.values.get(name.rpartition(".")[2], self.config.value)
        )
        result = tensor.new_full((length, *tensor.shape[1:]), fill)
        result[: len(tensor)] = tensor
        return result

    def _masked(self, sample: Any, size: int, length: int) -> Any:
        name = self.config.mask
        if name is None:
            return sample
        inner = sample[0] if is_pair(sample) else sample
        if not isinstance(inner, Mapping):
            raise TrainingError(
                "data.pad.mask: samples are not dicts that it could be put into", "leave it out"
            )
        added = like(inner, {**inner, name: torch.arange(length) < size})
        return (added, sample[1]) if is_pair(sample) else added


def build_padding(config: PadConfig, dataset: Any, read: Any) -> Padding:
    """Find out what is to be padded.

    Args:
        config: ``data.pad``.
        dataset: with ``lengths``, a number for each sample, unless all are padded to one fixed length.
        read: returns a sample of a row.

    Raises:
        UsageError: nothing says how long samples are, or none of their parts has that length.
    """
    given = getattr(dataset, "lengths", None)
    if given is None and config.to == "longest":
        raise UsageError(
            "data.pad: the longest sample of a batch is on one rank, and the others have to know its length",
            "give the data set an attribute `lengths`, a number for each sample, or pad to a fixed one: data.pad.to=9",
        )
    lengths = None if given is None else np.asarray(given, np.int64)
    if lengths is not None and lengths.shape != (len(dataset),):
        raise UsageError(
            f"data.pad: `lengths` has {lengths.size} numbers for {len(dataset)} samples", "give one each"
        )
    rows = range(min(_LOOKED_AT, len(dataset)))
    parts = _sequences([dict(_leaves(read(row))) for row in rows], lengths)
    if not parts:
        raise UsageError(
            "data.pad: no part of the first samples has the length that `lengths` says", "leave data.pad out"
        )
    return Padding(config, lengths, parts)


def _sequences(samples: list[dict[str, Any]], lengths: NDArray[np.int64] | None) -> frozenset[str]:
    """Name the parts as long as their sample is; where no lengths are given, as long as the first part that varies."""
    names = [name for name in samples[0] if all(name in sample for sample in samples)]
    sizes = {name: [len(sample[name]) for sample in samples] for name in names}
    if lengths is not None:
        wanted = lengths[: len(samples)].tolist()
    else:
        wanted = next(
            (found for found in sizes.values() if len(set(found)) > 1), next(iter(sizes.values()), [])
        )
    return frozenset(name for name, found in sizes.items() if found == wanted)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the arrays of a sample that have a first dimension, lists of numbers among them, by name."""
    if _is_array(value):
        yield name or "sample", value
    else:
        for key, item in _items(value, name):
            yield from _leaves(item, key)


def _mapped(value: Any, name: str, change: Any) -> Any:
    if _is_array(value):
        return change(name or "sample", value)
    if isinstance(value, Mapping):
        return like(value, {key: _mapped(item, _inside(name, key), change) for key, item in value.items()})
    if isinstance(value, list | tuple):
        items = [_mapped(item, key, change) for key, item in _items(value, name)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _items(value: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(_inside(name, key), item) for key, item in value.items()]
    if not isinstance(value, list | tuple):
        return []
    keys = (
        ("input", "target")
        if not name and is_pair(value)
        else [_inside(name, at) for at in range(len(value))]
    )
    return list(zip(keys, value, strict=True))


def _inside(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


def _is_array(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.ndim > 0
    if isinstance(value, np.ndarray):
        return value.ndim > 0 and is_numeric(value)
    return isinstance(value, list) and bool(value) and all(type(item) in (int, float, bool) for item in value)


def _as_tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    return tensor_of(value) if isinstance(value, np.ndarray) else torch.tensor(value)
