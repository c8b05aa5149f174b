"""The training loss and a step's other terms over all ranks, read without making the step wait."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ...data.common import TrainingError
from ..rank import Group


@dataclass(frozen=True)
class Reading:
    """The loss over the steps that end at ``step``, over all ranks."""

    step: int
    """Steps done in the run."""
    loss: float
    """Sum over samples."""
    weight: float
    terms: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Sum and weight of what the step returns besides the loss."""

    @property
    def mean(self) -> float:
        """Return the loss per sample."""
        return self.loss / self.weight if self.weight else math.nan

    @property
    def means(self) -> dict[str, float]:
        """Return each term per its own weight."""
        return {name: value / weight if weight else math.nan for name, (value, weight) in self.terms.items()}


@dataclass
class _Pending:
    first: int
    last: int
    parts: torch.Tensor
    values: torch.Tensor
    handle: Any
    host: torch.Tensor | None = None


class LossMeter:
    """Collects the losses of steps; sums them over ranks once per interval and reads them an interval later.

    Args:
        group: the ranks; all of them add, flush and close at the same steps.
        every: steps per interval.
        terms: names of what the step returns besides the loss.
    """

    def __init__(self, group: Group, every: int, terms: tuple[str, ...] = ()) -> None:
        self._group = group
        self._every = every
        self._losses: list[torch.Tensor] = []
        self._weights: list[torch.Tensor] = []
        self._terms: list[torch.Tensor] = []
        self._names = terms
        self._samples = 0
        self._pending: _Pending | None = None

    def add(
        self,
        step: int,
        loss: torch.Tensor,
        weight: torch.Tensor | None,
        samples: int,
        terms: torch.Tensor | None = None,
    ) -> Reading | None:
        """Add a step's loss sum on this rank; ``step`` counts the steps done. Return a reading at times.

        ``terms`` is [terms, 2], sums with their weights.
        """
        if terms is not None:
            self._terms.append(terms)
        self._losses.append(loss)
        if weight is None:
            self._samples += samples
        else:
            self._weights.append(weight)
        return self._flush(step) if len(self._losses) >= self._every else None

    def close(self, step: int) -> list[Reading]:
        """Return everything that has not been read yet."""
        readings = [self._flush(step)] if self._losses else []
        readings.append(self._read())
        return [reading for reading in readings if reading is not None]

    def read_pending(self) -> Reading | None:
        """Read the interval whose sum is under way: a checkpoint must not lose it."""
        return self._read()

    def sums_so_far(
        self, loss: float, weight: float, terms: Mapping[str, Sequence[float]]
    ) -> dict[str, float]:
        """Return means under their names in the record, the interval that is not full yet included. Collective.

        That interval stays as it is.

        Args:
            loss: sum of what was read before, in this epoch.
            weight: of it.
            terms: sum and weight of each term.
        """
        before = [loss, weight, *(value for name in self._names for value in terms.get(name, (0.0, 0.0)))]
        new = self._group.sum(self._rank_sums()[1]).tolist() if self._losses else [0.0] * len(before)
        values = [old + more for old, more in zip(before, new, strict=True)]
        pairs = zip(("loss", *self._names), zip(values[::2], values[1::2], strict=True), strict=True)
        return {f"train/{name}": value / many if many else math.nan for name, (value, many) in pairs}

    def state(self, step: int) -> dict[str, Any]:
        """Return the steps of the interval that is not full yet, of every rank, as plain values. Collective.

        With them a resumed run adds up the same numbers in the same order, wherever the checkpoint was taken.

        Raises:
            TrainingError: a loss among them is not a number: its weights are not worth a checkpoint.
        """
        losses = self._gather_rows(self._losses)
        together = zip(*losses["rows"], strict=True) if losses else ()
        for number, row in enumerate(together):
            if not all(map(math.isfinite, row)):
                raise _non_finite_error(step - len(self._losses) + number)
        samples = torch.tensor(self._samples, device=self._group.device)
        return {
            "losses": losses,
            "weights": self._gather_rows(self._weights),
            "samples": self._group.gather(samples).tolist(),
            **({"terms": self._gather_rows(self._terms)} if self._names else {}),
        }

    def _gather_rows(self, values: list[torch.Tensor]) -> dict[str, Any] | None:
        if not values:
            return None
        rows = self._group.gather(torch.stack(values).double()).tolist()
        return {"dtype": str(values[0].dtype).removeprefix("torch."), "rows": rows}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from ``state``; on another number of ranks, rank 0 takes over what all of them had."""
        self._losses = self._own(state["losses"])
        self._weights = self._own(state["weights"])
        self._terms = self._own(state.get("terms"))
        counts: list[int] = state["samples"]
        same = len(counts) == self._group.world_size
        self._samples = counts[self._group.rank] if same else sum(counts) * (self._group.rank == 0)

    def _own(self, state: dict[str, Any] | None) -> list[torch.Tensor]:
        if state is None:
            return []
        rows = torch.tensor(state["rows"], dtype=torch.float64)
        same = len(rows) == self._group.world_size
        own = rows[self._group.rank] if same else rows.sum(0) * (self._group.rank == 0)
        return list(own.to(self._group.device, getattr(torch, state["dtype"])).unbind())

    def _rank_sums(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses of the steps of this interval on this rank, and [loss, weight, of each term the same]."""
        parts = torch.stack(self._losses).double()
        if self._weights:
            weight = torch.stack(self._weights).sum().double()
        else:  # filled on the device: a copy from the host would make the step wait
            weight = torch.full_like(parts[0], self._samples)
        values = torch.stack([parts.sum(), weight])
        if self._names:
            values = torch.cat([values, torch.stack(self._terms).sum(0).flatten()])
        return parts, values

    def _flush(self, step: int) -> Reading | None:
        """Start the sum of this interval, then read the one before, which has had its time to arrive."""
        parts, values = self._rank_sums()
        started = _Pending(
            step - len(parts) + 1, step, parts, values, self._group.all_reduce_sum_async(values)
        )
        if values.is_cuda:
            self._copy_to_host(started)
        self._losses, self._weights, self._terms, self._samples = [], [], [], 0
        reading = self._read()
        self._pending = started
        return reading

    def _copy_to_host(self, started: _Pending) -> None:
        """Copy on the stream, behind the sum: reading it later waits for nothing that is queued after it."""
        if started.handle is not None:
            started.handle.wait()
        started.host = torch.empty(len(started.values), dtype=torch.float64, pin_memory=True)
        started.host.copy_(started.values, non_blocking=True)
        started.handle = torch.cuda.Event()
        started.handle.record()

    def _read(self) -> Reading | None:
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        if isinstance(pending.handle, torch.cuda.Event):
            pending.handle.synchronize()
        elif pending.handle is not None:
            pending.handle.wait()
        loss, weight, *rest = (pending.values if pending.host is None else pending.host).tolist()
        if not math.isfinite(loss):
            self._raise_non_finite(pending)
        terms = dict(zip(self._names, zip(rest[::2], rest[1::2], strict=True), strict=True))
        return Reading(pending.last, loss, weight, terms)

    def _raise_non_finite(self, pending: _Pending) -> None:
        """Raise for the first step that is not finite; all ranks see the same sum, so that all of them are here."""
        bad = (~pending.parts.isfinite()).nonzero()
        first = pending.first + int(bad[0]) if len(bad) else pending.last + 1
        raise _non_finite_error(int(self._group.minimum(pending.values.new_tensor(first))) - 1)


def _non_finite_error(step: int) -> TrainingError:
    return TrainingError(
        f"the training loss is not a number at step {step + 1} of the run",
        "lower optimizer.lr, look at the samples with `launch show`, check a loss of your own for 0/0 and log(0)",
    )
