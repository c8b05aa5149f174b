"""Evaluation: every validation sample once, sums in float64, one reduction at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...data.common import DamagedError
from ..components import batch_norm, sum_loss, sum_metric
from ..session import Session


def evaluate(session: Session, abandon: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
    """Compute ``val/loss``, ``val/NAME`` for each metric and ``val/count``, the same on every rank.

    Collective: every rank calls it. The model is left in the mode it was in.

    Args:
        session: with the model to evaluate.
        abandon: asked between batches; ranks need not hear the same at the same time.

    Returns:
        None on every rank where any of them has abandoned it.

    Raises:
        DamagedError: the samples that were evaluated are not as many as the split has.
    """
    if session.val_feed is None or session.spec.facts.val is None:
        return {}
    was_training = session.model.training
    session.model.eval()
    with batch_norm.averaged(session.model, session.group), torch.inference_mode():
        sums, abandoned = _rank_sums(session, abandon)
    session.model.train(was_training)
    *values, gone = session.group.sum(torch.cat([sums, sums.new_tensor([abandoned])])).tolist()
    if gone:
        return None
    if int(values[0]) != session.spec.facts.val.length:
        raise DamagedError(
            f"evaluation saw {int(values[0])} samples of {session.spec.facts.val.length}",
            "the data set's length changes while it is read; make __len__ tell the truth",
        )
    means = [_mean(values[at], values[at + 1]) for at in range(1, len(values), 2)]
    names = ["val/loss", *(f"val/{name}" for name in session.metrics)]
    return {**dict(zip(names, means, strict=True)), "val/count": int(values[0])}


def _rank_sums(session: Session, abandon: Callable[[], bool]) -> tuple[torch.Tensor, bool]:
    """Return [samples, loss sum, loss weight, then sum and count of each metric] of this rank, in float64.

    And whether it was abandoned before the end.
    """
    if session.val_feed is None:
        raise ValueError("no validation split")
    rows: list[torch.Tensor] = []
    samples = 0
    abandoned = False
    for batch in session.val_feed.fetch(session.val_work()):
        if abandoned := abandon():
            break
        for (x, y), size in zip(batch.micro, batch.work.micro, strict=True):
            rows.append(torch.stack(_row(session, x, y, size)))
            samples += batch.indices.size
    width = 2 + 2 * len(session.metrics)
    sums = torch.stack(rows).sum(0) if rows else torch.zeros(width, dtype=torch.float64)
    sums = sums.to(session.group.device)
    return torch.cat([sums.new_tensor([samples]), sums]), abandoned


def _row(session: Session, x: Any, y: Any, samples: int) -> list[torch.Tensor]:
    output = session.model(x)
    summed, weight = sum_loss(session.loss(output, y), samples)
    row = [summed.double(), summed.new_tensor(samples).double() if weight is None else weight.double()]
    for name, metric in session.metrics.items():
        row += sum_metric(metric(output, y), name)
    return [value.to(session.group.device) for value in row]


def _mean(value: float, weight: float) -> float:
    return value / weight if weight else float("nan")
