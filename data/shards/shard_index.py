"""The index of a set of shards: which rows lie in which group of which file. Small arrays, mapped by every process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache import Array, load_array, save_array
from ..order import Indices, RowGroups
from .shard_format import Place, ShardScan

_ABOUT = "about.npy"


@dataclass(frozen=True)
class Shard:
    """One file."""

    name: str
    """As the config has it: relative to its folder, absolute, or an address."""
    digest: str


@dataclass(frozen=True)
class ShardIndex:
    """An index, and 28 bytes of it for each group."""

    format: str
    kinds: Mapping[str, str]
    """Column to kind."""
    shards: tuple[Shard, ...]
    first_rows: Indices
    """[groups + 1]: the first row of each group, and the number of rows."""
    first_groups: Indices
    """[shards + 1]: the first group of each file, and the number of groups."""
    begins: Indices
    ends: Indices
    checks: NDArray[np.uint32]
    decoded_bytes: int = 0
    """An estimate of what all rows take in memory."""

    @property
    def row_bytes(self) -> int:
        """Return what a row takes in memory, estimated."""
        return self.decoded_bytes // self.groups.n

    @cached_property
    def groups(self) -> RowGroups:
        """Return the cut of all rows into groups."""
        return RowGroups.at(self.first_rows)

    def shard_of(self, group: int) -> int:
        """Return the number of the file that a group lies in."""
        return int(np.searchsorted(self.first_groups, group, side="right")) - 1

    def place(self, group: int) -> Place:
        """Return where a group lies in its file."""
        rows = int(self.first_rows[group + 1] - self.first_rows[group])
        return Place(int(self.begins[group]), int(self.ends[group]), int(self.checks[group]), rows)

    def name_group(self, group: int, row: int | None = None) -> str:
        """Name a group, or one of its rows, counted in its file: for messages."""
        shard = self.shard_of(group)
        within = group - int(self.first_groups[shard])
        name = f"{self.shards[shard].name}, row group {within}"
        if row is None:
            return name
        first = int(self.first_rows[group] - self.first_rows[self.first_groups[shard]])
        return f"{name}, row {first + row} of the file"

    def save(self, folder: Path) -> None:
        """Write it as array files."""
        about = {
            "format": self.format,
            "kinds": dict(self.kinds),
            "decoded_bytes": self.decoded_bytes,
            "shards": [[shard.name, shard.digest] for shard in self.shards],
        }
        save_array(folder / _ABOUT, np.frombuffer(json.dumps(about).encode(), np.uint8))
        for name in _ARRAYS:
            save_array(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> ShardIndex:
        """Map what ``save`` wrote."""
        about: dict[str, Any] = json.loads(load_array(folder / _ABOUT).tobytes())
        arrays: dict[str, Array] = {name: load_array(folder / f"{name}.npy") for name in _ARRAYS}
        shards = tuple(Shard(*shard) for shard in about["shards"])
        return cls(about["format"], about["kinds"], shards, **arrays, decoded_bytes=about["decoded_bytes"])


_ARRAYS = ("first_rows", "first_groups", "begins", "ends", "checks")


def build_index(
    format_name: str, kinds: Mapping[str, str], names: list[str], scans: list[ShardScan]
) -> ShardIndex:
    """Put the scans of the files ``names`` together."""
    places = [place for scan in scans for place in scan.places]
    return ShardIndex(
        format_name,
        kinds,
        tuple(Shard(name, scan.digest) for name, scan in zip(names, scans, strict=True)),
        np.cumsum([0, *(place.rows for place in places)], dtype=np.int64),
        np.cumsum([0, *(len(scan.places) for scan in scans)], dtype=np.int64),
        np.array([place.begin for place in places], np.int64),
        np.array([place.end for place in places], np.int64),
        np.array([place.check for place in places], np.uint32),
        sum(scan.decoded_bytes for scan in scans),
    )
