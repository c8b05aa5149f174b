"""The hint of an error of the operating system follows its number, or there is none."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.data.common.errors import LockstepError, MachineError
from lockstep.data.common.os_errors import os_error_for_users
from lockstep.data.common.os_hints import os_error_hint

ROOM = "make room"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounting, and being another user, needs root")


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_no_number_gets_the_hint_of_another(number: int) -> None:
    error = OSError(number, os.strerror(number), "/nowhere/at/all")
    told = os_error_for_users(error)
    assert isinstance(told, MachineError)
    assert (
        f"/nowhere/at/all{' cannot be written' if ROOM in told.hint else ''}: {os.strerror(number)}"
        in told.message
    )
    assert (ROOM in told.hint) == (number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    assert ("ulimit -n" in told.hint or "limit of open files" in told.hint) == (number == errno.EMFILE)


@pytest.mark.parametrize(
    ("number", "name", "hint"),
    [
        (errno.EINVAL, "/x", ""),
        (errno.ENOENT, "/x", ""),
        (errno.EROFS, "/x", "can only be read"),
        (errno.ENOSYS, "/x", "Lustre: -o flock"),
        (errno.ESTALE, b"/x", "the file system does not answer"),
        (errno.ENOTCONN, None, ""),  # a socket's, which has no file
        (errno.EACCES, None, ""),
        (errno.EAGAIN, None, "pids.max"),
        (errno.EMFILE, None, "limit of open files"),
        (errno.ENOSPC, None, "make room on the disk"),
    ],
)
def test_the_table(number: int, name: str | bytes | None, hint: str) -> None:
    found = os_error_hint(OSError(number, os.strerror(number), name))
    assert hint in found
    assert bool(found) == bool(hint)


@pytest.fixture
def dead_mount(tmp_path: Path) -> Iterator[Path]:
    """A file system of FUSE whose server has died."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder = tmp_path / "dead"
    folder.mkdir()
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
    assert libc.mount(b"dead", bytes(folder), b"fuse", 0, options.encode()) == 0
    os.close(server)
    yield folder
    libc.umount2(bytes(folder), 2)


@AS_ROOT
@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="there is no FUSE")
def test_a_file_system_whose_server_is_gone_is_said_to_be_that(dead_mount: Path) -> None:
    with pytest.raises(OSError, match="Transport endpoint is not connected") as caught:
        list(dead_mount.iterdir())
    told = os_error_for_users(caught.value)
    assert told.message == f"{dead_mount}: Transport endpoint is not connected"
    assert told.hint.startswith("the file system does not answer as it should: see that it is mounted")


def _as_nobody(path: Path) -> str:
    """What somebody else is told who opens a file."""
    os.seteuid(65534)
    try:
        path.read_text()
    except OSError as error:
        found: LockstepError = os_error_for_users(error)
        return f"{found.message}; {found.hint}"
    finally:
        os.seteuid(0)
    return ""


@AS_ROOT
def test_another_users_folder_is_said_to_be_theirs(tmp_path: Path) -> None:
    (file := tmp_path / "run" / "spec.json").parent.mkdir(mode=0o700)
    file.write_text("{}")
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:  # pytest's own folders are for its user alone
            folder.chmod(0o755)
    assert _as_nobody(file).startswith(
        f"{file}: Permission denied; {tmp_path / 'run'} belongs to root: ask for access"
    )
    os.chown(tmp_path / "run", 65534, 0)
    (tmp_path / "run").chmod(0o000)
    assert f"{tmp_path / 'run'} is yours, with mode 0: `chmod u+rwX` opens it" in _as_nobody(file)
