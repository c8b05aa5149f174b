"""What the cache holds, and how it is removed."""

from __future__ import annotations

import fcntl
import json
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .array_cache import cache_root, partial_folder
from .entry_use import FACTS, is_in_use
from .free_space import allocated_bytes

_LOCKS = ".locks"


@dataclass(frozen=True)
class ListedEntry:
    """One folder of the cache."""

    name: str
    bytes: int
    """Of the disk."""
    used: float
    """When it was used last, in seconds since 1970."""
    in_use: bool
    """Whether a process has it mapped, or is building it."""
    is_whole: bool
    """Else its build was interrupted, and continues when it is needed again."""
    about: str
    """What it was made of, where that is known."""


def list_entries() -> list[ListedEntry]:
    """List what is in the cache, the least recently used first."""
    root = cache_root()
    folders = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    found = []
    for folder in folders:
        whole = (folder / FACTS).is_file() and not folder.name.startswith(".")
        if whole or _is_partial(folder):
            with suppress(OSError):  # another process has removed it
                found.append(_entry(folder, is_whole=whole))
    return sorted(found, key=lambda entry: (entry.used, entry.name))


def remove_entry(name: str) -> bool:
    """Remove an entry unless it is in use; tell whether it is gone."""
    root = cache_root()
    whole = root / name
    with suppress(OSError), (root / _LOCKS / name).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody builds it
        except BlockingIOError:
            return False
        if whole.exists() and not _move_away(whole):
            return False
        for left in root.glob(f".{name}.*"):
            shutil.rmtree(left, ignore_errors=True)
    return not whole.exists() and not partial_folder(name).exists()


def _move_away(folder: Path) -> bool:
    """Take an entry's name from it, while no process can begin to use it."""
    with (folder / FACTS).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        folder.rename(folder.with_name(f".{folder.name}.{secrets.token_hex(4)}"))
    return True


def _entry(folder: Path, *, is_whole: bool) -> ListedEntry:
    name = folder.name if is_whole else _key_of(folder)
    times = [path.stat().st_mtime for path in folder.iterdir()] if not is_whole else []
    used = (folder / FACTS).stat().st_mtime if is_whole else max(times, default=folder.stat().st_mtime)
    about = ""
    if is_whole:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            about = str(json.loads((folder / FACTS).read_text(encoding="utf-8"))["facts"].get("about", ""))
    busy = is_in_use(folder) or _is_being_built(folder.parent, name)
    return ListedEntry(name, allocated_bytes(folder), used, busy, is_whole, about)


def _key_of(partial: Path) -> str:
    return partial.name.removeprefix(".").removesuffix(".partial")


def _is_partial(folder: Path) -> bool:
    return folder == partial_folder(_key_of(folder))


def _is_being_built(root: Path, name: str) -> bool:
    with suppress(OSError), (root / _LOCKS / name).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
