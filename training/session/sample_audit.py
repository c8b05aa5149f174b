"""An account of what was trained on, checked against the plan at every epoch's end and checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from ...data.common import DamagedError
from ...data.loading import StepBatch
from ...data.order import (
    EpochBatches,
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
    """The chain over the global batches; rank 0 keeps it."""
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

    def settle(self, epoch: int, first: int, last: int) -> None:
        """Bring the ranks' records of the epoch's steps [first, last) together.

        Raises:
            DamagedError: what was fetched is not what the plan says.
        """
        self._hash()
        everyone = self._together(self._plan(epoch, first, last))
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

    def _plan(self, epoch: int, first: int, last: int) -> int:
        """Compute this rank's share of what must have been consumed."""
        batches, group = self._batches, self._group
        span = batches.span(first)[0], batches.span(last - 1)[1]
        return planned_digest_share(
            self._order, self._seed, epoch, batches.batch_size, span, group.rank, group.world_size
        )

    def _together(self, plan: int) -> list[int]:
        """Sum over the ranks the limbs of what was consumed and of what was planned, and gather their samples."""
        mine = torch.zeros(8 + self._group.world_size, dtype=torch.int64)
        mine[:8] = torch.tensor(to_limbs(self._digest) + to_limbs(plan))
        mine[8 + self._group.rank] = self._samples
        values: list[int] = self._group.sum(mine.to(self._group.device)).tolist()
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
        sizes = [fetched.indices.size for _, fetched in trained]
        steps = np.repeat(np.array([step for step, _ in trained], np.int64), sizes)
        starts = np.repeat(np.array([fetched.work.start for _, fetched in trained], np.int64), sizes)
        within = np.concatenate([np.arange(size, dtype=np.int64) for size in sizes])
        indices = np.concatenate([fetched.indices for _, fetched in trained])
        self._digest += consumed(trained[0][1].work.epoch, steps, starts + within, indices)
        self._samples += int(indices.size)
