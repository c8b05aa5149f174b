"""One rank's model, data and optimizer, and the work that falls to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from ...data.loading import Feed, Work
from ...data.order import EpochBatches, EpochOrder, Indices, SampleOrder, permute, shard
from ..components import MixedPrecision
from ..config import RunSpec
from ..losses import Objective
from ..metrics import Metric
from ..rank import Group

_STAND_IN = 2
"""Samples of a rank that has none in a step: one alone has no variance, in whatever norm."""
_CHOSEN = 2**63 + 3  # no epoch's order: key of the samples that stand for a whole split
_EVAL_BATCH_FACTOR = 4
"""Evaluation keeps no activations: batches of four times the training share fit as well."""
_FIXED_BATCH = 64
"""Samples at most: a batch is one rank's, and the last ranks should not be left without one."""


@dataclass
class Session:
    """One rank, ready to train or to evaluate."""

    spec: RunSpec
    group: Group
    numerics: MixedPrecision
    model: nn.Module
    """The model itself, autocast included; what evaluation runs and checkpoints hold."""
    objective: Objective
    module: nn.Module
    """What is called in a pass: the model, or a step around it."""
    metrics: dict[str, Metric]
    batches: EpochBatches
    order: SampleOrder
    """Which sample stands at each position of an epoch."""
    train_feed: Feed
    val_feeds: dict[str, Feed]
    """Of the splits that are evaluated, by name."""
    confusions: Metric | None = None
    """The confusion matrix that is kept for views though no metric asks for it."""
    non_finite: frozenset[str] = frozenset()
    """What of the model's learned tensors was not finite from the beginning."""
    notes: list[str] = field(default_factory=list)
    """What was made of the settings of the model, for users."""
    frozen: dict[str, nn.Module] = field(default_factory=dict)
    """Models that the step gets by name, and that are not trained."""
    frozen_sha256: dict[str, str] = field(default_factory=dict)
    """Hashes of their tensors, by which a resumed run knows them again."""
    val_terms: tuple[str, ...] | None = None
    """What the step returns besides the loss in evaluation; None before the first one."""

    def forward(self, batch: Any) -> Any:
        """Make a forward pass of the bare model, as far as it is needed to know what it does."""
        return self.module(self.objective.inputs(batch))

    @property
    def buffer_group(self) -> Group:
        """Return the ranks whose buffers and losses differ: this one alone where logical ranks give all the same."""
        alike = self.spec.config.train.logical_ranks is not None
        return Group(0, 0, 1, self.group.device) if alike else self.group

    @property
    def skips_bad_samples(self) -> bool:
        """Tell whether a sample that cannot be read is left out."""
        return self.spec.config.data.on_bad == "skip"

    @property
    def measured(self) -> list[Metric]:
        """Return what evaluation sums up besides the loss."""
        return [*self.metrics.values(), *([] if self.confusions is None else [self.confusions])]

    @property
    def logged_names(self) -> list[str]:
        """Name what an evaluation logs; one with a slash at its end begins names that nobody knows yet."""
        found = []
        for split in self.val_feeds:
            found += [f"{split}/{name}" for name in ("loss", *(self.val_terms or ()))]
            for name, metric in self.metrics.items():
                found += [] if metric.kept else [f"{split}/{name}"]
                found += [] if metric.kept or metric.is_mean else [f"{split}/{name}/"]
        return found

    def train_work(self, epoch: int, first: int) -> Iterator[Work]:
        """Yield this rank's work in the steps of an epoch from step ``first`` on."""
        train = self.spec.config.train
        order, is_elastic = EpochOrder(self.order, train.seed, epoch), train.elastic is not None
        size, rank = self.batches.batch_size, self.group.rank
        full = self.batches.n // size
        cuts = {length: self._rank_share(length) for length in (size, self.batches.n - full * size) if length}
        for step in range(first, self.batches.steps):
            start = step * size
            whole = order.indices(start, start + size if step < full else self.batches.n)
            begin, end, micro = cuts[whole.size]
            pad = self.train_feed.pad_length(whole)
            record = whole if rank == 0 or is_elastic else None
            if micro:
                places = np.arange(start + begin, start + end) if self.spec.facts.sampling else None
                before = int(whole[begin - 1])
                key = before if places is None else start + (begin - 1) % whole.size
                yield Work(
                    whole[begin:end],
                    micro,
                    epoch,
                    start + begin,
                    record,
                    pad,
                    before=(before, key),
                    keys=places,
                )
            else:
                stand_in = np.resize(whole[:_STAND_IN], _STAND_IN)
                yield Work(stand_in, [stand_in.size], epoch, start + begin, record, pad, stand_in=True)

    def _rank_share(self, size: int) -> tuple[int, int, list[int]]:
        """Return this rank's part [begin, end) of a batch of ``size``, and its micro-batches."""
        rank, world_size = self.group.rank, self.group.world_size
        parts = self.batches.parts(size, rank, world_size)
        if not parts:
            return 0, 0, []
        limit = self.spec.config.data.micro_limit
        return parts[0][1], parts[-1][2], self.batches.micro_batches(size, rank, world_size, limit)

    def split_length(self, split: str) -> int:
        """Return the samples of a split; 0 where there is none."""
        info = self.spec.facts.split(split)
        return info.length if info else 0

    def chosen_samples(self, split: str, batches: int | None) -> Indices | None:
        """Choose samples of a split that stand for all: this many global batches, the same in each evaluation.

        They are drawn by the run's seed, for sets may be sorted by class. None, where that is all of them.
        """
        length = self.split_length(split)
        count = length if batches is None else min(length, batches * self.batches.batch_size)
        if count == length:
            return None
        drawn = permute(np.arange(count, dtype=np.int64), length, (self.spec.config.train.seed, _CHOSEN))
        return np.sort(drawn)

    def val_work(self, split: str = "val", chosen: Indices | None = None) -> Iterator[Work]:
        """Yield this rank's part of a validation set, or of its ``chosen`` samples, in order, without padding."""
        length = self.split_length(split) if chosen is None else chosen.size
        begin, end = shard(0, length, self.group.rank, self.group.world_size)
        share = -(-self.batches.batch_size // self.group.world_size)
        size = min(
            _EVAL_BATCH_FACTOR * share, self.spec.config.data.micro_limit or _EVAL_BATCH_FACTOR * share
        )
        for start in range(begin, end, size):
            yield self._val_work(start, min(start + size, end), chosen)

    def fixed_val_work(self, split: str = "val", chosen: Indices | None = None) -> Iterator[Work]:
        """Yield this rank's batches of a cut of a validation set that is the same for any number of processes."""
        length = self.split_length(split) if chosen is None else chosen.size
        count = -(-length // self.fixed_batch_size)
        for _, begin, end in self._batch_runs(count, self.group.rank):
            for batch in range(begin, end):
                yield self._val_work(*shard(0, length, batch, count), chosen)

    def _val_work(self, start: int, stop: int, chosen: Indices | None) -> Work:
        indices = np.arange(start, stop, dtype=np.int64) if chosen is None else chosen[start:stop]
        return Work(indices, [indices.size], 0, start, leave_out=self.skips_bad_samples)

    def logical_val_batches(self, split: str, chosen: Indices | None) -> list[list[int]]:
        """Return how many batches of ``fixed_val_work`` each logical rank has that has any, by rank."""
        length = self.split_length(split) if chosen is None else chosen.size
        count = -(-length // self.fixed_batch_size)
        ranks = range(self.group.world_size)
        return [[end - begin for _, begin, end in self._batch_runs(count, rank)] for rank in ranks]

    def _batch_runs(self, count: int, rank: int) -> list[tuple[int, int, int]]:
        """Return (logical rank, begin, end) of a rank's batches; one run where there are no logical ranks."""
        return self.batches.parts(count, rank, self.group.world_size)

    @property
    def fixed_batch_size(self) -> int:
        """Return the most samples that a batch of ``fixed_val_work`` has."""
        data = self.spec.config.data
        return min(self.batches.batch_size, data.micro_limit or _FIXED_BATCH, _FIXED_BATCH)
