"""A checkpoint on disk: either whole and verified, or not there. Safetensors and JSON, never pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ..data.errors import DamagedError
from .manifest import checkpoint_path, newest_whole, read_state, verify, write_manifest

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Snapshot:
    """Everything that a checkpoint holds."""

    model: Tensors
    """Parameters and buffers by name; batch norm's statistics averaged over ranks."""
    optimizer: Tensors
    """``parameter/key`` to tensor."""
    state: dict[str, Any]
    """Position, accounts and versions, plain values."""
    rank_buffers: Tensors
    """Batch norm's statistics of every rank, [world_size, ...]; empty without batch norm or on one rank."""


def write_checkpoint(folder: Path, snapshot: Snapshot, fence: Callable[[], None] | None = None) -> Path:
    """Write ``step_XXXXXXXX`` into ``folder``: temporary folder, fsync of all, rename, fsync of the parent.

    Args:
        folder: the run's ``checkpoints``.
        snapshot: what to write.
        fence: raises where this process is no longer the run's; asked just before the rename.

    Returns:
        The checkpoint's path. A whole one of that step is kept: it is the same state. A damaged one moves aside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = checkpoint_path(folder, snapshot.state["step"])
    if final.exists() and _is_whole(final):
        return final
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _write_files(temporary, snapshot)
        if fence is not None:
            fence()
        if final.exists():
            final.rename(folder / f"damaged-{final.name}-{time.time_ns()}")
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(folder)
    return final


def _is_whole(path: Path) -> bool:
    try:
        verify(path)
    except DamagedError:
        return False
    return True


def _write_files(folder: Path, snapshot: Snapshot) -> None:
    folder.mkdir()
    save_file(_separate(snapshot.model), folder / "model.safetensors")
    save_file(_separate(snapshot.optimizer), folder / "optimizer.safetensors")
    if snapshot.rank_buffers:
        save_file(_separate(snapshot.rank_buffers), folder / "rank_buffers.safetensors")
    (folder / "state.json").write_text(json.dumps(snapshot.state, indent=1) + "\n", encoding="utf-8")
    write_manifest(folder)
    for path in [*folder.iterdir(), folder]:
        _sync(path)


def _separate(tensors: Tensors) -> Tensors:
    """Contiguous host copies: safetensors refuses tensors that share memory, as tied weights do."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_checkpoint(path: Path) -> Snapshot:
    """The verified contents of one checkpoint.

    Raises:
        DamagedError: a file is missing or is not what the manifest says.
    """
    files = verify(path)
    return Snapshot(
        model=load_file(path / "model.safetensors"),
        optimizer=load_file(path / "optimizer.safetensors"),
        state=read_state(path),
        rank_buffers=load_file(path / "rank_buffers.safetensors")
        if "rank_buffers.safetensors" in files
        else {},
    )


def newest_checkpoint(folder: Path, step: int | None = None) -> tuple[Path, Snapshot, list[DamagedError]]:
    """The newest whole checkpoint, or the one of ``step``, its contents, and the damaged ones passed over.

    Raises:
        UsageError: there is none.
        DamagedError: the only ones are damaged, or the one that was asked for is.
    """
    path, damaged = newest_whole(folder, step)
    return path, read_checkpoint(path), damaged


def tensors_sha256(tensors: Tensors) -> str:
    """SHA-256 over names, types, shapes and bytes, by sorted name: the same for every way of storing them."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
