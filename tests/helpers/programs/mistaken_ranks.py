"""Ranks of Lockstep with one mistake planted in them. No test: ``end_to_end/test_planted_mistakes.py`` starts it.

``python -m tests.helpers.programs.mistaken_ranks`` reads jobs from stdin, one JSON document a line with ``mistake``,
``folder`` (it has a ``spec.json``), ``world`` and ``port``, forks that many ranks with torchrun's environment
variables, and answers each job with a line of their exit statuses. One process for all jobs, because importing torch
takes longer than a job.

Each function here is one of the usual mistakes of hand-written distributed training, in as few lines as it
takes to make it. Data mistakes come with a second form, ``…, unaudited``, in which the run's own account is
made to believe whatever was fetched, so that only a comparison with one process can tell.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch._dynamo  # DDP imports it in every rank otherwise

from lockstep.data.loading.feed import StepBatch, Work
from lockstep.data.order.sample_order import EpochBatches, EpochOrder, micro_batch_sizes, shard
from lockstep.training import worker
from lockstep.training.logical import RowSums
from lockstep.training.loop import evaluation as evaluate
from lockstep.training.session import session
from lockstep.training.session.sample_audit import SampleAudit
from lockstep.training.session.session import Session
from lockstep.training.session.train_step import TrainStep


def no_mistake() -> None:
    """The honest worker."""


def mean_of_means() -> None:
    """Evaluation averages the averages of its batches."""
    original = evaluate.evaluate_batch

    def batch(of: Session, micro: Any, samples: int) -> tuple[torch.Tensor, Any, Any]:
        row, losses, predicted = original(of, micro, samples)
        for at in range(0, 2 + 2 * len(of.metrics), 2):
            row[at], row[at + 1] = row[at] / row[at + 1], 1.0
        return row, losses, predicted

    evaluate.evaluate_batch = batch


def padded_shards() -> None:
    """Evaluation gives every rank the same number of samples, the first ones twice."""

    def val_work(self: Session, *_: Any) -> Iterator[Work]:
        length, world_size = self.spec.facts.val.length, self.group.world_size
        share = -(-length // world_size)
        mine = np.arange(share * self.group.rank, share * (self.group.rank + 1), dtype=np.int64) % length
        for start in range(0, share, 16):
            part = mine[start : start + 16]
            yield Work(part, [part.size], 0, start)

    Session.val_work = val_work


def padded_shards_uncounted() -> None:
    """The same, and the count is taken from the data set's length instead of from what was seen."""
    padded_shards()
    original = evaluate._rank_sums

    def sums(of: Session, abandon: Callable[[], bool], *way: Any) -> tuple[RowSums, bool, bool]:
        values, abandoned, depends = original(of, abandon, *way)
        start, stop = shard(0, of.spec.facts.val.length, of.group.rank, of.group.world_size)
        values.samples = stop - start
        return values, abandoned, depends

    evaluate._rank_sums = sums


def local_batch() -> None:
    """Each rank divides by its own part of the batch, and DDP takes the mean: right only for equal parts."""
    original = TrainStep.run

    def run(self: TrainStep, batch: StepBatch, size: int, samples: int) -> Any:
        return original(self, batch, samples * self._group.world_size, samples)

    TrainStep.run = run


def ddp_mean() -> None:
    """DDP's mean over the ranks is not undone: the gradient is too small by the number of processes."""
    original = TrainStep.run

    def run(self: TrainStep, batch: StepBatch, size: int, samples: int) -> Any:
        return original(self, batch, size * self._group.world_size, samples)

    TrainStep.run = run


def mean_of_micro_means() -> None:
    """Accumulation divides each micro-batch's mean by their number, as if they were all of one size."""

    def accumulate(self: TrainStep, batch: StepBatch, size: int, _: int) -> Any:
        samples, parts = sum(len(y) for _, y in batch.micro), []
        for number, (_, y) in enumerate(batch.micro):
            with self._without_all_reduce(last=number + 1 == len(batch.micro)):
                wrong = size * len(y) * len(batch.micro) / samples
                parts.append(self._backward(batch, number, wrong, None)[0])
        return torch.stack(parts).sum(), None

    TrainStep._accumulate = accumulate


def divided_by_micro_batches() -> None:
    """Accumulation divides by the number of micro-batches what was divided by the whole batch already."""
    original = TrainStep._accumulate
    TrainStep._accumulate = lambda self, batch, size, more: original(
        self, batch, size * len(batch.micro), more
    )


def last_micro_batch() -> None:
    """Accumulation forgets its last micro-batch."""
    original = TrainStep._accumulate
    TrainStep._accumulate = lambda self, batch, size, more: original(
        self, replace(batch, micro=batch.micro[:-1]), size, more
    )


def whole_batch() -> None:
    """Every rank trains on the whole batch."""

    def train_work(self: Session, epoch: int, first: int) -> Iterator[Work]:
        order = EpochOrder(self.batches.n, self.spec.config.train.seed, epoch)
        for step in range(first, self.batches.steps):
            start, stop = self.batches.span(step)
            whole = order.indices(start, stop)
            sizes = micro_batch_sizes(whole.size, self.spec.config.data.max_micro_batch)
            yield Work(whole, sizes, epoch, start, whole if self.group.rank == 0 else None)

    Session.train_work = train_work


def rank_order() -> None:
    """The shuffle is seeded with the rank: some samples are seen twice in an epoch and some never."""

    class Own(EpochOrder):
        def __init__(self, n: int, seed: int, epoch: int) -> None:
            super().__init__(n, seed + int(os.environ.get("RANK", "0")), epoch)

    session.EpochOrder = Own


def dropped_tail() -> None:
    """What is left over after the last full batch is dropped."""
    EpochBatches.steps = property(lambda self: self.n // self.batch_size)


def unaudited(mistake: Callable[[], None]) -> Callable[[], None]:
    """``mistake``, with an account that takes whatever was fetched for what was planned."""

    def plant() -> None:
        mistake()
        SampleAudit._plan = lambda self, *_: self._digest

    return plant


MISTAKES: dict[str, Callable[[], None]] = {
    "nothing": no_mistake,
    "mean of means in evaluation": mean_of_means,
    "padded shards in evaluation": padded_shards,
    "padded shards in evaluation, not counted": padded_shards_uncounted,
    "loss divided by the local batch": local_batch,
    "DDP's mean not undone": ddp_mean,
    "mean of the micro-batches' means": mean_of_micro_means,
    "divided by the number of micro-batches": divided_by_micro_batches,
    "last micro-batch dropped": last_micro_batch,
    "every rank trains the whole batch": whole_batch,
    "every rank trains the whole batch, unaudited": unaudited(whole_batch),
    "an order for each rank": rank_order,
    "an order for each rank, unaudited": unaudited(rank_order),
    "dropped tail": dropped_tail,
}


def _fork(job: dict[str, Any], rank: int) -> int:
    """The process id of a rank; in the rank itself it never returns."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        folder = Path(job["folder"])
        log = os.open(folder / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT, 0o600)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.environ |= {"WORLD_SIZE": str(job["world"]), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(job["port"]),
            "GLOO_SOCKET_IFNAME": "lo",
        }
        MISTAKES[job["mistake"]]()
        status = worker.main([str(folder / "spec.json")])
    finally:
        os._exit(status)


def main() -> None:
    """Answer jobs until stdin ends."""
    for line in sys.stdin:
        job = json.loads(line)
        ranks = [_fork(job, rank) for rank in range(job["world"])]
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in ranks]
        sys.stdout.write(json.dumps(statuses) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
