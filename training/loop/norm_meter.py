"""The norm of the gradient, averaged over an interval of steps and read when the interval's loss is."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from ...data.common import TrainingError


class _Interval(NamedTuple):
    norms: torch.Tensor
    """[steps, names], on the host once ``copied`` has happened."""
    copied: torch.cuda.Event | None


class NormMeter:
    """Collects the norms of steps, which are the same on every rank, so that nothing is sent.

    It takes steps and ends intervals along with the meter of the loss.

    Args:
        every: steps per interval.
        names: of the norms, one for each optimizer that has one.
        skips: a gradient that is not finite makes no update, as under fp16, and does not count.
    """

    def __init__(self, every: int, names: tuple[str, ...], *, skips: bool) -> None:
        self._every, self._names, self._skips = every, names, skips
        self._steps: list[torch.Tensor] = []
        self._intervals: dict[int, _Interval] = {}

    def add(self, step: int, norms: list[torch.Tensor]) -> None:
        """Add a step's norms; ``step`` counts the steps done."""
        if self._names:
            self._steps.append(norms[0].view(1) if len(norms) == 1 else torch.stack(norms))
            if len(self._steps) >= self._every:
                self.close(step)

    def close(self, step: int) -> None:
        """End the interval, full or not; on a device its norms are copied behind everything that is queued."""
        if not self._steps:
            return
        norms, copied = torch.stack(self._steps), None
        if norms.is_cuda:
            host = torch.empty(norms.shape, dtype=norms.dtype, pin_memory=True)
            norms, copied = host.copy_(norms, non_blocking=True), torch.cuda.Event()
            copied.record()
        self._intervals[step] = _Interval(norms, copied)
        self._steps = []

    def take(self, step: int) -> dict[str, float]:
        """Return the means over the interval that ends at ``step``, by their names in the record.

        Raises:
            TrainingError: a norm is not finite: so are the weights that it was to limit.
        """
        interval = self._intervals.pop(step, None)
        if interval is None:
            return {}
        if interval.copied is not None:
            interval.copied.synchronize()
        rows = interval.norms.tolist()
        self._check(rows, step - len(rows))
        means = {}
        for name, column in zip(self._names, zip(*rows, strict=True), strict=True):
            if finite := [norm for norm in column if math.isfinite(norm)]:
                means[f"train/{name}"] = math.fsum(finite) / len(finite)
        return means

    def _check(self, rows: list[list[float]], first: int) -> None:
        bad = next((at for at, row in enumerate(rows) if not all(map(math.isfinite, row))), None)
        if bad is not None and not self._skips:
            raise TrainingError(
                f"the norm of the gradient is not a number at step {first + bad + 1} of the run",
                "lower optimizer.lr, and look for a gradient that does not exist: sqrt or norm at 0, 0/0, log(0)",
            )

    def state(self, step: int) -> dict[str, Any]:
        """Return the steps of the interval that is not full yet; empty where no norm is taken.

        Raises:
            TrainingError: a norm among them is not finite: the weights are not worth a checkpoint.
        """
        if not self._names:
            return {}
        rows = torch.stack(self._steps).tolist() if self._steps else []
        self._check(rows, step - len(rows))
        dtype = str(self._steps[0].dtype).removeprefix("torch.") if self._steps else ""
        return {"norms": {"dtype": dtype, "rows": [[_plain(norm) for norm in row] for row in rows]}}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Continue from ``state``."""
        if self._names and (saved := state.get("norms")) and saved["rows"]:
            rows = [[math.inf if norm is None else norm for norm in row] for row in saved["rows"]]
            self._steps = list(torch.tensor(rows, dtype=getattr(torch, saved["dtype"]), device=device))


def _plain(norm: float) -> float | None:
    return norm if math.isfinite(norm) else None
