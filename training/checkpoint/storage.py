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
from safetensors.torch import save_file

from ...data.common import DamagedError, file_sha256, sync
from ...data.samples import as_bytes
from .layout import (
    OPTIONAL_PARTS,
    REQUIRED_PARTS,
    STATE_FILE,
    aside_path,
    checkpoint_path,
    is_tensor_file,
    leftovers,
    temporary_path,
    tensor_file,
)
from .manifest import file_entry, is_intact, newest_intact, read_state, verify, write_manifest
from .stored_files import StoredTensors, open_file, open_files

Tensors = dict[str, torch.Tensor]
_OVERHEAD_BYTES = 2**16  # bytes besides the tensors: state, manifest, headers


@dataclass(frozen=True)
class CheckpointContents:
    """Everything that a checkpoint holds, or what a rank writes of it."""

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
    shard: Tensors | None = None
    """This rank's rows of what is cut over the ranks, by ``part/name``; None where every tensor is whole."""

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
    """Write ``step_XXXXXXXX`` into ``folder``, all of it from this process.

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
    final = checkpoint_path(folder, snapshot.state["step"])
    temporary = temporary_path(final)
    if prepare(temporary, final, snapshot, snapshot.nbytes):
        commit(temporary, final, snapshot, fence)
    return final


def prepare(temporary: Path, final: Path, snapshot: CheckpointContents, nbytes: int) -> bool:
    """Make the folder that a checkpoint is written in; say False where the same one is there already.

    Raises:
        OSError: there is no room for it.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    if _is_there(final) and read_state(final).get("pending") == snapshot.state.get("pending"):
        return False
    _require_free_space(final.parent, nbytes + _OVERHEAD_BYTES)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    return True


def commit(
    temporary: Path,
    final: Path,
    snapshot: CheckpointContents,
    fence: Callable[[], None] | None,
    shards: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Write the whole files and the manifest, sync all, ask the fence, rename, sync the parent.

    Args:
        temporary: as ``prepare`` has made it; it is gone afterwards, whatever happens.
        final: where the checkpoint is to be.
        snapshot: what to write.
        fence: as of ``write_checkpoint``.
        shards: what the ranks have written there and synced, as ``write_shard`` has told it.

    Raises:
        OSError: it cannot be written.
    """
    try:
        _write_files(temporary, snapshot, shards or {})
        if fence is not None:
            fence()
        if _is_there(final):
            _exchange(temporary, final)
            _remove(temporary)
        else:
            if os.path.lexists(final):  # a link that points nowhere, too
                final.rename(aside_path(final))
            temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(final.parent)


def write_shard(file: Path, tensors: Tensors) -> dict[str, Any]:
    """Write a rank's rows and sync them; return what the manifest says of the file."""
    layout = _save(file, tensors)
    sync(file)
    return file_entry(file, layout)


def _is_there(final: Path) -> bool:
    return final.exists() and is_intact(final)


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


def _write_files(folder: Path, snapshot: CheckpointContents, shards: dict[str, dict[str, Any]]) -> None:
    layout = {
        tensor_file(stem): _save(folder / tensor_file(stem), tensors)
        for stem, tensors in snapshot.parts.items()
    }
    (folder / STATE_FILE).write_text(json.dumps(snapshot.state, indent=1) + "\n", encoding="utf-8")
    write_manifest(folder, snapshot.state, layout, shards)
    for path in [*(file for file in folder.iterdir() if file.name not in shards), folder]:
        sync(path)


def _save(file: Path, tensors: Tensors) -> dict[str, str]:
    """Write a file of tensors; return the type and shape of each by its name."""
    on_host = _unshared_on_host(tensors)
    save_file(on_host, file)
    return {
        name: f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        for name, tensor in sorted(on_host.items())
    }


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


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint whose tensors are read when they are asked for."""

    model: StoredTensors
    optimizer: StoredTensors
    rank_buffers: StoredTensors
    ema: StoredTensors
    hooks: StoredTensors
    state: dict[str, Any]

    @property
    def weights(self) -> StoredTensors:
        """Return what evaluation uses, as that of ``CheckpointContents``."""
        return {**self.model, **self.ema}


def open_checkpoint(path: Path, files: set[str]) -> StoredCheckpoint:
    """Open a checkpoint that ``verify`` has just found to consist of ``files``.

    Raises:
        DamagedError: they do not fit each other.
    """
    parts = open_files([path / name for name in sorted(files) if is_tensor_file(name)])
    return StoredCheckpoint(
        **{stem: parts.get(stem, {}) for stem in (*REQUIRED_PARTS, *OPTIONAL_PARTS)}, state=read_state(path)
    )


def load_checkpoint(path: Path, files: set[str]) -> CheckpointContents:
    """Load all of a checkpoint that ``verify`` has just found to consist of ``files``."""
    stored = open_checkpoint(path, files)
    parts = {stem: read_all(getattr(stored, stem)) for stem in (*REQUIRED_PARTS, *OPTIONAL_PARTS)}
    return CheckpointContents(**parts, state=stored.state)


def read_all(tensors: StoredTensors) -> Tensors:
    """Read tensors from their files."""
    return {name: tensor.whole() for name, tensor in tensors.items()}


def load_safetensors(file: Path) -> Tensors:
    """Read the tensors of a file.

    Raises:
        DamagedError: it is not such a file.
    """
    return read_all(open_file(file))


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


def open_newest(folder: Path, step: int | None = None) -> tuple[Path, StoredCheckpoint, list[DamagedError]]:
    """Open the newest whole checkpoint, or the one of ``step``; return the damaged ones passed over, too.

    Raises:
        UsageError: there is none.
        DamagedError: the only ones are damaged, or the one that was asked for is.
    """
    path, damaged = newest_intact(folder, step)
    return path, open_checkpoint(path, verify(path)), damaged


def tensors_sha256(tensors: Tensors) -> str:
    """Hash names, types, shapes and bytes, by sorted name: the same for every way of storing them."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        for content in hashed_bytes(name, tensors[name]):
            digest.update(content)
    return digest.hexdigest()


def hashed_bytes(name: str, tensor: torch.Tensor) -> tuple[bytes, bytes]:
    """Return what of a tensor is hashed."""
    head = f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode()
    return head, as_bytes(tensor.cpu()).numpy().tobytes()
