"""Paths of image files that someone else has written: none leads out of the root."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

_UINT64 = 2**64 - 1
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class PathChecker:
    """A check of paths below ``root``; each folder is resolved once, so that a row costs one ``lstat``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._inside: dict[str, bool] = {}

    def check(self, path: str) -> tuple[str | None, int, int, int]:
        """Say what is wrong with ``path``, or None; the file's size in bytes, when it was changed, and its number."""
        problem, status = self._look_at(path)
        if status is None:
            return problem, 0, 0, 0
        # A file system without such numbers has 0 for all; devices are few, and their numbers small.
        number = (status.st_ino ^ status.st_dev << 44) & _UINT64 if status.st_ino else hash(path) & _UINT64
        return problem, status.st_size, status.st_mtime_ns, number

    def _look_at(self, path: str) -> tuple[str | None, os.stat_result | None]:
        if not path:
            return "the path is empty", None
        if _CONTROL.search(path):
            return f"the path {path!r} has control characters", None
        if not _is_text(path):
            return f"the path {path!r} is not in UTF-8", None
        if path.startswith("/"):
            return f"{path!r} is absolute", None
        return self._check_path(path)

    def _check_path(self, path: str) -> tuple[str | None, os.stat_result | None]:
        parent, _, name = path.rpartition("/")
        if name in ("", ".", "..") or not self._is_inside(parent):
            return f"{path!r} leads outside {self._root}", None
        full = f"{self._root}/{path}"
        try:
            status = os.lstat(full)
            if stat.S_ISLNK(status.st_mode):
                if not self._contains(os.path.realpath(full)):
                    return f"{path!r} leads outside {self._root}", None
                status = os.stat(full)  # noqa: PTH116 - a million rows; Path costs ten times as much
        except OSError as error:
            return f"{path!r}: {error.strerror}", None
        if not stat.S_ISREG(status.st_mode):
            return f"{path!r} is not a file", None
        return (None if status.st_size else f"{path!r} is empty"), status

    def _is_inside(self, parent: str) -> bool:
        if parent not in self._inside:
            self._inside[parent] = self._contains(os.path.realpath(f"{self._root}/{parent}"))
        return self._inside[parent]

    def _contains(self, resolved: str) -> bool:
        return Path(resolved).is_relative_to(self._root)


def _is_text(path: str) -> bool:
    """Tell whether a name can be written as UTF-8; bytes that cannot be read as it are lone surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
