"""Arrow files, as Hugging Face's ``datasets`` keep them on disk: record batches in the stream or the file format."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .arrow_values import ColumnGroup, arrow_kind, column_of
from .shard_format import OpenShard, Place, RowGroup, ShardChangedError, ShardScan, StoredFile

if TYPE_CHECKING:
    import pyarrow as pa

_FILE_MAGIC = b"ARROW1\0\0"
"""What a file of the file format begins with; then both formats have the same messages."""

_END = b"\xff\xff\xff\xff\0\0\0\0"
"""What stands behind the last message. Without it a file that was cut off between two of them would only be shorter."""


class ArrowFiles:
    """The format of ``.arrow`` files."""

    def scan(self, file: StoredFile) -> ShardScan:
        """Read all record batches, of which each gets a checksum."""
        places: list[Place] = []
        with file.open_arrow() as opened:
            schema, begin, first = _read_schema(opened)
            digest = hashlib.blake2b(first, digest_size=16)
            while (end := _end_of_message(opened)) is not None:
                opened.seek(begin)
                message = opened.read_buffer(end - begin)
                check, rows = zlib.crc32(message), _batch(message, schema).num_rows
                digest.update(check.to_bytes(4, "little") + len(message).to_bytes(8, "little"))
                if rows:
                    places.append(Place(begin, end, check, rows))
                begin = end
            opened.seek(begin)
            if opened.read(len(_END)) != _END:
                raise ValueError("it does not end as an Arrow file does: it may be cut off")
        kinds = {field.name: arrow_kind(field.type) for field in schema}
        return ShardScan(tuple(places), digest.hexdigest(), kinds, begin)

    def open(self, file: StoredFile, digest: str, columns: tuple[str, ...] | None) -> OpenShard:  # noqa: ARG002 - ShardFormat
        """Read the columns' types; each record batch has a checksum."""
        with file.open_arrow() as opened:
            return _OpenArrow(file, _read_schema(opened)[0], columns)


@dataclass(frozen=True)
class _OpenArrow:
    file: StoredFile
    schema: pa.Schema
    columns: tuple[str, ...] | None

    def read(self, place: Place) -> RowGroup:
        message = place.read_from(self.file)
        if zlib.crc32(message) != place.check:
            raise ShardChangedError("its bytes are not those that were indexed")
        import pyarrow as pa

        table = pa.Table.from_batches([_batch(pa.py_buffer(message), self.schema)])
        names = table.column_names if self.columns is None else self.columns
        return ColumnGroup({name: column_of(table.column(name)) for name in names})


def _read_schema(file: pa.NativeFile) -> tuple[pa.Schema, int, bytes]:
    """Read the schema; return it, where the messages behind it begin, and its bytes."""
    from pyarrow import ipc

    begin = len(_FILE_MAGIC) if file.read(len(_FILE_MAGIC)) == _FILE_MAGIC else 0
    file.seek(begin)
    try:
        schema = ipc.read_schema(file)
    except EOFError:
        raise ValueError("it does not begin as an Arrow file does: it may be cut off") from None
    end = file.tell()
    file.seek(begin)
    return schema, end, bytes(file.read(end - begin))


def _end_of_message(file: pa.NativeFile) -> int | None:
    """Pass over a message; return where it ends, or None behind the last."""
    from pyarrow import ipc

    try:
        message = ipc.read_message(file)
    except EOFError:
        return None
    if message.type != "record batch":
        raise ValueError(f"it holds a {message.type}: write its columns without dictionaries")
    return int(file.tell())


def _batch(message: pa.Buffer, schema: pa.Schema) -> pa.RecordBatch:
    from pyarrow import ipc

    return ipc.read_record_batch(message, schema)
