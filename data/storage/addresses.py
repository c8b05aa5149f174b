"""Files behind an address, such as ``s3://bucket/a.parquet`` or ``https://host/a.tar``, through fsspec."""

from __future__ import annotations

import errno
import hashlib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

from ..common import DamagedError, MachineError, UsageError
from .retries import read_patiently

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

START_PATIENCE = 15.0
"""Seconds for which a server may be silent before the ranks start: an address may be misspelt."""
RUN_PATIENCE = 120.0
"""The same while a run reads."""
_BLOCK_BYTES = 2**23
_TAIL_BYTES = 2**16
_STAMPS = ("ETag", "etag", "generation", "LastModified", "Last-Modified", "last_modified", "updated", "mtime")
"""Names that servers and file systems have for the version of a file, those that depend on its content first."""
_USER = re.compile(r"://[^/\s]*@")
_BEHIND_THE_END = 416
"""HTTP's status for a range that no byte of the file is in."""
_TIMEOUTS: Mapping[str, Mapping[str, Any]] = {
    "s3": {
        "config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1}}
    },
}
_PACKAGES = {
    "s3": "lockstep-train[remote]",
    "http": "lockstep-train[remote]",
    "https": "lockstep-train[remote]",
}


def is_address(name: str) -> bool:
    """Tell whether a name is an address, and not a path."""
    return "://" in name


def holds_credentials(text: str) -> bool:
    """Tell whether an address in a text, also in a chain of them, has a user or a password."""
    return _USER.search(text) is not None


def list_addresses(pattern: str, options: Mapping[str, Any]) -> list[str]:
    """Return the addresses of the files that match a pattern, sorted.

    Args:
        pattern: an address; ``*``, ``?``, ``[…]`` and ``**`` in its path are matched where the server lists its files.
        options: of fsspec's file system.

    Raises:
        UsageError: nobody knows such addresses.
        MachineError: a package is missing, or the server does not answer.
    """
    if holds_credentials(pattern):
        raise UsageError(
            f"data.args: an address of {pattern.rpartition('@')[2]} holds credentials, which would be kept in the run's"
            " config.yaml",
            "leave them out, and give them by the environment or a ~/.netrc",
        )
    system, path = _file_system(pattern, options)

    def found() -> list[str]:
        system.invalidate_cache()
        if not any(letter in path for letter in "*?["):
            system.info(path)
            return [path]
        return [name for name, facts in system.glob(path, detail=True).items() if facts["type"] == "file"]

    try:
        names = read_patiently(found, pattern, START_PATIENCE)
    except FileNotFoundError:
        return []
    except TypeError as error:
        raise _wrong_options(error, pattern) from error
    return sorted(map(system.unstrip_protocol, names))


@dataclass(frozen=True)
class RemoteFile:
    """A file behind an address.

    Args:
        address: of the file.
        options: of fsspec's file system.
        patience: seconds for which a server that fails is asked again.
    """

    address: str
    options: Mapping[str, Any] = field(default_factory=dict)
    patience: float = RUN_PATIENCE
    is_remote = True

    def open(self) -> BinaryIO:
        """Open it; blocks of 8 MB are read."""
        return io.BufferedReader(_Ranges(self), _BLOCK_BYTES)

    def open_arrow(self) -> pa.NativeFile:
        """Open it for pyarrow."""
        import pyarrow as pa

        return pa.PythonFile(_Ranges(self), mode="r")

    def read(self, begin: int, end: int) -> bytes:
        """Read a range by one request."""
        if end <= begin:
            return b""
        try:
            content: bytes = self._ask(lambda system, path: system.cat_file(path, start=begin, end=end))
        except Exception as error:
            if (
                getattr(error, "errno", None) == errno.EINVAL
                or getattr(error, "status", 0) == _BEHIND_THE_END
            ):
                return b""
            raise
        if len(content) > end - begin:
            raise MachineError(
                f"{self.address}: the server sent {len(content):,} bytes where {end - begin:,} were asked for: it"
                " cannot send parts of files",
                "serve the files by one that can (nginx, any S3), or copy them here",
            )
        return content

    def read_all(self) -> bytes:
        """Read all."""
        content: bytes = self._ask(lambda system, path: system.cat_file(path))
        return content

    def exists(self) -> bool:
        """Tell whether it is there."""
        try:
            self._facts()
        except FileNotFoundError:
            return False
        return True

    def stamp(self) -> tuple[object, ...]:
        """Return its size and what the server says of its version; without that, a hash of its last 64 kB."""
        facts = self._facts()
        known = next((str(facts[name]) for name in _STAMPS if facts.get(name)), None)
        if known is not None:
            return facts["size"], known
        tail = self.read(max(0, facts["size"] - _TAIL_BYTES), facts["size"])
        return facts["size"], hashlib.blake2b(tail, digest_size=16).hexdigest()

    @property
    def size(self) -> int:
        """Return its bytes."""
        return int(self._facts()["size"])

    def _facts(self) -> dict[str, Any]:
        def ask(system: Any, path: str) -> dict[str, Any]:
            system.invalidate_cache()
            return dict(system.info(path))

        facts = self._ask(ask)
        if facts.get("size") is None:
            raise DamagedError(
                f"{self.address}: the server does not say how long it is",
                "serve it as a plain file, not compressed",
            )
        return facts

    def _ask(self, ask: Callable[[Any, str], T]) -> T:
        system, path = _file_system(self.address, self.options)
        return read_patiently(lambda: ask(system, path), self.address, self.patience)


class _Ranges(io.RawIOBase):
    """A remote file as Python's raw files are; each read is one request."""

    def __init__(self, file: RemoteFile) -> None:
        super().__init__()
        self._file = file
        self._size = file.size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        content = self._file.read(self._at, end)
        if len(content) < end - self._at:  # no reader may take this for the end of the file
            raise OSError(errno.EIO, "it has become shorter while it was read")
        self._at += len(content)
        return content

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def _file_system(address: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """Return fsspec's file system of an address, which it makes once in each process, and the path in it."""
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    protocol = urlsplit(address).scheme
    try:
        own = {key: {**values, **options.get(key, {})} for key, values in _timeouts(protocol).items()}
        system, path = url_to_fs(address, **{**options, **own})
    except ImportError as error:
        package = _PACKAGES.get(protocol)
        how = f"pip install '{package}'" if package else "install the package that fsspec names"
        raise MachineError(f"{protocol}:// addresses need a package: {error}", how) from error
    except ValueError as error:
        raise UsageError(f"{address}: {error}", "s3:// and https:// are known") from error
    except TypeError as error:
        raise _wrong_options(error, address) from error
    return system, path


def _wrong_options(error: TypeError, address: str) -> UsageError:
    how = f"its keys are those of fsspec's file system for {urlsplit(address).scheme}://"
    return UsageError(f"data.args.storage: {error}", how)


def _timeouts(protocol: str) -> Mapping[str, Mapping[str, Any]]:
    if protocol in ("http", "https"):
        from aiohttp import ClientTimeout

        return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=10, sock_read=60)}}
    return _TIMEOUTS.get(protocol, {})
