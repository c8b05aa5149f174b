"""A checkpoint on disk: either whole and verified, or not there. Safetensors and JSON, never pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ..data.errors import DamagedError, UsageError

SCHEMA_VERSION = 1
_PREFIX = "step_"
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


def write_checkpoint(folder: Path, snapshot: Snapshot) -> Path:
    """Write ``step_XXXXXXXX`` into ``folder``: temporary folder, fsync of all, rename, fsync of the parent.

    Returns:
        The checkpoint's path. One that is already there under that step is kept: it is the same state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{_PREFIX}{snapshot.state['step']:08d}"
    if final.exists():
        return final
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _write_files(temporary, snapshot)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(folder)
    return final


def _write_files(folder: Path, snapshot: Snapshot) -> None:
    folder.mkdir()
    save_file(_separate(snapshot.model), folder / "model.safetensors")
    save_file(_separate(snapshot.optimizer), folder / "optimizer.safetensors")
    if snapshot.rank_buffers:
        save_file(_separate(snapshot.rank_buffers), folder / "rank_buffers.safetensors")
    (folder / "state.json").write_text(json.dumps(snapshot.state, indent=1) + "\n", encoding="utf-8")
    names = sorted(path.name for path in folder.iterdir())
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "files": {n: {"sha256": _sha256(folder / n), "bytes": (folder / n).stat().st_size} for n in names},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in ``folder``, newest first, whole or not."""
    return sorted(folder.glob(f"{_PREFIX}*"), key=lambda path: (len(path.name), path.name), reverse=True)


def read_checkpoint(path: Path) -> Snapshot:
    """The verified contents of one checkpoint.

    Raises:
        DamagedError: a file is missing or is not what the manifest says.
    """
    files = _verified(path)
    return Snapshot(
        model=load_file(path / "model.safetensors"),
        optimizer=load_file(path / "optimizer.safetensors"),
        state=json.loads((path / "state.json").read_text(encoding="utf-8")),
        rank_buffers=load_file(path / "rank_buffers.safetensors")
        if "rank_buffers.safetensors" in files
        else {},
    )


def _verified(path: Path) -> Iterable[str]:
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        files = {name: (entry["sha256"], entry["bytes"]) for name, entry in manifest["files"].items()}
        needed = {"model.safetensors", "optimizer.safetensors", "state.json"} - set(files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path / "manifest.json", f"cannot be read ({error})") from error
    if needed:
        raise _damaged(path / "manifest.json", f"does not list {', '.join(sorted(needed))}")
    for name, (digest, size) in files.items():
        file = path / name
        if not file.is_file():
            raise _damaged(file, "is missing")
        if file.stat().st_size != size or _sha256(file) != digest:
            raise _damaged(file, "is not what was written: its SHA-256 differs from the manifest's")
    return files


def _damaged(path: Path, what: str) -> DamagedError:
    return DamagedError(f"{path} {what}", "use an earlier checkpoint with --checkpoint STEP")


def newest_checkpoint(folder: Path, step: int | None = None) -> tuple[Path, Snapshot, list[DamagedError]]:
    """The newest whole checkpoint in ``folder``, or the one of ``step``, and the damaged ones passed over.

    Raises:
        UsageError: there is none.
        DamagedError: the only ones are damaged, or the one that was asked for is.
    """
    found = list_checkpoints(folder)
    if step is not None:
        found = [path for path in found if path.name == f"{_PREFIX}{step:08d}"]
    if not found:
        raise UsageError(
            f"{folder}: there is no checkpoint" + ("" if step is None else f" of step {step}"),
            "train first, or name another run",
        )
    damaged: list[DamagedError] = []
    for path in found:
        try:
            return path, read_checkpoint(path), damaged
        except DamagedError as error:
            damaged.append(error)
    raise damaged[0]


def tensors_sha256(tensors: Tensors) -> str:
    """SHA-256 over names, types, shapes and bytes, by sorted name: the same for every way of storing them."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
