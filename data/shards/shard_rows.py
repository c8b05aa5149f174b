"""The rows of a set of shards as a data set: single ones, and many at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..common import DamagedError, LockstepError, TrainingError, user_location
from ..order import Indices, WindowOrder
from .group_cache import GroupCache
from .sample_layout import SampleLayout
from .shard_format import MISSING, BadRowError, OpenShard, RowGroup, ShardChangedError, Values
from .shard_formats import FORMATS
from .shard_index import ShardIndex

_OPEN_FILES = 16
_RECENT = 2
"""Groups that are held where rows are read in the order of the files, or at random."""
_CHANGED_HINT = "leave the files as they are while a run reads them; the next start makes the index anew"


@dataclass(frozen=True)
class ShardRows:
    """A map-style data set, which can also read many rows at once.

    A reader (a rank, or one of its workers) has a copy of its own: what is open is opened after the fork.
    """

    index: ShardIndex
    layout: SampleLayout
    locate: Callable[[str], str]
    """Returns where the file of a name lies."""
    order: WindowOrder | None = None
    """In which the rows are trained on; None: as they come."""
    keep: bool = False
    """Hold all groups: the set is small."""
    _open: OrderedDict[int, OpenShard] = field(default_factory=OrderedDict)
    _cache: GroupCache = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cache", GroupCache(self._load, _RECENT, keep=self.keep))

    def __len__(self) -> int:
        return self.index.groups.n

    def __getitem__(self, row: int) -> Any:
        """Read one sample.

        Raises:
            DamagedError: its file is not what was indexed, or the row is wrong.
            TrainingError: the user's ``decode`` raised.
        """
        if not 0 <= row < len(self):
            raise IndexError(row)
        columns = self._columns(np.array([row], np.int64), None)
        if self.layout.decode is not None:
            return self._decode(row, columns, 0)
        return _first(self._made(np.array([row], np.int64), columns))

    def read(self, rows: Indices, epoch: int, position: int) -> Any:
        """Read many rows that belong to one step.

        Args:
            rows: int64 [k].
            epoch: counted from 0.
            position: of the first row of the rank's part in the epoch.

        Returns:
            A tree of arrays [k, ...] and of lists of k values; with a ``decode``, its samples as a list.
        """
        turn = None if self.order is None else (epoch, position // self.order.turn_size)
        columns = self._columns(rows, turn)
        if self.layout.decode is None:
            return self._made(rows, columns)
        return [self._decode(row, columns, at) for at, row in enumerate(rows.tolist())]

    @property
    def samples(self) -> bool:
        """Tell whether ``read`` returns samples, which are to be made a batch."""
        return self.layout.decode is not None

    def describe(self, row: int) -> str:
        """Name a row for messages: its file, its group and its number there."""
        group = int(self.index.groups.group_of(np.array([row]))[0])
        return f"row {row} ({self.index.describe(group, row - int(self.index.first_rows[group]))})"

    def _columns(self, rows: Indices, turn: tuple[int, int] | None) -> dict[str, Values]:
        """Read the columns of some rows, each group once."""
        groups = self.index.groups.group_of(rows)
        if groups.size == 1:
            by_group = np.zeros(1, np.int64)
        else:
            by_group = np.argsort(groups, kind="stable")
            groups, rows = groups[by_group], rows[by_group]
        within = rows - self.index.groups.starts(groups)
        ends = [*(np.flatnonzero(groups[1:] != groups[:-1]) + 1).tolist(), groups.size]
        parts = []
        begin = 0
        for group, end in zip(groups[[0, *ends[:-1]]].tolist(), ends, strict=True):
            held = self._cache.take(group, end - begin, turn)
            parts.append(self._taken(held, group, within[begin:end]))
            begin = end
        return _joined(parts, by_group)

    def _taken(self, held: RowGroup, group: int, within: Indices) -> dict[str, Values]:
        try:
            return held.take(within)
        except BadRowError as error:
            raise self._bad_row(group, error.row, error.reason) from error

    def _made(self, rows: Indices, columns: dict[str, Values]) -> Any:
        try:
            return self.layout.batch(columns)
        except BadRowError as error:
            row = int(rows[error.row])
            group = int(self.index.groups.group_of(np.array([row]))[0])
            raise self._bad_row(group, row - int(self.index.first_rows[group]), error.reason) from error

    def _bad_row(self, group: int, within: int, reason: str) -> DamagedError:
        what = f"{self.index.describe(group, within)}: {reason}"
        return DamagedError(what, "correct the file, or give the column another kind in data.args.columns")

    def _load(self, group: int) -> tuple[RowGroup, int]:
        place = self.index.place(group)
        try:
            return self._shard(self.index.shard_of(group)).read(place), place.rows
        except LockstepError:
            raise
        except Exception as error:  # whatever a library says of a file that is cut off or overwritten
            raise self._unreadable(group, error) from error

    def _shard(self, number: int) -> OpenShard:
        """Open a file, or return it where it is among those that were opened last."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        shard = self.index.shards[number]
        format_ = FORMATS[self.index.format]
        self._open[number] = format_.open(self.locate(shard.name), shard.digest, self.layout.columns)
        if len(self._open) > _OPEN_FILES:
            self._open.popitem(last=False)
        return self._open[number]

    def _unreadable(self, group: int, error: Exception) -> DamagedError:
        where = self.index.describe(group)
        if isinstance(error, FileNotFoundError):
            return DamagedError(f"{where}: the file is gone", _CHANGED_HINT)
        if isinstance(error, ShardChangedError):
            return DamagedError(f"{where}: the file was changed: {error}", _CHANGED_HINT)
        return DamagedError(
            f"{where}: it cannot be read: {str(error) or type(error).__name__}", _CHANGED_HINT
        )

    def _decode(self, row: int, columns: dict[str, Values], at: int) -> Any:
        decode = self.layout.decode
        values = {name: found[at] for name, found in columns.items() if found[at] is not MISSING}
        try:
            return decode(values) if decode else values
        except LockstepError:
            raise
        except (Exception, SystemExit) as error:
            what = f"data.args.decode, given {self.describe(row)}, raised {type(error).__name__}: {error}"
            raise TrainingError(
                f"{what}\nat {user_location(error)}", "correct the code at that line"
            ) from error


