"""Two ranks that are threads of one process."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Barrier

import torch

from lockstep.training.rank.process_group import Group


@dataclass(frozen=True)
class Threaded(Group):
    """One of two ranks that meet in memory."""

    there: dict[int, torch.Tensor] = field(default_factory=dict)
    barrier: Barrier = field(default_factory=lambda: Barrier(2))

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        self.there[self.rank] = values
        self.barrier.wait(60)
        rows = torch.stack([self.there[0], self.there[1]])
        self.barrier.wait(60)
        return rows

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        return values.copy_(self.gather(values).sum(0))

    def minimum(self, values: torch.Tensor) -> torch.Tensor:
        return values.copy_(self.gather(values).amin(0))

    def broadcast(self, values: torch.Tensor) -> torch.Tensor:
        return values.copy_(self.gather(values)[0])


def threaded_groups() -> list[Threaded]:
    """The two ranks; each is used by a thread of its own."""
    there: dict[int, torch.Tensor] = {}
    barrier = Barrier(2)
    return [Threaded(rank, rank, 2, torch.device("cpu"), there, barrier) for rank in range(2)]
