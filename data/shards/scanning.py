"""The look at all files of a set: once, by all cores."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..common import DamagedError, LockstepError, MachineError
from .column_values import kind_of
from .shard_format import MISSING, BadRowError, ShardScan, StoredFile
from .shard_formats import FORMATS, NEEDS_PYARROW
from .shard_index import ShardIndex, build_index

_MOST_SHOWN = 5
_MOST_THREADS = 32
_LOOKED_AT = 1000
"""Rows that show the kinds of columns where the format does not say them."""


def scan_shards(format_name: str, names: list[str], locate: Callable[[str], StoredFile]) -> ShardIndex:
    """Look at files.

    Args:
        format_name: of all of them.
        names: of the files, in their order.
        locate: returns the file of a name.

    Raises:
        DamagedError: some cannot be read, or have other columns than the first; or there is no row at all.
        MachineError: a package is missing.
    """
    require_packages(format_name)
    files = [locate(name) for name in names]
    with ThreadPoolExecutor(_threads(files), thread_name_prefix="shards") as pool:
        found = list(pool.map(lambda file: _scan(format_name, file), files))
    bad = [(name, error) for name, error in zip(names, found, strict=True) if isinstance(error, str)]
    _refuse(bad, len(names), "cannot be read")
    scans = [scan for scan in found if isinstance(scan, ShardScan)]
    _refuse(list(_with_other_columns(names, scans)), len(names), "have other columns than most")
    if not any(scan.places for scan in scans):
        raise DamagedError(
            f"the {len(names):,} files of data.args.files have no rows", "name files with rows"
        )
    kinds = _kinds_of_most(scans) or _kinds_by_looks(format_name, names, scans, locate)
    return build_index(format_name, kinds, names, scans)


def stamps_of(names: list[str], locate: Callable[[str], StoredFile]) -> list[tuple[object, ...]]:
    """Return the name of each file with what differs where it was written anew."""
    files = [locate(name) for name in names]
    with ThreadPoolExecutor(_threads(files), thread_name_prefix="shards") as pool:
        return [(name, *stamp) for name, stamp in zip(names, pool.map(_stamp, files), strict=True)]


def _stamp(file: StoredFile) -> tuple[object, ...]:
    return file.stamp()


def _threads(files: list[StoredFile]) -> int:
    """Return how many look at files: a server takes longer to answer than to be asked."""
    is_remote = any(file.is_remote for file in files)
    return _MOST_THREADS if is_remote else min(_MOST_THREADS, 2 * len(os.sched_getaffinity(0)))


def require_packages(format_name: str) -> None:
    """Refuse a format whose package is not installed."""
    if format_name not in NEEDS_PYARROW:
        return
    try:
        import pyarrow as pa  # noqa: F401 - whether it is there
    except ImportError as error:
        raise MachineError(
            f"{format_name} files need pyarrow, which cannot be imported: {error}",
            "pip install 'lockstep-train[shards]'",
        ) from error


def _scan(format_name: str, file: StoredFile) -> ShardScan | str:
    """Look at a file; return what is wrong with it, where something is."""
    try:
        return FORMATS[format_name].scan(file)
    except LockstepError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a library says of a file that is none of the format
        text = str(getattr(error, "strerror", None) or error) or type(error).__name__
        return text if file.exists() else "it is gone"


def _refuse(bad: list[tuple[str, str]], count: int, what: str) -> None:
    if not bad:
        return
    shown = "\n".join(f"  {name}: {reason}" for name, reason in bad[:_MOST_SHOWN])
    more = f"\n  and {len(bad) - _MOST_SHOWN:,} more" if len(bad) > _MOST_SHOWN else ""
    raise DamagedError(
        f"{len(bad):,} of {count:,} files {what}:\n{shown}{more}",
        "write them again, or leave them out of data.args.files",
    )


def _kinds_of_most(scans: list[ShardScan]) -> dict[str, str]:
    """Return the columns that most files have."""
    return dict(Counter(tuple(scan.kinds.items()) for scan in scans).most_common(1)[0][0])


def _with_other_columns(names: list[str], scans: list[ShardScan]) -> list[tuple[str, str]]:
    most = _kinds_of_most(scans)
    bad = []
    for name, scan in zip(names, scans, strict=True):
        differing = [
            column for column in {**most, **scan.kinds} if most.get(column) != scan.kinds.get(column)
        ]
        if differing:
            column = differing[0]
            here, there = (kinds.get(column) for kinds in (scan.kinds, most))
            bad.append((name, f"{column!r} is {here or 'missing'}, in most files {there or 'missing'}"))
    return bad


def _kinds_by_looks(
    format_name: str, names: list[str], scans: list[ShardScan], locate: Callable[[str], StoredFile]
) -> dict[str, str]:
    """Read the first rows of the first file that has some."""
    name, scan = next((name, scan) for name, scan in zip(names, scans, strict=True) if scan.places)
    place = scan.places[0]
    group = FORMATS[format_name].open(locate(name), scan.digest, None).read(place)
    try:
        columns = group.take(np.arange(min(place.rows, _LOOKED_AT), dtype=np.int64))
    except BadRowError as error:
        raise DamagedError(f"{name}, row {error.row}: {error.reason}", "correct the file") from error
    return {
        column: _kind_of_all([v for v in values if v is not MISSING]) for column, values in columns.items()
    }


def _kind_of_all(values: list[object]) -> str:
    kinds = {kind_of(value) for value in values if value is not None}
    if kinds == {"int", "float"}:
        return "float"
    return kinds.pop() if len(kinds) == 1 else "other"
