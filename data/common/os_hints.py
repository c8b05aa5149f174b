"""What helps against an error of the operating system: one table from its number to a hint, or none."""

from __future__ import annotations

import errno
import os
import pwd
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ELSEWHERE = "LOCKSTEP_RUNS=FOLDER puts runs elsewhere"
_NO_LOCKS = f"mount the file system with locks (Lustre: -o flock, NFS: its lock service); {_ELSEWHERE}"
_UNREACHABLE = f"the file system does not answer as it should: see that it is mounted and well; {_ELSEWHERE}"


def os_error_hint(error: OSError) -> str:
    """Return what helps against an error, by its number; empty where only the user can know."""
    if error.errno in _OF_LIMITS:
        return _OF_LIMITS[error.errno]()
    if error.errno in _OF_FILES and error.filename:
        return _OF_FILES[error.errno](name_of(error))
    return ""


def path_hint(error: BaseException | None, base: Path | None = None) -> str:
    """Say of a file that was not found what its path was relative to: a user's arguments are passed on untouched.

    Args:
        error: what the user's code raised; empty for another one, and for an absolute path.
        base: a folder where the file may be.
    """
    if not isinstance(error, FileNotFoundError) or not isinstance(error.filename, str | os.PathLike):
        return ""
    path = Path(error.filename)
    if path.is_absolute():
        return ""
    there = base is not None and (base / path).exists()
    hint = f"; {base / path} is there: write that, or use Path(__file__).parent" if base and there else ""
    return f"{path} is relative to {Path.cwd()}, where the command was started{hint}"


def open_files_hint(needed: int | None = None) -> str:
    """Return how to raise the limit of open files, which ``ulimit -n`` shows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = f"ulimit -n {needed if needed is not None and needed <= hard else hard}"
    if soft < hard and (needed is None or needed <= hard):
        return f"raise the limit of open files from {soft:,}: `{more}`"
    return (
        f"the limit of open files is {hard:,}, and only an administrator can raise it: nofile in"
        " /etc/security/limits.conf, LimitNOFILE= of a service, --ulimit nofile=N of a container"
    )


def is_disk_full(folder: Path) -> bool:
    """Check whether the disk that a folder is on has no room at all."""
    with suppress(OSError):
        found = os.statvfs(folder)
        return not found.f_bavail or bool(found.f_files and not found.f_favail)
    return False


def name_of(error: OSError) -> str:
    """Return the name of the file that an error is about."""
    name = error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes) else str(name)


def _owner(name: str) -> str:
    """Say whose file it is that the error names, or the nearest folder above it that can be seen."""
    path = Path(name).absolute()
    for above in (path, *path.parents):
        with suppress(OSError):
            found = above.stat()
            owner = str(found.st_uid)
            with suppress(KeyError):
                owner = pwd.getpwuid(found.st_uid).pw_name
            if found.st_uid == os.geteuid():
                return f"{above} is yours, with mode {found.st_mode & 0o7777:o}: `chmod u+rwX` opens it"
            return f"{above} belongs to {owner}: ask for access; {_ELSEWHERE}"
    return ""


def _always(text: str) -> Callable[[str], str]:
    return lambda _: text


_OF_FILES: dict[int, Callable[[str], str]] = {
    errno.EACCES: _owner,
    errno.EPERM: _owner,
    errno.EROFS: _always(f"this file system can only be read; {_ELSEWHERE}"),
    errno.ENAMETOOLONG: _always("give the run a shorter --name, or a shorter folder by LOCKSTEP_RUNS"),
    errno.ENOSYS: _always(_NO_LOCKS),
    errno.EOPNOTSUPP: _always(_NO_LOCKS),
    errno.ENOLCK: _always(_NO_LOCKS),
    **dict.fromkeys(
        (
            errno.EIO,
            errno.ENOTCONN,
            errno.ESTALE,
            errno.ETIMEDOUT,
            errno.EHOSTDOWN,
            errno.EREMOTEIO,
            errno.ESHUTDOWN,
        ),
        _always(_UNREACHABLE),
    ),
}
_OF_LIMITS: dict[int, Callable[[], str]] = {
    **dict.fromkeys(DISK_FULL_ERRNOS, lambda: f"make room on the disk; {_ELSEWHERE}"),
    errno.EMFILE: open_files_hint,
    errno.ENFILE: lambda: (
        "the whole machine has too many open files: its administrator can raise fs.file-max"
    ),
    errno.EAGAIN: lambda: (
        "no more processes may be started: see `ulimit -u` and pids.max of the control group"
    ),
    errno.ENOMEM: lambda: "the machine or its control group has no memory left: use fewer processes",
}
