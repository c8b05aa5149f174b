"""The account of what was trained on, checked against the plan at every epoch's end and checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from ..data.batches import Fetched
from ..data.digest import chain, consumed, from_limbs, planned_share, to_limbs
from ..data.errors import DamagedError
from ..data.order import Batches
from .group import Group


@dataclass
class Account:
    """What a run has trained on so far, over all ranks."""

    order_sha256: str = ""
    """The chain over the global batches; rank 0 keeps it."""
    consumed_digest: int = 0
    ranks: list[int] = field(default_factory=list)
    """Samples that each rank trained on."""


class Ledger:
    """Records every step of one rank.

    Args:
        account: so far, updated when the ranks settle.
        batches: how an epoch is cut.
        seed: of the order.
        group: the ranks; all of them settle at the same steps.
    """

    def __init__(self, account: Account, batches: Batches, seed: int, group: Group) -> None:
        self.account = account
        self._batches = batches
        self._seed = seed
        self._group = group
        self._records: list[tuple[int, Fetched]] = []
        account.ranks.extend([0] * (group.world_size - len(account.ranks)))

    def record(self, epoch_step: int, run_step: int, fetched: Fetched) -> None:
        """Note a step that was trained on; steps are counted from 0."""
        if not fetched.work.stand_in:
            self._records.append((epoch_step, _lean(fetched)))
        if fetched.work.whole is not None:
            self.account.order_sha256 = chain(self.account.order_sha256, run_step, fetched.work.whole)

    def settle(self, epoch: int, first: int, last: int) -> None:
        """Bring the ranks' records of the epoch's steps [first, last) together.

        Raises:
            DamagedError: what was fetched is not what the plan says.
        """
        span = self._batches.span(first)[0], self._batches.span(last - 1)[1]
        plan = planned_share(
            self._batches.n,
            self._seed,
            epoch,
            self._batches.batch_size,
            span,
            self._group.rank,
            self._group.world_size,
        )
        digest, samples = self._own(epoch)
        mine = torch.zeros(8 + self._group.world_size, dtype=torch.int64)
        mine[:8] = torch.tensor(to_limbs(digest) + to_limbs(plan))
        mine[8 + self._group.rank] = samples
        everyone = self._group.sum(mine.to(self._group.device)).tolist()
        if from_limbs(everyone[:4]) != from_limbs(everyone[4:8]):
            raise DamagedError(
                f"epoch {epoch}: the samples that the ranks fetched are not those of the plan",
                "the data set changed while it was read, or its loader returns other samples than it was asked for",
            )
        self.account.consumed_digest = (self.account.consumed_digest + from_limbs(everyone[:4])) % 2**128
        for rank, count in enumerate(everyone[8:]):
            self.account.ranks[rank] += count
        self._records = []

    def _own(self, epoch: int) -> tuple[int, int]:
        if not self._records:
            return 0, 0
        sizes = [record.indices.size for _, record in self._records]
        steps = np.repeat(np.array([step for step, _ in self._records], np.int64), sizes)
        indices = np.concatenate([record.indices for _, record in self._records])
        positions = np.concatenate(
            [np.arange(r.work.start, r.work.start + r.indices.size, dtype=np.int64) for _, r in self._records]
        )
        return consumed(epoch, steps, positions, indices), int(indices.size)


def _lean(fetched: Fetched) -> Fetched:
    """Without the batches themselves, which would otherwise live until the epoch ends."""
    return Fetched((), fetched.indices, fetched.work)
