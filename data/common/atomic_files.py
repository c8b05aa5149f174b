"""Small files that other processes may read at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def write_json(path: Path, document: dict[str, Any], *, durable: bool = False) -> None:
    """Write a document, whole or not at all.

    Args:
        path: of the file.
        document: plain values.
        durable: wait until the disk has it, so that it outlives a crash of the machine.
    """
    write_text(path, json.dumps(document, indent=1) + "\n", durable=durable)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a text, whole or not at all; ``durable`` as in ``write_json``."""
    with atomic_replacement(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def atomic_replacement(path: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Yield a file to write, which in the end replaces ``path``.

    Args:
        path: what others read, at any moment.
        temporary: the file's name meanwhile; by default the same in every process.

    Raises:
        OSError: it cannot be written, and names ``path``; nothing of it is left.
    """
    temporary = temporary or path.with_name(f".{path.name}.tmp")
    try:
        with file_named_in_errors(path):
            yield temporary
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def file_named_in_errors(path: Path) -> Iterator[None]:
    """Name the file in an error of writing to it: one of an open file names none by itself."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
