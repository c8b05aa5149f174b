"""A checkpoint on disk: either whole and verified, or not there. Safetensors and JSON, never pickle."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ...data.common import DamagedError, file_sha256, sync
from ...data.samples import as_bytes
from .layout import (
    OPTIONAL_PARTS,
    REQUIRED_PARTS,
    STATE_FILE,
    aside_path,
    checkpoint_path,
    leftovers,
    temporary_path,
    tensor_file,
)
from .manifest import is_intact, newest_intact, read_state, verify, write_manifest

Tensors = dict[str, torch.Tensor]
_OVERHEAD_BYTES = 2**16  # bytes beside the tensors: state, manifest, headers


@dataclass(frozen=True)
class CheckpointContents:
    """Everything that a checkpoint holds."""

    model: Tensors
    """Parameters and buffers by name; batch norm's statistics averaged over ranks."""
    optimizer: Tensors
    """``parameter/key`` to tensor."""
    state: dict[str, Any]
    """Position, accounts and versions, plain values."""
    rank_buffers: Tensors = field(default_factory=dict)
    """Of every rank the buffers that are its own, [world_size, ...]: batch norm's statistics and others that differ."""
    ema: Tensors = field(default_factory=dict)
    """The average of the trainable parameters, by each of their names; empty without one."""

    hooks: Tensors = field(default_factory=dict)
    """The tensors among what hooks have returned, by ``rank.number``."""

    @property
    def parts(self) -> dict[str, Tensors]:
        """Return file stem to tensors, of the files that are written."""
        optional = {name: part for name in OPTIONAL_PARTS if (part := getattr(self, name))}
        return {**{name: getattr(self, name) for name in REQUIRED_PARTS}, **optional}

    @property
    def nbytes(self) -> int:
        """Return the bytes of all tensors."""
        return sum(tensor.nbytes for part in self.parts.values() for tensor in part.values())

    @property
    def weights(self) -> Tensors:
        """Return what evaluation uses: the model's tensors, averages in place of the parameters that have one."""
        return {**self.model, **self.ema}


def write_checkpoint(
    folder: Path, snapshot: CheckpointContents, fence: Callable[[], None] | None = None
) -> Path:
    """Write ``step_XXXXXXXX`` into ``folder``: temporary folder, fsync of all, rename, fsync of the parent.

    Args:
        folder: the run's ``checkpoints``.
        snapshot: what to write.
        fence: raises where this process is no longer the run's; asked just before the rename.

    Returns:
        The checkpoint's path. A whole one of that step is kept: it is the same state, unless its evaluation was still
        to be done. A damaged one, or one that is not of this step and run, moves aside.

    Raises:
        OSError: it cannot be written; nothing of it is left, and what was there before is as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = checkpoint_path(folder, snapshot.state["step"])
    there = final.exists() and is_intact(final)
    if there and read_state(final).get("pending") == snapshot.state.get("pending"):
        return final
    _require_free_space(folder, snapshot.nbytes + _OVERHEAD_BYTES)
    temporary = temporary_path(checkpoint_path(folder, snapshot.state["step"]))
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _write_files(temporary, snapshot)
        if fence is not None:
            fence()
        if there:
            _exchange(temporary, final)
            _remove(temporary)
        else:
            if os.path.lexists(final):  # a link that points nowhere, too
                final.rename(aside_path(final))
            temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(folder)
    return final


def _exchange(one: Path, other: Path) -> None:
    """Give two folders each other's name in one step; where the file system cannot, both stay what they are."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)
    if rename is not None:
        rename(here, os.fsencode(one), here, os.fsencode(other), exchange)


def remove_leftovers(folder: Path) -> None:
    """Remove what attempts that were killed while writing have left; only the run's owner may call it."""
    for left in leftovers(folder):
        _remove(left)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint; it is renamed first, so that a half-removed one is not taken for a damaged one."""
    going = temporary_path(path)
    with suppress(OSError):
        path.rename(going)
        _remove(going)


def _remove(path: Path) -> None:
    """Remove a folder with its contents, or only the link where the checkpoint lies elsewhere."""
    if not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


def _require_free_space(folder: Path, needed: int) -> None:
    """Raise, before anything is written, where the file system says that it has no room."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        message = f"{needed / 1e6:,.1f} MB are needed and {free / 1e6:,.1f} MB are free"
        raise OSError(errno.ENOSPC, message)


def _write_files(folder: Path, snapshot: CheckpointContents) -> None:
    folder.mkdir()
    layout: dict[str, dict[str, str]] = {}
    for stem, tensors in snapshot.parts.items():
        on_host = _unshared_on_host(tensors)
        save_file(on_host, folder / tensor_file(stem))
        layout[tensor_file(stem)] = {
            name: f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
            for name, tensor in sorted(on_host.items())
        }
    (folder / STATE_FILE).write_text(json.dumps(snapshot.state, indent=1) + "\n", encoding="utf-8")
    write_manifest(folder, snapshot.state, layout)
    for path in [*folder.iterdir(), folder]:
        sync(path)


def _unshared_on_host(tensors: Tensors) -> Tensors:
    """Copy tensors so that none shares memory with another, as tied weights do: safetensors refuses that."""
    seen: set[int] = set()
    separate: Tensors = {}
    for name, tensor in tensors.items():
        here = tensor.detach().cpu().contiguous()
        shared = here.untyped_storage().data_ptr() in seen or here.untyped_storage().nbytes() != here.nbytes
        separate[name] = here.clone() if shared else here
        seen.add(separate[name].untyped_storage().data_ptr())
    return separate


def read_checkpoint(path: Path) -> CheckpointContents:
    """Verify and load one checkpoint.

    Raises:
        DamagedError: a file is missing or is not what the manifest says.
    """
    return load_checkpoint(path, verify(path))


def load_checkpoint(path: Path, files: set[str]) -> CheckpointContents:
    """Load a checkpoint that ``verify`` has just found to consist of ``files``."""

    def part(stem: str) -> Tensors:
        name = tensor_file(stem)
        return load_safetensors(path / name) if name in files else {}

    return CheckpointContents(
        **{stem: part(stem) for stem in (*REQUIRED_PARTS, *OPTIONAL_PARTS)}, state=read_state(path)
    )


def load_safetensors(file: Path) -> Tensors:
    """Read the tensors of a file.

    Raises:
        DamagedError: it is no such file.
    """
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise DamagedError(
            f"{file} is no safetensors file: {error}", "use another checkpoint or file"
        ) from error


def refuse_changed(file: Path, sha256: str) -> None:
    """Refuse a file whose SHA-256 is not what it was.

    Raises:
        DamagedError: it is gone or has changed.
    """
    try:
        same = file_sha256(file) == sha256
    except OSError as error:
        raise DamagedError(f"{file} cannot be read: {error.strerror}", "bring the file back") from error
    if not same:
        raise DamagedError(
            f"{file} has changed since this run was started from it", "start a new run from it"
        )


def newest_checkpoint(
    folder: Path, step: int | None = None
) -> tuple[Path, CheckpointContents, list[DamagedError]]:
    """Load the newest whole checkpoint, or the one of ``step``; return the damaged ones passed over, too.

    Raises:
        UsageError: there is none.
        DamagedError: the only ones are damaged, or the one that was asked for is.
    """
    path, damaged = newest_intact(folder, step)
    return path, read_checkpoint(path), damaged


def tensors_sha256(tensors: Tensors) -> str:
    """Hash names, types, shapes and bytes, by sorted name: the same for every way of storing them."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(as_bytes(tensor.cpu()).numpy().tobytes())
    return digest.hexdigest()
