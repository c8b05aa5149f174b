"""Tar files in WebDataset's layout: members of one stem are a sample, their endings its columns."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .shard_format import (
    MISSING,
    BadRowError,
    OpenShard,
    Place,
    RowGroup,
    ShardChangedError,
    ShardScan,
    StoredFile,
    Values,
)

PART_BYTES = 2**20
_NAME = re.compile(r"((?:.*/)?[^./][^.]*)\.([^/]+)")
"""A stem, which is all before the first dot of the file's name, and the endings behind it."""
KEY = "__key__"
"""The column of the stems."""


@dataclass
class _Sample:
    """The place of a sample: of the headers and contents of its members."""

    stem: str
    begin: int
    end: int
    check: int
    columns: dict[str, tarfile.TarInfo]


class TarFiles:
    """The format of ``.tar`` files."""

    def scan(self, file: StoredFile) -> ShardScan:
        """Read the headers of all members, and cut the file into parts of whole samples."""
        places: list[Place] = []
        digest = hashlib.blake2b(digest_size=16)
        size = 0
        with file.open() as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
            for sample in _samples(tar):
                digest.update(sample.check.to_bytes(4, "little"))
                size = sample.end
                last = places[-1] if places else None
                if last is None or sample.end - last.begin > PART_BYTES:
                    places.append(Place(sample.begin, sample.end, sample.check, 1))
                else:
                    check = _chained(last.check, sample.check)
                    places[-1] = Place(last.begin, sample.end, check, last.rows + 1)
            opened.seek(-tarfile.BLOCKSIZE, os.SEEK_END)
            if size > opened.tell() or any(opened.read()):
                raise ValueError("it does not end as a tar file does: it may be cut off")
        return ShardScan(tuple(places), digest.hexdigest(), decoded_bytes=size)

    def open(self, file: StoredFile, digest: str, columns: tuple[str, ...] | None) -> OpenShard:  # noqa: ARG002 - ShardFormat
        """Open nothing yet: each part has a checksum of its headers."""
        return _OpenTar(file, columns)


@dataclass(frozen=True)
class _OpenTar:
    file: StoredFile
    columns: tuple[str, ...] | None

    def read(self, place: Place) -> RowGroup:
        part = place.read_from(self.file)
        try:
            with tarfile.open(fileobj=io.BytesIO(part), mode="r:") as tar:
                samples = list(_samples(tar))
        except tarfile.TarError as error:
            raise ShardChangedError("its headers are not those that were indexed") from error
        check = samples[0].check if samples else 0
        for sample in samples[1:]:
            check = _chained(check, sample.check)
        if len(part) < place.end - place.begin or (check, len(samples)) != (place.check, place.rows):
            raise ShardChangedError("its headers are not those that were indexed")
        return SampleGroup(part, samples, self.columns)


class SampleGroup:
    """Samples in memory; each is decoded when it is taken."""

    def __init__(self, part: bytes, samples: list[_Sample], columns: tuple[str, ...] | None) -> None:
        self._part = part
        self._samples = samples
        self._columns = columns

    def parts(self) -> tuple[dict[str, NDArray[Any]], SampleGroup]:
        """Return itself: nothing is decoded yet."""
        return {}, self

    def take(self, rows: NDArray[np.int64]) -> dict[str, Values]:
        """Decode some samples; with all columns wanted, what one does not have is ``MISSING``."""
        chosen = rows.tolist()
        if self._columns is not None:
            return {name: [self._value(row, name) for row in chosen] for name in self._columns}
        names = dict.fromkeys([KEY, *(name for row in chosen for name in self._samples[row].columns)])
        return {
            name: [
                self._value(row, name) if name == KEY or name in self._samples[row].columns else MISSING
                for row in chosen
            ]
            for name in names
        }

    def _value(self, row: int, name: str) -> Any:
        sample = self._samples[row]
        if name == KEY:
            return sample.stem
        if name not in sample.columns:
            there = ", ".join(list(sample.columns)[:8])
            raise BadRowError(row, f"{sample.stem} has no {name!r}; it has {there}")
        member = sample.columns[name]
        content = self._part[member.offset_data : member.offset_data + member.size]
        decode = _DECODERS.get(name.rpartition(".")[2])
        try:
            return content if decode is None else decode(content)
        except (ValueError, RecursionError, EOFError) as error:
            raise BadRowError(row, f"{sample.stem}.{name} cannot be decoded: {error}") from error


def _array(content: bytes) -> Any:
    return np.load(io.BytesIO(content), allow_pickle=False)


def _text(content: bytes) -> str:
    return content.decode("utf-8")


def _number(content: bytes) -> int:
    return int(content)


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "json": json.loads,
    "txt": _text,
    "text": _text,
    "cls": _number,
    "cls2": _number,
    "index": _number,
    "npy": _array,
}
"""By the last ending; all others stay bytes, which pictures are made of."""


def _samples(tar: tarfile.TarFile) -> Iterator[_Sample]:
    """Yield the samples of members that follow each other."""
    sample: _Sample | None = None
    for member in tar:
        named = _NAME.fullmatch(member.name)
        if named is None or member.isdir():
            continue
        if not member.isfile():
            raise ValueError(
                f"{member.name!r} is a link or no file: write it with the files themselves (tar --hard-dereference)"
            )
        stem, column = named[1], named[2].lower()
        end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        check = zlib.crc32(f"{member.name}\0{member.size}\0{member.mtime}".encode())
        if sample is None or sample.stem != stem:
            if sample is not None:
                yield sample
            sample = _Sample(stem, member.offset, end, check, {column: member})
        elif column in sample.columns:
            raise ValueError(f"two members are {member.name!r}")
        else:
            sample.columns[column] = member
            sample.end, sample.check = end, _chained(sample.check, check)
    if sample is not None:
        yield sample


def _chained(check: int, following: int) -> int:
    return zlib.crc32(following.to_bytes(4, "little"), check)
