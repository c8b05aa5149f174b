"""The rows of a set of shards as a data set: single ones, and many at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common import DamagedError, LockstepError, raised_at_its_line
from ..order import Indices, WindowOrder
from .group_cache import GroupCache
from .sample_layout import SampleLayout
from .shard_format import MISSING, BadRowError, OpenShard, RowGroup, ShardChangedError, StoredFile, Values
from .shard_formats import FORMATS
from .shard_index import ShardIndex

_OPEN_FILES = 16
_BLOCK_BYTES = 2**21
_READERS, _REMOTE_READERS = 2, 8
"""Threads that read ahead: one decodes while another waits for its file, or decodes as well."""
_RECENT = 2
"""Groups that are held where rows are read in the order of the files, or at random."""
_TURNS = 2**40
"""Apart from each other, so that no epoch's last turns are the first ones of the next."""
_CHANGED_HINT = "leave the files as they are while a run reads them; the next start makes the index anew"


@dataclass(frozen=True)
class ShardRows:
    """A map-style data set, which can also read many rows at once.

    A reader (a rank, or one of its workers) has a copy of its own: what is open is opened after the fork.
    """

    index: ShardIndex
    layout: SampleLayout
    locate: Callable[[str], StoredFile]
    """Returns the file of a name."""
    order: WindowOrder | None = None
    """In which the rows are trained on; None: as they come."""
    keep: bool = False
    """Hold all groups: the set is small."""
    _open: OrderedDict[int, OpenShard] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)
    _ahead: dict[int, Future[tuple[RowGroup, int]]] = field(default_factory=dict)
    """Groups that are being read for rows that come soon."""
    _cache: GroupCache = field(init=False)

    def __post_init__(self) -> None:
        count = self.index.groups.count
        object.__setattr__(self, "_cache", GroupCache(count, self._load, _RECENT, keep=self.keep))

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

    def read(
        self, rows: Indices, epoch: int, positions: Indices, seed: Callable[[int], None] | None = None
    ) -> Any:
        """Read many rows, of one step or of several in a row.

        Args:
            rows: int64 [k].
            epoch: counted from 0.
            positions: of the first row of the rank's part of the row's step in the epoch, int64 [k].
            seed: called with each row before ``decode`` is.

        Returns:
            A tree of arrays [k, ...] and of lists of k values; with a ``decode``, its samples as a list.
        """
        turns = None if self.order is None else positions // self.order.turn_size + epoch * _TURNS
        columns = self._columns(rows, turns)
        if self.layout.decode is None:
            return self._made(rows, columns)
        samples = []
        for at, row in enumerate(rows.tolist()):
            if seed is not None:
                seed(row)
            samples.append(self._decode(row, columns, at))
        return samples

    def values(self, rows: Indices) -> dict[str, Values]:
        """Read the columns of some rows as they are in the files."""
        return self._columns(rows, None)

    def read_ahead(self, rows: Indices) -> None:
        """Begin to read the groups of rows that ``read`` will be asked for; another thread may be in ``read``."""
        for group in np.unique(self.index.groups.group_of(rows)).tolist():
            if group not in self._ahead and not self._cache.holds(group):
                self._ahead[group] = self._pool.submit(self._read_group, group)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        is_remote = self.locate(self.index.shards[0].name).is_remote
        return ThreadPoolExecutor(_REMOTE_READERS if is_remote else _READERS, thread_name_prefix="row groups")

    @property
    def block_rows(self) -> int:
        """Return how many rows are best read at once: of all readers, no more than half of the window holds."""
        rows = max(1, _BLOCK_BYTES // max(1, self.index.row_bytes))
        if self.keep:
            return rows
        lanes = _RECENT if self.order is None else self.order.lanes
        return min(rows, lanes * len(self) // self.index.groups.count // 2)

    @property
    def samples(self) -> bool:
        """Tell whether ``read`` returns samples, which are to be made a batch."""
        return self.layout.decode is not None

    def name_row(self, row: int) -> str:
        """Name a row for messages: its file, its group and its number there."""
        group = int(self.index.groups.group_of(np.array([row]))[0])
        return f"row {row} ({self.index.name_group(group, row - int(self.index.first_rows[group]))})"

    def _columns(self, rows: Indices, turns: Indices | None) -> dict[str, Values]:
        """Read the columns of some rows, each group once."""
        groups = self.index.groups.group_of(rows)
        within = rows - self.index.groups.starts(groups)
        slots = self._cache.hold(groups, turns)
        for group in list(self._ahead):
            if self._cache.holds(group):
                self._ahead.pop(group)
        store, places = self._cache.store, self._cache.places(slots, within)
        columns: dict[str, Values] = {}
        if not self._cache.all_stored:
            columns = self._listed(slots, within)
        columns.update((name, store.take(name, places)) for name in store.names if name not in columns)
        self._cache.let_go(in_turn=turns is not None)
        return columns

    def _listed(self, slots: NDArray[np.int32], within: Indices) -> dict[str, Values]:
        """Read the columns that are not in the store for each of the rows, group by group."""
        by_group = np.argsort(slots, kind="stable")
        slots, within = slots[by_group], within[by_group]
        ends = [*(np.flatnonzero(slots[1:] != slots[:-1]) + 1).tolist(), slots.size]
        spans = list(zip([0, *ends[:-1]], ends, strict=True))
        parts = [self._taken(int(slots[begin]), within[begin:end]) for begin, end in spans]
        names = dict.fromkeys(name for part in parts for name in part)
        for part, (begin, end) in zip(parts, spans, strict=True):
            places = self._cache.places(slots[begin:end], within[begin:end])
            stored = [name for name in names if name not in part and name in self._cache.store.names]
            part.update((name, self._cache.store.take(name, places)) for name in stored)
        return _joined(parts, [end - begin for begin, end in spans], by_group)

    def _taken(self, slot: int, within: Indices) -> dict[str, Values]:
        rest = self._cache.rest(slot)
        try:
            return {} if rest is None else rest.take(within)
        except BadRowError as error:
            raise self._bad_row(self._cache.group_of(slot), error.row, error.reason) from error

    def _made(self, rows: Indices, columns: dict[str, Values]) -> Any:
        try:
            return self.layout.batch(columns)
        except BadRowError as error:
            row = int(rows[error.row])
            group = int(self.index.groups.group_of(np.array([row]))[0])
            raise self._bad_row(group, row - int(self.index.first_rows[group]), error.reason) from error

    def _bad_row(self, group: int, within: int, reason: str) -> DamagedError:
        what = f"{self.index.name_group(group, within)}: {reason}"
        return DamagedError(what, "correct the file, or give the column another kind in data.args.columns")

    def _load(self, group: int) -> tuple[RowGroup, int]:
        begun = self._ahead.get(group)
        return self._read_group(group) if begun is None else begun.result()

    def _read_group(self, group: int) -> tuple[RowGroup, int]:
        place = self.index.place(group)
        try:
            return self._shard(self.index.shard_of(group)).read(place), place.rows
        except LockstepError:
            raise
        except Exception as error:  # whatever a library says of a file that is cut off or overwritten
            raise self._unreadable(group, error) from error

    def _shard(self, number: int) -> OpenShard:
        """Open a file, or return it where it is among those that were opened last."""
        opened = self._open.get(number) or self._opened(number)
        with self._lock:
            self._open[number] = opened
            self._open.move_to_end(number)
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
        return opened

    def _opened(self, number: int) -> OpenShard:
        shard = self.index.shards[number]
        format_ = FORMATS[self.index.format]
        return format_.open(self.locate(shard.name), shard.digest, self.layout.columns)

    def _unreadable(self, group: int, error: Exception) -> DamagedError:
        where = self.index.name_group(group)
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
            what = f"data.args.decode, given {self.name_row(row)}, raised {type(error).__name__}: {error}"
            raise raised_at_its_line(what, error) from error


def _first(batch: Any) -> Any:
    """Take the only row of a batch."""
    if isinstance(batch, tuple):
        return tuple(map(_first, batch))
    if isinstance(batch, dict):
        return {name: _first(values) for name, values in batch.items()}
    return batch[0]


def _joined(parts: list[dict[str, Values]], sizes: list[int], places: Indices) -> dict[str, Values]:
    """Put the rows of several groups together.

    Args:
        parts: of each group.
        sizes: rows of each part.
        places: of the parts' rows, one after the other, among all.
    """
    names = dict.fromkeys(name for columns in parts for name in columns)
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
