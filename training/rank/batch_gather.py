"""``lockstep.gather``: what a step computes of its own samples, of the whole global batch.

Inside of a step that trains, a rank's values are gathered from all ranks, and gradients go back to where they came
from. In evaluation and outside of a run a batch is whole already, and nothing is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from ...data.common import TrainingError

_LATE = "call it in every step that trains, the first included: the ranks agree on it before the first step"


@dataclass
class GatherTrial:
    """A look at whether a pass calls ``gather``."""

    used: bool = False


@dataclass(frozen=True)
class BatchShares:
    """The shares that the ranks have of the global batch of a step."""

    rank: int
    sizes: Sequence[int]
    """Samples of each rank."""
    stand_in: bool
    """This rank has none of them, and computes on copies of the first ones, which count for nothing."""
    own_group: Any
    """A process group for nothing else: DDP sends gradients at the same time."""

    def rows(self) -> slice:
        """Return where this rank's samples are in the global batch."""
        start = sum(self.sizes[: self.rank])
        return slice(start, start + self.sizes[self.rank])


_current: BatchShares | GatherTrial | None = None


@contextmanager
def gathering(scope: BatchShares | GatherTrial) -> Iterator[None]:
    """Have ``gather`` go by ``scope`` inside."""
    global _current  # noqa: PLW0603 - user code calls `gather` without knowing of a run
    before, _current = _current, scope
    try:
        yield
    finally:
        _current = before


def open_gather_group(world_size: int) -> Any:
    """Make the process group that ``BatchShares`` needs. Collective."""
    return dist.new_group() if world_size > 1 else None


def gather(values: torch.Tensor) -> torch.Tensor:
    """Return the values of all samples of the global batch, in the order of samples: [b, ...] becomes [B, ...].

    Differentiable: each sample's gradient is what all ranks' losses say of it.

    Raises:
        TrainingError: there is not a row for each of this rank's samples, or a first call in the middle of a run.
    """
    scope = _current
    if isinstance(scope, GatherTrial):
        scope.used = True
        return values
    if scope is None:
        if torch.is_grad_enabled() and dist.is_available() and dist.is_initialized():
            raise TrainingError("lockstep.gather was called for the first time in the middle of a run", _LATE)
        return values
    if len(scope.sizes) == 1:
        return values
    own = scope.sizes[scope.rank]
    if not scope.stand_in and (not values.ndim or len(values) != own):
        raise TrainingError(
            f"lockstep.gather got the shape {list(values.shape)} of {own} samples",
            "give it a tensor with a row for each sample of the step's batch",
        )
    gathered: torch.Tensor = _Gather.apply(values, scope)
    return gathered


def own_rows(gathered: torch.Tensor) -> torch.Tensor:
    """Return the rows that this rank's samples have in [B, ...]: ``own_rows(gather(x))`` is ``x``."""
    scope = _current
    if not isinstance(scope, BatchShares) or len(scope.sizes) == 1:
        return gathered
    if scope.stand_in:  # as Session.train_work takes the first samples, again where there is one alone
        return gathered[torch.arange(2, device=gathered.device) % len(gathered)]
    return gathered[scope.rows()]


class _Gather(torch.autograd.Function):
    """All ranks' rows; backward sums what the ranks say of each and takes the own ones."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, scope: BatchShares) -> torch.Tensor:
        ctx.scope, ctx.shape = scope, values.shape
        largest, own = max(scope.sizes), scope.sizes[scope.rank]
        padded = values.new_zeros(largest, *values.shape[1:])
        padded[:own] = values[:own]
        parts = [torch.empty_like(padded) for _ in scope.sizes]
        dist.all_gather(parts, padded, group=scope.own_group)
        return torch.cat([part[:size] for part, size in zip(parts, scope.sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        scope: BatchShares = ctx.scope
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total, group=scope.own_group)
        if scope.stand_in:
            return total.new_zeros(ctx.shape), None
        return total[scope.rows()], None
