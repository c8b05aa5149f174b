"""What wandb wrote into the folders of a run."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wandb.proto.wandb_internal_pb2 import Record

HEADER = b":W&B\xe1\xbe\x00"

BLOCK = 32_768

FULL, LAST = 1, 4


def records(file: Path) -> Iterator[Record]:
    """What a ``.wandb`` file holds: LevelDB's log format behind a header of seven bytes.

    github.com/google/leveldb/blob/main/doc/log_format.md
    """
    from wandb.proto.wandb_internal_pb2 import Record  # a second that every worker would spend on collecting

    data = file.read_bytes()
    assert data[:7] == HEADER
    at, record = len(HEADER), b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (FULL, LAST):
            yield Record.FromString(record)
            record = b""


def wandb_folders(run: Path) -> list[Path]:
    """The folders of a run, by name."""
    return sorted((run / "wandb").glob("*run-*")) if (run / "wandb").exists() else []


def records_of(run: Path, kind: str) -> list[Any]:
    """The records of one kind, of the only folder that is not a link."""
    (folder,) = (path for path in wandb_folders(run) if not path.is_symlink())
    (file,) = folder.glob("*.wandb")
    return [getattr(record, kind) for record in records(file) if record.WhichOneof("record_type") == kind]


def logged_rows(run: Path) -> list[dict[str, Any]]:
    """The logged rows, by key."""
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row.item}
        for row in records_of(run, "history")
    ]