def _first(batch: Any) -> Any:
    """Take the only row of a batch."""
    if isinstance(batch, tuple):
        return tuple(map(_first, batch))
    if isinstance(batch, dict):
        return {name: _first(values) for name, values in batch.items()}
    return batch[0]


def _joined(parts: list[dict[str, Values]], places: Indices) -> dict[str, Values]:
    """Put the rows of several groups together.

    Args:
        parts: of each group.
        places: of the parts' rows, one after the other, among all.
    """
    if len(parts) == 1:
        return parts[0]
    names = dict.fromkeys(name for columns in parts for name in columns)
    sizes = [len(next(iter(columns.values()))) for columns in parts]
    return {
        name: _joined_column(
            [columns.get(name, [MISSING] * size) for columns, size in zip(parts, sizes, strict=True)], places
        )
        for name in names
    }


def _joined_column(parts: list[Values], places: Indices) -> Values:
    first = parts[0]
    if isinstance(first, np.ndarray) and len({_kind(values) for values in parts}) == 1:
        whole = np.empty((places.size, *first.shape[1:]), first.dtype)
        whole[places] = np.concatenate(parts)
        return whole
    listed: list[Any] = [None] * places.size
    for place, value in zip(places.tolist(), (value for values in parts for value in values), strict=True):
        listed[place] = value
    return listed


def _kind(values: Values) -> Any:
    return (values.dtype, values.shape[1:]) if isinstance(values, np.ndarray) else None
