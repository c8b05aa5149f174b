"""Files that a command writes where its user wants them: refused before any work, and whole or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ...data.common import LockstepError, UsageError, disk_full_error

PICTURES = (".png", ".pdf", ".svg", ".jpg")
"""What pictures may be named: matplotlib draws what the name says."""


@contextmanager
def new_file(out: Path, suffixes: Sequence[str] = (), *, force: bool) -> Iterator[Path]:
    """Yield an empty file to write, which becomes ``out`` in the end.

    Args:
        out: its folders are made.
        suffixes: what its name may end with; nothing is anything.
        force: replace a file that is there.

    Raises:
        LockstepError: there is such a file, at the latest now, or it cannot be written.
    """
    refuse_output(out, suffixes, force=force)
    with temporary_file(out) as temporary:
        yield temporary
        put_in_place(temporary, out, force=force)


def refuse_output(out: Path, suffixes: Sequence[str] = (), *, force: bool) -> None:
    """Refuse a file that is a folder, of another kind by its name, or there already.

    Raises:
        UsageError: it is one of these.
    """
    if _is_folder(out):
        raise UsageError(f"--out {out}: a folder", f"name a file in it, as {out / 'new'}{(*suffixes, '')[0]}")
    if suffixes and out.suffix.lower() not in suffixes:
        other = out.with_suffix(suffixes[0])
        raise UsageError(f"--out {out}: not a {' or '.join(suffixes)} file", f"name it {other}, say")
    if os.path.lexists(out) and not force:
        raise UsageError(
            f"{out} is there already", "name another file with --out, or replace it with --force"
        )


@contextmanager
def temporary_file(out: Path) -> Iterator[Path]:
    """Yield an empty file beside ``out``; it is removed in the end, if it has not been put in its place.

    Raises:
        LockstepError: it cannot be made or written.
    """
    folder = out.absolute().parent
    temporary = folder / f".{out.stem}.{os.getpid()}{out.suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        yield temporary
    except OSError as error:
        raise _refusal(out, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def put_in_place(temporary: Path, out: Path, *, force: bool) -> None:
    """Give a file its name.

    Raises:
        UsageError: another process has written a file of that name meanwhile.
    """
    refuse_output(out, force=force)
    temporary.replace(out)


def _refusal(out: Path, error: OSError) -> LockstepError:
    above = next(folder for folder in out.absolute().parents if os.path.lexists(folder))
    if not _is_folder(above):
        return UsageError(f"--out {out}: {above} is a file, not a folder", "name a file in a folder of yours")
    error.filename = str(out)
    return disk_full_error(error) or UsageError(
        f"--out {out}: {error.strerror or error}", "name a file in a folder of yours"
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that no file can have
        return False
