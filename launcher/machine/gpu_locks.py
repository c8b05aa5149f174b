"""A lock for each GPU, shared by all users of the machine: two launches never get the same one.

Files named after the GPU's UUID, in a folder where everyone may make files and nobody but their owner may remove
them. All may read and write them, so that any user can take a lock that another one's process left, and say whose
it is while it is held. They are never removed: a lock on a file that is gone would lock nothing.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...data.common import boot_id
from ..process import LockOwner, current_owner, read_owner, try_lock, write_owner

_FOLDERS = ("/run/lock", "/tmp")  # noqa: S108 - the same for every user is the point; files are opened with care
_OPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_EVERYONES = stat.S_ISVTX | stat.S_IWOTH
_TURN_SECONDS = 10.0
_TRIES = 50


def lock_folder() -> Path:
    """Find the folder for locks: ``$LOCKSTEP_LOCKS``, else the first that all users of this machine share.

    Judged by its mode, not by what this user may do: root has to look where the others do.
    """
    if own := os.environ.get("LOCKSTEP_LOCKS"):
        return Path(own)
    for name in _FOLDERS:
        folder = Path(name)
        if folder.is_dir() and folder.stat().st_mode & _EVERYONES == _EVERYONES:
            return folder
    return Path(_FOLDERS[-1])


class GpuLocks:
    """Locks on GPUs, held until ``release`` or this process's end.

    Raises:
        OSError: the folder or a file in it cannot be used.
    """

    def __init__(self) -> None:
        self._folder = lock_folder()
        self._held: dict[str, int] = {}

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The open files: a process that inherits them holds the GPUs as well."""
        return tuple(self._held.values())

    @contextmanager
    def exclusive_choice(self) -> Iterator[bool]:
        """Let one launch at a time choose GPUs: two that want all would else take half of them each, and both fail.

        Yields False if others have been choosing for 10 s.
        """
        descriptor = _open(self._folder / "lockstep-gpus")
        try:
            yield try_lock(descriptor, _TURN_SECONDS)
        finally:
            os.close(descriptor)

    def take(self, gpu: str, what: str) -> str:
        """Lock a GPU for ``what``; empty on success, else who has it.

        Args:
            gpu: its UUID, which is the same for every program on the machine.
            what: the run's name, as far as it is known.
        """
        path = self._folder / f"lockstep-gpu-{re.sub(r'[^A-Za-z0-9-]', '_', gpu)}"
        for _ in range(_TRIES):
            descriptor = _open(path)
            if not try_lock(descriptor):
                owner = read_owner(descriptor)
                os.close(descriptor)
                return _words(owner)
            if _is_at(path, descriptor):
                write_owner(descriptor, current_owner(what))
                self._held[gpu] = descriptor
                return ""
            os.close(descriptor)  # removed meanwhile, as a cleaner of old files may do
        return f"{path} is removed again and again"

    def name(self, what: str) -> None:
        """Record what the GPUs are held for, once it has a name."""
        for descriptor in self._held.values():
            write_owner(descriptor, current_owner(what))

    def release(self) -> None:
        """Release all locks."""
        while self._held:
            os.close(self._held.popitem()[1])


def _words(owner: LockOwner | None) -> str:
    if owner is None:
        return "held by another launch"
    lives = (
        "" if owner.is_here or owner.boot != boot_id() else ", which is gone but has left processes behind"
    )
    return f"held by {owner}{lives}" + (f", for {owner.what}" if owner.what else "")


def _open(path: Path) -> int:
    """Open a shared file, made where it is missing.

    Two steps, as the kernel (fs.protected_regular) refuses O_CREAT for another user's file in such a folder.
    """
    for _ in range(_TRIES):
        try:
            descriptor = os.open(path, _OPEN)
        except FileNotFoundError:
            descriptor = _make(path)
        except PermissionError:
            if path.stat().st_mode & stat.S_IWOTH:
                raise
            time.sleep(0.01)  # its maker is about to open it for all
            continue
        if descriptor >= 0:
            return _regular(descriptor, path)
    return os.open(path, _OPEN)


def _make(path: Path) -> int:
    """Create a file for all users; -1 if another process was faster."""
    try:
        descriptor = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return -1
    os.fchmod(descriptor, 0o666)
    return descriptor


def _regular(descriptor: int, path: Path) -> int:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "not a regular file", str(path))
    return descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False
