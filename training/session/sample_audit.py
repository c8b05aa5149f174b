"""An account of what was trained on, checked against the plan at every epoch's end and checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from ...data.common import DamagedError
from ...data.loading import StepBatch, Work
from ...data.order import (
    EpochBatches,
    Indices,
    SampleOrder,
    chain_order_hash,
    consumed,
    from_limbs,
    planned_digest_share,
    to_limbs,
)
from ..rank import Group

_HASH_EVERY_STEPS = 256
"""What is pending keeps parts of the order alive, so it must not grow with the epoch."""


@dataclass
class Account:
    """The account of what a run has trained on so far, over all ranks."""

    order_sha256: str = ""
    """The chain over the global batches; rank 0 keeps it, and any rank that may have to take its place."""
    consumed_digest: int = 0
    ranks: list[int] = field(default_factory=list)
    """Samples that each rank trained on."""


class SampleAudit:
    """Records every step of one rank.

    Args:
        account: so far, updated when the ranks settle.
        order: which sample stands where in an epoch.
        batches: how an epoch is cut.
        seed: of the order.
        group: the ranks; all of them settle at the same steps.
    """

    def __init__(
        self, account: Account, order: SampleOrder, batches: EpochBatches, seed: int, group: Group
    ) -> None:
        self.account = account
        self._order = order
        self._batches = batches
        self._seed = seed
        self._group = group
        self._chain = bytes.fromhex(account.order_sha256)
        self._pending: list[tuple[int, int, StepBatch]] = []
        self._digest = self._samples = 0
        account.ranks.extend([0] * (group.world_size - len(account.ranks)))

    def record(self, epoch_step: int, run_step: int, fetched: StepBatch) -> None:
        """Note a step that was trained on; steps are counted from 0. Hashed in bursts, on a warm cache."""
        fetched.micro = ()  # the batch itself need not live on
        self._pending.append((epoch_step, run_step, fetched))
        if len(self._pending) == _HASH_EVERY_STEPS:
            self._hash()

    def settle(
        self,
        epoch: int,
        first: int,
        last: int,
        present: Group | None = None,
        absent: Mapping[int, Iterable[Work]] | None = None,
    ) -> None:
        """Bring the ranks' records of the epoch's steps [first, last) together.

        Args:
            epoch: counted from 0.
            first: step of it.
            last: step of it, the first that is not settled.
            present: the ranks that bring theirs, where not all do.
            absent: of each rank that has died, its work in these steps: its record is what the plan says.

        Raises:
            DamagedError: what was fetched is not what the plan says.
        """
        self._hash()
        everyone = self._together(epoch, (first, last), present or self._group, absent or {})
        if from_limbs(everyone[:4]) != from_limbs(everyone[4:8]):
            raise DamagedError(
                f"epoch {epoch}: the samples that the ranks fetched are not those of the plan",
                "the data set changed while it was read, or its loader returns other samples than it was asked for",
            )
        account = self.account
        account.order_sha256 = self._chain.hex()
        account.consumed_digest = (account.consumed_digest + from_limbs(everyone[:4])) % 2**128
        for rank, count in enumerate(everyone[8:]):
            account.ranks[rank] += count
        self._digest = self._samples = 0

    def _plan(self, epoch: int, steps: tuple[int, int], present: Group) -> int:
        """Compute this rank's share of what must have been consumed."""
        batches = self._batches
        span = batches.span(steps[0])[0], batches.span(steps[1] - 1)[1]
        return planned_digest_share(
            self._order, self._seed, epoch, batches.batch_size, span, present.rank, present.world_size
        )

    def _together(
        self, epoch: int, steps: tuple[int, int], present: Group, absent: Mapping[int, Iterable[Work]]
    ) -> list[int]:
        """Sum over the ranks the limbs of what was consumed and of what was planned, and gather their samples."""
        mine = torch.zeros(8 + self._group.world_size, dtype=torch.int64)
        mine[8 + self._group.rank] = self._samples
        for rank, works in absent.items() if present.rank == 0 else ():
            for step, work in zip(range(*steps), works, strict=False):
                if not work.stand_in:
                    self._digest += _consumed(epoch, [(step, work.start, work.indices)])
                    mine[8 + rank] += work.indices.size
        mine[:8] = torch.tensor(to_limbs(self._digest) + to_limbs(self._plan(epoch, steps, present)))
        values: list[int] = present.sum(mine.to(present.device)).tolist()
        return values

    def _hash(self) -> None:
        """Add what is pending to the chain and the digest."""
        pending, self._pending = self._pending, []
        for _, run_step, fetched in pending:
            if fetched.work.whole is not None:
                self._chain = chain_order_hash(self._chain, run_step, fetched.work.whole)
        trained = [(step, fetched) for step, _, fetched in pending if not fetched.work.stand_in]
        if not trained:
            return
        rows = [(step, fetched.work.start, fetched.indices) for step, fetched in trained]
        self._digest += _consumed(trained[0][1].work.epoch, rows)
        self._samples += sum(fetched.indices.size for _, fetched in trained)


def _consumed(epoch: int, rows: list[tuple[int, int, Indices]]) -> int:
    """Hash what was fetched; of each step its number, the first position, and the samples."""
    sizes = [indices.size for _, _, indices in rows]
    steps = np.repeat(np.array([step for step, _, _ in rows], np.int64), sizes)
    starts = np.repeat(np.array([start for _, start, _ in rows], np.int64), sizes)
    within = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes])
    return consumed(epoch, steps, starts + within, np.concatenate([indices for _, _, indices in rows]))
