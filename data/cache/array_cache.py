"""The cache of array files: built once per machine, memory-mapped by every rank, which share the pages."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common import DISK_FULL_ERRNOS, DamagedError, MachineError, file_sha256, sync
from ..config import SplitInfo
from .entry_use import FACTS, hold_entry, mark_used

Array = NDArray[Any]


@dataclass(frozen=True)
class CacheEntry:
    """One folder of the cache, whole and verified."""

    folder: Path
    facts: dict[str, Any]
    """What the builder returned, after a round trip through JSON."""
    hashes: dict[str, str]
    """File name to the SHA-256 of its bytes."""


def cache_root() -> Path:
    """Return ``$LOCKSTEP_CACHE``, else ``~/.cache/lockstep/arrays``."""
    chosen = os.environ.get("LOCKSTEP_CACHE")
    return Path(chosen).absolute() if chosen else Path.home() / ".cache" / "lockstep" / "arrays"


def entry_key(name: str, *parts: Any) -> str:
    """Make a folder name that changes with every value among ``parts`` (plain JSON values)."""
    return f"{name}-{fingerprint(*parts)[:20]}"


def find_entry(key: str) -> CacheEntry | None:
    """Return the entry ``key`` where it is there and whole."""
    return _verified_entry(cache_root() / key)


def partial_folder(key: str) -> Path:
    """Return the folder in which an interrupted build of ``key`` continues."""
    return cache_root() / f".{key}.partial"


def cached(key: str, build: Callable[[Path], dict[str, Any]], *, resumable: bool = False) -> CacheEntry:
    """Return the cache entry ``key``, built if it is missing or damaged.

    Processes that ask at the same time wait for the one that builds. The entry appears by one rename: it is
    whole or it is not there. A cache that cannot be written can still be read.

    Args:
        key: a file name, best from ``entry_key``.
        build: writes ``.npy`` files into the folder it is given and returns plain JSON values.
        resumable: ``build`` continues with what it finds in the folder, which an interrupted one has left.

    Raises:
        MachineError: the cache cannot be written, or the disk is full.
    """
    root = cache_root()
    entry = _verified_entry(root / key)
    if entry is not None:
        mark_used(entry.folder)
        return entry
    try:
        with _entry_lock(root, key):
            return _verified_entry(root / key) or _build_entry(root, key, build, resumable=resumable)
    except OSError as error:
        raise _cache_error(root, error) from error


def save_array(path: Path, array: Array) -> None:
    """Write an ``.npy`` file and wait for the disk; ``np.save`` hides the errno of a full disk."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, np.lib.format.header_data_from_array_1_0(np.ascontiguousarray(array))
        )
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())


def load_array(path: Path | str) -> Array:
    """Map an ``.npy`` file into memory.

    Pages are shared between processes until one writes: copy-on-write, as a read-only array makes
    ``torch.from_numpy`` warn. An entry of the cache is in use from now on.

    Raises:
        DamagedError: the file is missing or no array file.
    """
    hold_entry(Path(path).parent)
    try:
        return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise DamagedError(
            f"{path}: not a readable array file: {error}",
            f"delete the folder {Path(path).parent}: it is built again",
        ) from error


def array_split_info(entry: CacheEntry, which: str, classes: int | None) -> SplitInfo:
    """Describe a split that an entry holds whole, as ``WHICH_x.npy`` and ``WHICH_y.npy``."""
    files = {role: str(entry.folder / f"{which}_{role}.npy") for role in ("x", "y")}
    targets = load_array(files["y"])
    return SplitInfo(len(targets), files, class_counts=class_counts(targets, classes))


def class_counts(targets: Array, classes: int | None) -> tuple[int, ...] | None:
    """Count the samples of each class; None where targets are not classes."""
    return None if classes is None else tuple(np.bincount(targets, minlength=classes).tolist())


def fingerprint(*parts: Any) -> str:
    """Compute the SHA-256 of plain JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _build_entry(
    root: Path, key: str, build: Callable[[Path], dict[str, Any]], *, resumable: bool
) -> CacheEntry:
    folder = partial_folder(key) if resumable else root / f".{key}.{secrets.token_hex(4)}"
    _remove_leftovers(root, key, but=folder)
    folder.mkdir(exist_ok=resumable)
    try:
        _write_metadata(folder, build(folder))
        _replace(folder, root / key)
    except BaseException as error:
        # A full disk is in the way of checkpoints, too: what was built gives its room back.
        if not resumable or (isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    entry = _verified_entry(root / key)
    if entry is None:
        raise OSError(errno.EIO, "a fresh cache entry does not verify", str(root / key))
    return entry


def _remove_leftovers(root: Path, key: str, but: Path) -> None:
    """Remove what killed builders of this entry left; the lock guarantees that none is alive."""
    for left in root.glob(f".{key}.*"):
        if left != but:
            shutil.rmtree(left, ignore_errors=True)


def _write_metadata(folder: Path, facts: dict[str, Any]) -> None:
    files = {
        path.name: _size_and_mtime(path) | {"sha256": file_sha256(path)} for path in sorted(folder.iterdir())
    }
    with (folder / FACTS).open("w", encoding="utf-8") as file:
        json.dump({"version": 1, "facts": facts, "files": files}, file)
        file.flush()
        os.fsync(file.fileno())
    sync(folder)


def _replace(folder: Path, final: Path) -> None:
    damaged = final.with_name(f".{final.name}.{secrets.token_hex(4)}")
    if final.exists():
        final.rename(damaged)
    folder.rename(final)
    sync(final.parent)
    shutil.rmtree(damaged, ignore_errors=True)


def _verified_entry(folder: Path) -> CacheEntry | None:
    try:
        document = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        files = document["files"]
        if not all(_is_unchanged(folder / name, known) for name, known in files.items()):
            return None
        return CacheEntry(folder, document["facts"], {name: known["sha256"] for name, known in files.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_unchanged(path: Path, known: dict[str, Any]) -> bool:
    """Compare size and time, and the bytes only where the time differs, so that a copied cache stays valid."""
    stamp = _size_and_mtime(path)
    if stamp["bytes"] != known["bytes"]:
        return False
    return bool(stamp["mtime_ns"] == known["mtime_ns"]) or file_sha256(path) == known["sha256"]


def _size_and_mtime(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


@contextmanager
def _entry_lock(root: Path, key: str) -> Iterator[None]:
    # The lock files stay: deleting one would let two processes lock two files of the same name.
    locks = root / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / key).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cache_error(root: Path, error: OSError) -> MachineError:
    what = "is full" if error.errno in DISK_FULL_ERRNOS else "cannot be written"
    return MachineError(
        f"the cache of array files {root} {what}: {error.strerror or error}",
        "set LOCKSTEP_CACHE to a folder with room that you may write",
    )
