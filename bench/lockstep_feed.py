"""A training set read by Lockstep's loader, epoch after epoch, for benchmarks of loading."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch

from lockstep.data.config import DataConfig
from lockstep.data.loading import Normalisation, Work, open_feed
from lockstep.data.order import EpochBatches, EpochOrder
from lockstep.data.prepare import prepare
from lockstep.data.sets import open_order, open_split
from lockstep.data.sources import ArraySplit, MapSplit


class LockstepFeed:
    """Lockstep's loader of a set, in one process.

    Args:
        config: of the set.
        base: the folder that its paths begin at.
        workers: of the loader.
        resident: the set is copied into this process's memory.
    """

    def __init__(self, config: DataConfig, base: Path, workers: int, *, resident: bool = False) -> None:
        begin = time.perf_counter()
        self._config = config
        facts = prepare(config, base, build_cache=True)
        self.prepared = time.perf_counter() - begin
        split: ArraySplit | MapSplit = open_split(facts, "train", config, base)
        if resident and isinstance(split, ArraySplit):
            split = ArraySplit(split.x.clone(), split.y.clone(), split.subset)
        self._feed = open_feed(
            split,
            Normalisation(torch.float32, None, None),
            torch.device("cpu"),
            workers=workers,
            classes=None,
            seed=0,
        )
        self._order = open_order(facts, config, base)
        self._epoch = 0

    def read_epoch(self) -> int:
        """Read the next epoch; return its samples."""
        self._epoch += 1
        return sum(batch.indices.size for batch in self._feed.fetch(self._work()))

    def _work(self) -> Iterator[Work]:
        order = EpochOrder(self._order, 0, self._epoch)
        batches = EpochBatches(order.n, self._config.batch_size)
        for step in range(batches.steps):
            begin, end = batches.span(step)
            yield Work(order.indices(begin, end), [end - begin], self._epoch, begin)
