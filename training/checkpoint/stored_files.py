"""The tensors of safetensors files, each read when it is asked for, and those that are cut over several files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ...data.common import DamagedError
from ..tensors import StoredRows, StoredTensor
from .layout import is_shard_file, part_in

StoredTensors = dict[str, StoredTensor]


def open_files(files: Sequence[Path]) -> dict[str, StoredTensors]:
    """Open the tensor files of a checkpoint; return its parts by their names, ``model`` and so on.

    Args:
        files: in the order of the ranks, where they are shards.

    Raises:
        DamagedError: one is not such a file, or the shards do not fit each other.
    """
    parts: dict[str, StoredTensors] = {}
    cut: dict[str, list[StoredTensor]] = {}
    for file in files:
        for name, tensor in open_file(file).items():
            if is_shard_file(file.name):
                cut.setdefault(name, []).append(tensor)
            else:
                parts.setdefault(part_in(file), {})[name] = tensor
    for key, shares in cut.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = _joined(key, shares, files[0].parent)
    return parts


def open_file(file: Path) -> StoredTensors:
    """Open a file of tensors.

    Raises:
        DamagedError: it is not such a file.
    """
    try:
        opened: Any = safe_open(file, "pt")
        return {name: _stored(opened, name) for name in opened.keys()}  # noqa: SIM118 - it is not a dict
    except (OSError, SafetensorError) as error:
        raise DamagedError(
            f"{file} is not a safetensors file: {error}", "use another checkpoint or file"
        ) from error


def _stored(opened: Any, name: str) -> StoredTensor:
    shape = torch.Size(opened.get_slice(name).get_shape())
    whole = partial(opened.get_tensor, name)
    if not shape:
        return StoredTensor(whole().dtype, shape, whole, ())

    def rows(start: int, stop: int) -> torch.Tensor:
        found: torch.Tensor = opened.get_slice(name)[start:stop]
        return found

    return StoredTensor(rows(0, 0).dtype, shape, whole, (StoredRows(0, shape[0], rows),))


def _joined(key: str, shares: list[StoredTensor], folder: Path) -> StoredTensor:
    """Put the ranks' rows of a tensor one below the other."""
    dtype, columns = shares[0].dtype, shares[0].shape[1:]
    if any(share.dtype != dtype or share.shape[1:] != columns for share in shares):
        raise DamagedError(f"{folder}: its shards differ in {key}", "use another checkpoint")
    rows, length = [], 0
    for share in shares:
        (part,) = share.parts
        rows.append(StoredRows(length, length + part.stop, part.read))
        length += part.stop

    def whole() -> torch.Tensor:
        return torch.cat([share.whole() for share in shares])

    return StoredTensor(dtype, torch.Size((length, *columns)), whole, tuple(rows))
