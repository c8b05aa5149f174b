"""Parquet: columns in row groups, each of which is decompressed as a whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from ..common import LockstepError
from .arrow_values import ColumnGroup, arrow_kind, column_of
from .shard_format import OpenShard, Place, RowGroup, ShardChangedError, ShardScan, StoredFile

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

_TAIL = 8
"""Bytes behind the footer: its length, and the format's name."""
_MAGIC = b"PAR1"


class ParquetFiles:
    """The format of ``.parquet`` files."""

    def scan(self, file: StoredFile) -> ShardScan:
        """Read the footer."""
        with file.open_arrow() as opened:
            footer = _read_footer(opened)
        metadata = _parse(footer)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        places = [
            Place(number, 0, 0, group.num_rows) for number, group in enumerate(groups) if group.num_rows
        ]
        kinds = {field.name: arrow_kind(field.type) for field in metadata.schema.to_arrow_schema()}
        return ShardScan(tuple(places), _hash(footer), kinds, sum(group.total_byte_size for group in groups))

    def open(self, file: StoredFile, digest: str, columns: tuple[str, ...] | None) -> OpenShard:
        """Read the footer again, which has to be the same."""
        from pyarrow import parquet

        stamp = file.stamp() if file.is_remote else None
        opened = file.open_arrow()
        footer = _read_footer(opened)
        if _hash(footer) != digest:
            raise ShardChangedError("its footer is not the one that was indexed")
        names = None if columns is None else list(columns)
        reader = parquet.ParquetFile(opened, metadata=_parse(footer), page_checksum_verification=True)
        return _OpenParquet(reader, names, file, stamp)


@dataclass(frozen=True)
class _OpenParquet:
    reader: parquet.ParquetFile
    columns: list[str] | None
    file: StoredFile
    stamp: tuple[object, ...] | None
    """Of a remote file: each read of it is a request of its own, which another version may answer."""
    lock: Lock = field(default_factory=Lock)
    """Nothing says that a ``ParquetFile`` may be read from by two threads."""

    def read(self, place: Place) -> RowGroup:
        try:
            with self.lock:
                table = self.reader.read_row_group(place.begin, columns=self.columns, use_threads=False)
        except LockstepError:  # the server was asked for long enough
            raise
        except Exception:
            self._refuse_another()
            raise
        self._refuse_another()
        if table.num_rows != place.rows:
            raise ShardChangedError(f"it has {table.num_rows} rows, not {place.rows}")
        return ColumnGroup({name: column_of(table.column(name)) for name in table.column_names})

    def _refuse_another(self) -> None:
        if self.stamp is not None and self.file.stamp() != self.stamp:
            raise ShardChangedError("it was written anew while it was read")


def _read_footer(file: pa.NativeFile) -> bytes:
    """Read the footer with its length and the format's name."""
    size = file.size()
    if size < _TAIL + len(_MAGIC):
        raise ValueError(f"it has {size} bytes, too few for a Parquet file")
    file.seek(size - _TAIL)
    tail = file.read(_TAIL)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or length + _TAIL + len(_MAGIC) > size:
        raise ValueError("it does not end as a Parquet file does: it may be cut off")
    file.seek(size - _TAIL - length)
    return bytes(file.read(length) + tail)


def _parse(footer: bytes) -> parquet.FileMetaData:
    import io

    from pyarrow import parquet

    return parquet.read_metadata(io.BytesIO(footer))


def _hash(footer: bytes) -> str:
    return hashlib.blake2b(footer, digest_size=16).hexdigest()
